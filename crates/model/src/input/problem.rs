//! One thing that is wrong with a request, as pydantic writes it.

use serde::Serialize;
use serde_json::Value;

/// One step of the way to a value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Loc {
    /// `body`, `query`, or a field.
    Name(&'static str),
    /// A place in a list, or in the text for a syntax error.
    Index(usize),
}

/// An entry of `detail`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Problem {
    /// Stable name of what is wrong: `missing`, `greater_than`, …
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// Where.
    pub(crate) loc: Vec<Loc>,
    /// What is wrong, for people.
    pub(crate) msg: String,
    /// What was found there.
    pub(crate) input: Value,
    /// The limits that were not kept, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ctx: Option<Value>,
}

impl Problem {
    pub(super) fn new(kind: &'static str, loc: &[Loc], message: &str, input: &Value) -> Self {
        Self { kind, loc: loc.to_vec(), msg: message.to_owned(), input: input.clone(), ctx: None }
    }
}
