//! Reads JSON Schema (a CRD's `openAPIV3Schema`, or k8s-openapi's output) into [`Schema`].

use serde_json::{Map, Value};

use super::{DEPTH_MAX, ListType, Pattern, Rules, Schema, Type};
use crate::object;

/// Name of ObjectMeta's definition, the schema of every object's `metadata`.
pub(crate) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

impl Schema {
    /// Reads the schema of a custom resource. apiVersion, kind and metadata are Kubernetes' own, whatever the CRD
    /// says.
    pub(crate) fn of_custom_resource(json: &Value) -> Self {
        let mut schema = Self::read(json);
        schema.embed();
        schema
    }

    /// Reads a schema. Unknown keywords are ignored, as Kubernetes ignores descriptions and examples.
    pub(crate) fn read(json: &Value) -> Self {
        Self::read_at(json, 0)
    }

    fn embed(&mut self) {
        if self.kind == Type::Any {
            self.kind = Type::Object;
        }
        let string = || Self { kind: Type::String, ..Self::default() };
        self.properties.insert("apiVersion".into(), string());
        self.properties.insert("kind".into(), string());
        self.properties.insert("metadata".into(), Self::referring(OBJECT_META));
    }

    fn read_at(json: &Value, depth: usize) -> Self {
        let Some(map) = json.as_object().filter(|_| depth < DEPTH_MAX) else {
            return Self::any().clone();
        };
        match reference(map) {
            Some(QUANTITY) => return Self { kind: Type::Quantity, ..Self::default() },
            Some(name) => return Self::referring(name),
            None => {}
        }
        let next = |value: &Value| Self::read_at(value, depth + 1);
        let mut schema = Self { kind: type_of(map), rules: rules_of(map, depth), ..Self::default() };
        schema.format = map.get("format").and_then(Value::as_str).map(Into::into);
        for (key, value) in object::map(json, "properties").into_iter().flatten() {
            schema.properties.insert(key.as_str().into(), next(value));
        }
        schema.additional = match map.get("additionalProperties") {
            Some(Value::Object(_)) => Some(Box::new(next(&map["additionalProperties"]))),
            Some(Value::Bool(true)) => Some(Box::new(Self::any().clone())),
            _ => None,
        };
        schema.items = map.get("items").map(|items| Box::new(next(items)));
        schema.required =
            object::list(json, "required").iter().filter_map(Value::as_str).map(Into::into).collect();
        schema.list = list_type_of(json);
        schema.atomic = object::text(json, "x-kubernetes-map-type") == "atomic";
        schema.nullable = is_true(map, "nullable");
        schema.open = is_true(map, "x-kubernetes-preserve-unknown-fields");
        schema.default = map.get("default").map(|default| Box::new(default.clone()));
        if is_true(map, "x-kubernetes-embedded-resource") {
            schema.embed();
        }
        // A bare `type: object` without properties is a struct without fields, unless the schema says otherwise.
        schema
    }
}

/// Returns the name in `$ref`, which is alone or (beside a description) the only member of `allOf`.
fn reference(map: &Map<String, Value>) -> Option<&str> {
    let path = match (map.get("$ref"), map.get("allOf").and_then(Value::as_array).map(Vec::as_slice)) {
        (Some(path), _) => path,
        (None, Some([only])) if !map.contains_key("type") => only.get("$ref")?,
        _ => return None,
    };
    path.as_str()?.rsplit('/').next()
}

fn is_true(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key) == Some(&Value::Bool(true))
}

fn type_of(map: &Map<String, Value>) -> Type {
    if is_true(map, "x-kubernetes-int-or-string") {
        return Type::IntOrString;
    }
    match map.get("type").and_then(Value::as_str) {
        Some("object") => Type::Object,
        Some("array") => Type::Array,
        Some("string") => Type::String,
        Some("integer") => Type::Integer,
        Some("number") => Type::Number,
        Some("boolean") => Type::Boolean,
        _ => Type::Any,
    }
}

fn list_type_of(json: &Value) -> ListType {
    match object::text(json, "x-kubernetes-list-type") {
        "set" => ListType::Set,
        "map" => {
            let keys = object::list(json, "x-kubernetes-list-map-keys").iter().filter_map(Value::as_str);
            ListType::Map(keys.map(str::to_owned).collect())
        }
        _ => ListType::Atomic,
    }
}

fn rules_of(map: &Map<String, Value>, depth: usize) -> Option<Box<Rules>> {
    const WORDS: [&str; 18] = [
        "enum",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "pattern",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
    ];
    // Most schemas have none of these, and then need no memory for them.
    if !WORDS.iter().any(|word| map.contains_key(*word)) {
        return None;
    }
    let number = |key: &str| map.get(key).and_then(Value::as_f64);
    let count =
        |key: &str| map.get(key).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
    let several = |key: &str| {
        let list = map.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        list.iter().map(|one| Schema::read_at(one, depth + 1)).collect()
    };
    Some(Box::new(Rules {
        allowed: map.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        minimum: number("minimum"),
        maximum: number("maximum"),
        exclusive_minimum: is_true(map, "exclusiveMinimum"),
        exclusive_maximum: is_true(map, "exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        length_min: count("minLength"),
        length_max: count("maxLength"),
        items_min: count("minItems"),
        items_max: count("maxItems"),
        unique: is_true(map, "uniqueItems"),
        properties_min: count("minProperties"),
        properties_max: count("maxProperties"),
        pattern: map.get("pattern").and_then(Value::as_str).map(Pattern::new),
        all_of: several("allOf"),
        any_of: several("anyOf"),
        one_of: several("oneOf"),
        not: map.get("not").map(|not| Box::new(Schema::read_at(not, depth + 1))),
    }))
}
