//! Durations of a query once its step and range are known.

use super::ast::{BinaryOp, DurationExpr, Span};
use super::error::QueryError;
use super::numerics;

/// What `step()` and `range()` stand for, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct DurationContext {
    pub(super) step_seconds: f64,
    pub(super) range_seconds: f64,
}

impl DurationContext {
    /// Milliseconds of a range or step, which must be positive.
    pub(super) fn positive_ms(&self, expr: &DurationExpr) -> Result<i64, QueryError> {
        match self.ms(expr)? {
            ms if ms > 0 => Ok(ms),
            _ => Err(self.error(expr, "duration must be greater than 0")),
        }
    }

    /// Milliseconds of an offset: what is below one is cut off, after a number's nanoseconds were rounded.
    pub(super) fn ms(&self, expr: &DurationExpr) -> Result<i64, QueryError> {
        let seconds = self.seconds(expr)?;
        if !seconds.is_finite() {
            return Err(self.error(expr, "duration is NaN or infinite"));
        }
        // About 290 years, the longest that Go's durations hold.
        if seconds.abs() >= 9.2e9 {
            return Err(self.error(expr, "duration is out of range"));
        }
        Ok(match expr {
            DurationExpr::Number(_) => (seconds * 1e9).round() as i64 / 1_000_000,
            _ => (seconds * 1_000.0) as i64,
        })
    }

    /// An error with the bytes from and to which its part of the query goes, without parentheses, as Prometheus tells it.
    fn error(&self, mut expr: &DurationExpr, message: &str) -> QueryError {
        while let DurationExpr::Paren(inner, _) = expr {
            expr = inner;
        }
        let Span { start, end } = expr.span();
        QueryError::Execution(format!("{start}:{end}: {message}"))
    }

    fn seconds(&self, expr: &DurationExpr) -> Result<f64, QueryError> {
        Ok(match expr {
            DurationExpr::Number(number) => number.value,
            DurationExpr::Step(_) => self.step_seconds,
            DurationExpr::Range(_) => self.range_seconds,
            DurationExpr::Unary(negative, inner, _) => {
                let value = self.seconds(inner)?;
                if *negative { -value } else { value }
            }
            DurationExpr::Paren(inner, _) => self.seconds(inner)?,
            DurationExpr::Extreme(max, lhs, rhs, _) => {
                let choose = if *max { numerics::max } else { numerics::min };
                choose(self.seconds(lhs)?, self.seconds(rhs)?)
            }
            DurationExpr::Binary(op, lhs, rhs) => {
                let (left, right) = (self.seconds(lhs)?, self.seconds(rhs)?);
                match op {
                    BinaryOp::Add => left + right,
                    BinaryOp::Sub => left - right,
                    BinaryOp::Mul => left * right,
                    BinaryOp::Div if right == 0.0 => return Err(self.error(expr, "division by zero")),
                    BinaryOp::Div => left / right,
                    BinaryOp::Mod if right == 0.0 => return Err(self.error(expr, "modulo by zero")),
                    BinaryOp::Mod => left % right,
                    _ => left.powf(right),
                }
            }
        })
    }
}
