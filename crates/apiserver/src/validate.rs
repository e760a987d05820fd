//! Validation of whole objects, with Kubernetes' messages and field paths, all problems at once.
//!
//! Types and unknown fields were checked before (see [`crate::schema::decode`]); here are names, metadata and the
//! rules of each kind that people get wrong. Custom resources are checked against their schema.

mod autoscaling;
pub(crate) mod names;
mod pod;
mod resize;
mod service;
mod workload;

use serde_json::Value;

use crate::crd;
use crate::kinds::{Kind, Sub};
use crate::object::{self, at, integer, list, map, text};
use crate::schema;
use crate::status::{FieldError, PROBLEMS_MAX};

/// Annotations of one object, all keys and values together (`TotalAnnotationSizeLimitB`).
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// Data of one ConfigMap or Secret (`MaxSecretSize`).
const DATA_BYTES_MAX: usize = 1024 * 1024;

/// Collects problems: all of them, up to one more than an answer tells.
#[derive(Default)]
struct Found(Vec<FieldError>);

impl Found {
    fn push(&mut self, error: FieldError) {
        if self.0.len() <= PROBLEMS_MAX {
            self.0.push(error);
        }
    }

    fn extend(&mut self, errors: Vec<FieldError>) {
        errors.into_iter().for_each(|error| self.push(error));
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// What is wrong with an object, and how it is said.
#[derive(Default)]
struct Problems(Found);

impl Problems {
    fn invalid(&mut self, field: impl Into<String>, value: &Value, detail: impl std::fmt::Display) {
        self.0.push(FieldError::invalid(field, value, detail));
    }

    fn required(&mut self, field: impl Into<String>, detail: &str) {
        self.0.push(FieldError::required(field, detail));
    }

    fn one_of(&mut self, parent: &Value, path: &str, key: &str, supported: &[&str]) {
        if let Some(value) = at(parent, key)
            && !supported.iter().any(|one| value == one)
        {
            self.0.push(FieldError::not_supported(join(path, key), value, supported));
        }
    }

    fn not_negative(&mut self, parent: &Value, path: &str, key: &str) {
        if let Some(number) = integer(parent, key).filter(|number| *number < 0) {
            self.invalid(join(path, key), &number.into(), "must be greater than or equal to 0");
        }
    }

    fn immutable(&mut self, current: &Value, object: &Value, path: &str) {
        if at(current, path) != at(object, path) {
            let value = at(object, path).cloned().unwrap_or(Value::Null);
            self.invalid(path, &value, "field is immutable");
        }
    }

    /// A name under `key`; required, and right by `rule`.
    fn name(&mut self, parent: &Value, path: &str, key: &str, rule: fn(&str) -> Option<String>) {
        match text(parent, key) {
            "" => self.required(join(path, key), ""),
            name => {
                if let Some(why) = rule(name) {
                    self.invalid(join(path, key), &name.into(), why);
                }
            }
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// What is wrong with a new object, in stored form.
pub(crate) fn create(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut problems = Problems::default();
    metadata(kind, object, &mut problems);
    spec(kind, object, &mut problems);
    problems.0.0
}

/// What is wrong with an object that replaces another.
pub(crate) fn update(kind: &Kind, current: &Value, object: &Value, sub: Option<Sub>) -> Vec<FieldError> {
    let mut problems = Problems::default();
    metadata(kind, object, &mut problems);
    // A status that was written by a controller must not be refused for an old fault in the spec.
    if sub == Some(Sub::Status) {
        if kind.custom.is_some() {
            spec(kind, object, &mut problems);
        }
        return problems.0.0;
    }
    spec(kind, object, &mut problems);
    if kind.custom.is_none() {
        transition(kind, current, object, sub, &mut problems);
    }
    problems.0.0
}

fn name_rule(kind: &Kind) -> fn(&str) -> Option<String> {
    match &*kind.storage {
        "core/services" => names::dns_1035_label,
        "core/namespaces" => names::dns_label,
        _ if kind.custom.is_none() && kind.group == "rbac.authorization.k8s.io" => names::path_segment,
        _ => names::dns_subdomain,
    }
}

fn metadata(kind: &Kind, object: &Value, problems: &mut Problems) {
    match object::name(object) {
        "" => problems.required("metadata.name", "name or generateName is required"),
        name => {
            if let Some(why) = name_rule(kind)(name) {
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
        problems.0.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_BYTES_MAX));
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

fn labels(object: &Value, path: &str, problems: &mut Problems) {
    for (key, value) in map(object, path).into_iter().flatten() {
        if let Some(why) = names::qualified_name(key) {
            problems.invalid(path, &key.as_str().into(), why);
        }
        if let Some(why) = names::label_value(value.as_str().unwrap_or_default()) {
            problems.invalid(path, value, why);
        }
    }
}

fn spec(kind: &Kind, object: &Value, problems: &mut Problems) {
    if let Some(custom) = &kind.custom {
        problems.0.extend(schema::validate::validate(&custom.schema, object));
        return;
    }
    match &*kind.storage {
        crd::STORAGE => problems.0.extend(crd::validate(object)),
        "core/pods" => pod::spec(at(object, "spec").unwrap_or(&Value::Null), "spec", problems),
        "core/services" => service::validate(object, problems),
        "core/configmaps" => data(object, &["data", "binaryData"], problems),
        "core/secrets" => data(object, &["data"], problems),
        "autoscaling/horizontalpodautoscalers" => autoscaling::validate(object, problems),
        "policy/poddisruptionbudgets" => budget(object, problems),
        "core/limitranges" => {
            for (path, value, why) in crate::limits::contradictions(object) {
                problems.invalid(path, &value, why);
            }
        }
        "discovery.k8s.io/endpointslices" => {
            if text(object, "addressType").is_empty() {
                problems.required("addressType", "");
            }
            problems.one_of(object, "", "addressType", &["FQDN", "IPv4", "IPv6"]);
        }
        "coordination.k8s.io/leases" => {
            if let Some(seconds) =
                integer(object, "spec.leaseDurationSeconds").filter(|seconds| *seconds <= 0)
            {
                problems.invalid("spec.leaseDurationSeconds", &seconds.into(), "must be greater than 0");
            }
        }
        storage => workload::validate(storage, object, problems),
    }
}

fn data(object: &Value, fields: &[&str], problems: &mut Problems) {
    let mut size = 0;
    for field in fields {
        for (key, value) in map(object, field).into_iter().flatten() {
            size += value.as_str().map_or(0, str::len);
            let fine = !key.is_empty()
                && key.len() <= 253
                && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
                && key != "."
                && !key.starts_with("..");
            if !fine {
                let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
                problems.invalid(format!("{field}[{key}]"), &key.as_str().into(), why);
            }
        }
    }
    if size > DATA_BYTES_MAX {
        problems.0.push(FieldError::too_long("", DATA_BYTES_MAX));
    }
}

fn budget(object: &Value, problems: &mut Problems) {
    let (minimum, maximum) = (at(object, "spec.minAvailable"), at(object, "spec.maxUnavailable"));
    if minimum.is_some() && maximum.is_some() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        problems.invalid("spec", &object["spec"], detail);
    }
    for key in ["minAvailable", "maxUnavailable"] {
        number_or_percent(&object["spec"], "spec", key, problems);
    }
}

/// An integer of at least 0, or a percentage.
fn number_or_percent(parent: &Value, path: &str, key: &str, problems: &mut Problems) {
    match at(parent, key) {
        Some(Value::String(text)) => {
            let digits = text.strip_suffix('%').unwrap_or("");
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                problems.invalid(join(path, key), &text.as_str().into(), why);
            }
        }
        Some(_) => problems.not_negative(parent, path, key),
        None => {}
    }
}

/// What may not change.
fn transition(kind: &Kind, current: &Value, object: &Value, sub: Option<Sub>, problems: &mut Problems) {
    match &*kind.storage {
        "core/pods" => match sub {
            Some(Sub::Binding) => {}
            Some(Sub::Resize) => resize::transition(current, object, problems),
            _ => pod::transition(current, object, problems),
        },
        "core/services" => service::transition(current, object, problems),
        "core/secrets" => {
            problems.immutable(current, object, "type");
            frozen(current, object, &["data"], problems);
        }
        "core/configmaps" => frozen(current, object, &["data", "binaryData"], problems),
        "rbac.authorization.k8s.io/rolebindings" | "rbac.authorization.k8s.io/clusterrolebindings" => {
            if at(current, "roleRef") != at(object, "roleRef") {
                problems.invalid("roleRef", &object["roleRef"], "cannot change roleRef");
            }
        }
        "discovery.k8s.io/endpointslices" => problems.immutable(current, object, "addressType"),
        crd::STORAGE => {
            for path in ["spec.group", "spec.scope", "spec.names.plural", "spec.names.kind"] {
                problems.immutable(current, object, path);
            }
        }
        storage => workload::transition(storage, current, object, problems),
    }
}

/// `immutable: true` of ConfigMaps and Secrets.
fn frozen(current: &Value, object: &Value, fields: &[&str], problems: &mut Problems) {
    if current["immutable"] != true {
        return;
    }
    for field in fields.iter().copied().chain(["immutable"]) {
        if at(current, field) != at(object, field) {
            problems.0.push(FieldError::forbidden(field, "field is immutable when `immutable` is set"));
        }
    }
}
