//! Validates whole objects with Kubernetes' messages and field paths, all problems at once.
//!
//! Types and unknown fields have been checked before (see [`crate::schema::decode`]); this module checks names and
//! metadata. A kind's own rules are in its row; custom resources are validated against their schema.

use serde_json::Value;

use crate::kinds::{Definition, Kind, Sub};
use crate::names;
use crate::object::{self, list, map, text};
use crate::problems::{Problems, labels};
use crate::schema;
use crate::status::FieldError;

/// Maximum bytes of an object's annotations, keys and values (`TotalAnnotationSizeLimitB`).
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// Validates a new object in stored form.
pub(crate) fn create(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut problems = Problems::default();
    metadata(kind, object, &mut problems);
    content(kind, object, &mut problems);
    problems.into_errors()
}

/// Validates an object that replaces another.
pub(crate) fn update(kind: &Kind, current: &Value, object: &Value, sub: Option<Sub>) -> Vec<FieldError> {
    let mut problems = Problems::default();
    metadata(kind, object, &mut problems);
    // A controller's status update must not fail because of an old error in the spec.
    let is_builtin_status = sub == Some(Sub::Status) && kind.row().is_some();
    if !is_builtin_status {
        content(kind, object, &mut problems);
    }
    if let Some(row) = kind.row().filter(|_| !is_builtin_status) {
        (row.validate_update)(current, object, sub, &mut problems);
    }
    problems.into_errors()
}

fn metadata(kind: &Kind, object: &Value, problems: &mut Problems) {
    let name_rule = kind.row().map_or(names::dns_subdomain as fn(&str) -> _, |row| row.name_rule);
    match object::name(object) {
        "" => problems.required("metadata.name", "name or generateName is required"),
        name => {
            if let Some(why) = name_rule(name) {
                problems.invalid("metadata.name", &name.into(), why);
            }
        }
    }
    labels(object, "metadata.labels", problems);
    let mut size = 0;
    for (key, value) in map(object, "metadata.annotations").into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        if let Some(why) = names::qualified_name(&key.to_lowercase()) {
            problems.invalid("metadata.annotations", &key.as_str().into(), why);
        }
    }
    if size > ANNOTATIONS_BYTES_MAX {
        problems.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_BYTES_MAX));
    }
    for (index, finalizer) in list(object, "metadata.finalizers").iter().enumerate() {
        if let Some(why) = names::qualified_name(finalizer.as_str().unwrap_or_default()) {
            problems.invalid(format!("metadata.finalizers[{index}]"), finalizer, why);
        }
    }
    for (index, owner) in list(object, "metadata.ownerReferences").iter().enumerate() {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if text(owner, key).is_empty() {
                let path = format!("metadata.ownerReferences[{index}].{key}");
                problems.invalid(path, &"".into(), "must not be empty");
            }
        }
    }
}

/// Validates everything but the metadata.
fn content(kind: &Kind, object: &Value, problems: &mut Problems) {
    match &kind.definition {
        Definition::Custom(custom) => problems.extend(schema::validate::validate(&custom.schema, object)),
        Definition::Builtin(row) => (row.validate)(object, problems),
    }
}
