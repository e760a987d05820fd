//! What triggers do not say themselves: credentials from Secrets and ConfigMaps, and the environment of the workload.
//!
//! A later source wins over an earlier one, as with KEDA (`pkg/scaling/resolver/scale_resolvers.go`): environment,
//! ConfigMap, Secret. Unlike there, what is named and missing is told as a problem of the object: an empty password
//! would only fail later, and elsewhere. No value ever gets into an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use flyball_api::kinds::scaled_object::{AuthenticationRef, ScaleTrigger};
use flyball_api::kinds::trigger_authentication::{EnvironmentRef, TargetRef};
use flyball_api::problem::{Checked, Problem};
use flyball_api::trigger::{Resolved, Trigger};
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, PodTemplateSpec, Secret};
use kube::runtime::reflector::ObjectRef;

use crate::gather::cluster::Cluster;

/// Where a ClusterTriggerAuthentication's Secrets are: KEDA's own namespace, as its `KEDA_CLUSTER_OBJECT_NAMESPACE` has it.
const CLUSTER_NAMESPACE: &str = "keda";

type Parameters = BTreeMap<String, String>;

/// The Secrets and ConfigMaps of a cluster.
pub(crate) trait Keeper {
    fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>>;
    fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>>;
}

impl Keeper for Cluster {
    fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
        self.secrets.get(&ObjectRef::new(name).within(namespace))
    }

    fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>> {
        self.config_maps.get(&ObjectRef::new(name).within(namespace))
    }
}

/// Reads the triggers of an object in `namespace`, whose pods look like `template`.
///
/// # Errors
/// Everything that is wrong with them, or missing.
pub(crate) fn triggers(
    cluster: &Cluster,
    namespace: &str,
    triggers: &[ScaleTrigger],
    template: Option<&PodTemplateSpec>,
    container: Option<&str>,
) -> Checked<Vec<Trigger>> {
    let environment = environment(cluster, namespace, template, container);
    let (mut parsed, mut problems) = (Vec::new(), Vec::new());
    for (index, trigger) in triggers.iter().enumerate() {
        let authentication =
            match authentication(cluster, namespace, trigger.authentication_ref.as_ref(), template) {
                Ok(parameters) => parameters,
                Err(why) => {
                    let name = trigger.authentication_ref.as_ref().map_or("", |reference| &reference.name);
                    problems.push(Problem::invalid(
                        format!("spec.triggers[{index}].authenticationRef.name"),
                        name,
                        why,
                    ));
                    continue;
                }
            };
        let resolved = Resolved { environment: Some(&environment), authentication: Some(&authentication) };
        let (trigger, found) = Trigger::parse(index, trigger, resolved);
        parsed.extend(trigger);
        problems.extend(found);
    }
    if problems.is_empty() { Ok(parsed) } else { Err(problems) }
}

/// The parameters of an authentication object; none without one.
fn authentication(
    cluster: &Cluster,
    namespace: &str,
    reference: Option<&AuthenticationRef>,
    template: Option<&PodTemplateSpec>,
) -> Result<Parameters, String> {
    let Some(reference) = reference else { return Ok(Parameters::new()) };
    let missing = |kind: &str| format!("there is no {kind} {:?}", reference.name);
    if reference.kind.as_deref() == Some("ClusterTriggerAuthentication") {
        let found = cluster.cluster_trigger_authentications.get(&ObjectRef::new(&reference.name));
        let found = found.ok_or_else(|| missing("ClusterTriggerAuthentication"))?;
        let spec = &found.spec;
        let parts = (&spec.env[..], &spec.config_map_target_ref[..], &spec.secret_target_ref[..]);
        return parameters(cluster, (namespace, CLUSTER_NAMESPACE), parts, template);
    }
    let found = cluster.trigger_authentications.get(&ObjectRef::new(&reference.name).within(namespace));
    let found = found.ok_or_else(|| missing("TriggerAuthentication"))?;
    let spec = &found.spec;
    let parts = (&spec.env[..], &spec.config_map_target_ref[..], &spec.secret_target_ref[..]);
    parameters(cluster, (namespace, namespace), parts, template)
}

/// The parameters that an authentication object names: of the workload's environment, and of ConfigMaps and Secrets in a
/// namespace of their own.
fn parameters(
    keeper: &dyn Keeper,
    (namespace, kept_in): (&str, &str),
    (env, config_maps, secrets): (&[EnvironmentRef], &[TargetRef], &[TargetRef]),
    template: Option<&PodTemplateSpec>,
) -> Result<Parameters, String> {
    let mut found = Parameters::new();
    for wanted in env {
        let environment = environment(keeper, namespace, template, wanted.container_name.as_deref());
        let value = environment.get(&wanted.name).cloned();
        let missing = || format!("the workload's container has no environment variable {:?}", wanted.name);
        found.insert(wanted.parameter.clone(), value.ok_or_else(missing)?);
    }
    for wanted in config_maps {
        let value = config_value(keeper, kept_in, &wanted.name, &wanted.key);
        let missing = || {
            format!(
                "there is no key {:?} in a ConfigMap {:?} of namespace {kept_in}",
                wanted.key, wanted.name
            )
        };
        found.insert(wanted.parameter.clone(), value.ok_or_else(missing)?);
    }
    for wanted in secrets {
        let value = secret_value(keeper, kept_in, &wanted.name, &wanted.key);
        let missing = || {
            format!("there is no key {:?} in a Secret {:?} of namespace {kept_in}", wanted.key, wanted.name)
        };
        found.insert(wanted.parameter.clone(), value.ok_or_else(missing)?);
    }
    Ok(found)
}

