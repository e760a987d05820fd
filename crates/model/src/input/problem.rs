//! A problem of a request, as pydantic writes it.

use serde::Serialize;
use serde_json::Value;

/// One step of the path to a value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Loc {
    /// `body`, `query`, or a field.
    Name(&'static str),
    /// An index in a list, or the position of a syntax error in characters.
    Index(usize),
}

/// An entry of `detail` in a response with status 422.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Problem {
    /// The stable name of the broken rule: `missing`, `greater_than`, …
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The path to the value.
    pub(crate) loc: Vec<Loc>,
    /// The sentence for people.
    pub(crate) msg: String,
    /// The value found there; for a missing field, the object around it.
    pub(crate) input: Value,
    /// The limits that the value breaks, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ctx: Option<Value>,
}

impl Problem {
    pub(super) fn new(kind: &'static str, loc: &[Loc], message: &str, input: &Value) -> Self {
        Self { kind, loc: loc.to_vec(), msg: message.to_owned(), input: input.clone(), ctx: None }
    }
}
