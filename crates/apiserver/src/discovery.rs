//! Discovery and health: `/api`, `/apis`, resource lists, aggregated discovery, `/version`, health.

use serde_json::{Value, json};

use crate::kinds::{Kind, Registry, group_version};
use crate::state::{Aggregated, ServerState};

/// The Kubernetes version whose API this server implements: major, minor, and git version.
pub const VERSION: (&str, &str, &str) = ("1", "37", "v1.37.0");

/// A discovery document and its media type.
pub(crate) struct Document {
    pub(crate) body: Value,
    pub(crate) content_type: String,
}

impl Document {
    fn plain(body: Value) -> Self {
        Self { body, content_type: "application/json".into() }
    }
}

/// Returns the text of a health endpoint; `None` for other paths.
pub(crate) fn health(path: &str, query: &str) -> Option<String> {
    let (root, rest) =
        path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    if !["healthz", "livez", "readyz"].contains(&root) {
        return None;
    }
    let verbose = query.split('&').any(|pair| pair.split('=').next() == Some("verbose"));
    if verbose && rest.is_empty() {
        return Some(format!("[+]ping ok\n[+]store ok\n{root} check passed\n"));
    }
    Some("ok".into())
}

/// Returns the discovery document at a path; `None` for other paths.
pub(crate) fn serve(server: &ServerState, path: &str, accept: &str) -> Option<Document> {
    let registry = server.registry();
    let aggregated = server.aggregated_apis();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        [""] => Some(Document::plain(json!({"paths": root_paths(&registry, &aggregated)}))),
        ["version"] => Some(Document::plain(version())),
        ["api"] | ["apis"] => {
            let core = parts[0] == "api";
            let aggregated_form = preferred_form(accept);
            if let Some(form) = aggregated_form {
                let body = aggregated_list(&registry, &aggregated, core, form);
                let content_type =
                    format!("application/json;g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList");
                return Some(Document { body, content_type });
            }
            Some(Document::plain(if core { core_versions() } else { group_list(&registry, &aggregated) }))
        }
        ["api", "v1"] => Some(Document::plain(resource_list(&registry, &aggregated, "", "v1")?)),
        ["apis", group] => {
            let found = groups(&registry, &aggregated).into_iter().find(|(name, _)| name == group)?;
            let mut body = group_json(&found.0, &found.1);
            body["kind"] = "APIGroup".into();
            body["apiVersion"] = "v1".into();
            Some(Document::plain(body))
        }
        ["apis", group, version] => {
            Some(Document::plain(resource_list(&registry, &aggregated, group, version)?))
        }
        _ => None,
    }
}

