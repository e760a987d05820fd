//! Where selectors look (at the time of evaluation, before it, or at a time pinned by `@`), and what therefore is the same
//! at each step of a query.
//!
//! Prometheus evaluates what is the same at each step once, at the first. That shows where a part of it is not: the parameter of
//! an aggregation is that of the first step when what is aggregated is pinned, and a sort of pinned series can be told from one
//! that has no effect.

use super::ast::*;
use super::error::QueryError;
use super::eval::{Evaluated, Evaluator, Times};

type Result<T> = std::result::Result<T, QueryError>;

/// Where a selector looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// At a time, whatever the time of evaluation.
    Pinned(i64),
    /// So many milliseconds before the time of evaluation.
    Before(i64),
}

impl Reference {
    /// The time of evaluation itself.
    pub(super) const NOW: Reference = Reference::Before(0);

    /// The time that is looked at in an evaluation at `time_ms`.
    pub(super) fn at(self, time_ms: i64) -> i64 {
        match self {
            Reference::Pinned(pinned_ms) => pinned_ms,
            Reference::Before(offset_ms) => time_ms.saturating_sub(offset_ms),
        }
    }

    /// Where a selector in a subquery looks, seen from outside of the subquery.
    fn inside(self, subquery: Reference) -> Reference {
        match (self, subquery) {
            (Reference::Pinned(_), _) => self,
            (Reference::Before(offset_ms), Reference::Pinned(pinned_ms)) => {
                Reference::Pinned(pinned_ms.saturating_sub(offset_ms))
            }
            (Reference::Before(inner_ms), Reference::Before(outer_ms)) => {
                Reference::Before(inner_ms.saturating_add(outer_ms))
            }
        }
    }
}

impl Evaluator<'_> {
    /// Where `@` and `offset` let a selector look.
    pub(super) fn reference(&self, shift: &TimeShift) -> Result<Reference> {
        let offset_ms = shift.offset.as_ref().map_or(Ok(0), |offset| self.context.durations.ms(offset))?;
        let pinned_ms = match shift.at {
            Some(At::Time(ms)) => ms,
            Some(At::Start) => self.context.start_ms,
            Some(At::End) => self.context.end_ms,
            None => return Ok(Reference::Before(offset_ms)),
        };
        Ok(Reference::Pinned(pinned_ms.saturating_sub(offset_ms)))
    }

    /// Where all the selectors look whose series a vector is made of, if that is the same for all.
    pub(super) fn shared_reference(&self, vector: &Expr) -> Result<Option<Reference>> {
        let mut found = Vec::new();
        self.references(vector, Reference::NOW, &mut found)?;
        let first = found.first().copied().flatten();
        Ok(first.filter(|_| found.iter().all(|reference| *reference == first)))
    }

    /// Where the selectors in a vector look, and `None` for each part that is made without a selector.
    fn references(&self, expr: &Expr, subquery: Reference, found: &mut Vec<Option<Reference>>) -> Result<()> {
        match expr {
            Expr::Vector(selector) => found.push(Some(self.reference(&selector.shift)?.inside(subquery))),
            Expr::Matrix(matrix) => {
                found.push(Some(self.reference(&matrix.vector.shift)?.inside(subquery)));
            }
            Expr::Subquery(inner) => {
                let subquery = self.reference(&inner.shift)?.inside(subquery);
                self.references(&inner.expr, subquery, found)?;
            }
            other => {
                let before = found.len();
                let is_series =
                    |part: &&Expr| matches!(part.value_type(), ValueType::Vector | ValueType::Matrix);
                for part in other.children().into_iter().filter(is_series) {
                    self.references(part, subquery, found)?;
                }
                if found.len() == before {
                    found.push(None);
                }
            }
        }
        Ok(())
    }

    /// Whether an expression is the same at each step of a query.
    pub(super) fn is_invariant(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Number(_) | Expr::String(_) => true,
            Expr::Vector(selector) => selector.shift.at.is_some(),
            Expr::Matrix(matrix) => matrix.vector.shift.at.is_some(),
            Expr::Subquery(subquery) => subquery.shift.at.is_some(),
            // Not its parameter, which is that of the first step then.
            Expr::Aggregate(aggregate) => self.is_invariant(&aggregate.expr),
            Expr::Call(call) => self.is_invariant_call(call),
            other => other.children().into_iter().all(|child| self.is_invariant(child)),
        }
    }

    fn is_invariant_call(&self, call: &Call) -> bool {
        let pinned = || call.evaluated_args().iter().all(|arg| self.is_invariant(arg));
        match call.function.name {
            // The time of a sample is; that of an evaluation is not.
            "timestamp" => {
                matches!(call.args.first().map(Expr::unwrap_parens), Some(Expr::Vector(_))) && pinned()
            }
            // Info series are looked for at the time of evaluation unless all others are at the same time.
            "info" => pinned() && self.shared_reference(&call.args[0]).is_ok_and(|shared| shared.is_some()),
            _ => !call.function.depends_on_time() && pinned(),
        }
    }

    /// The value at the first step, for all steps.
    pub(super) fn eval_once(&self, expr: &Expr) -> Result<Evaluated> {
        let once = self.at(Times::once(self.times.start_ms));
        let count = self.times.count;
        Ok(match once.eval(expr)? {
            Evaluated::Scalar(values) => Evaluated::Scalar(values.repeat(count)),
            Evaluated::Vector(grid) => {
                self.charge(grid.values.len().saturating_mul(count))?;
                Evaluated::Vector(grid.repeated(count))
            }
            Evaluated::String(text) => Evaluated::String(text),
        })
    }
}
