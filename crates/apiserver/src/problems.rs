//! Collects the problems of an object's fields with Kubernetes' messages and paths; also rules shared by many
//! kinds.

use serde_json::Value;

use crate::names;
use crate::object::{at, integer, map, text};
use crate::status::{FieldError, PROBLEMS_MAX};

/// The problems found in an object, up to one more than a response lists.
#[derive(Default)]
pub(crate) struct Problems(Vec<FieldError>);

impl Problems {
    pub(crate) fn push(&mut self, error: FieldError) {
        if self.0.len() <= PROBLEMS_MAX {
            self.0.push(error);
        }
    }

    pub(crate) fn extend(&mut self, errors: Vec<FieldError>) {
        errors.into_iter().for_each(|error| self.push(error));
    }

    pub(crate) fn into_errors(self) -> Vec<FieldError> {
        self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn invalid(
        &mut self,
        field: impl Into<String>,
        value: &Value,
        detail: impl std::fmt::Display,
    ) {
        self.push(FieldError::invalid(field, value, detail));
    }

    pub(crate) fn required(&mut self, field: impl Into<String>, detail: &str) {
        self.push(FieldError::required(field, detail));
    }

    pub(crate) fn one_of(&mut self, parent: &Value, path: &str, key: &str, supported: &[&str]) {
        if let Some(value) = at(parent, key)
            && !supported.iter().any(|one| value == one)
        {
            self.push(FieldError::not_supported(join(path, key), value, supported));
        }
    }

    pub(crate) fn not_negative(&mut self, parent: &Value, path: &str, key: &str) {
        if let Some(number) = integer(parent, key).filter(|number| *number < 0) {
            self.invalid(join(path, key), &number.into(), "must be greater than or equal to 0");
        }
    }

    pub(crate) fn immutable(&mut self, current: &Value, object: &Value, path: &str) {
        if at(current, path) != at(object, path) {
            let value = at(object, path).cloned().unwrap_or(Value::Null);
            self.invalid(path, &value, "field is immutable");
        }
    }

    /// Checks the name under `key`: required, and valid by `rule`.
    pub(crate) fn name(&mut self, parent: &Value, path: &str, key: &str, rule: fn(&str) -> Option<String>) {
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

/// Appends a key to a path.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

pub(crate) fn labels(object: &Value, path: &str, problems: &mut Problems) {
    for (key, value) in map(object, path).into_iter().flatten() {
        if let Some(why) = names::qualified_name(key) {
            problems.invalid(path, &key.as_str().into(), why);
        }
        if let Some(why) = names::label_value(value.as_str().unwrap_or_default()) {
            problems.invalid(path, value, why);
        }
    }
}

/// Checks a non-negative integer or percentage.
pub(crate) fn number_or_percent(parent: &Value, path: &str, key: &str, problems: &mut Problems) {
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
