//! Schema-driven merging: of a configuration into a live object, and removal of fields.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::{FieldSet, element};
use crate::schema::{ListType, Schema};

/// Merges `config` into `live`. Lists of type map and set are merged item by item in the live order, with new items
/// at the end.
pub(crate) fn merge(schema: &Schema, live: &mut Value, config: &Value) {
    match (live, config) {
        (Value::Object(live), Value::Object(config)) if !schema.is_atomic() => {
            for (key, value) in config {
                match live.get_mut(key) {
                    Some(present) => merge(schema.field_or_any(key), present, value),
                    None => {
                        live.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(live), Value::Array(config)) if schema.list != ListType::Atomic => {
            let mut places = BTreeMap::new();
            for (place, item) in live.iter().enumerate() {
                places.entry(element(schema, item)).or_insert(place);
            }
            for item in config {
                let place = *places.entry(element(schema, item)).or_insert(live.len());
                match live.get_mut(place) {
                    Some(present) => merge(schema.item(), present, item),
                    None => live.push(item.clone()),
                }
            }
        }
        (live, config) => *live = config.clone(),
    }
}

/// Removes the fields of `gone` from `object`. A container left empty is removed too, unless it is in `kept`.
pub(crate) fn remove(schema: &Schema, object: &mut Value, gone: &FieldSet, kept: &FieldSet) {
    let nothing = FieldSet::default();
    let kept_inside = |name: &str| kept.children.get(name).unwrap_or(&nothing);
    match object {
        Value::Object(map) if !schema.is_atomic() => {
            map.retain(|key, value| {
                let name = format!("f:{key}");
                let Some(gone) = gone.children.get(&name) else { return true };
                remove_within(schema.field_or_any(key), value, gone, kept_inside(&name))
            });
        }
        Value::Array(items) if schema.list != ListType::Atomic => {
            items.retain_mut(|item| {
                let Some(name) = element(schema, item) else { return true };
                let Some(gone) = gone.children.get(&name) else { return true };
                remove_within(schema.item(), item, gone, kept_inside(&name))
            });
        }
        _ => {}
    }
}

/// Removes fields inside the value; returns whether the value itself stays.
fn remove_within(schema: &Schema, value: &mut Value, gone: &FieldSet, kept: &FieldSet) -> bool {
    if gone.own && kept.is_empty() {
        return false;
    }
    remove(schema, value, gone, kept);
    let empty = value.as_object().is_some_and(serde_json::Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty);
    !empty || !kept.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::fields;
    use serde_json::json;

    #[test]
    fn merges_items_and_removes_fields() {
        let schema = crate::kinds::schema_of("apps/v1", "Deployment").expect("it is built in");
        let object = |containers: Value| json!({"spec": {"template": {"spec": {"containers": containers}}}});
        let mut live = object(json!([{"name": "a", "image": "1", "tty": true}, {"name": "b"}]));
        merge(&schema, &mut live, &object(json!([{"name": "a", "image": "2"}, {"name": "c"}])));
        assert_eq!(
            live,
            object(json!([{"name": "a", "image": "2", "tty": true}, {"name": "b"}, {"name": "c"}]))
        );
        let gone = fields::of(&schema, &object(json!([{"name": "c"}])));
        remove(&schema, &mut live, &gone, &FieldSet::default());
        assert_eq!(live, object(json!([{"name": "a", "image": "2", "tty": true}, {"name": "b"}])));
    }
}
