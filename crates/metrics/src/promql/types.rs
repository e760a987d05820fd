//! Type checks: which expressions fit together.

use std::collections::HashSet;

use super::ast::*;
use super::error::ParseError;
use crate::text::quote;

/// Checks an expression and everything in it; the first mistake from the left is told.
pub(super) fn check(expr: &Expr, query: &str) -> Result<(), ParseError> {
    let checker = Checker { query };
    checker.expr(expr)
}

struct Checker<'a> {
    query: &'a str,
}

impl Checker<'_> {
    fn error(&self, span: Span, message: String) -> Result<(), ParseError> {
        Err(ParseError::new(self.query, span, message))
    }

    fn expect(&self, expr: &Expr, wanted: ValueType, context: &str) -> Result<(), ParseError> {
        let got = expr.value_type();
        if got == wanted {
            return Ok(());
        }
        let message = format!("expected type {} in {context}, got {}", wanted.describe(), got.describe());
        self.error(expr.span(), message)
    }

    fn expr(&self, expr: &Expr) -> Result<(), ParseError> {
        for child in expr.children() {
            self.expr(child)?;
        }
        match expr {
            Expr::Unary(unary) => self.unary(unary),
            Expr::Binary(binary) => self.binary(binary, binary.op_span),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Call(call) => self.call(call),
            Expr::Vector(selector) => self.selector(selector),
            Expr::Matrix(matrix) => self.selector(&matrix.vector),
            Expr::Subquery(subquery) => match subquery.expr.value_type() {
                ValueType::Vector => Ok(()),
                other => {
                    let message = format!(
                        "subquery is only allowed on instant vector, got {} instead",
                        other.api_name()
                    );
                    self.error(subquery.span, message)
                }
            },
            _ => Ok(()),
        }
    }

    fn unary(&self, unary: &UnaryExpr) -> Result<(), ParseError> {
        match unary.expr.value_type() {
            ValueType::Scalar | ValueType::Vector => Ok(()),
            other => {
                let got = quote(other.describe().as_bytes());
                let message = format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {got}"
                );
                self.error(unary.span, message)
            }
        }
    }

    fn aggregate(&self, aggregate: &AggregateExpr) -> Result<(), ParseError> {
        self.expect(&aggregate.expr, ValueType::Vector, "aggregation expression")?;
        match (&aggregate.parameter, aggregate.op.parameter()) {
            (Some(parameter), Some(wanted)) => self.expect(parameter, wanted, "aggregation parameter"),
            _ => Ok(()),
        }
    }

    /// One that selects all series is most likely a mistake.
    fn selector(&self, selector: &VectorSelector) -> Result<(), ParseError> {
        if selector.matchers.iter().all(|matcher| matcher.matches("")) {
            let message = "vector selector must contain at least one non-empty matcher".into();
            return self.error(selector.span, message);
        }
        Ok(())
    }

    /// The second argument of `info` is written as a selector, but only names labels.
    fn data_labels(&self, call: &Call, arg: &Expr) -> Result<(), ParseError> {
        let wrong = |message: &str| self.error(arg.span(), message.into());
        match arg {
            Expr::Vector(selector) if selector.name.is_none() => Ok(()),
            Expr::Vector(_) => wrong("expected label selectors only, got vector selector instead"),
            other if other.value_type() != ValueType::Vector => {
                let [wanted, got] = [ValueType::Vector, other.value_type()].map(ValueType::describe);
                let message = format!("expected type {wanted} in call to function \"info\", got {got}");
                self.error(call.span, message)
            }
            _ => wrong("expected label selectors only"),
        }
    }

    fn call(&self, call: &Call) -> Result<(), ParseError> {
        if let Some(arg) = call.data_labels() {
            self.data_labels(call, arg)?;
        }
        let context = format!("call to function {}", quote(call.function.name.as_bytes()));
        for (i, arg) in call.args.iter().enumerate() {
            self.expect(arg, call.function.argument_type(i), &context)?;
        }
        Ok(())
    }

    fn binary(&self, binary: &BinaryExpr, span: Span) -> Result<(), ParseError> {
        let (op, matching) = (binary.op, &binary.matching);
        let (left, right) = (binary.lhs.value_type(), binary.rhs.value_type());
        for (side, value_type) in [(&binary.lhs, left), (&binary.rhs, right)] {
            if !matches!(value_type, ValueType::Scalar | ValueType::Vector) {
                let message = "binary expression must contain only scalar and instant vector types".into();
                return self.error(side.span(), message);
            }
        }
        if binary.return_bool && !op.is_comparison() {
            return self.error(span, "bool modifier can only be used on comparison operators".into());
        }
        if op.is_comparison()
            && !binary.return_bool
            && left == ValueType::Scalar
            && right == ValueType::Scalar
        {
            return self.error(span, "comparisons between scalars must use BOOL modifier".into());
        }
        let vectors = left == ValueType::Vector && right == ValueType::Vector;
        if matching.fill != Fill::default() && (!vectors || op.is_set_operator()) {
            let where_not = match vectors {
                true => "not allowed for set operators",
                false => "only allowed between instant vectors",
            };
            return self.error(span, format!("filling in missing series {where_not}"));
        }
        if op.is_set_operator() && matching.cardinality != Cardinality::OneToOne {
            let message = format!("no grouping allowed for {} operation", quote(op.symbol().as_bytes()));
            return self.error(span, message);
        }
        let include: HashSet<&String> = matching.include.iter().collect();
        let in_both = matching.labels.iter().find(|label| include.contains(label));
        if let Some(label) = in_both.filter(|_| matching.on) {
            let label = quote(label.as_bytes());
            return self.error(span, format!("label {label} must not occur in ON and GROUP clause at once"));
        }
        if left != ValueType::Vector || right != ValueType::Vector {
            if !matching.labels.is_empty() || matching.cardinality != Cardinality::OneToOne {
                return self.error(span, "vector matching only allowed between instant vectors".into());
            }
            if op.is_set_operator() {
                let message = format!(
                    "set operator {} not allowed in binary scalar expression",
                    quote(op.symbol().as_bytes())
                );
                return self.error(span, message);
            }
        }
        Ok(())
    }
}
