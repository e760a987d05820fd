//! Applies the documents to an API server without storage, with all admission rules, and collects its refusals.
//!
//! So a check reports what `kubectl apply` would, in the same words, without a cluster: unknown fields, missing ones,
//! values out of range, KEDA's webhook. Objects that others depend on are applied first, whatever the order of the files.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use flyball_apiserver::ApiServer;
use flyball_controller::{Features, VpaMetrics};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::core::Status;
use kube::{Client, Resource, discovery};
use serde_json::{Value, json};

use super::documents::Document;
use crate::{admission, world};

const FIELD_MANAGER: &str = "flyball-check";

/// Kinds that others refer to, in the order in which they are applied; kinds in neither list come before [`LAST`].
const FIRST: [&str; 7] = [
    "Namespace",
    "CustomResourceDefinition",
    "LimitRange",
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "Service",
];
const LAST: [&str; 4] = ["HorizontalPodAutoscaler", "VerticalPodAutoscaler", "ScaledObject", "ScaledJob"];

/// Why a document is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A field is wrong, or the whole object if `field` is empty.
    Field { document: usize, field: String, message: String },
    /// The API server does not know the kind.
    UnknownKind { document: usize, kind: String },
}

/// Returns everything that an API server refuses.
pub(crate) async fn refusals(documents: &[Document]) -> Result<Vec<Refusal>> {
    let server = ApiServer::open(flyball_apiserver::Options { state_dir: None }).await?;
    admission::register(&server, &VpaMetrics::default(), Features::default());
    let client = Client::new(server.router(), "default");
    world::install_kinds(&client).await?;
    let mut applier = Applier { client, kinds: BTreeMap::new(), namespaces: Vec::new() };
    let mut found = Vec::new();
    for index in order(documents) {
        found.extend(applier.try_apply(index, &documents[index].object).await?);
    }
    server.close();
    Ok(found)
}

fn order(documents: &[Document]) -> Vec<usize> {
    let rank = |index: &usize| {
        let kind = documents[*index].object["kind"].as_str().unwrap_or_default();
        let first = FIRST.iter().position(|first| *first == kind);
        let last = LAST.iter().position(|last| *last == kind).map(|place| FIRST.len() + 1 + place);
        first.or(last).unwrap_or(FIRST.len())
    };
    let mut order: Vec<usize> = (0..documents.len()).collect();
    order.sort_by_key(rank);
    order
}

/// Applies documents to the server.
struct Applier {
    client: Client,
    kinds: BTreeMap<(String, String), Option<(ApiResource, bool)>>,
    namespaces: Vec<String>,
}

impl Applier {
    async fn try_apply(&mut self, document: usize, object: &Value) -> Result<Vec<Refusal>> {
        let refused = |field: &str, message: &str| Refusal::Field {
            document,
            field: field.to_owned(),
            message: message.to_owned(),
        };
        let text = |name: &str| object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (Some(version), Some(kind)) = (text("apiVersion"), text("kind")) else {
            let missing = if text("kind").is_none() { "kind" } else { "apiVersion" };
            return Ok(vec![refused("", &format!("Object '{missing}' is missing"))]);
        };
        let Some((resource, namespaced)) = self.kind(version, kind).await? else {
            return Ok(vec![Refusal::UnknownKind { document, kind: format!("{version} {kind}") }]);
        };
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default");
        let namespace = namespaced.then(|| namespace.to_owned());
        if let Some(namespace) = &namespace {
            self.create_namespace(namespace).await?;
        }
        let mut causes = Vec::new();
        for validation in ["Strict", "Ignore"] {
            let answer = self.send(&resource, namespace.as_deref(), object, validation).await?;
            let Some(status) = answer else { break };
            let strict = unknown_fields(&status.message);
            let is_strict = !strict.is_empty();
            causes.extend(if is_strict { strict } else { causes_of(&status) });
            // Unknown fields hide other problems.
            if !is_strict {
                break;
            }
        }
        if kind == "CustomResourceDefinition" {
            self.kinds.clear();
        }
        Ok(causes.into_iter().map(|(field, message)| refused(&field, &message)).collect())
    }

