//! Errors as Kubernetes clients expect them: a `Status` object with code, reason, message and details.
//!
//! kubectl, client-go and kube branch on `reason` and `details`, and users read `message`, so both follow
//! apimachinery's `api/errors` and `util/validation/field` to the letter. Every fallible step in this crate returns
//! [`Failure`]. Problems in an object's fields are first collected as [`FieldError`]s, so that users see all of
//! them at once.

use serde_json::{Value, json};

use crate::path::BoundedText;

/// Maximum number of field errors in one response, so that a body with a hundred thousand errors gets a readable
/// message.
pub(crate) const PROBLEMS_MAX: usize = 100;

/// A refused request, ready to be sent as a `Status`.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason (`NotFound`, `Conflict` …).
    pub reason: &'static str,
    /// The message shown to the user.
    pub message: String,
    /// The `details` of the Status: kind, group, name, causes, retryAfterSeconds.
    pub details: Option<Value>,
}

/// The names of a resource in errors.
pub(crate) trait ResourceName {
    /// The API group, "" for core.
    fn group(&self) -> &str;
    /// The plural name: `deployments`.
    fn plural(&self) -> &str;
    /// The kind: `Deployment`.
    fn kind(&self) -> &str;

    /// The plural with its group, `deployments.apps`, or `pods` in the core group.
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

/// Result of an operation that may be refused.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// Creates a failure without details.
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

    /// 503: the server cannot do it now but will be able to.
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

    /// 409, with `why` after the colon.
    pub(crate) fn conflict(kind: &dyn ResourceName, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified());
        Self::about(409, "Conflict", kind, name, message)
    }

    /// 409: the object has changed since it was read.
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

    /// Renders the `Status` object.
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

/// Joins errors as `field.ErrorList.ToAggregate` does: several in brackets, one alone, none as an empty string.
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

/// A problem with one field, in the words of apimachinery's `util/validation/field`.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// The path of the field, as in `spec.template.spec.containers[0].image`.
    pub field: String,
    problem: &'static str,
    body: String,
}

impl FieldError {
    /// A problem in an admission rule's own words. `problem` is Kubernetes' error type, such as
    /// `FieldValueInvalid`; `body` is the text after the field.
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
        let body = format!("Invalid value: {}: {detail}", truncated_json(value));
        Self { field: field.into(), problem: "FieldValueInvalid", body }
    }

    /// The value has the wrong JSON type.
    pub fn wrong_type(field: impl Into<String>, value: &Value, detail: impl std::fmt::Display) -> Self {
        let body = format!("Invalid value: {}: {detail}", truncated_json(value));
        Self { field: field.into(), problem: "FieldValueTypeInvalid", body }
    }

    /// The value is not one of `supported`.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let mut list = BoundedText::new(SUPPORTED_SHOWN_MAX);
        for (index, one) in supported.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            if std::fmt::Write::write_fmt(&mut list, format_args!("{comma}\"{one}\"")).is_err() {
                break;
            }
        }
        let body =
            format!("Unsupported value: {}: supported values: {}", truncated_json(value), list.finish());
        Self { field: field.into(), problem: "FieldValueNotSupported", body }
    }

    /// The value occurs twice.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        let body = format!("Duplicate value: {}", truncated_json(value));
        Self { field: field.into(), problem: "FieldValueDuplicate", body }
    }

    /// The value refers to something that does not exist.
    pub fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self {
            field: field.into(),
            problem: "FieldValueNotFound",
            body: format!("Not found: {}", truncated_json(value)),
        }
    }

    /// The field may not be set here.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self { field: field.into(), problem: "FieldValueForbidden", body: format!("Forbidden: {detail}") }
    }

    /// The value is longer than `limit` bytes.
    pub fn too_long(field: impl Into<String>, limit: usize) -> Self {
        let body = format!("Too long: may not be more than {limit} bytes");
        Self { field: field.into(), problem: "FieldValueTooLong", body }
    }

    /// The list has more than `limit` items.
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

/// Maximum bytes of a value in an error message: enough to recognise it, too few to flood a terminal.
const SHOWN_MAX: usize = 1024;

/// Maximum bytes of the list of supported values.
const SUPPORTED_SHOWN_MAX: usize = 8 * 1024;

/// Renders the value as JSON, truncated to [`SHOWN_MAX`].
fn truncated_json(value: &Value) -> String {
    let mut text = BoundedText::new(SHOWN_MAX);
    // Fails when the buffer is full; the truncated text is what we want.
    let _ = serde_json::to_writer(&mut text, value);
    text.finish()
}
