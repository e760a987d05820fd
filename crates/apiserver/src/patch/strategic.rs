//! Strategic merge patch: a merge patch that knows which lists merge item by item, by which key.
//!
//! Directives: `$patch: replace | delete | merge`, `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>`,
//! `$retainKeys`. A list that a schema does not call a set or a map is replaced whole. Lists with several keys
//! merge by the first one, as the patch form always has.

use serde_json::{Map, Value};

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

/// A value that is new to the object has nothing to be merged with: directives and nulls fall away.
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
                    for item in items {
                        if !existing.contains(item) {
                            existing.push(item.clone());
                        }
                    }
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

/// Merges a list item by item.
fn keyed(schema: &Schema, key: &str, existing: &mut Vec<Value>, patch: &[Value]) -> Result<()> {
    if patch.iter().any(|item| item.get(PATCH).is_some_and(|how| how == "replace")) {
        *existing = patch.iter().filter(|item| item.get(PATCH).is_none()).map(clean).collect();
        return Ok(());
    }
    for item in patch {
        let Some(identity) = item.get(key) else {
            return Err(Failure::bad_request(format!(
                "map: {item} does not contain declared merge key: {key}"
            )));
        };
        let same = |other: &Value| other.get(key) == Some(identity);
        if item.get(PATCH).is_some_and(|how| how == "delete") {
            existing.retain(|other| !same(other));
            continue;
        }
        match existing.iter_mut().find(|other| same(other)) {
            Some(found) => merge(schema, found, item)?,
            None => existing.push(clean(item)),
        }
    }
    Ok(())
}

fn delete_scalars(target: &mut Map<String, Value>, field: &str, gone: &Value) {
    let gone = gone.as_array().map_or(&[][..], Vec::as_slice);
    if let Some(list) = target.get_mut(field).and_then(Value::as_array_mut) {
        list.retain(|item| !gone.contains(item));
    }
}

/// Items named in the order come in that order; others stay where they are relative to their predecessor.
fn reorder(schema: &Schema, target: &mut Map<String, Value>, field: &str, order: &Value) {
    let (Some(order), Some(list)) = (order.as_array(), target.get_mut(field).and_then(Value::as_array_mut))
    else {
        return;
    };
    let identity = |item: &Value| match &schema.list {
        ListType::Map(keys) => item.get(&keys[0]).cloned().unwrap_or(Value::Null),
        _ => item.clone(),
    };
    let rank = |item: &Value| {
        let own = identity(item);
        order.iter().position(|entry| identity(entry) == own)
    };
    let (ranked, mut others): (Vec<_>, Vec<_>) = {
        let taken: Vec<Value> = std::mem::take(list);
        let numbered = taken.into_iter().enumerate();
        numbered.map(|(at, item)| (at, rank(&item), item)).partition(|(_, rank, _)| rank.is_some())
    };
    let mut ranked = ranked;
    ranked.sort_by_key(|(_, rank, _)| *rank);
    let mut merged: Vec<(usize, Value)> = ranked.into_iter().map(|(at, _, item)| (at, item)).collect();
    others.sort_by_key(|(at, ..)| *at);
    for (at, _, item) in others {
        let after = merged.iter().rposition(|(other, _)| *other < at).map_or(0, |index| index + 1);
        merged.insert(after, (at, item));
    }
    *list = merged.into_iter().map(|(_, item)| item).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(name: &str, object: Value, patch: Value, expected: Value) {
        let schema = crate::schema::builtin::of("apps", "v1", "Deployment").expect("it is built in");
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

    proptest::proptest! {
        #[test]
        fn never_panics(text in r#"[\[\]{}",:$a-cn0-3 ]{0,60}"#) {
            let patch: Value = serde_json::from_str(&text).unwrap_or_default();
            let schema = crate::schema::builtin::of("", "v1", "Pod").expect("it is built in");
            let mut object = json!({"metadata": {"finalizers": ["a"]}, "spec": {"containers": [{"name": "a"}]}});
            let _ = merge(&schema, &mut object, &patch);
        }
    }
}
