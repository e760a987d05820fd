//! A container's environment and command line, from its spec, its pod, and the ConfigMaps and Secrets it names.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, Pod,
    ResourceFieldSelector, Secret,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{Api, Client, ResourceExt};

use crate::container::expand::expand;
use crate::image::Image;
use crate::quantity::{milli, whole};

/// What the machine's environment passes on: what a program needs to find itself and to print properly.
const INHERITED: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER"];

/// Builds the environment; later entries win, and each may use `$(NAME)` of earlier ones.
///
/// # Errors
/// The kubelet's words for what is missing; shown as `CreateContainerConfigError`.
pub(crate) async fn environment(
    client: &Client,
    pod: &Pod,
    container: &Container,
    ip: &str,
) -> Result<BTreeMap<String, String>, String> {
    let mut env: BTreeMap<String, String> =
        INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect();
    env.entry("PATH".to_owned()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
    env.insert("HOSTNAME".to_owned(), hostname(pod));
    let sources = Sources { client, namespace: pod.namespace().unwrap_or_default() };
    for from in container.env_from.iter().flatten() {
        env.extend(sources.all_of(from).await?);
    }
    for var in container.env.iter().flatten() {
        if let Some(value) = sources.value_of(var, pod, container, ip, &env).await? {
            env.insert(var.name.clone(), value);
        }
    }
    Ok(env)
}

/// What the pod calls itself: its own name, unless it asks for another.
pub(crate) fn hostname(pod: &Pod) -> String {
    let asked = pod.spec.as_ref().and_then(|spec| spec.hostname_override.clone().or(spec.hostname.clone()));
    asked.filter(|name| !name.is_empty()).unwrap_or_else(|| pod.name_any())
}

/// The command line: `command:` replaces the image's entry point, `args:` follow it.
pub(crate) fn command_line(
    image: &Image,
    container: &Container,
    env: &BTreeMap<String, String>,
) -> Vec<String> {
    let expanded = |texts: &Option<Vec<String>>| -> Vec<String> {
        texts.iter().flatten().map(|text| expand(text, env)).collect()
    };
    let command = expanded(&container.command);
    let mut line = if command.is_empty() { image.command.clone() } else { command };
    line.extend(expanded(&container.args));
    line
}

struct Sources<'a> {
    client: &'a Client,
    namespace: String,
}

impl Sources<'_> {
    async fn all_of(&self, from: &EnvFromSource) -> Result<BTreeMap<String, String>, String> {
        let prefix = from.prefix.clone().unwrap_or_default();
        let found = if let Some(reference) = &from.config_map_ref {
            self.config_map(&reference.name, reference.optional).await?
        } else if let Some(reference) = &from.secret_ref {
            self.secret(&reference.name, reference.optional).await?
        } else {
            None
        };
        Ok(found.into_iter().flatten().map(|(key, value)| (format!("{prefix}{key}"), value)).collect())
    }

    async fn value_of(
        &self,
        var: &EnvVar,
        pod: &Pod,
        container: &Container,
        ip: &str,
        env: &BTreeMap<String, String>,
    ) -> Result<Option<String>, String> {
        let Some(from) = &var.value_from else {
            return Ok(Some(expand(var.value.as_deref().unwrap_or_default(), env)));
        };
        match from {
            EnvVarSource { field_ref: Some(field), .. } => field_value(field, pod, ip).map(Some),
            EnvVarSource { resource_field_ref: Some(field), .. } => {
                resource_value(field, pod, Some(container)).map(Some)
            }
            EnvVarSource { config_map_key_ref: Some(key), .. } => {
                let data = self.config_map(&key.name, key.optional).await?;
                pick(data, &key.key, key.optional, "configmap", &key.name)
            }
            EnvVarSource { secret_key_ref: Some(key), .. } => {
                let data = self.secret(&key.name, key.optional).await?;
                pick(data, &key.key, key.optional, "secret", &key.name)
            }
            _ => Err(format!("env {}: this valueFrom is not supported", var.name)),
        }
    }

    async fn config_map(
        &self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<BTreeMap<String, String>>, String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        match api.get_opt(name).await.map_err(|e| e.to_string())? {
            Some(map) => Ok(Some(map.data.unwrap_or_default())),
            None if optional == Some(true) => Ok(None),
            None => Err(format!("configmap \"{name}\" not found")),
        }
    }

    async fn secret(
        &self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<BTreeMap<String, String>>, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        match api.get_opt(name).await.map_err(|e| e.to_string())? {
            Some(secret) => Ok(Some(
                secret
                    .data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(key, bytes)| (key, String::from_utf8_lossy(&bytes.0).into_owned()))
                    .collect(),
            )),
            None if optional == Some(true) => Ok(None),
            None => Err(format!("secret \"{name}\" not found")),
        }
    }
}

fn pick(
    data: Option<BTreeMap<String, String>>,
    key: &str,
    optional: Option<bool>,
    kind: &str,
    name: &str,
) -> Result<Option<String>, String> {
    let absent = data.is_none();
    match data.and_then(|mut data| data.remove(key)) {
        Some(value) => Ok(Some(value)),
        None if absent || optional == Some(true) => Ok(None),
        None => Err(format!("couldn't find key {key} in {kind} {name}")),
    }
}

