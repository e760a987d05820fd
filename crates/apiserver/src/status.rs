//! Errors as clients of Kubernetes expect them: a `Status` object with code, reason, message and details.
//!
//! kubectl, client-go and kube branch on `reason` and `details`, and people read `message`; so both follow
//! apimachinery's `api/errors` and `util/validation/field` to the word. Every fallible step in this crate
//! returns [`Failure`]; problems in the fields of an object are collected as [`FieldError`]s first, so that a
//! user sees all of them at once.

use serde_json::{Value, json};

use crate::path::Limited;

/// Problems that one answer tells; a body with a hundred thousand faults gets an error of readable size.
pub(crate) const PROBLEMS_MAX: usize = 100;

/// A request that was refused, ready to be sent as a `Status`.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason (`NotFound`, `Conflict` …).
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    /// `details` of the Status: kind, group, name, causes, retryAfterSeconds.
    pub details: Option<Value>,
}

/// How a resource is named in errors.
pub(crate) trait ResourceName {
    /// The API group, "" for core.
    fn group(&self) -> &str;
    /// `deployments`.
    fn plural(&self) -> &str;
    /// `Deployment`.
    fn kind(&self) -> &str;

    /// `deployments.apps`, or `pods` in the core group.
    fn qualified(&self) -> String {
        let (group, plural) = (self.group(), self.plural());
        if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
    }
}

impl<T: ResourceName> ResourceName for std::sync::Arc<T> {
    fn group(&self) -> &str {
        T::group(self)
    }

    fn plural(&self) -> &str {
        T::plural(self)
    }

    fn kind(&self) -> &str {
        T::kind(self)
    }
}

/// What refused requests return.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    pub(crate) fn unknown_path() -> Self {
        let mut failure = Self::new(404, "NotFound", "the server could not find the requested resource");
        failure.details = Some(json!({}));
        failure
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    pub(crate) fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn too_many_requests(message: impl Into<String>, retry_after_seconds: u64) -> Self {
        let mut failure = Self::new(429, "TooManyRequests", message);
        failure.details = Some(json!({"retryAfterSeconds": retry_after_seconds}));
        failure
    }

    /// 503: the server is not able to, and will be again.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        let mut failure = Self::new(503, "ServiceUnavailable", message);
        failure.details = Some(json!({"retryAfterSeconds": 1}));
        failure
    }

    pub(crate) fn not_found(kind: &dyn ResourceName, name: &str) -> Self {
        Self::about(404, "NotFound", kind, name, format!("{} \"{name}\" not found", kind.qualified()))
    }

    pub(crate) fn already_exists(kind: &dyn ResourceName, name: &str) -> Self {
        Self::about(
            409,
            "AlreadyExists",
            kind,
            name,
            format!("{} \"{name}\" already exists", kind.qualified()),
        )
    }

    /// 409 with the reason that follows the colon.
    pub(crate) fn conflict(kind: &dyn ResourceName, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified());
        Self::about(409, "Conflict", kind, name, message)
    }

    /// The object was changed by someone else since it was read.
    pub(crate) fn modified(kind: &dyn ResourceName, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    pub(crate) fn forbidden(kind: &dyn ResourceName, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", kind.qualified());
        Self::about(403, "Forbidden", kind, name, message)
    }

    /// 422 with every problem as a cause, up to [`PROBLEMS_MAX`].
    pub(crate) fn invalid(kind: &dyn ResourceName, name: &str, errors: &[FieldError]) -> Self {
        let qualified = if kind.group().is_empty() {
            kind.kind().to_owned()
        } else {
            format!("{}.{}", kind.kind(), kind.group())
        };
        let (errors, others) = errors.split_at(errors.len().min(PROBLEMS_MAX));
        let mut message = format!("{qualified} \"{name}\" is invalid: {}", aggregate(errors));
        if !others.is_empty() {
            message.push_str(" and more");
        }
        let causes: Vec<Value> = errors.iter().map(FieldError::cause).collect();
        let details = json!({"name": name, "group": kind.group(), "kind": kind.kind(), "causes": causes});
        Self { code: 422, reason: "Invalid", message, details: Some(without_empty(details)) }
    }

    fn about(code: u16, reason: &'static str, kind: &dyn ResourceName, name: &str, message: String) -> Self {
        let details = json!({"name": name, "group": kind.group(), "kind": kind.plural()});
        Self { code, reason, message, details: Some(without_empty(details)) }
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}

fn without_empty(mut details: Value) -> Value {
    if let Some(map) = details.as_object_mut() {
        map.retain(|_, value| value.as_str() != Some(""));
    }
    details
}

/// Several errors are shown in brackets, one alone, none at all as nothing (`field.ErrorList.ToAggregate`).
fn aggregate(errors: &[FieldError]) -> String {
    let mut sentences: Vec<String> = Vec::new();
    for error in errors {
        let sentence = error.to_string();
        if !sentences.contains(&sentence) {
            sentences.push(sentence);
        }
    }
    if let [only] = sentences.as_slice() { only.clone() } else { format!("[{}]", sentences.join(", ")) }
}

/// What is wrong with one field, in the words of apimachinery's `util/validation/field`.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// The path of the field, as in `spec.template.spec.containers[0].image`.
    pub field: String,
    problem: &'static str,
    body: String,
}

