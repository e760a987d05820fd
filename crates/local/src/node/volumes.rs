//! A pod's volumes as directories of the node, to be bound into its containers.
//!
//! `emptyDir`, `configMap`, `secret` (files of mode 0600 unless told otherwise), `downwardAPI`, `projected` ones of those three, and
//! `hostPath`. What shows objects of the API follows their changes (`payload`), but for what is mounted by `subPath`.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume, VolumeProjection,
};
use kube::{Api, Client, ResourceExt};

use super::env::{field_value, resource_value};
use super::payload::{self, Payload};
use super::security::changes_user;
use crate::container::expand::expand;
use crate::container::message::Mount;

/// Permissions of ConfigMap files, as the API defaults them.
const MODE: i32 = 0o644;
/// Secrets are for their pod alone: stricter than the API's default, which a program run by one user never notices.
const SECRET_MODE: i32 = 0o600;

/// Where each volume of a pod is, by name.
pub(crate) type Volumes = BTreeMap<String, PathBuf>;

/// Makes all volumes of a pod below `dir`.
///
/// # Errors
/// The kubelet's words (`MountVolume.SetUp failed …`) for the first that cannot be made.
pub(crate) async fn make(client: &Client, pod: &Pod, dir: &Path) -> Result<Volumes, String> {
    let mut made = Volumes::new();
    let namespace = pod.namespace().unwrap_or_default();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let place = dir.join(&volume.name);
        let source = Source { client, pod, namespace: &namespace, place: &place, payload: Mutex::default() };
        let path = source
            .make(volume)
            .await
            .map_err(|e| format!("MountVolume.SetUp failed for volume \"{}\" : {e}", volume.name))?;
        made.extend(path.map(|path| (volume.name.clone(), path)));
    }
    Ok(made)
}

/// Whether a volume of the pod shows this ConfigMap or Secret.
pub(crate) fn shows(pod: &Pod, kind: &str, name: &str) -> bool {
    let is = |map: bool, found: &str| (kind == "ConfigMap") == map && found == name;
    let projected = |source: &VolumeProjection| {
        source.config_map.as_ref().is_some_and(|map| is(true, &map.name))
            || source.secret.as_ref().is_some_and(|secret| is(false, &secret.name))
    };
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|volume| {
        volume.config_map.as_ref().is_some_and(|map| is(true, &map.name))
            || volume.secret.as_ref().is_some_and(|s| is(false, s.secret_name.as_deref().unwrap_or_default()))
            || volume.projected.iter().flat_map(|p| p.sources.iter().flatten()).any(projected)
    })
}

/// `/etc/hosts` with the names that a pod adds to the machine's.
pub(crate) fn hosts(pod: &Pod, dir: PathBuf) -> io::Result<Option<Mount>> {
    let aliases: Vec<String> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.host_aliases.iter().flatten())
        .map(|alias| format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t")))
        .collect();
    if aliases.is_empty() {
        return Ok(None);
    }
    let own = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let source = dir.join("etc-hosts");
    std::fs::write(&source, format!("{own}\n# Entries added by HostAliases.\n{}", aliases.concat()))?;
    Ok(Some(Mount { source, target: "/etc/hosts".into(), read_only: false }))
}

/// The bind mounts of one container.
pub(crate) fn mounts(
    container: &Container,
    volumes: &Volumes,
    env: &BTreeMap<String, String>,
) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let Some(volume) = volumes.get(&mount.name) else { continue };
        let expanded = mount.sub_path_expr.as_ref().map(|path| expand(path, env));
        let source = match expanded.or(mount.sub_path.clone()).filter(|path| !path.is_empty()) {
            None => volume.clone(),
            Some(sub) => {
                let source = volume.join(inside(&sub)?);
                if !source.exists() {
                    std::fs::create_dir_all(&source).map_err(|e| format!("subPath {sub}: {e}"))?;
                }
                source
            }
        };
        let target = PathBuf::from(&mount.mount_path);
        mounts.push(Mount { source, target, read_only: mount.read_only == Some(true) });
    }
    // parents before what is mounted in them
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(mounts)
}

struct Source<'a> {
    client: &'a Client,
    pod: &'a Pod,
    namespace: &'a str,
    place: &'a Path,
    payload: Mutex<Payload>,
}

