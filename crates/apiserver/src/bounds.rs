//! How large what a client sends may become.
//!
//! A body has a limit in bytes, but its values in memory are not its bytes: `[{"a":1},{"a":1},…]` takes eighty times
//! its text, and a patch, a default or a template can multiply what is there. So the memory of values is counted
//! where they are made (bodies), where they are copied (patches, defaults) and where they are kept (the store).

use std::cell::Cell;
use std::io;

use serde_json::Value;

use crate::status::{Failure, Result};

/// Largest body, as Kubernetes limits it (`MaxRequestBodyBytes`, twice etcd's 1.5 MiB).
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Largest object as JSON: what no body could carry can't be read back and sent again either.
const OBJECT_BYTES_MAX: usize = BODY_BYTES_MAX;
/// Memory of the values of one body or object. Manifests take five to ten times their text; this is twenty times the
/// largest.
pub(crate) const VALUES_BYTES_MAX: usize = 20 * BODY_BYTES_MAX;
/// Nesting of what is stored. Readers stop at 128 levels, and lists and watch events add some.
pub(crate) const DEPTH_MAX: usize = 100;

/// What a value takes besides its text.
pub(crate) const VALUE_BYTES: usize = size_of::<Value>();
/// A map takes a node of its tree, with room for eleven fields, from the first field on.
pub(crate) const NODE_BYTES: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 16;
const NODE_FIELDS: usize = 6;

/// Counts the memory of values as they are made.
pub(crate) struct Meter(Cell<usize>);

impl Meter {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Cell::new(bytes))
    }

    /// Takes some of what is left; false when it is not enough, and from then on.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let left = self.0.get().checked_sub(bytes);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    /// A map with its nth field.
    pub(crate) fn field(&self, index: usize, key: &str) -> bool {
        let node = if index.is_multiple_of(NODE_FIELDS) { NODE_BYTES } else { 0 };
        self.take(node + key.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.get() == 0
    }
}

/// The memory of a value, roughly; stops counting above `limit`.
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

/// Is the value nested no deeper than `limit`? Looks no deeper than that either.
pub(crate) fn is_shallow(value: &Value, limit: usize) -> bool {
    let Some(below) = limit.checked_sub(1) else { return false };
    match value {
        Value::Array(items) => items.iter().all(|item| is_shallow(item, below)),
        Value::Object(map) => map.values().all(|value| is_shallow(value, below)),
        _ => true,
    }
}

/// The length of the value as JSON, or something above `limit`.
pub(crate) fn text_bytes(value: &Value, limit: usize) -> usize {
    let mut counted = Counted { bytes: 0, limit };
    // It fails above the limit.
    let _ = serde_json::to_writer(&mut counted, value);
    counted.bytes
}

struct Counted {
    bytes: usize,
    limit: usize,
}

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len();
        if self.bytes > self.limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Refuses an object that is too large or too deep to be kept.
pub(crate) fn check(object: &Value) -> Result<()> {
    if !is_shallow(object, DEPTH_MAX) {
        return Err(too_deep());
    }
    let memory = memory(object, VALUES_BYTES_MAX);
    if memory > VALUES_BYTES_MAX {
        return Err(too_many_values());
    }
    // The text is never longer than what the values take.
    if memory > OBJECT_BYTES_MAX && text_bytes(object, OBJECT_BYTES_MAX) > OBJECT_BYTES_MAX {
        return Err(Failure::too_large(OBJECT_BYTES_MAX));
    }
    Ok(())
}

pub(crate) fn too_deep() -> Failure {
    Failure::new(422, "Invalid", format!("the object is nested deeper than {DEPTH_MAX} levels"))
}

/// There are too many values, though their text is short enough.
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
