//! Schemas of the built-in kinds from k8s-openapi, and how their lists merge.
//!
//! Each definition is read once, without descriptions, when a kind first needs it, and then kept; there are a few
//! hundred. k8s-openapi's schemas don't say how lists merge, so `lists.txt` has one line for each list or struct
//! that differs from the default: definition, field (`.` for the definition itself), `map` with its keys, `set` or
//! `atomic`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use k8s_openapi::schemars::SchemaGenerator;
use k8s_openapi::schemars::generate::SchemaSettings;
use parking_lot::RwLock;
use serde_json::Value;

use super::{ListType, Schema};

static DEFINITIONS: RwLock<BTreeMap<Box<str>, &'static Schema>> = RwLock::new(BTreeMap::new());

/// A line of `lists.txt`.
pub(crate) struct Merge {
    pub(crate) field: &'static str,
    pub(crate) list: ListType,
    pub(crate) atomic: bool,
}

/// Returns how the lists of a definition merge.
pub(crate) fn merges(definition: &str) -> &'static [Merge] {
    static TABLE: OnceLock<BTreeMap<&'static str, Vec<Merge>>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut table: BTreeMap<&'static str, Vec<Merge>> = BTreeMap::new();
        for line in include_str!("lists.txt").lines() {
            let words: Vec<&'static str> = line.split(' ').collect();
            let (&[definition, field, how], keys) = (&words[..3], words.get(3)) else { continue };
            let list = match (how, keys) {
                ("map", Some(keys)) => ListType::Map(keys.split(',').map(str::to_owned).collect()),
                ("set", _) => ListType::Set,
                _ => ListType::Atomic,
            };
            table.entry(definition).or_default().push(Merge { field, list, atomic: how == "atomic" });
        }
        table
    });
    table.get(definition).map_or(&[], Vec::as_slice)
}

/// Returns a definition that has been read before.
pub(crate) fn definition(name: &str) -> Option<&'static Schema> {
    let found = || DEFINITIONS.read().get(name).copied();
    found().or_else(|| {
        // Custom resources refer only to ObjectMeta, possibly before any built-in kind is used.
        if name == super::read::OBJECT_META {
            of("v1", "ConfigMap", SchemaGenerator::subschema_for::<k8s_openapi::api::core::v1::ConfigMap>);
        }
        found()
    })
}

/// Generates the JSON schema of a type, including the schemas it refers to.
pub(crate) type Generator = fn(&mut SchemaGenerator) -> k8s_openapi::schemars::Schema;

/// Returns the schema of a kind; on first use, reads it and the schemas it refers to.
pub(crate) fn of(api_version: &str, kind: &str, generator: Generator) -> Arc<Schema> {
    static ROOTS: RwLock<BTreeMap<String, Arc<Schema>>> = RwLock::new(BTreeMap::new());
    let key = format!("{api_version}/{kind}");
    if let Some(found) = ROOTS.read().get(&key) {
        return found.clone();
    }
    let generated = generate(generator);
    let mut known = DEFINITIONS.write();
    for (name, json) in &generated.definitions {
        if !known.contains_key(name.as_str()) {
            known.insert(name.as_str().into(), Box::leak(Box::new(read(name, json))));
        }
    }
    drop(known);
    let root = Arc::new(Schema::referring(&generated.root));
    ROOTS.write().insert(key, root.clone());
    root
}

/// Definitions that accept any JSON (a schema's default, raw extensions …).
const OPEN: [&str; 6] = [
    "JSON",
    "JSONSchemaPropsOrArray",
    "JSONSchemaPropsOrBool",
    "JSONSchemaPropsOrStringArray",
    "RawExtension",
    "FieldsV1",
];

fn read(name: &str, json: &Value) -> Schema {
    if OPEN.contains(&name.rsplit('.').next().unwrap_or(name)) {
        return Schema::any().clone();
    }
    let mut schema = Schema::read(json);
    for merge in merges(name) {
        let target =
            if merge.field == "." { Some(&mut schema) } else { schema.properties.get_mut(merge.field) };
        if let Some(target) = target {
            target.list = merge.list.clone();
            target.atomic = merge.atomic;
        }
    }
    schema
}

/// JSON schemas with descriptions, for OpenAPI and for reading into [`Schema`].
pub(crate) struct Generated {
    /// Name of the kind's own definition.
    pub(crate) root: String,
    pub(crate) definitions: serde_json::Map<String, Value>,
}

/// Generates the JSON schema of a kind, including the schemas it refers to.
pub(crate) fn generate(generator: Generator) -> Generated {
    let mut schemas = SchemaGenerator::new(SchemaSettings::openapi3());
    let reference = generator(&mut schemas);
    let path = reference.as_value().get("$ref").and_then(Value::as_str).unwrap_or_default();
    let root = path.rsplit('/').next().unwrap_or_default().to_owned();
    Generated { root, definitions: schemas.take_definitions(true) }
}
