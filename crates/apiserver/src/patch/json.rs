//! JSON patch (RFC 6902) with limits on what its operations can multiply.
//!
//! Thirty copies, each of the previous result, turn a kilobyte into gigabytes, and a hundred moves can nest an
//! object deeper than any stack. Kubernetes limits the number of operations and the bytes that copies add
//! (`apiserver/pkg/endpoints/handlers/patch.go`). This module also limits depth, and the work of moves and long
//! lists.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use crate::bounds::{self, BODY_BYTES_MAX, DEPTH_MAX, VALUES_BYTES_MAX};
use crate::status::{Failure, Result};

/// Maximum number of operations in a patch (`maxJSONPatchOperations`).
const OPERATIONS_MAX: usize = 10_000;
/// Maximum bytes that copies may add (`AccumulatedCopySizeLimit`, which Kubernetes sets to the limit of a body).
const COPIED_BYTES_MAX: usize = BODY_BYTES_MAX;
/// Maximum bytes of values that operations move and of list items that they shift: ten times the largest object.
const MOVED_BYTES_MAX: usize = 10 * VALUES_BYTES_MAX;

/// Applies `patch`; the error names the failing operation.
pub(super) fn apply(object: &mut Value, patch: &Value) -> Result<()> {
    let operations = patch.as_array().map_or(0, Vec::len);
    if operations > OPERATIONS_MAX {
        let text =
            format!("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {operations}");
        return Err(Failure::new(413, "RequestEntityTooLarge", text));
    }
    let patch: Patch = serde::Deserialize::deserialize(patch)
        .map_err(|error| Failure::bad_request(format!("error decoding patch: {error}")))?;
    let mut budget = Budget { copied: 0, moved: 0 };
    for operation in &patch.0 {
        budget.allow(object, operation)?;
        json_patch::patch_unsafe(object, std::slice::from_ref(operation))
            .map_err(|error| refused(&error.to_string()))?;
    }
    Ok(())
}

/// Returns whether the patch reads or sets the resourceVersion.
pub(super) fn names_version(patch: &Value) -> bool {
    let paths = patch.as_array().into_iter().flatten().map(|operation| &operation["path"]);
    paths.into_iter().any(|path| path == "/metadata/resourceVersion")
}

fn refused(why: &str) -> Failure {
    Failure::new(
        422,
        "Invalid",
        format!("the server rejected our request due to an error in our request: {why}"),
    )
}

/// What the operations have used so far.
struct Budget {
    copied: usize,
    moved: usize,
}

impl Budget {
    fn allow(&mut self, object: &Value, operation: &PatchOperation) -> Result<()> {
        let path = operation.path().as_str();
        self.shift(object, path)?;
        let missing = Value::Null;
        let at = |pointer: &str| object.pointer(pointer).unwrap_or(&missing);
        let value = match operation {
            PatchOperation::Copy(copy) => {
                let value = at(copy.from.as_str());
                self.copy(value)?;
                value
            }
            PatchOperation::Move(from) => {
                let value = at(from.from.as_str());
                self.shift(object, from.from.as_str())?;
                self.work(bounds::memory(value, MOVED_BYTES_MAX))?;
                value
            }
            PatchOperation::Add(add) => &add.value,
            PatchOperation::Replace(replace) => &replace.value,
            PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
        };
        let depth = path.matches('/').count();
        if depth >= DEPTH_MAX || !bounds::is_shallow(value, DEPTH_MAX - depth) {
            return Err(bounds::too_deep());
        }
        Ok(())
    }

    /// Counts a copy by the value's text, or its memory where that is much more.
    fn copy(&mut self, value: &Value) -> Result<()> {
        let memory = bounds::memory(value, VALUES_BYTES_MAX) / (VALUES_BYTES_MAX / BODY_BYTES_MAX);
        self.copied += memory.max(bounds::text_bytes(value, COPIED_BYTES_MAX));
        if self.copied > COPIED_BYTES_MAX {
            return Err(refused(&format!(
                "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {COPIED_BYTES_MAX}",
                self.copied
            )));
        }
        Ok(())
    }

