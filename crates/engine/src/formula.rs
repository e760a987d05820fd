//! `scalingModifiers.formula`: one number from several triggers.
//!
//! The language is the part of expr-lang that scaling formulas use: numbers, names of triggers, arithmetic
//! (`+ - * / % **`), comparison, `and or not`, `? :`, `??`, arrays, and the functions `max min sum mean median count any
//! all none abs ceil floor round len int float`, where `count any all none` take a predicate such as `{# > 1}`.
//! Every trigger is a floating-point number; one that can't be read is `nil` if the policy allows that, and only `??`,
//! `== nil` and `!= nil` do anything with it. The result must be a number or `nil`.
//!
//! A formula is checked when it is read: unknown names, wrong types and wrong numbers of arguments are found by trying
//! it with every trigger at -1, as KEDA does. Errors point at the column. Reading and computing are bounded
//! (`LENGTH_MAX`, `DEPTH_MAX`), and there are no loops but over the elements of a literal array.

mod evaluate;
mod lex;
mod parse;

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::Name;
use parse::Node;

/// More characters than any formula a person wrote.
pub(crate) const LENGTH_MAX: usize = 4096;
/// More nesting than any formula a person can read; it bounds the stack.
pub(crate) const DEPTH_MAX: usize = 64;

/// A formula that was read and tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Formula {
    text: String,
    names: Vec<Name>,
    root: Node,
}

/// What is wrong with a formula, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message} (column {column})")]
pub struct FormulaError {
    /// Counted in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl FormulaError {
    fn new(column: usize, message: impl Into<String>) -> Self {
        Self { column, message: message.into() }
    }
}

impl Formula {
    /// Reads a formula and tries it.
    ///
    /// # Errors
    ///
    /// The first thing in it that can't be read or computed. Whether its names are triggers is for
    /// [`Metrics::new`](crate::Metrics::new) to say.
    pub fn new(text: &str) -> Result<Self, FormulaError> {
        let root = parse::parse(text)?;
        let mut names = Vec::new();
        root.collect_names(&mut names);
        let formula = Self { text: text.to_owned(), names, root };
        formula.compute(|_| Some(-1.0))?;
        Ok(formula)
    }

    /// The triggers it uses, each once, in the order of their first use.
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// Computes it; `value` gives a trigger's number, or none for `nil`. The result is none for `nil`.
    ///
    /// # Errors
    ///
    /// A `nil` or an empty array where a number is needed, or a result that is not a number.
    pub fn compute(&self, value: impl Fn(&Name) -> Option<f64>) -> Result<Option<f64>, FormulaError> {
        evaluate::evaluate(&self.root, &value)
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Formula {
    type Error = FormulaError;

    fn try_from(text: String) -> Result<Self, FormulaError> {
        Self::new(&text)
    }
}

impl From<Formula> for String {
    fn from(formula: Formula) -> Self {
        formula.text
    }
}

#[cfg(test)]
mod tests;
