//! The rules of the fields, in pydantic's words.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use super::{Loc, PROBLEMS_MAX, Problem};
use crate::house::{CONDITION_WORDS, House, Location};
use crate::model::Model;

/// Why a value does not fit its field: one part, or one for each alternative of a union.
pub(super) struct FieldError {
    pub(super) parts: Vec<Part>,
}

pub(super) struct Part {
    pub(super) kind: &'static str,
    pub(super) message: String,
    pub(super) ctx: Option<Value>,
    /// The alternative concerned, where the field has several.
    pub(super) branch: Option<&'static str>,
}

impl FieldError {
    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { parts: vec![Part { kind, message: message.into(), ctx: None, branch: None }] }
    }

    fn with(kind: &'static str, message: impl Into<String>, ctx: Value) -> Self {
        Self { parts: vec![Part { kind, message: message.into(), ctx: Some(ctx), branch: None }] }
    }

    /// Marks the error as one alternative of a union.
    fn on(mut self, branch: &'static str) -> Self {
        self.parts.iter_mut().for_each(|part| part.branch = Some(branch));
        self
    }

    fn and(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }
}

/// The fields of one object, and the list that collects their problems.
pub(super) struct Fields<'a> {
    pub(super) object: &'a Map<String, Value>,
    /// The same object as a value, which is the `input` of a missing field.
    pub(super) whole: &'a Value,
    pub(super) loc: &'a mut Vec<Loc>,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl Fields<'_> {
    /// Reads one field; `None` after adding a problem.
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        rule: impl Fn(&Value) -> Result<T, FieldError>,
    ) -> Option<T> {
        if self.problems.len() >= PROBLEMS_MAX {
            return None;
        }
        self.loc.push(Loc::Name(name));
        let found = match self.object.get(name) {
            None => {
                self.problems.push(Problem::new("missing", self.loc, "Field required", self.whole));
                None
            }
            Some(value) => rule(value).map_err(|error| error.report(self.loc, value, self.problems)).ok(),
        };
        self.loc.pop();
        found
    }
}

pub(super) fn number_above(value: &Value, bound: f64) -> Result<f64, FieldError> {
    let number = number(value)?;
    if !number.is_finite() {
        return Err(FieldError::new("finite_number", "Input should be a finite number"));
    }
    if number > bound {
        return Ok(number);
    }
    Err(FieldError::with(
        "greater_than",
        format!("Input should be greater than {bound}"),
        json!({ "gt": bound }),
    ))
}

fn number(value: &Value) -> Result<f64, FieldError> {
    match value {
        Value::Number(number) => Ok(number.as_f64().unwrap_or(f64::INFINITY)),
        Value::Bool(flag) => Ok(f64::from(u8::from(*flag))),
        Value::String(text) => text.trim().parse().map_err(|_| {
            let message = "Input should be a valid number, unable to parse string as a number";
            FieldError::new("float_parsing", message)
        }),
        _ => Err(FieldError::new("float_type", "Input should be a valid number")),
    }
}

pub(super) fn integer_within(value: &Value, range: RangeInclusive<i64>) -> Result<i64, FieldError> {
    let number = integer(value)?;
    let (least, most) = range.into_inner();
    if number < least {
        let message = format!("Input should be greater than or equal to {least}");
        return Err(FieldError::with("greater_than_equal", message, json!({ "ge": least })));
    }
    if number > most {
        let message = format!("Input should be less than or equal to {most}");
        return Err(FieldError::with("less_than_equal", message, json!({ "le": most })));
    }
    Ok(number)
}

fn integer(value: &Value) -> Result<i64, FieldError> {
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Ok(integer),
            (None, Some(float)) => integer_of_float(float),
            (None, None) => Err(too_large()),
        },
        Value::Bool(flag) => Ok(i64::from(*flag)),
        Value::String(text) => integer_of_text(text.trim()),
        _ => Err(FieldError::new("int_type", "Input should be a valid integer")),
    }
}

fn integer_of_float(float: f64) -> Result<i64, FieldError> {
    if float.fract() != 0.0 {
        let message = "Input should be a valid integer, got a number with a fractional part";
        return Err(FieldError::new("int_from_float", message));
    }
    // the largest f64 below 2^63 is exact as an i64
    if float.abs() < i64::MAX as f64 { Ok(float as i64) } else { Err(too_large()) }
}

/// Parses an integer: `4` and `4.0` are integers; `4.5`, `4.` and `4e0` are not.
fn integer_of_text(text: &str) -> Result<i64, FieldError> {
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|digit| digit == b'0') => whole,
        Some(_) => "not an integer",
        None => text,
    };
    whole.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => too_large(),
        _ => {
            let message = "Input should be a valid integer, unable to parse string as an integer";
            FieldError::new("int_parsing", message)
        }
    })
}

fn too_large() -> FieldError {
    let message = "Unable to parse input string as an integer, exceeded maximum size";
    FieldError::new("int_parsing_size", message)
}

pub(super) fn location(value: &Value, model: &Model) -> Result<Location, FieldError> {
    let Value::String(location) = value else {
        return Err(FieldError::new("string_type", "Input should be a valid string"));
    };
    model.location(location).ok_or_else(|| {
        let expected = "a King County zip code, 'urban', 'suburban' or 'rural'";
        FieldError::with(
            "literal_error",
            format!("Input should be {expected}"),
            json!({ "expected": expected }),
        )
    })
}

/// Parses a grade of 1–5, or one of the assessor's words.
pub(super) fn condition(value: &Value) -> Result<u8, FieldError> {
    if let Value::String(word) = value {
        return House::condition_of_word(word).ok_or_else(unknown_condition);
    }
    match integer(value) {
        Ok(_) => integer_within(value, 1..=5).map(|grade| grade as u8),
        Err(not_an_integer) => {
            let not_a_string = FieldError::new("string_type", "Input should be a valid string");
            Err(not_a_string.on("str").and(not_an_integer.on("int")))
        }
    }
}

fn unknown_condition() -> FieldError {
    let quoted = CONDITION_WORDS.map(|word| format!("'{word}'"));
    let (last, others) = quoted.split_last().expect("there are six words");
    let expected = format!("{} or {last}", others.join(", "));
    FieldError::with("literal_error", format!("Input should be {expected}"), json!({ "expected": expected }))
}
