//! OpenAPI v3: an index, and a document per group version, generated on request.
//!
//! kubectl uses it to learn that the server validates fields, which patch types a kind supports, how lists merge
//! (for `apply`, `diff`, `edit`), and descriptions for `explain`. The documents are large and rarely requested, so
//! they are not cached here; a hash in the URL lets clients cache them.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value, json};

use crate::crd;
use crate::discovery::VERSION;
use crate::kinds::Kind;
use crate::schema::{ListType, builtin};
use crate::state::ServerState;
use crate::status::{Failure, Result};

/// The media type under which client-go asks for OpenAPI v2 and accepts nothing else.
pub(crate) const V2_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Returns an OpenAPI v2 document without definitions: a gnostic `Document` with `swagger` (1) and `info` (2:
/// title, version).
///
/// kubectl falls back to v2 for kinds that are missing in v3, and reports a misleading error if there is no v2. An
/// empty document tells it that the kind is missing.
pub(crate) fn v2() -> Vec<u8> {
    let info = [text(1, "Kubernetes"), text(2, VERSION.2)].concat();
    [text(1, "2.0"), field(2, &info)].concat()
}

fn text(number: u8, text: &str) -> Vec<u8> {
    field(number, text.as_bytes())
}

/// Encodes a length-delimited protobuf field of less than 128 bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, bytes.len() as u8];
    field.extend(bytes);
    field
}

/// Returns the document at a path under `/openapi/v3`; `None` for other paths.
pub(crate) fn serve(server: &ServerState, path: &str) -> Option<Result<String>> {
    let rest = path.strip_prefix("/openapi")?;
    if rest == "/v3" {
        return Some(Ok(index(server).to_string()));
    }
    let group_version = rest.strip_prefix("/v3/").and_then(|path| match path.split_once('/') {
        Some(("api", version)) => Some(("", version)),
        Some(("apis", rest)) => rest.split_once('/'),
        _ => None,
    });
    let document = group_version.and_then(|(group, version)| document(server, group, version));
    Some(document.map(|document| document.to_string()).ok_or_else(Failure::unknown_path))
}

fn prefix(kind: &Kind) -> String {
    if kind.group.is_empty() {
        format!("api/{}", kind.version)
    } else {
        format!("apis/{}/{}", kind.group, kind.version)
    }
}

