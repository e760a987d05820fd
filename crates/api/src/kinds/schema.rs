//! Tidies a generated schema so that it says what controller-gen's would say, and no more.
//!
//! Rust types leave traces that the originals do not have: `nullable` on everything optional, a default of
//! "empty" on every list, integer formats of Rust. Kubernetes' own types bring descriptions of many
//! paragraphs.

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

/// An object whose keys and values are not checked.
pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Where a ScaledJob has the Job to create.
const JOB_TARGET_REF: &str = "/properties/spec/properties/jobTargetRef";

/// The schema of one of Kubernetes' own types, whole and in one piece.
fn inline_schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Puts the schema of a Job in its place; everything but the description, which is ours.
fn insert_job(schema: &mut Value) {
    let Some(place) = schema.pointer_mut(JOB_TARGET_REF) else { return };
    let description = place.get("description").cloned();
    *place = inline_schema::<JobSpec>();
    if let (Some(fields), Some(description)) = (place.as_object_mut(), description) {
        fields.insert("description".into(), description);
    }
}

/// The definition with its schemas tidied.
pub(super) fn tidy(crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let mut value = serde_json::to_value(&crd).expect("a definition is JSON");
    if let Some(versions) = value.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        versions.iter_mut().filter_map(|version| version.pointer_mut("/schema/openAPIV3Schema")).for_each(
            |schema| {
                insert_job(schema);
                tidy_schema(schema);
            },
        );
    }
    serde_json::from_value(value).expect("a tidied definition is a definition")
}

/// Tidies one schema and those inside it.
fn tidy_schema(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("nullable");
    schema.remove("title");
    if schema.get("default").is_some_and(is_empty) {
        schema.remove("default");
    }
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        schema.remove("format");
    }
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = first_sentence(description);
    }
    if schema.contains_key("x-kubernetes-int-or-string") {
        schema.remove("type");
        schema.insert("anyOf".into(), serde_json::json!([{"type": "integer"}, {"type": "string"}]));
    }
    if is_key_selector(schema) {
        schema.insert("required".into(), serde_json::json!(["key"]));
        schema.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    children(schema).for_each(tidy_schema);
}

/// A key of a Secret or ConfigMap. Its name may be left out, and often is where the key is empty, too.
fn is_key_selector(schema: &Map<String, Value>) -> bool {
    let names = schema.get("properties").and_then(Value::as_object).map(|properties| properties.keys());
    names.is_some_and(|names| names.map(String::as_str).eq(["key", "name", "optional"]))
}

/// The schemas directly inside a schema.
fn children(schema: &mut Map<String, Value>) -> impl Iterator<Item = &mut Value> {
    schema.iter_mut().flat_map(|(key, value)| match (key.as_str(), value) {
        ("properties", Value::Object(properties)) => properties.values_mut().collect::<Vec<_>>(),
        ("items" | "additionalProperties", child) => vec![child],
        _ => Vec::new(),
    })
}

/// Whether a default says only that nothing was given.
fn is_empty(default: &Value) -> bool {
    match default {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// The text up to the end of its first sentence, on one line. A stop ends a sentence when a capital follows
/// it.
fn first_sentence(text: &str) -> String {
    let line = text.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line
        .match_indices(". ")
        .map(|(at, _)| at + 1)
        .find(|&at| line[at + 1..].starts_with(char::is_uppercase));
    line[..end.unwrap_or(line.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use super::first_sentence;

    #[test]
    fn descriptions_are_one_sentence() {
        for (text, expected) in [
            ("One. Two.", "One."),
            ("One\nline\n\nAnother paragraph.", "One line"),
            ("A tolerance (e.g. 0.1) of it. More.", "A tolerance (e.g. 0.1) of it."),
            ("", ""),
        ] {
            assert_eq!(first_sentence(text), expected, "{text:?}");
        }
    }
}
