//! Reading and writing the common parts of an object: names, metadata, paths.
//!
//! Objects are plain JSON values here, because each verb is written once for every kind. These helpers keep the
//! callers short and never panic: what is missing or of another type reads as absent.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The string at a dotted path, or "".
pub(crate) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or("")
}

/// The value at a dotted path; `null` counts as absent.
pub(crate) fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, key| value.get(key)).filter(|value| !value.is_null())
}

/// The integer at a dotted path.
pub(crate) fn integer(object: &Value, path: &str) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

/// The list at a dotted path, or an empty one.
pub(crate) fn list<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The map at a dotted path.
pub(crate) fn map<'a>(object: &'a Value, path: &str) -> Option<&'a Map<String, Value>> {
    at(object, path).and_then(Value::as_object)
}

/// The map under `key`, created when there is none (or something else).
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

/// Sets the value at a dotted path when nothing is there; the parent must exist.
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

/// Makes `key` of `to` what it is in `from`, absence included.
pub(crate) fn copy(from: &Value, to: &mut Value, path: &str) {
    match at(from, path) {
        Some(value) => set(to, path, value.clone()),
        None => {
            remove(to, path);
        }
    }
}

/// `metadata.name`.
pub(crate) fn name(object: &Value) -> &str {
    text(object, "metadata.name")
}

/// `metadata.namespace`.
pub(crate) fn namespace(object: &Value) -> &str {
    text(object, "metadata.namespace")
}

/// The items of the list under `key`, mutable; nothing when it is not a list.
pub(crate) fn items_mut<'a>(parent: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    parent.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

/// A time as metadata has it: RFC 3339 in whole seconds.
pub(crate) fn second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
