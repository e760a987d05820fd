//! What is wrong with an object: every problem with its place, the value found there, why it is wrong, and
//! what to write instead.
//!
//! A problem reads like Kubernetes' own field errors (`apimachinery/pkg/util/validation/field`), so that it
//! can become a cause in a `Status`; where KEDA or the HPA has a message for the same rule, it is that
//! message.

use std::fmt;

use serde_json::Value;

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is, such as `spec.triggers[0].metadata.threshold`.
    pub field: String,
    /// What sort of problem it is.
    pub cause: Cause,
    /// The value found there, as JSON; empty when nothing is there.
    pub value: String,
    /// Why that is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// What sort of problem a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The value is wrong.
    Invalid,
    /// A value is missing.
    Required,
    /// The value is none of the known ones.
    NotSupported,
    /// The value is there twice.
    Duplicate,
    /// The value may not be there, given the others.
    Forbidden,
    /// The value is too long.
    TooLong,
}

impl Cause {
    /// Kubernetes' name for it, as in `Status.details.causes[].reason`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
        }
    }

    /// Kubernetes' words for it.
    fn words(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid value",
            Self::Required => "Required value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
        }
    }
}

impl Problem {
    /// A wrong value.
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            cause: Cause::Invalid,
            value: value.into().to_string(),
            message: message.into(),
            help: String::new(),
        }
    }

    /// A missing value.
    pub fn required(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            cause: Cause::Required,
            value: String::new(),
            message: message.into(),
            help: String::new(),
        }
    }

    /// All but the field: `Invalid value: "x": not a number; write a number in quotes`.
    pub fn body(&self) -> String {
        let mut text = format!("{}: ", self.cause.words());
        if !self.value.is_empty() {
            text.push_str(&format!("{}: ", self.value));
        }
        text.push_str(&self.message);
        if !self.help.is_empty() {
            text.push_str(&format!("; {}", self.help));
        }
        text
    }

    /// The same problem, of another sort.
    #[must_use]
    pub fn cause(mut self, cause: Cause) -> Self {
        self.cause = cause;
        self
    }

    /// The same problem, with what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// A value, and everything that is wrong with where it came from: both, so that no problem hides another.
pub type Checked<T> = Result<T, Vec<Problem>>;
