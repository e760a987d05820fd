//! Reads and writes parts common to all objects: names, metadata, paths.
//!
//! Objects are plain JSON values, because each verb is implemented once for all kinds. These helpers never panic:
//! missing values and values of another type read as absent.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// Returns the string at a dotted path, or "".
pub(crate) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or("")
}

/// Returns the value at a dotted path; `null` counts as absent.
pub(crate) fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, key| value.get(key)).filter(|value| !value.is_null())
}

/// Returns the integer at a dotted path.
pub(crate) fn integer(object: &Value, path: &str) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

/// Returns the list at a dotted path, or an empty one.
pub(crate) fn list<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns the map at a dotted path.
pub(crate) fn map<'a>(object: &'a Value, path: &str) -> Option<&'a Map<String, Value>> {
    at(object, path).and_then(Value::as_object)
}

/// Returns the map under `key`; creates it in place of a missing value or one of another type.
pub(crate) fn ensure<'a>(object: &'a mut Value, key: &str) -> &'a mut Value {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let slot = &mut object[key];
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot
}

/// Sets the value at a dotted path, creating maps on the way.
pub(crate) fn set(object: &mut Value, path: &str, value: Value) {
    match path.split_once('.') {
        Some((head, rest)) => set(ensure(object, head), rest, value),
        None => {
            if !object.is_object() {
                *object = Value::Object(Map::new());
            }
            object[path] = value;
        }
    }
}

/// Sets the value under `key` if it is absent; the parent must be a map.
pub(crate) fn default(parent: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = parent.as_object_mut()
        && map.get(key).is_none_or(Value::is_null)
    {
        map.insert(key.to_owned(), value.into());
    }
}

/// Removes the value at a dotted path.
pub(crate) fn remove(object: &mut Value, path: &str) -> Option<Value> {
    let (parent, key) = match path.rsplit_once('.') {
        Some((parent, key)) => (parent.split('.').try_fold(object, |value, step| value.get_mut(step))?, key),
        None => (object, path),
    };
    parent.as_object_mut()?.remove(key)
}

/// Copies the value at `path` from `from` to `to`; removes it if it is absent in `from`.
pub(crate) fn copy(from: &Value, to: &mut Value, path: &str) {
    match at(from, path) {
        Some(value) => set(to, path, value.clone()),
        None => {
            remove(to, path);
        }
    }
}

/// Returns `metadata.name`, or "".
pub(crate) fn name(object: &Value) -> &str {
    text(object, "metadata.name")
}

/// Returns `metadata.namespace`, or "".
pub(crate) fn namespace(object: &Value) -> &str {
    text(object, "metadata.namespace")
}

/// Iterates mutably over the list under `key`; empty if it is not a list.
pub(crate) fn items_mut<'a>(parent: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    parent.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Formats a time as metadata holds it: RFC 3339 in whole seconds.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