fn secret_value(keeper: &dyn Keeper, namespace: &str, name: &str, key: &str) -> Option<String> {
    let secret = keeper.secret(namespace, name)?;
    let bytes = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok()
}

fn config_value(keeper: &dyn Keeper, namespace: &str, name: &str, key: &str) -> Option<String> {
    keeper.config_map(namespace, name)?.data.as_ref()?.get(key).cloned()
}

/// The environment of the workload's container of that name, or its first one. What its Secrets and ConfigMaps do not
/// have is left out.
fn environment(
    keeper: &dyn Keeper,
    namespace: &str,
    template: Option<&PodTemplateSpec>,
    container: Option<&str>,
) -> Parameters {
    let containers =
        template.and_then(|template| template.spec.as_ref()).map(|spec| spec.containers.as_slice());
    let wanted = |found: &&Container| container.is_none_or(|name| name.is_empty() || found.name == name);
    let Some(container) = containers.unwrap_or_default().iter().find(wanted) else {
        return Parameters::new();
    };
    let mut found = whole_sources(keeper, namespace, container);
    for variable in container.env.iter().flatten() {
        if let Some(value) = variable_value(keeper, namespace, variable) {
            found.insert(variable.name.clone(), value);
        }
    }
    found
}

/// `envFrom`: every key of a ConfigMap or Secret.
fn whole_sources(keeper: &dyn Keeper, namespace: &str, container: &Container) -> Parameters {
    let mut found = Parameters::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(config_map) =
            source.config_map_ref.as_ref().and_then(|from| keeper.config_map(namespace, &from.name))
        {
            let pairs = config_map.data.iter().flatten();
            found.extend(pairs.map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
        }
        if let Some(secret) = source.secret_ref.as_ref().and_then(|from| keeper.secret(namespace, &from.name))
        {
            let pairs = secret.data.iter().flatten();
            let texts =
                pairs.filter_map(|(key, bytes)| Some((key, String::from_utf8(bytes.0.clone()).ok()?)));
            found.extend(texts.map(|(key, text)| (format!("{prefix}{key}"), text)));
        }
    }
    found
}

fn variable_value(keeper: &dyn Keeper, namespace: &str, variable: &EnvVar) -> Option<String> {
    let Some(from) = &variable.value_from else { return Some(variable.value.clone().unwrap_or_default()) };
    if let Some(key) = &from.secret_key_ref {
        return secret_value(keeper, namespace, &key.name, &key.key);
    }
    let key = from.config_map_key_ref.as_ref()?;
    config_value(keeper, namespace, &key.name, &key.key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A Secret `s` in namespaces `ml` and `keda`, and a ConfigMap `c` in `ml`.
    struct Kept;

    impl Keeper for Kept {
        fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
            let password = k8s_openapi::ByteString(format!("{namespace}-password").into_bytes());
            let data = Some([("password".to_owned(), password)].into());
            (name == "s").then(|| Arc::new(Secret { data, ..Secret::default() }))
        }

        fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>> {
            let data = Some(
                [("user".to_owned(), "ann".to_owned()), ("password".to_owned(), "open".to_owned())].into(),
            );
            (namespace == "ml" && name == "c").then(|| Arc::new(ConfigMap { data, ..ConfigMap::default() }))
        }
    }

    fn template() -> PodTemplateSpec {
        serde_json::from_value(json!({"spec": {"containers": [
            {"name": "side", "env": [{"name": "A", "value": "side"}]},
            {"name": "main", "envFrom": [{"configMapRef": {"name": "c"}, "prefix": "C_"}], "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
                {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "none"}}},
            ]},
        ]}}))
        .unwrap()
    }

    fn target(parameter: &str, name: &str, key: &str) -> TargetRef {
        TargetRef { parameter: parameter.to_owned(), name: name.to_owned(), key: key.to_owned() }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Parameters {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_environment_is_the_containers() {
        let of = |container| environment(&Kept, "ml", Some(&template()), container);
        assert_eq!(of(None), pairs(&[("A", "side")]));
        let main = [("A", "1"), ("B", "ml-password"), ("C_password", "open"), ("C_user", "ann")];
        assert_eq!(of(Some("main")), pairs(&main));
        assert_eq!(of(Some("other")), pairs(&[]));
        assert_eq!(environment(&Kept, "ml", None, None), pairs(&[]));
    }

    #[test]
    fn a_secret_wins_over_a_config_map_and_what_is_missing_is_told() {
        let config_maps = [target("username", "c", "user"), target("password", "c", "password")];
        let secrets = [target("password", "s", "password")];
        let read = |secrets: &[TargetRef]| {
            parameters(&Kept, ("ml", "ml"), (&[], &config_maps, secrets), Some(&template()))
        };
        assert_eq!(read(&secrets), Ok(pairs(&[("username", "ann"), ("password", "ml-password")])));
        let missing = "there is no key \"token\" in a Secret \"s\" of namespace ml".to_owned();
        assert_eq!(read(&[target("token", "s", "token")]), Err(missing));
        let env = [EnvironmentRef {
            parameter: "key".to_owned(),
            name: "B".to_owned(),
            container_name: Some("main".to_owned()),
        }];
        let of_cluster = parameters(&Kept, ("ml", "keda"), (&env, &[], &secrets), Some(&template()));
        assert_eq!(of_cluster, Ok(pairs(&[("key", "ml-password"), ("password", "keda-password")])));
    }
}
