//! `+ - * / % **` on numbers, times and durations.
//!
//! Whole numbers stay whole, and wrap around as Go's do; a division and a power are always floating-point.

use jiff::SignedDuration;

use super::node::Binary;
use super::value::{Number, Value};
use super::{FormulaError, Result};

pub(super) fn compute(operator: Binary, left: &Value, right: &Value, column: usize) -> Result<Value> {
    if let (Some(left), Some(right)) = (left.number(), right.number()) {
        return numbers(operator, left, right, column);
    }
    with_time(operator, left, right).ok_or_else(|| {
        let message = format!("{} and {} can't be combined here", left.type_name(), right.type_name());
        FormulaError::new(column, message)
    })
}

fn numbers(operator: Binary, left: Number, right: Number, column: usize) -> Result<Value> {
    if let (Number::Int(left), Number::Int(right)) = (left, right) {
        let whole = match operator {
            Binary::Add => Some(left.wrapping_add(right)),
            Binary::Subtract => Some(left.wrapping_sub(right)),
            Binary::Multiply => Some(left.wrapping_mul(right)),
            Binary::Remainder if right == 0 => {
                return Err(FormulaError::new(column, "the remainder of a division by zero"));
            }
            Binary::Remainder => Some(left.wrapping_rem(right)),
            _ => None,
        };
        if let Some(whole) = whole {
            return Ok(Value::Int(whole));
        }
    }
    let (left, right) = (left.as_f64(), right.as_f64());
    Ok(Value::Float(match operator {
        Binary::Add => left + right,
        Binary::Subtract => left - right,
        Binary::Multiply => left * right,
        Binary::Divide => left / right,
        Binary::Power => left.powf(right),
        _ => {
            return Err(FormulaError::new(
                column,
                "`%` works on whole numbers; write int(…) around a number",
            ));
        }
    }))
}

/// Times and durations; none where the operation means nothing, or leaves the calendar.
fn with_time(operator: Binary, left: &Value, right: &Value) -> Option<Value> {
    use Value::{Duration, Time};
    Some(match (operator, left, right) {
        (Binary::Add, Time(time), Duration(nanos)) | (Binary::Add, Duration(nanos), Time(time)) => {
            Time(Box::new(time.checked_add(SignedDuration::from_nanos(*nanos)).ok()?))
        }
        (Binary::Subtract, Time(time), Duration(nanos)) => {
            Time(Box::new(time.checked_sub(SignedDuration::from_nanos(*nanos)).ok()?))
        }
        (Binary::Subtract, Time(left), Time(right)) => {
            let nanos = left.timestamp().duration_since(right.timestamp()).as_nanos();
            Duration(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
        }
        (Binary::Add, Duration(left), Duration(right)) => Duration(left.wrapping_add(*right)),
        (Binary::Subtract, Duration(left), Duration(right)) => Duration(left.wrapping_sub(*right)),
        (Binary::Multiply, Duration(nanos), other) | (Binary::Multiply, other, Duration(nanos)) => {
            match other.number()? {
                Number::Int(factor) => Duration(nanos.wrapping_mul(factor)),
                Number::Float(factor) => Duration((*nanos as f64 * factor) as i64),
            }
        }
        _ => return None,
    })
}
