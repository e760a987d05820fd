//! The parser's part for names before parentheses: function calls and aggregations.
//!
//! Errors are made in functions of their own, so that calls in each other take little stack.

use super::ast::*;
use super::error::ParseError;
use super::functions::{self, Function};
use super::lexer::Token;
use super::parser::{LABELS_MAX, Parser};
use crate::text::quote;

impl Parser<'_> {
    /// A name: an aggregation, a function call or a metric.
    pub(super) fn name(&mut self) -> Result<Expr, ParseError> {
        let text = self.text();
        let lower = text.to_ascii_lowercase();
        let aggregate = AggregateOp::ALL.iter().find(|(_, name)| *name == lower);
        if let Some((op, _)) = aggregate {
            let next = self.peek_second();
            let grouped =
                |text: &str| text.eq_ignore_ascii_case("by") || text.eq_ignore_ascii_case("without");
            if next.is_some_and(|(token, text)| {
                matches!(token, Token::Sign("(")) || (*token == Token::Name && grouped(text))
            }) {
                return self.aggregate(*op);
            }
        }
        if self.next_is("(") && !text.contains(':') {
            return self.call(&lower);
        }
        if ["bool", "on", "ignoring", "group_left", "group_right", "atan2"].contains(&&*lower) {
            return Err(self.unexpected("", ""));
        }
        Ok(Expr::Vector(self.vector_selector()?))
    }

    fn call(&mut self, lower: &str) -> Result<Expr, ParseError> {
        let span = self.span();
        // Function names are case-sensitive; the words that durations share with functions are not.
        let exact = self.text();
        let name = if ["step", "range", "start", "end", "min_of", "max_of"].contains(&lower) {
            lower
        } else {
            exact
        };
        let function = self.function(name)?;
        self.advance();
        let args = self.arguments("function call")?;
        let span = span.to(self.last_span());
        check_argument_count(self, function, &args, span)?;
        Ok(Expr::Call(Call { function, args, span }))
    }

    /// The function with a name.
    fn function(&self, name: &str) -> Result<&'static Function, ParseError> {
        let quoted = quote(name.as_bytes());
        match functions::find(name) {
            None => Err(self.error(self.span(), format!("unknown function with name {quoted}"))),
            Some(function) if function.experimental && !self.options.experimental_functions => {
                let message = format!(
                    "function {quoted} is not enabled; Prometheus has it behind --enable-feature=promql-experimental-functions"
                );
                Err(self.error(self.span(), message))
            }
            Some(function) => Ok(function),
        }
    }

    fn arguments(&mut self, context: &str) -> Result<Vec<Expr>, ParseError> {
        self.expect("(", context)?;
        let mut args = Vec::new();
        if self.eat(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expr(0)?);
            if self.eat(")") {
                return Ok(args);
            }
            if !self.eat(",") {
                return Err(self.unexpected("", ""));
            }
            if matches!(self.peek(), Token::Sign(")")) {
                return Err(self.error(self.last_span(), "trailing commas not allowed in function call args"));
            }
        }
    }

    fn aggregate(&mut self, op: AggregateOp) -> Result<Expr, ParseError> {
        let start = self.span();
        self.check_enabled(op)?;
        self.advance();
        let mut grouping = self.grouping()?;
        let mut args = self.arguments("aggregate expression")?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let (without, grouping) = grouping.unwrap_or_default();
        let span = start.to(self.last_span());
        self.check_aggregate_arguments(op, args.len(), span)?;
        let parameter = op.parameter().map(|_| args.remove(0));
        let expr = args.remove(0);
        Ok(Expr::Aggregate(Box::new(AggregateExpr { op, expr, parameter, grouping, without, span })))
    }

    fn check_enabled(&self, op: AggregateOp) -> Result<(), ParseError> {
        if !op.is_experimental() || self.options.experimental_functions {
            return Ok(());
        }
        let name = op.name();
        let message = format!(
            "{name}() is experimental and must be enabled with --enable-feature=promql-experimental-functions"
        );
        Err(self.error(self.span(), message))
    }

    fn check_aggregate_arguments(&self, op: AggregateOp, got: usize, span: Span) -> Result<(), ParseError> {
        let wanted = if op.parameter().is_some() { 2 } else { 1 };
        let message = match got {
            0 => "no arguments for aggregate expression provided".into(),
            got if got == wanted => return Ok(()),
            got => format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {got}"
            ),
        };
        Err(self.error(span, message))
    }

    /// `by (…)` (false) or `without (…)` (true), when one stands here.
    fn grouping(&mut self) -> Result<Option<(bool, Vec<String>)>, ParseError> {
        let without = self.is_keyword("without");
        if !without && !self.is_keyword("by") {
            return Ok(None);
        }
        self.advance();
        Ok(Some((without, self.label_list("grouping opts")?)))
    }

    pub(super) fn label_list(&mut self, context: &str) -> Result<Vec<String>, ParseError> {
        self.expect("(", context)?;
        let mut labels = Vec::new();
        while !self.eat(")") {
            if labels.len() >= LABELS_MAX {
                return Err(self.error(self.span(), format!("{context} name more than {LABELS_MAX} labels")));
            }
            match self.peek().clone() {
                Token::Name => labels.push(self.text().to_owned()),
                Token::String(value) => labels.push(String::from_utf8_lossy(&value).into_owned()),
                // Words such as `inf` are numbers elsewhere, and labels here.
                Token::Number(_, false) if self.text().starts_with(|c: char| c.is_ascii_alphabetic()) => {
                    labels.push(self.text().to_owned());
                }
                _ => return Err(self.unexpected(context, "label")),
            }
            self.advance();
            if !self.eat(",") && !matches!(self.peek(), Token::Sign(")")) {
                return Err(self.unexpected(context, "\",\" or \")\""));
            }
        }
        Ok(labels)
    }
}

fn check_argument_count(
    parser: &Parser<'_>,
    function: &Function,
    args: &[Expr],
    span: Span,
) -> Result<(), ParseError> {
    let (min, max) = function.argument_counts();
    let name = quote(function.name.as_bytes());
    let got = args.len();
    let message = if got < min && Some(min) == max {
        format!("expected {min} argument(s) in call to {name}, got {got}")
    } else if got < min {
        format!("expected at least {min} argument(s) in call to {name}, got {got}")
    } else if max.is_some_and(|max| got > max) && Some(min) == max {
        format!("expected {min} argument(s) in call to {name}, got {got}")
    } else if let Some(max) = max.filter(|max| got > *max) {
        format!("expected at most {max} argument(s) in call to {name}, got {got}")
    } else {
        return Ok(());
    };
    Err(parser.error(span, message))
}
