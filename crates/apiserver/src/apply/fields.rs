//! Sets of fields in the form of `fieldsV1`: `f:` a field, `k:` an item by its keys, `v:` an item by its value.
//!
//! A [`FieldSet`] is a tree. Each node says whether its own path is in the set (`.` in JSON when it also has
//! children). The schema decides what counts as one field: atomic lists, maps and structs are leaves.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::path::shortened;
use crate::schema::{ListType, Schema};

/// Maximum nesting of a set; objects are not deeper.
const DEPTH_MAX: usize = crate::schema::DEPTH_MAX;

/// A set of fields, as a tree of path elements.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct FieldSet {
    /// Whether the path to this node is in the set.
    pub(crate) own: bool,
    pub(crate) children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    fn leaf() -> Self {
        Self { own: true, children: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.own && self.children.values().all(Self::is_empty)
    }

    /// Reads `fieldsV1`, skipping malformed entries.
    pub(crate) fn read(json: &Value) -> Self {
        Self::read_at(json, 0)
    }

    fn read_at(json: &Value, depth: usize) -> Self {
        let mut set = Self::default();
        for (key, inner) in json.as_object().filter(|_| depth < DEPTH_MAX).into_iter().flatten() {
            if key == "." {
                set.own = true;
            } else {
                let mut child = Self::read_at(inner, depth + 1);
                child.own |= inner.as_object().is_some_and(Map::is_empty);
                set.children.insert(key.clone(), child);
            }
        }
        set
    }

    /// Writes the set as `fieldsV1`.
    pub(crate) fn write(&self) -> Value {
        let mut map = Map::new();
        if self.own && !self.children.is_empty() {
            map.insert(".".into(), json!({}));
        }
        for (key, child) in self.children.iter().filter(|(_, child)| !child.is_empty()) {
            map.insert(key.clone(), child.write());
        }
        Value::Object(map)
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.own |= other.own;
        for (key, child) in &other.children {
            let slot = both.children.entry(key.clone()).or_default();
            *slot = slot.union(child);
        }
        both
    }

    pub(crate) fn difference(&self, other: &Self) -> Self {
        self.combine(other, |own, theirs| own && !theirs, true)
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |own, theirs| own && theirs, false)
    }

    fn combine(&self, other: &Self, own: fn(bool, bool) -> bool, keep_missing: bool) -> Self {
        let mut result = Self { own: own(self.own, other.own), children: BTreeMap::new() };
        for (key, child) in &self.children {
            let combined = match other.children.get(key) {
                Some(theirs) => child.combine(theirs, own, keep_missing),
                None if keep_missing => child.clone(),
                None => continue,
            };
            if !combined.is_empty() {
                result.children.insert(key.clone(), combined);
            }
        }
        result
    }

    /// Returns the number of paths in the set.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.own) + self.children.values().map(Self::len).sum::<usize>()
    }

    /// Returns at most `limit` paths as conflicts show them: `.spec.containers[name="a"].image`.
    pub(crate) fn paths(&self, limit: usize) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), limit, &mut paths);
        paths
    }

    fn collect<'a>(&'a self, path: &mut Vec<&'a str>, limit: usize, paths: &mut Vec<String>) {
        for (key, child) in &self.children {
            if paths.len() >= limit {
                return;
            }
            path.push(key);
            child.collect(path, limit, paths);
            path.pop();
        }
        if self.own && paths.len() < limit {
            paths.push(path.iter().map(|element| display_element(element)).collect());
        }
    }
}

fn display_element(element: &str) -> String {
    let shown = match element.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("k:", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        Some(("v:", value)) => format!("[={value}]"),
        _ => format!("[{element}]"),
    };
    shortened(&shown)
}

/// Returns a list item's path element, or `None` when the list is atomic or the item lacks a key.
pub(crate) fn element(schema: &Schema, item: &Value) -> Option<String> {
    match &schema.list {
        ListType::Atomic => None,
        ListType::Set => Some(format!("v:{item}")),
        ListType::Map(keys) => {
            let mut sorted: Vec<&String> = keys.iter().collect();
            sorted.sort();
            let value = |key: &str| match item.get(key) {
                Some(value) => Some(value.clone()),
                // The only key that may be omitted, because it has a default.
                None if key == "protocol" => Some("TCP".into()),
                None => None,
            };
            let pairs: Vec<String> = sorted
                .into_iter()
                .filter_map(|key| Some(format!("{}:{}", Value::from(key.as_str()), value(key)?)))
                .collect();
            (!pairs.is_empty()).then(|| format!("k:{{{}}}", pairs.join(",")))
        }
    }
}