/// A field of the pod by its path.
pub(super) fn field_value(field: &ObjectFieldSelector, pod: &Pod, ip: &str) -> Result<String, String> {
    let spec = pod.spec.as_ref();
    let quoted = |path: &str, what: &str| -> Option<String> {
        Some(path.strip_prefix(what)?.strip_prefix("['")?.strip_suffix("']")?.to_owned())
    };
    Ok(match field.field_path.as_str() {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.podIP" | "status.podIPs" => ip.to_owned(),
        "status.hostIP" | "status.hostIPs" => super::HOST_IP.to_owned(),
        path => {
            if let Some(key) = quoted(path, "metadata.labels") {
                pod.labels().get(&key).cloned().unwrap_or_default()
            } else if let Some(key) = quoted(path, "metadata.annotations") {
                pod.annotations().get(&key).cloned().unwrap_or_default()
            } else {
                return Err(format!("unsupported fieldPath: {path}"));
            }
        }
    })
}

/// `limits.cpu` of the named container, or of this one, in units of the divisor, rounded up as Kubernetes does.
pub(super) fn resource_value(
    field: &ResourceFieldSelector,
    pod: &Pod,
    container: Option<&Container>,
) -> Result<String, String> {
    let mut all = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
    let of = match &field.container_name {
        Some(name) => all.find(|c| c.name == *name),
        None => container,
    };
    let of =
        of.ok_or_else(|| format!("container {} not found", field.container_name.as_deref().unwrap_or("")))?;
    let (list, name) = field
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource: {}", field.resource))?;
    let resources = of.resources.as_ref();
    let list = match list {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return Err(format!("unsupported container resource: {}", field.resource)),
    };
    let set = list.and_then(|l| l.get(name)).cloned();
    let value = match (set, name) {
        (Some(quantity), _) => quantity,
        // without a limit a container may use the whole machine
        (None, "cpu") => Quantity(super::machine::cpus().to_string()),
        (None, "memory") => Quantity(super::machine::memory_bytes().to_string()),
        (None, _) => Quantity("0".to_owned()),
    };
    let divisor = field.divisor.clone().filter(|d| milli(d) != Some(0)).unwrap_or(Quantity("1".to_owned()));
    let (value, divisor) =
        if name == "cpu" { (milli(&value), milli(&divisor)) } else { (whole(&value), whole(&divisor)) };
    match (value, divisor) {
        (Some(value), Some(divisor)) if divisor > 0 => Ok(value.div_ceil(divisor).to_string()),
        _ => Err(format!("resource {}: not a quantity", field.resource)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn downward_api_gives_what_kubernetes_gives() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "model"}},
            "spec": {"nodeName": "flyball", "containers": [{"name": "c", "resources": {
                "limits": {"cpu": "1500m", "memory": "128Mi"}, "requests": {"cpu": "50m"}}}]}
        }))
        .unwrap();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let field = |path: &str| {
            field_value(
                &ObjectFieldSelector { field_path: path.into(), api_version: None },
                &pod,
                "127.64.0.9",
            )
        };
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.namespace", "ns"),
            ("status.podIP", "127.64.0.9"),
            ("spec.nodeName", "flyball"),
            ("metadata.labels['app']", "model"),
            ("metadata.labels['none']", ""),
        ] {
            assert_eq!(field(path).as_deref(), Ok(expected), "{path}");
        }
        assert!(field("status.phase").is_err());
        let resource = |resource: &str, divisor: Option<&str>| {
            let divisor = divisor.map(|d| Quantity(d.into()));
            resource_value(
                &ResourceFieldSelector { resource: resource.into(), divisor, container_name: None },
                &pod,
                Some(container),
            )
        };
        assert_eq!(resource("limits.cpu", None).as_deref(), Ok("2"));
        assert_eq!(resource("limits.cpu", Some("1m")).as_deref(), Ok("1500"));
        assert_eq!(resource("limits.memory", Some("1Mi")).as_deref(), Ok("128"));
        assert_eq!(resource("requests.cpu", Some("1m")).as_deref(), Ok("50"));
        assert!(resource("nonsense", None).is_err());
    }

    #[test]
    fn command_and_args_replace_and_extend() {
        let image = Image { command: vec!["server".into(), "--fast".into()], root: None };
        let env = BTreeMap::from([("PORT".to_owned(), "8000".to_owned())]);
        let check = |container: serde_json::Value, expected: &[&str]| {
            let container: Container = serde_json::from_value(container).unwrap();
            assert_eq!(command_line(&image, &container, &env), expected);
        };
        check(json!({"name": "c"}), &["server", "--fast"]);
        check(json!({"name": "c", "args": ["-p", "$(PORT)"]}), &["server", "--fast", "-p", "8000"]);
        check(json!({"name": "c", "command": ["sh"], "args": ["-c", "x"]}), &["sh", "-c", "x"]);
    }
}