fn version() -> Value {
    json!({
        "major": VERSION.0, "minor": VERSION.1, "gitVersion": VERSION.2, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// Returns the client's preferred version of aggregated discovery, if it accepts any.
fn preferred_form(accept: &str) -> Option<&'static str> {
    for media_type in accept.split(',') {
        let aggregated = media_type.contains("as=APIGroupDiscoveryList");
        match () {
            () if aggregated && media_type.contains("v=v2beta1") => return Some("v2beta1"),
            () if aggregated && media_type.contains("v=v2") => return Some("v2"),
            () if media_type.trim() == "application/json" => return None,
            () => {}
        }
    }
    None
}

fn root_paths(registry: &Registry, aggregated: &[Aggregated]) -> Vec<String> {
    let mut paths: Vec<String> = vec!["/api".into(), "/api/v1".into(), "/apis".into()];
    for (group, versions) in groups(registry, aggregated).into_iter().filter(|(group, _)| !group.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.extend(["/healthz", "/livez", "/openapi/v3", "/readyz", "/version"].map(str::to_owned));
    paths
}

/// Returns groups with their versions, in order of appearance.
fn groups(registry: &Registry, aggregated: &[Aggregated]) -> Vec<(String, Vec<String>)> {
    let own = registry.kinds.iter().map(|kind| (&kind.group, &kind.version));
    let all = own.chain(aggregated.iter().map(|api| (&api.group, &api.version)));
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (group, version) in all {
        match groups.iter_mut().find(|(name, _)| name == group) {
            Some((_, versions)) if versions.contains(version) => {}
            Some((_, versions)) => versions.push(version.clone()),
            None => groups.push((group.clone(), vec![version.clone()])),
        }
    }
    groups
}

fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

fn group_json(group: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": group_version(group, version), "version": version}))
        .collect();
    let preferred = versions.first().cloned();
    json!({"name": group, "versions": versions, "preferredVersion": preferred})
}

fn group_list(registry: &Registry, aggregated: &[Aggregated]) -> Value {
    let named = groups(registry, aggregated).into_iter().filter(|(group, _)| !group.is_empty());
    let groups: Vec<Value> = named.map(|(group, versions)| group_json(&group, &versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn resource_list(
    registry: &Registry,
    aggregated: &[Aggregated],
    group: &str,
    version: &str,
) -> Option<Value> {
    let mut resources: Vec<Value> = Vec::new();
    for kind in registry.kinds.iter().filter(|kind| kind.group == group && kind.version == version) {
        resources.extend(resource(kind));
    }
    let apis = aggregated.iter().filter(|api| api.group == group && api.version == version);
    resources.extend(apis.flat_map(|api| &api.resources).map(|one| {
        json!({"name": one.plural, "singularName": "", "namespaced": one.namespaced, "kind": one.kind, "verbs": one.verbs})
    }));
    let group_version = group_version(group, version);
    let list = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
    });
    (!resources.is_empty()).then_some(list)
}

fn resource(kind: &Kind) -> Vec<Value> {
    let mut main = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
        "verbs": kind.verbs(),
    });
    if !kind.short_names.is_empty() {
        main["shortNames"] = kind.short_names.clone().into();
    }
    if !kind.categories.is_empty() {
        main["categories"] = kind.categories.clone().into();
    }
    let mut all = vec![main];
    for sub in &kind.subresources {
        let mut json = json!({
            "name": format!("{}/{}", kind.plural, sub.name()), "singularName": "", "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": sub.verbs(),
        });
        if let Some((group, version, name)) = sub.response_kind() {
            json["group"] = group.into();
            json["version"] = version.into();
            json["kind"] = name.into();
        }
        all.push(json);
    }
    all
}

fn aggregated_list(registry: &Registry, aggregated: &[Aggregated], core: bool, form: &str) -> Value {
    let wanted = groups(registry, aggregated).into_iter().filter(|(group, _)| group.is_empty() == core);
    let items: Vec<Value> = wanted
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let own =
                        registry.kinds.iter().filter(|kind| kind.group == group && kind.version == *version);
                    let mut resources: Vec<Value> = own.map(|kind| discovered(kind)).collect();
                    let apis = aggregated.iter().filter(|api| api.group == group && api.version == *version);
                    resources.extend(apis.flat_map(aggregated_resources));
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    let api_version = format!("apidiscovery.k8s.io/{form}");
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": items})
}

fn scope(namespaced: bool) -> &'static str {
    if namespaced { "Namespaced" } else { "Cluster" }
}

fn discovered(kind: &Kind) -> Value {
    let response = |(group, version, kind): (&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
    let own = (kind.group.as_str(), kind.version.as_str(), kind.kind.as_str());
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|sub| {
            let kind = response(sub.response_kind().unwrap_or(own));
            json!({"subresource": sub.name(), "responseKind": kind, "verbs": sub.verbs()})
        })
        .collect();
    let mut resource = json!({
        "resource": kind.plural, "responseKind": response(own), "scope": scope(kind.namespaced),
        "singularResource": kind.singular, "verbs": kind.verbs(),
    });
    for (key, values) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !values.is_empty() {
            resource[key] = values.clone().into();
        }
    }
    if !subresources.is_empty() {
        resource["subresources"] = subresources.into();
    }
    resource
}

fn aggregated_resources(api: &Aggregated) -> Vec<Value> {
    let one = |resource: &crate::state::ApiResource| {
        json!({
            "resource": resource.plural, "scope": scope(resource.namespaced), "singularResource": "",
            "responseKind": {"group": api.group, "version": api.version, "kind": resource.kind},
            "verbs": resource.verbs,
        })
    };
    api.resources.iter().map(one).collect()
}
