//! What a part of a formula can be, and what holds between two of them.

use super::FormulaError;
use std::cmp::Ordering;
use std::sync::Arc;

use jiff::Zoned;
use jiff::tz::TimeZone;

#[derive(Clone, Debug)]
pub(super) enum Value {
    Int(i64),
    Float(f64),
    Bool(bool),
    Nil,
    Text(Arc<str>),
    Array(Array),
    Time(Box<Zoned>),
    /// Nanoseconds, as in Go.
    Duration(i64),
    /// Days since Sunday.
    Weekday(i8),
    /// From 1.
    Month(i8),
    Zone(TimeZone),
}

/// Elements, and how deep arrays nest in them.
#[derive(Clone, Debug)]
pub(super) struct Array {
    pub(super) elements: Arc<[Value]>,
    pub(super) depth: usize,
}

/// Either kind of number, for arithmetic that keeps whole numbers whole.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    pub(super) fn as_f64(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::Float(number) => number,
        }
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        match number {
            Number::Int(number) => Self::Int(number),
            Number::Float(number) => Self::Float(number),
        }
    }
}

impl Value {
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Nil => "nil",
            Self::Text(_) => "a text",
            Self::Array(_) => "an array",
            Self::Time(_) => "a time",
            Self::Duration(_) => "a duration",
            Self::Weekday(_) => "a weekday",
            Self::Month(_) => "a month",
            Self::Zone(_) => "a time zone",
        }
    }

    pub(super) fn number(&self) -> Option<Number> {
        match self {
            Self::Int(number) => Some(Number::Int(*number)),
            Self::Float(number) => Some(Number::Float(*number)),
            _ => None,
        }
    }

    /// Which of two values that have an order comes first; none if they have none, NaN included.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => Some(left.cmp(right)),
            (Self::Text(left), Self::Text(right)) => Some(left.cmp(right)),
            (Self::Time(left), Self::Time(right)) => Some(left.timestamp().cmp(&right.timestamp())),
            (Self::Duration(left), Self::Duration(right)) => Some(left.cmp(right)),
            _ => self.number()?.as_f64().partial_cmp(&other.number()?.as_f64()),
        }
    }

    /// Whether two values are of kinds that have an order.
    pub(super) fn is_ordered_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(_), Self::Text(_))
            | (Self::Time(_), Self::Time(_))
            | (Self::Duration(_), Self::Duration(_)) => true,
            _ => self.number().is_some() && other.number().is_some(),
        }
    }

    /// Equality of all but arrays.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nil, Self::Nil) => true,
            (Self::Bool(left), Self::Bool(right)) => left == right,
            (Self::Weekday(left), Self::Weekday(right)) | (Self::Month(left), Self::Month(right)) => {
                left == right
            }
            (Self::Zone(left), Self::Zone(right)) => left == right,
            _ => self.order(other) == Some(Ordering::Equal),
        }
    }
}

/// Reports a value of another type than the one wanted.
pub(super) fn expected(wanted: &str, found: &Value, column: usize) -> FormulaError {
    FormulaError::new(column, format!("expected {wanted}, found {}", found.type_name()))
}