/// Returns a value's children that are separate fields, as (path element, schema, value); `None` for a leaf.
pub(crate) fn children<'a>(
    schema: &'a Schema,
    value: &'a Value,
) -> Option<Vec<(String, &'a Schema, &'a Value)>> {
    match value {
        Value::Object(map) if !schema.is_atomic() => {
            let named =
                |(key, inner): (&'a String, &'a Value)| (format!("f:{key}"), schema.field_or_any(key), inner);
            Some(map.iter().map(named).collect())
        }
        Value::Array(items) if schema.list != ListType::Atomic => {
            let named = |item: &'a Value| Some((element(schema, item)?, schema.item(), item));
            Some(items.iter().filter_map(named).collect())
        }
        _ => None,
    }
}

/// Returns the fields that a configuration sets: leaves, and list items.
pub(crate) fn of(schema: &Schema, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    for (name, inner_schema, inner) in children(schema, value).unwrap_or_default() {
        let mut child = of(inner_schema, inner);
        child.own = child.children.is_empty() || !name.starts_with("f:");
        set.children.insert(name, child);
    }
    set
}

/// Returns all paths of a value, containers included.
fn all(schema: &Schema, value: &Value) -> FieldSet {
    let mut set = FieldSet::leaf();
    for (name, schema, inner) in children(schema, value).unwrap_or_default() {
        set.children.insert(name, all(schema, inner));
    }
    set
}

/// Returns the fields added or changed in `new`, and the fields removed.
pub(crate) fn compare(schema: &Schema, old: &Value, new: &Value) -> (FieldSet, FieldSet) {
    let (mut changed, mut removed) = (FieldSet::default(), FieldSet::default());
    if old == new {
        return (changed, removed);
    }
    match (children(schema, old), children(schema, new)) {
        (Some(before), Some(after)) if old.is_object() == new.is_object() => {
            let mut before: BTreeMap<_, _> =
                before.into_iter().map(|(name, schema, value)| (name, (schema, value))).collect();
            for (name, schema, value) in after {
                match before.remove(&name) {
                    None => {
                        changed.children.insert(name, all(schema, value));
                    }
                    Some((_, previous)) => {
                        let (inner_changed, inner_removed) = compare(schema, previous, value);
                        for (target, inner) in [(&mut changed, inner_changed), (&mut removed, inner_removed)]
                        {
                            if !inner.is_empty() {
                                target.children.insert(name.clone(), inner);
                            }
                        }
                    }
                }
            }
            removed
                .children
                .extend(before.into_iter().map(|(name, (schema, value))| (name, all(schema, value))));
        }
        _ => changed.own = true,
    }
    (changed, removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> std::sync::Arc<Schema> {
        crate::kinds::schema_of("apps/v1", "Deployment").expect("it is built in")
    }

    #[test]
    fn a_configuration_owns_its_leaves_and_items() {
        let config = json!({"spec": {"replicas": 1, "template": {"spec": {"containers": [
            {"name": "a", "image": "i", "args": ["x"], "ports": [{"containerPort": 80}]}]}}}});
        let set = of(&schema(), &config);
        let ports = json!({r#"k:{"containerPort":80,"protocol":"TCP"}"#: {".": {}, "f:containerPort": {}}});
        let container = json!({".": {}, "f:name": {}, "f:image": {}, "f:args": {}, "f:ports": ports});
        let expected = json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {r#"k:{"name":"a"}"#: container}}}}});
        assert_eq!(set.write(), expected);
        assert_eq!(FieldSet::read(&expected), set);
    }

    #[test]
    fn a_change_is_seen_field_by_field() {
        let old = json!({"metadata": {"labels": {"a": "1", "b": "1"}}, "spec": {"replicas": 1}});
        let new = json!({"metadata": {"labels": {"a": "2"}}, "spec": {"replicas": 1, "paused": true}});
        let (changed, removed) = compare(&schema(), &old, &new);
        assert_eq!(changed.paths(9), [".metadata.labels.a", ".spec.paused"]);
        assert_eq!(removed.paths(9), [".metadata.labels.b"]);
    }

    proptest::proptest! {
        #[test]
        fn sets_behave_as_sets(left in "[a-d]{0,6}", right in "[a-d]{0,6}") {
            let set = |text: &str| {
                let mut json = json!({});
                for letter in text.chars() {
                    json[format!("f:{letter}")] = json!({"f:x": {}});
                }
                FieldSet::read(&json)
            };
            let (left, right) = (set(&left), set(&right));
            let rebuilt = left.difference(&right).union(&left.intersection(&right));
            proptest::prop_assert_eq!(rebuilt, left.clone());
            proptest::prop_assert!(left.difference(&left).is_empty());
        }
    }
}
