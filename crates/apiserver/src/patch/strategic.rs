//! Strategic merge patch: a merge patch that merges certain lists item by item, by key.
//!
//! Directives: `$patch: replace | delete | merge`, `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>`,
//! `$retainKeys`. A list that is neither a set nor a map in the schema is replaced as a whole. Lists with several
//! keys merge by the first one, as this patch type always has.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::path::shortened;
use crate::schema::{ListType, Schema};
use crate::status::{Failure, Result};

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// Merges `patch` into `object`.
pub(crate) fn merge(schema: &Schema, object: &mut Value, patch: &Value) -> Result<()> {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return Ok(());
    };
    match directive(patch)? {
        Some("replace") => {
            *object = Value::Object(without_directives(patch));
            return Ok(());
        }
        Some("delete") => {
            *object = Value::Object(Map::new());
            return Ok(());
        }
        _ => {}
    }
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(target) = object.as_object_mut() else { return Ok(()) };
    if let Some(keys) = patch.get(RETAIN).and_then(Value::as_array) {
        target.retain(|key, _| keys.iter().any(|kept| kept == key.as_str()));
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE) {
            delete_scalars(target, field, value);
        } else if !key.starts_with('$') {
            field(schema.field_or_any(key), target, key, value)?;
        }
    }
    for (key, order) in patch {
        if let Some(field) = key.strip_prefix(ORDER) {
            reorder(schema.field_or_any(field), target, field, order);
        }
    }
    Ok(())
}

fn directive(patch: &Map<String, Value>) -> Result<Option<&str>> {
    match patch.get(PATCH) {
        None => Ok(None),
        Some(Value::String(name)) if ["replace", "delete", "merge"].contains(&name.as_str()) => {
            Ok(Some(name))
        }
        Some(other) => Err(Failure::bad_request(format!("unrecognized $patch directive: {other}"))),
    }
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    let kept = patch.iter().filter(|(key, value)| !key.starts_with('$') && !value.is_null());
    kept.map(|(key, value)| (key.clone(), clean(value))).collect()
}

/// Strips directives and nulls from a value that is new to the object and thus merges with nothing.
fn clean(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(without_directives(map)),
        Value::Array(items) => {
            let deleted = |item: &&Value| item.get(PATCH).is_some();
            Value::Array(items.iter().filter(|item| !deleted(item)).map(clean).collect())
        }
        other => other.clone(),
    }
}

fn field(schema: &Schema, target: &mut Map<String, Value>, key: &str, patch: &Value) -> Result<()> {
    match patch {
        Value::Null => {
            target.remove(key);
        }
        Value::Object(map) => {
            if directive(map)? == Some("delete") {
                target.remove(key);
                return Ok(());
            }
            let slot = target.entry(key.to_owned()).or_insert(Value::Null);
            merge(schema, slot, patch)?;
        }
        Value::Array(items) => {
            let existing = target.entry(key.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
            let list = &schema.list;
            match (list, existing.as_array_mut()) {
                (ListType::Map(keys), Some(existing)) => keyed(schema.item(), &keys[0], existing, items)?,
                (ListType::Set, Some(existing)) => {
                    let mut known: BTreeSet<String> = existing.iter().map(Value::to_string).collect();
                    let new = items.iter().filter(|item| known.insert(item.to_string()));
                    existing.extend(new.cloned());
                }
                _ => *existing = clean(patch),
            }
        }
        other => {
            target.insert(key.to_owned(), other.clone());
        }
    }
    Ok(())
}

/// Merges a list item by item, matching items by `key`.
fn keyed(schema: &Schema, key: &str, existing: &mut Vec<Value>, patch: &[Value]) -> Result<()> {
    if patch.iter().any(|item| item.get(PATCH).is_some_and(|how| how == "replace")) {
        *existing = patch.iter().filter(|item| item.get(PATCH).is_none()).map(clean).collect();
        return Ok(());
    }
    let mut list = Keyed::new(key, std::mem::take(existing));
    let result = patch.iter().try_for_each(|item| list.merge(schema, key, item));
    *existing = list.items.into_iter().flatten().collect();
    result
}

/// A list indexed by its items' keys, so that long lists merge in linear time.
struct Keyed {
    /// The items; `None` where one was deleted.
    items: Vec<Option<Value>>,
    /// Indexes of the items with each key.
    indexes: BTreeMap<String, Vec<usize>>,
}

impl Keyed {
    fn new(key: &str, items: Vec<Value>) -> Self {
        let mut indexes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            if let Some(identity) = item.get(key) {
                indexes.entry(identity.to_string()).or_default().push(index);
            }
        }
        Self { items: items.into_iter().map(Some).collect(), indexes }
    }

    fn merge(&mut self, schema: &Schema, key: &str, item: &Value) -> Result<()> {
        let Some(identity) = item.get(key) else {
            let item = shortened(&item.to_string());
            return Err(Failure::bad_request(format!(
                "map: {item} does not contain declared merge key: {key}"
            )));
        };
        let identity = identity.to_string();
        if item.get(PATCH).is_some_and(|how| how == "delete") {
            for index in self.indexes.remove(&identity).unwrap_or_default() {
                self.items[index] = None;
            }
            return Ok(());
        }
        let first = self.indexes.get(&identity).and_then(|indexes| indexes.first());
        match first.and_then(|index| self.items[*index].as_mut()) {
            Some(found) => merge(schema, found, item),
            None => {
                self.indexes.insert(identity, vec![self.items.len()]);
                self.items.push(Some(clean(item)));
                Ok(())
            }
        }
    }
}