    /// Returns the resource of a kind, and whether it is namespaced.
    async fn kind(&mut self, version: &str, kind: &str) -> Result<Option<(ApiResource, bool)>> {
        let key = (version.to_owned(), kind.to_owned());
        if let Some(known) = self.kinds.get(&key) {
            return Ok(known.clone());
        }
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let found = discovery::pinned_kind(&self.client, &gvk).await.ok();
        let found =
            found.map(|(resource, abilities)| (resource, abilities.scope == discovery::Scope::Namespaced));
        self.kinds.insert(key, found.clone());
        Ok(found)
    }

    async fn create_namespace(&mut self, name: &str) -> Result<()> {
        if self.namespaces.iter().any(|known| known == name) {
            return Ok(());
        }
        self.namespaces.push(name.to_owned());
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&());
        // A failure is ignored here: creating the object in the namespace reports a wrong name.
        self.post(&resource, None, &object, "Ignore").await.map(drop)
    }

    /// Creates the object, or applies it over one of the same name; returns the refusal, if any.
    async fn send(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        object: &Value,
        validation: &str,
    ) -> Result<Option<Box<Status>>> {
        let refusal = self.post(resource, namespace, object, validation).await?;
        if refusal.as_ref().is_none_or(|status| status.reason != "AlreadyExists") {
            return Ok(refusal);
        }
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let path = format!("{}/{}", url_path(resource, namespace), plain_segment(name));
        let query = format!("fieldManager={FIELD_MANAGER}&force=true&fieldValidation={validation}");
        let request = http::Request::patch(format!("{path}?{query}"))
            .header("content-type", "application/apply-patch+yaml");
        self.request(request, object).await
    }

    async fn post(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        object: &Value,
        validation: &str,
    ) -> Result<Option<Box<Status>>> {
        let path = url_path(resource, namespace);
        let query = format!("fieldManager={FIELD_MANAGER}&fieldValidation={validation}");
        let request =
            http::Request::post(format!("{path}?{query}")).header("content-type", "application/json");
        self.request(request, object).await
    }

    async fn request(&self, request: http::request::Builder, body: &Value) -> Result<Option<Box<Status>>> {
        let request = request.body(serde_json::to_vec(body)?).context("a name cannot be part of a path")?;
        match self.client.request::<Value>(request).await {
            Ok(_) => Ok(None),
            Err(kube::Error::Api(status)) => Ok(Some(status)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns the API path of the objects of a kind.
fn url_path(resource: &ApiResource, namespace: Option<&str>) -> String {
    let namespace = namespace.map(plain_segment);
    DynamicObject::url_path(resource, namespace.as_deref())
}

/// Returns a name as a path segment; other characters are replaced, so that it cannot leave the path.
fn plain_segment(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    let name: String = name.chars().map(keep).collect();
    if name.trim_matches('.').is_empty() { "_".to_owned() } else { name }
}

/// Returns the fields of a refusal with their problems.
fn causes_of(status: &Status) -> Vec<(String, String)> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let causes: Vec<(String, String)> =
        causes.map(|cause| (cause.field.clone(), cause.message.clone())).collect();
    if causes.is_empty() { vec![(String::new(), status.message.clone())] } else { causes }
}

/// Parses the unknown fields of `strict decoding error: unknown field "spec.a", unknown field "spec.b"`.
fn unknown_fields(message: &str) -> Vec<(String, String)> {
    let Some((_, problems)) = message.split_once("strict decoding error: ") else { return Vec::new() };
    problems
        .split(", ")
        .map(|problem| {
            let field = problem.split('"').nth(1).unwrap_or_default();
            (field.to_owned(), problem.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_parsed() {
        let message = "ScaledObject in version \"v1alpha1\" cannot be handled as a ScaledObject: strict decoding error: \
                       unknown field \"spec.a\", unknown field \"spec.b[0].c\"";
        let fields: Vec<String> = unknown_fields(message).into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["spec.a", "spec.b[0].c"]);
        assert!(unknown_fields("no such thing").is_empty());
    }

    #[test]
    fn a_name_cannot_leave_its_path() {
        for (name, expected) in
            [("model", "model"), ("../../x", ".._.._x"), ("..", "_"), ("", "_"), ("a?b", "a_b")]
        {
            assert_eq!(plain_segment(name), expected);
        }
    }
}