    /// Counts the items that an insertion into a list, or a removal, shifts.
    fn shift(&mut self, object: &Value, path: &str) -> Result<()> {
        let parent = path.rsplit_once('/').and_then(|(parent, _)| object.pointer(parent));
        let items = parent.and_then(Value::as_array).map_or(0, Vec::len);
        // Resolving a path also costs time per key.
        self.work(items * size_of::<Value>() + path.len())
    }

    fn work(&mut self, bytes: usize) -> Result<()> {
        self.moved += bytes;
        if self.moved > MOVED_BYTES_MAX {
            return Err(refused(&format!(
                "the operations move more than {MOVED_BYTES_MAX} bytes; send several smaller patches"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(name: &str, object: Value, patch: Value, code: u16, why: &str) {
        let mut object = object;
        match apply(&mut object, &patch) {
            Ok(()) => assert_eq!((code, why), (200, ""), "{name}"),
            Err(failure) => {
                assert_eq!(failure.code, code, "{name}: {}", failure.message);
                assert!(failure.message.contains(why), "{name}: {}", failure.message);
            }
        }
    }

    #[test]
    fn what_multiplies_is_refused() {
        let list = json!({"a": ["x".repeat(100)], "b": vec![json!(0); 100_000]});
        let repeat = |operation: Value, count: usize| Value::Array(vec![operation; count]);
        let doubling = json!({"op": "copy", "from": "/a", "path": "/a/-"});
        check(
            "copies double",
            list.clone(),
            repeat(doubling, 30),
            422,
            "accumulated size increase of copy is",
        );
        // Each level holds two copies of the one below, so depth and size grow together.
        let nesting = json!({"op": "copy", "from": "", "path": "/a/0"});
        check("copies nest", list.clone(), repeat(nesting, 200), 422, "exceeding the limit");
        let small_maps = json!({"a": vec![json!({"b": 1}); 1000]});
        let again: Vec<Value> =
            (0..200).map(|n| json!({"op": "copy", "from": "/a", "path": format!("/c{n}")})).collect();
        check("small maps", small_maps, again.into(), 422, "exceeding the limit");
        let deeper: Vec<Value> = (0..300)
            .flat_map(|_| {
                [
                    json!({"op": "move", "from": "/a", "path": "/t"}),
                    json!({"op": "add", "path": "/a", "value": {}}),
                    json!({"op": "move", "from": "/t", "path": "/a/t"}),
                ]
            })
            .collect();
        check("moves nest", json!({"a": 1}), deeper.into(), 422, "nested deeper than 100 levels");
        let path = "/a".repeat(200);
        check(
            "a deep path",
            json!({"a": 1}),
            json!([{"op": "add", "path": path, "value": 1}]),
            422,
            "nested deeper",
        );
        let front = json!({"op": "add", "path": "/b/0", "value": 0});
        check(
            "a long list is shifted",
            list.clone(),
            repeat(front, 1000),
            422,
            "the operations move more than",
        );
        let too_many = json!({"op": "test", "path": "/a/0", "value": "x"});
        check(
            "operations",
            list.clone(),
            repeat(too_many, 10_001),
            413,
            "maximum operations in a JSON patch is 10000, got 10001",
        );
        let fine =
            json!([{"op": "copy", "from": "/a/0", "path": "/c"}, {"op": "move", "from": "/c", "path": "/d"}]);
        check("a copy", list, fine, 200, "");
    }

    proptest::proptest! {
        #[test]
        fn no_patch_panics_or_grows_without_bound(operations in proptest::collection::vec(operation(), 0..60)) {
            let mut object = json!({"a": {"b": [1, {"c": "x"}]}, "d": [[]], "e": "text"});
            let _ = apply(&mut object, &Value::Array(operations));
            proptest::prop_assert!(bounds::is_shallow(&object, 2 * DEPTH_MAX));
            proptest::prop_assert!(bounds::text_bytes(&object, usize::MAX) < 2 * COPIED_BYTES_MAX);
        }
    }

    fn operation() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let pointer = || "(/(a|b|c|d|e|0|1|-|~1)){0,4}";
        let name = prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test", "other"]);
        let value = prop::sample::select(vec![json!(1), json!({"a": [1]}), json!([[[]]]), Value::Null]);
        (name, pointer(), pointer(), value)
            .prop_map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}))
    }
}