impl FieldError {
    /// A problem in the words of an admission rule: `problem` is Kubernetes' name for its sort, such as
    /// `FieldValueInvalid`; `body` is all that follows the field.
    pub fn worded(field: impl Into<String>, problem: &'static str, body: impl Into<String>) -> Self {
        Self { field: field.into(), problem, body: body.into() }
    }

    /// A required field is missing; `detail` may be empty.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let body =
            if detail.is_empty() { "Required value".into() } else { format!("Required value: {detail}") };
        Self { field: field.into(), problem: "FieldValueRequired", body }
    }

    /// The value is not acceptable.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: impl std::fmt::Display) -> Self {
        let body = format!("Invalid value: {}: {detail}", shown(value));
        Self { field: field.into(), problem: "FieldValueInvalid", body }
    }

    /// The value has the wrong JSON type.
    pub fn wrong_type(field: impl Into<String>, value: &Value, detail: impl std::fmt::Display) -> Self {
        let body = format!("Invalid value: {}: {detail}", shown(value));
        Self { field: field.into(), problem: "FieldValueTypeInvalid", body }
    }

    /// The value is not one of those that exist.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let mut list = Limited::new(SUPPORTED_SHOWN_MAX);
        for (index, one) in supported.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            if std::fmt::Write::write_fmt(&mut list, format_args!("{comma}\"{one}\"")).is_err() {
                break;
            }
        }
        let body = format!("Unsupported value: {}: supported values: {}", shown(value), list.finish());
        Self { field: field.into(), problem: "FieldValueNotSupported", body }
    }

    /// The value is there twice.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        let body = format!("Duplicate value: {}", shown(value));
        Self { field: field.into(), problem: "FieldValueDuplicate", body }
    }

    /// The value names something that is not there.
    pub fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self {
            field: field.into(),
            problem: "FieldValueNotFound",
            body: format!("Not found: {}", shown(value)),
        }
    }

    /// The field may not be set here.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self { field: field.into(), problem: "FieldValueForbidden", body: format!("Forbidden: {detail}") }
    }

    /// The value has more bytes than allowed.
    pub fn too_long(field: impl Into<String>, limit: usize) -> Self {
        let body = format!("Too long: may not be more than {limit} bytes");
        Self { field: field.into(), problem: "FieldValueTooLong", body }
    }

    /// There are more items than allowed.
    pub fn too_many(field: impl Into<String>, count: usize, limit: usize) -> Self {
        let body = format!("Too many: {count}: must have at most {limit} items");
        Self { field: field.into(), problem: "FieldValueTooMany", body }
    }

    fn cause(&self) -> Value {
        json!({"reason": self.problem, "message": self.body, "field": self.field})
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.body)
    }
}

/// Longest value repeated in an error message: enough to recognise it, too short to flood a terminal.
const SHOWN_MAX: usize = 1024;

/// Longest list of the values that would do.
const SUPPORTED_SHOWN_MAX: usize = 8 * 1024;

/// The value as JSON, written only as far as it is shown.
fn shown(value: &Value) -> String {
    let mut text = Limited::new(SHOWN_MAX);
    // It fails when it is full.
    let _ = serde_json::to_writer(&mut text, value);
    text.finish()
}