fn index(server: &ServerState) -> Value {
    let mut paths = Map::new();
    for kind in &server.registry().kinds {
        let prefix = prefix(kind);
        if !paths.contains_key(&prefix) {
            let hash = hash(server, &kind.group, &kind.version);
            let url = format!("/openapi/v3/{prefix}?hash={hash:016X}");
            paths.insert(prefix, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

/// Hashes what the document depends on: this program's version, and the CRDs of the group.
fn hash(server: &ServerState, group: &str, version: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), group, version).hash(&mut hasher);
    for kind in server.registry().kinds.iter().filter(|kind| kind.group == group && kind.version == version) {
        kind.plural.hash(&mut hasher);
        if let Some(raw) = crd::raw_schema(server, kind) {
            raw.to_string().hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn document(server: &ServerState, group: &str, version: &str) -> Option<Value> {
    let registry = server.registry();
    let kinds: Vec<_> =
        registry.kinds.iter().filter(|kind| kind.group == group && kind.version == version).collect();
    if kinds.is_empty() {
        return None;
    }
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for kind in kinds {
        let name = components(server, kind, &mut schemas)?;
        add_paths(kind, &name, &mut paths);
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION.2},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

fn group_version_kind(kind: &Kind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

/// Adds the kind's schemas; returns the name of its own.
fn components(server: &ServerState, kind: &Kind, schemas: &mut Map<String, Value>) -> Option<String> {
    let tag = json!([group_version_kind(kind)]);
    if kind.custom().is_some() {
        let mut reversed: Vec<&str> = kind.group.split('.').rev().collect();
        reversed.extend([kind.version.as_str(), kind.kind.as_str()]);
        let name = reversed.join(".");
        let mut schema = crd::raw_schema(server, kind)?;
        let metadata = crate::schema::read::OBJECT_META;
        crate::object::ensure(&mut schema, "properties")["metadata"] =
            json!({"allOf": [{"$ref": format!("#/components/schemas/{metadata}")}], "default": {}});
        schema["x-kubernetes-group-version-kind"] = tag;
        schemas.insert(name.clone(), schema);
        add_definitions(builtin::generate(crate::kinds::config::CONFIG_MAP.schema).definitions, schemas);
        return Some(name);
    }
    let generated = builtin::generate(kind.row()?.schema);
    add_definitions(generated.definitions, schemas);
    if let Some(schema) = schemas.get_mut(&generated.root) {
        schema["x-kubernetes-group-version-kind"] = tag;
    }
    Some(generated.root)
}

fn add_definitions(definitions: Map<String, Value>, schemas: &mut Map<String, Value>) {
    for (name, mut schema) in definitions {
        if schemas.contains_key(&name) {
            continue;
        }
        for merge in builtin::merges(&name) {
            if merge.field == "." {
                schema["x-kubernetes-map-type"] = "atomic".into();
            } else if let Some(field) =
                schema.get_mut("properties").and_then(|fields| fields.get_mut(merge.field))
            {
                describe_merge(field, &merge.list);
            }
        }
        schemas.insert(name, schema);
    }
}

/// Adds the extensions that drive client-side and server-side merging.
fn describe_merge(field: &mut Value, list: &ListType) {
    match list {
        ListType::Atomic => field["x-kubernetes-map-type"] = "atomic".into(),
        ListType::Set => {
            field["x-kubernetes-list-type"] = "set".into();
            field["x-kubernetes-patch-strategy"] = "merge".into();
        }
        ListType::Map(keys) => {
            field["x-kubernetes-list-type"] = "map".into();
            field["x-kubernetes-list-map-keys"] = keys.clone().into();
            field["x-kubernetes-patch-strategy"] = "merge".into();
            field["x-kubernetes-patch-merge-key"] = keys[0].clone().into();
        }
    }
}

fn add_paths(kind: &Kind, name: &str, paths: &mut Map<String, Value>) {
    let base = format!("/{}", prefix(kind));
    let collection = if kind.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", kind.plural)
    } else {
        format!("{base}/{}", kind.plural)
    };
    // Only what kubectl reads: the actions, their media types, and the query parameters of writes.
    let reference = json!({"$ref": format!("#/components/schemas/{name}")});
    let operation = |action: &str, body: &[&str], parameters: Value| {
        let mut operation = json!({
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": group_version_kind(kind),
            "parameters": parameters,
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
        });
        if !body.is_empty() {
            let content: Map<String, Value> = body
                .iter()
                .map(|media_type| ((*media_type).to_owned(), json!({"schema": reference})))
                .collect();
            operation["requestBody"] = json!({"content": content});
        }
        operation
    };
    let query =
        |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let write = || json!([query("dryRun"), query("fieldManager"), query("fieldValidation")]);
    let json_body = ["application/json"];
    paths.insert(
        collection.clone(),
        json!({"get": operation("list", &[], json!([])), "post": operation("post", &json_body, write())}),
    );
    if kind.is_review() {
        return;
    }
    let mut patches =
        vec!["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"];
    if kind.row().is_some() {
        patches.push("application/strategic-merge-patch+json");
    }
    paths.insert(
        format!("{collection}/{{name}}"),
        json!({
            "get": operation("get", &[], json!([])),
            "put": operation("put", &json_body, write()),
            "patch": operation("patch", &patches, json!([query("dryRun"), query("fieldManager"), query("fieldValidation"), query("force")])),
            "delete": operation("delete", &json_body, json!([query("dryRun")])),
        }),
    );
}
