//! Limits on the memory of client-supplied values.
//!
//! A body is limited in bytes, but its values take more memory: `[{"a":1},{"a":1},…]` takes eighty times its text,
//! and a patch, default or template can multiply existing values. So memory is counted where values are created
//! (bodies), copied (patches, defaults) and kept (the store).

use std::cell::Cell;
use std::io;

use serde_json::Value;

use crate::status::{Failure, Result};

/// Maximum bytes of a body, as in Kubernetes (`MaxRequestBodyBytes`, twice etcd's 1.5 MiB).
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Maximum bytes of an object as JSON: a larger one could not be read and sent back in a body.
const OBJECT_BYTES_MAX: usize = BODY_BYTES_MAX;
/// Maximum memory of the values of one body or object. Manifests take five to ten times their text; this is twenty
/// times the largest body.
pub(crate) const VALUES_BYTES_MAX: usize = 20 * BODY_BYTES_MAX;
/// Maximum nesting of stored objects. Readers stop at 128 levels, and lists and watch events add some.
pub(crate) const DEPTH_MAX: usize = 100;

/// Memory of a value besides its text.
pub(crate) const VALUE_BYTES: usize = size_of::<Value>();
/// Memory of a map with at least one field: one B-tree node, with room for eleven.
pub(crate) const NODE_BYTES: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 16;
const NODE_FIELDS: usize = 6;

/// A budget of memory for values being created.
pub(crate) struct Meter(Cell<usize>);

impl Meter {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Cell::new(bytes))
    }

    /// Takes `bytes` from the budget; returns false if it is exceeded, now and from then on.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let left = self.0.get().checked_sub(bytes);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Takes the memory of a map's field at `index`.
    pub(crate) fn field(&self, index: usize, key: &str) -> bool {
        let node = if index.is_multiple_of(NODE_FIELDS) { NODE_BYTES } else { 0 };
        self.take(node + key.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.get() == 0
    }
}

/// Estimates the memory of a value; stops counting above `limit`.
pub(crate) fn memory(value: &Value, limit: usize) -> usize {
    let meter = Meter::new(limit);
    if count(value, &meter) { limit - meter.0.get() } else { limit + 1 }
}

fn count(value: &Value, meter: &Meter) -> bool {
    let own = match value {
        Value::String(text) => text.len(),
        _ => 0,
    };
    meter.take(VALUE_BYTES + own)
        && match value {
            Value::Array(items) => items.iter().all(|item| count(item, meter)),
            Value::Object(map) => map
                .iter()
                .enumerate()
                .all(|(index, (key, value))| meter.field(index, key) && count(value, meter)),
            _ => true,
        }
}

/// Returns whether the value is nested at most `limit` levels deep; recurses no deeper than that.
pub(crate) fn is_shallow(value: &Value, limit: usize) -> bool {
    let Some(below) = limit.checked_sub(1) else { return false };
    match value {
        Value::Array(items) => items.iter().all(|item| is_shallow(item, below)),
        Value::Object(map) => map.values().all(|value| is_shallow(value, below)),
        _ => true,
    }
}

/// Returns the length of the value as JSON, or any number above `limit`.
pub(crate) fn text_bytes(value: &Value, limit: usize) -> usize {
    let mut counted = ByteCounter { bytes: 0, limit };
    // Fails above the limit, which `bytes` then shows.
    let _ = serde_json::to_writer(&mut counted, value);
    counted.bytes
}

struct ByteCounter {
    bytes: usize,
    limit: usize,
}

impl io::Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len();
        if self.bytes > self.limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Refuses an object that is too large or too deep to be stored.
pub(crate) fn check(object: &Value) -> Result<()> {
    if !is_shallow(object, DEPTH_MAX) {
        return Err(too_deep());
    }
    let memory = memory(object, VALUES_BYTES_MAX);
    if memory > VALUES_BYTES_MAX {
        return Err(too_many_values());
    }
    // The JSON is never larger than the memory of the values.
    if memory > OBJECT_BYTES_MAX && text_bytes(object, OBJECT_BYTES_MAX) > OBJECT_BYTES_MAX {
        return Err(Failure::too_large(OBJECT_BYTES_MAX));
    }
    Ok(())
}

pub(crate) fn too_deep() -> Failure {
    Failure::new(422, "Invalid", format!("the object is nested deeper than {DEPTH_MAX} levels"))
}

/// Returns the error for values that take too much memory, though their text is within limits.
pub(crate) fn too_many_values() -> Failure {
    let text = format!(
        "Request entity too large: its values take more memory than is allowed: limit is {VALUES_BYTES_MAX}"
    );
    Failure::new(413, "RequestEntityTooLarge", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_have_a_size_and_a_depth() {
        let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!({"a": inner}));
        assert!(check(&nested(99)).is_ok());
        assert_eq!(check(&nested(100)).map_err(|failure| failure.code), Err(422));
        assert!(check(&json!({"a": "x".repeat(OBJECT_BYTES_MAX - 8)})).is_ok());
        let large = check(&json!({"a": "x".repeat(OBJECT_BYTES_MAX)}));
        assert_eq!(
            large.map_err(|failure| failure.message),
            Err("Request entity too large: limit is 3145728".into())
        );
        let many = Value::Array(vec![json!({"a": 1}); 200_000]);
        assert_eq!(
            check(&json!({"a": many})).map_err(|failure| failure.reason),
            Err("RequestEntityTooLarge")
        );
    }

    proptest::proptest! {
        #[test]
        fn the_memory_of_a_value_is_at_least_its_text(text in r#"[\[\]{}",:0-9a-z ]{0,60}"#) {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                proptest::prop_assert!(memory(&value, 1 << 20) + 2 >= text_bytes(&value, 1 << 20));
            }
        }
    }
}