impl Source<'_> {
    /// The directory of a volume; `None` for kinds that need none.
    async fn make(&self, volume: &Volume) -> Result<Option<PathBuf>, String> {
        if let Some(host) = &volume.host_path {
            let path = PathBuf::from(&host.path);
            if host.type_.as_deref() == Some("DirectoryOrCreate") {
                std::fs::create_dir_all(&path).map_err(|e| e.to_string())?;
            }
            return if path.exists() {
                Ok(Some(path))
            } else {
                Err(format!("hostPath {} does not exist", host.path))
            };
        }
        let is_new = !self.place.exists();
        std::fs::create_dir_all(self.place).map_err(|e| e.to_string())?;
        if volume.empty_dir.is_some() {
            if is_new {
                self.open_to_all().map_err(|e| e.to_string())?;
            }
            return Ok(Some(self.place.to_owned()));
        }
        std::fs::set_permissions(self.place, std::fs::Permissions::from_mode(0o755))
            .map_err(|e| e.to_string())?;
        if let Some(map) = &volume.config_map {
            let mode = map.default_mode.unwrap_or(MODE);
            self.config_map(&map.name, map.items.as_deref(), map.optional, mode).await?;
        } else if let Some(secret) = &volume.secret {
            let name = secret.secret_name.as_deref().unwrap_or_default();
            let own = if changes_user(self.pod) { MODE } else { SECRET_MODE };
            let mode = secret.default_mode.filter(|mode| *mode != MODE).unwrap_or(own);
            self.secret(name, secret.items.as_deref(), secret.optional, mode).await?;
        } else if let Some(projected) = &volume.projected {
            for source in projected.sources.iter().flatten() {
                self.project(source, projected.default_mode.unwrap_or(MODE)).await?;
            }
        } else if let Some(downward) = &volume.downward_api {
            self.downward(downward.items.as_deref(), downward.default_mode.unwrap_or(MODE))?;
        } else {
            return Err("this kind of volume is not supported on this machine: use emptyDir, configMap, secret, downwardAPI, projected or hostPath".to_owned());
        }
        let payload = self.payload.lock().unwrap_or_else(PoisonError::into_inner);
        payload::publish(self.place, &payload, self.fs_group())
            .map_err(|e| format!("{}: {e}", self.place.display()))?;
        Ok(Some(self.place.to_owned()))
    }

    fn fs_group(&self) -> Option<u32> {
        let context = self.pod.spec.as_ref()?.security_context.as_ref()?;
        u32::try_from(context.fs_group?).ok()
    }

    /// Whatever user a program runs as may write to an `emptyDir`, as in a cluster; nobody else reaches this directory.
    fn open_to_all(&self) -> io::Result<()> {
        let group = self.pod.spec.as_ref().and_then(|s| s.security_context.as_ref()?.fs_group);
        let group = group.and_then(|group| u32::try_from(group).ok());
        let is_shared =
            group.is_some_and(|group| std::os::unix::fs::chown(self.place, None, Some(group)).is_ok());
        let mode = if is_shared { 0o2777 } else { 0o777 };
        std::fs::set_permissions(self.place, std::fs::Permissions::from_mode(mode))
    }

    async fn project(&self, source: &VolumeProjection, mode: i32) -> Result<(), String> {
        if let Some(map) = &source.config_map {
            self.config_map(&map.name, map.items.as_deref(), map.optional, mode).await?;
        }
        if let Some(secret) = &source.secret {
            self.secret(&secret.name, secret.items.as_deref(), secret.optional, mode).await?;
        }
        if let Some(downward) = &source.downward_api {
            self.downward(downward.items.as_deref(), mode)?;
        }
        Ok(())
    }

    fn downward(&self, items: Option<&[DownwardAPIVolumeFile]>, mode: i32) -> Result<(), String> {
        for item in items.unwrap_or_default() {
            self.file(&item.path, downward_value(item, self.pod)?.as_bytes(), item.mode.unwrap_or(mode))?;
        }
        Ok(())
    }

    async fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        mode: i32,
    ) -> Result<(), String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), self.namespace);
        let Some(map) = api.get_opt(name).await.map_err(|e| e.to_string())? else {
            return absent(optional, format!("configmap \"{name}\" not found"));
        };
        let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
        let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        self.write(text.chain(binary).collect(), items, optional, mode)
    }

    async fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        mode: i32,
    ) -> Result<(), String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace);
        let Some(secret) = api.get_opt(name).await.map_err(|e| e.to_string())? else {
            return absent(optional, format!("secret \"{name}\" not found"));
        };
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        self.write(data.collect(), items, optional, mode)
    }

    fn write(
        &self,
        data: BTreeMap<String, Vec<u8>>,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        mode: i32,
    ) -> Result<(), String> {
        match items {
            None => {
                for (key, content) in &data {
                    self.file(key, content, mode)?;
                }
            }
            Some(items) => {
                for item in items {
                    match data.get(&item.key) {
                        Some(content) => self.file(&item.path, content, item.mode.unwrap_or(mode))?,
                        None => absent(optional, format!("references non-existent key: {}", item.key))?,
                    }
                }
            }
        }
        Ok(())
    }

    fn file(&self, path: &str, content: &[u8], mode: i32) -> Result<(), String> {
        let path: PathBuf = inside(path)?.components().collect();
        let mut payload = self.payload.lock().unwrap_or_else(PoisonError::into_inner);
        payload.insert(path, (content.to_vec(), mode as u32));
        Ok(())
    }
}