fn delete_scalars(target: &mut Map<String, Value>, field: &str, gone: &Value) {
    let gone = gone.as_array().map_or(&[][..], Vec::as_slice);
    let gone: BTreeSet<String> = gone.iter().map(Value::to_string).collect();
    if let Some(list) = target.get_mut(field).and_then(Value::as_array_mut) {
        list.retain(|item| !gone.contains(&item.to_string()));
    }
}

/// Sorts the items named in `order` into that order; others stay where they are relative to their predecessor.
fn reorder(schema: &Schema, target: &mut Map<String, Value>, field: &str, order: &Value) {
    let (Some(order), Some(list)) = (order.as_array(), target.get_mut(field).and_then(Value::as_array_mut))
    else {
        return;
    };
    let identity = |item: &Value| match &schema.list {
        ListType::Map(keys) => item.get(&keys[0]).map_or_else(|| "null".into(), Value::to_string),
        _ => item.to_string(),
    };
    let mut ranks = BTreeMap::new();
    for (rank, entry) in order.iter().enumerate() {
        ranks.entry(identity(entry)).or_insert(rank);
    }
    // Rank each item: its index in the order, or just behind the highest rank before it in the list.
    let mut behind = None;
    let placed = std::mem::take(list).into_iter().map(|item| match ranks.get(&identity(&item)) {
        Some(rank) => {
            behind = behind.max(Some(*rank));
            (Some(*rank), false, item)
        }
        None => (behind, true, item),
    });
    let mut placed: Vec<(Option<usize>, bool, Value)> = placed.collect();
    placed.sort_by_key(|(rank, other, _)| (*rank, *other));
    *list = placed.into_iter().map(|(.., item)| item).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(name: &str, object: Value, patch: Value, expected: Value) {
        let schema = crate::kinds::schema_of("apps/v1", "Deployment").expect("it is built in");
        let mut merged = object;
        merge(&schema, &mut merged, &patch).unwrap_or_else(|failure| panic!("{name}: {}", failure.message));
        assert_eq!(merged, expected, "{name}");
    }

    fn pod(containers: Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": containers}}}})
    }

    #[test]
    fn follows_the_directives() {
        let two = || pod(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]));
        check(
            "containers merge by name",
            two(),
            pod(json!([{"name": "b", "image": "2"}, {"name": "c", "image": "3"}])),
            pod(
                json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"}]),
            ),
        );
        check(
            "an item is deleted",
            two(),
            pod(json!([{"name": "a", "$patch": "delete"}])),
            pod(json!([{"name": "b", "image": "1"}])),
        );
        check(
            "a list is replaced",
            two(),
            pod(json!([{"$patch": "replace"}, {"name": "x"}])),
            pod(json!([{"name": "x"}])),
        );
        check(
            "null removes",
            json!({"spec": {"replicas": 1}}),
            json!({"spec": {"replicas": null}}),
            json!({"spec": {}}),
        );
        check(
            "args are one value",
            pod(json!([{"name": "a", "args": ["1", "2"]}])),
            pod(json!([{"name": "a", "args": ["3"]}])),
            pod(json!([{"name": "a", "args": ["3"]}])),
        );
        check(
            "order is set",
            two(),
            json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}}}),
            pod(json!([{"name": "b", "image": "1"}, {"name": "a", "image": "1"}])),
        );
        check(
            "keys are retained",
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        );
        check(
            "finalizers are a set",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}}),
            json!({"metadata": {"finalizers": ["b", "c"]}}),
        );
    }

    #[test]
    fn long_lists_merge_in_linear_time() {
        let items = |count: usize| -> Vec<Value> {
            (0..count).map(|n| json!({"name": format!("c{n}"), "image": "i"})).collect()
        };
        let mut object = pod(items(20_000).into());
        let mut patch = pod(items(40_000).into());
        let names: Vec<Value> = (0..20_000).rev().map(|n| json!({"name": format!("c{n}")})).collect();
        patch["spec"]["template"]["spec"]["$setElementOrder/containers"] = names.into();
        let schema = crate::kinds::schema_of("apps/v1", "Deployment").expect("it is built in");
        merge(&schema, &mut object, &patch).expect("the patch is right");
        let merged = object["spec"]["template"]["spec"]["containers"].as_array().expect("it is a list");
        assert_eq!((merged.len(), &merged[0]["name"]), (40_000, &json!("c19999")));
    }

    /// Generates patches of pods: containers with and without their key, directives where they are allowed and
    /// where they are not.
    fn patches() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        use proptest::sample::select;
        let directive =
            || select(vec![json!("replace"), json!("delete"), json!("merge"), json!("other"), json!(1)]);
        let scalar =
            || select(vec![json!("a"), json!("b"), json!("c"), json!(1), json!([]), json!({}), Value::Null]);
        let names = || prop::collection::vec(scalar(), 0..4);
        let port =
            prop::collection::btree_map(select(vec!["containerPort", "protocol", "$patch"]), scalar(), 0..3);
        let container = (
            prop::option::weighted(0.9, scalar()),
            prop::option::weighted(0.2, directive()),
            prop::collection::vec(port, 0..3),
            prop::option::weighted(0.2, names()),
        )
            .prop_map(|(name, directive, ports, retain)| {
                let mut container = json!({"image": "i", "ports": ports});
                for (key, value) in [("name", name), (PATCH, directive), (RETAIN, retain.map(Value::from))] {
                    value.into_iter().for_each(|value| container[key] = value);
                }
                container
            });
        let order = prop::collection::vec(scalar().prop_map(|name| json!({"name": name})), 0..4);
        (
            prop::option::weighted(0.2, directive()),
            prop::collection::vec(container, 0..5),
            prop::option::of(order),
            (names(), names(), names()),
        )
            .prop_map(|(directive, containers, order, (finalizers, deleted, retained))| {
                let mut spec = json!({"containers": containers});
                if let Some(order) = order {
                    spec["$setElementOrder/containers"] = order.into();
                }
                let mut patch = json!({"metadata": {"finalizers": finalizers}, "spec": spec});
                patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = deleted.into();
                patch["metadata"][RETAIN] = retained.into();
                directive.into_iter().for_each(|directive| patch["spec"][PATCH] = directive);
                patch
            })
    }

    fn has_directives(value: &Value) -> bool {
        match value {
            Value::Object(map) => {
                map.iter().any(|(key, value)| key.starts_with('$') || has_directives(value))
            }
            Value::Array(items) => items.iter().any(has_directives),
            _ => false,
        }
    }

    proptest::proptest! {
        #[test]
        fn no_directive_stays_and_keys_stay_unique(first in patches(), second in patches()) {
            let schema = crate::kinds::schema_of("v1", "Pod").expect("it is built in");
            let mut object = json!({"metadata": {"finalizers": ["a"]}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
            for patch in [first, second] {
                let before = object.clone();
                if merge(&schema, &mut object, &patch).is_err() {
                    object = before;
                    continue;
                }
                proptest::prop_assert!(!has_directives(&object), "{object}");
                let again = object.clone();
                merge(&schema, &mut object, &json!({})).expect("an empty patch is right");
                proptest::prop_assert_eq!(again, object.clone());
            }
        }

        #[test]
        fn any_json_is_a_patch_or_an_error(text in r#"\{("(spec|metadata|\$patch|\$retainKeys|\$setElementOrder/x|x)":[\[\]{}",:$a-cn0-3 ]{0,20},?){0,3}\}"#) {
            let patch: Value = serde_json::from_str(&text).unwrap_or_default();
            let schema = crate::kinds::schema_of("v1", "Pod").expect("it is built in");
            let mut object = json!({"metadata": {"finalizers": ["a"]}, "spec": {"containers": [{"name": "a"}]}});
            let _ = merge(&schema, &mut object, &patch);
        }
    }
}
