//! `scalingModifiers.formula`: one number from several triggers.
//!
//! The language is expr-lang's, which KEDA uses, as far as it works on numbers and on time: whole and floating-point
//! numbers, names of triggers, arithmetic, comparison (chains too), `and or not`, `in` and ranges, `? :`, `?:`, `??`, `if`
//! and `else`, `let`, pipes, arrays with elements and slices, functions over them with predicates (`{# > 1}`), `now()` with
//! dates, durations and time zones, texts to compare with, and comments. Maps, regular expressions and functions for
//! texts are refused.
//!
//! Every trigger is a floating-point number; one that can't be read is `nil` if the policy allows that, and only `??`,
//! `== nil` and `!= nil` do anything with it. The result must be a number or `nil`.
//!
//! A formula is checked when it is read: its types are (`check`), and it is tried with every trigger at -1, as KEDA
//! does. Errors point at the column. Reading and computing are bounded by the limits below.

mod arithmetic;
mod builtin;
mod calendar;
mod check;
mod evaluate;
mod function;
mod lex;
mod node;
mod parse;
mod value;

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::Name;
use crate::time::Time;
use check::{Checker, Type};
use node::Node;

/// More characters than any formula a person wrote.
pub(crate) const LENGTH_MAX: usize = 4096;
/// More nesting than any formula a person can read; it bounds the stack.
pub(crate) const DEPTH_MAX: usize = 64;
/// Nodes computed and elements looked at, some milliseconds at most: a round has a thousand targets, and a formula over
/// a handful of triggers needs a few dozen.
pub(crate) const STEPS_MAX: usize = 100_000;
/// More elements than a formula over triggers has use for: the minutes of a week are 10,080.
pub(crate) const ELEMENTS_MAX: usize = 10_080;
/// Arrays of arrays have some use, deeper ones have none; it bounds the stack.
pub(crate) const ARRAY_DEPTH_MAX: usize = 8;

/// A formula that was read and tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Formula {
    text: String,
    names: Vec<Name>,
    variables: Vec<Name>,
    root: Node,
}

type Result<T, E = FormulaError> = std::result::Result<T, E>;

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
        let (root, variables) = parse::parse(text)?;
        let mut names = Vec::new();
        root.collect_names(&mut names);
        match Checker::default().check(&root)? {
            Type::Int | Type::Float | Type::Any => {}
            other => {
                let message = format!("the formula must come to a number, and this is {}", other.name());
                return Err(FormulaError::new(root.column, message));
            }
        }
        let formula = Self { text: text.to_owned(), names, variables, root };
        match formula.compute(|_| Some(-1.0), Time::default())? {
            // Only a formula that says what to do without a value may come to none.
            None if !text.contains("??") => Err(FormulaError::new(
                formula.root.column,
                "the formula must come to a number, and with every trigger at -1 this is nil",
            )),
            _ => Ok(formula),
        }
    }

    /// The triggers it uses, each once, in the order of their first use.
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// The variables it declares, which must not have the names of triggers.
    pub fn variables(&self) -> &[Name] {
        &self.variables
    }

    /// Computes it; `value` gives a trigger's number, or none for `nil`, and `now` is what `now()` says. The result is
    /// none for `nil`.
    ///
    /// # Errors
    ///
    /// A `nil` where a number is needed, an element that an array does not have, more steps than
    /// a formula may take, or a result that is not a number.
    pub fn compute(
        &self,
        value: impl Fn(&Name) -> Option<f64>,
        now: Time,
    ) -> Result<Option<f64>, FormulaError> {
        evaluate::evaluate(&self.root, &value, now)
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