/// What a file of the downward API says: of the pod's metadata, or of a container's resources.
fn downward_value(item: &DownwardAPIVolumeFile, pod: &Pod) -> Result<String, String> {
    if let Some(resource) = &item.resource_field_ref {
        return resource_value(resource, pod, None);
    }
    let field = item.field_ref.as_ref().ok_or_else(|| format!("{}: no fieldRef", item.path))?;
    match field.field_path.as_str() {
        "metadata.labels" => Ok(lines(pod.labels())),
        "metadata.annotations" => Ok(lines(pod.annotations())),
        // the rest of a pod may change while it runs
        path if path.starts_with("metadata.") => field_value(field, pod, ""),
        path => Err(format!("unsupported fieldPath: {path}")),
    }
}

/// Labels or annotations as a file (`fieldpath.FormatMap`).
fn lines(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
}

fn absent(optional: Option<bool>, problem: String) -> Result<(), String> {
    if optional == Some(true) { Ok(()) } else { Err(problem) }
}

/// A relative path that stays below where it is put.
fn inside(path: &str) -> Result<&Path, String> {
    let path = Path::new(path);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if plain { Ok(path) } else { Err(format!("path `{}` must be relative and without `..`", path.display())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_path_leaves_its_volume() {
        for (path, ok) in
            [("a", true), ("a/b.txt", true), ("../a", false), ("/etc/passwd", false), ("a/../../b", false)]
        {
            assert_eq!(inside(path).is_ok(), ok, "{path}");
        }
    }

    #[test]
    fn the_downward_api_tells_of_the_pod() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {"app": "model", "tier": "a \"b\""}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "128Mi"}}}]}}))
        .unwrap();
        let value = |item: serde_json::Value| {
            let mut item: DownwardAPIVolumeFile = serde_json::from_value(item).unwrap();
            item.path = "file".to_owned();
            downward_value(&item, &pod)
        };
        for (field, expected) in [
            ("metadata.name", Some("p")),
            ("metadata.labels", Some("app=\"model\"\ntier=\"a \\\"b\\\"\"")),
            ("metadata.labels['app']", Some("model")),
            ("metadata.annotations", Some("")),
            ("status.podIP", None),
        ] {
            let seen = value(json!({"path": "", "fieldRef": {"fieldPath": field}}));
            assert_eq!(seen.as_deref().ok(), expected, "{field}: {seen:?}");
        }
        let memory = |container: &str| {
            let field = json!({"containerName": container, "resource": "limits.memory", "divisor": "1Mi"});
            value(json!({"path": "", "resourceFieldRef": field}))
        };
        assert_eq!(memory("c").as_deref(), Ok("128"));
        assert_eq!(memory("d").unwrap_err(), "container d not found");
    }

    #[test]
    fn mounts_name_their_volumes_parents_first() {
        let container: Container = serde_json::from_value(json!({"name": "c", "volumeMounts": [
            {"name": "b", "mountPath": "/models/cache"},
            {"name": "a", "mountPath": "/models", "readOnly": true},
            {"name": "unknown", "mountPath": "/x"}]}))
        .unwrap();
        let volumes = Volumes::from([("a".into(), "/v/a".into()), ("b".into(), "/v/b".into())]);
        let mounts = mounts(&container, &volumes, &BTreeMap::new()).unwrap();
        assert_eq!(
            mounts,
            [
                Mount { source: "/v/a".into(), target: "/models".into(), read_only: true },
                Mount { source: "/v/b".into(), target: "/models/cache".into(), read_only: false },
            ]
        );
    }
}
