//! The parser: words to syntax tree, with types checked.
//!
//! Operators by precedence climbing, everything else by recursive descent. Error messages are Prometheus', and point
//! at the part that is wrong.

use super::ast::*;
use super::error::ParseError;
use super::functions::{self, Function};
use super::lexer::{Token, lex};
use super::types;
use crate::matcher::Matcher;
use crate::text::quote;

/// Bytes of a query. The longest generated dashboards and rules stay below 100 kB.
pub const QUERY_BYTES_MAX: usize = 256 << 10;
/// How deep expressions may nest; each level takes stack in the parser and in the evaluator.
pub const QUERY_DEPTH_MAX: usize = 150;

/// What the parser accepts beyond Prometheus' defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// Functions and aggregations behind `--enable-feature=promql-experimental-functions`.
    pub experimental_functions: bool,
    /// `fill`, `fill_left` and `fill_right`, behind `--enable-feature=promql-binop-fill-modifiers`.
    pub fill_modifiers: bool,
    /// `anchored` and `smoothed`, behind `--enable-feature=promql-extended-range-selectors`.
    pub extended_range_selectors: bool,
}

/// Parses a query with Prometheus' default options.
///
/// ```
/// let expr = flyball_metrics::promql::parse("sum(rate(x[1m]))by(le)>2")?;
/// assert_eq!(expr.to_string(), "sum by (le) (rate(x[1m])) > 2");
/// let error = flyball_metrics::promql::parse("rate(x)").unwrap_err();
/// assert_eq!(error.to_string(), "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector");
/// # Ok::<(), flyball_metrics::promql::ParseError>(())
/// ```
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    parse_with(query, ParseOptions::default())
}

/// Parses a query.
pub fn parse_with(query: &str, options: ParseOptions) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(query, options)?;
    if parser.peek() == &Token::End {
        return Err(parser.error(Span::default(), "no expression found in input"));
    }
    let expr = parser.expr(0)?;
    if parser.peek() != &Token::End {
        return Err(parser.unexpected("", ""));
    }
    types::check(&expr, query)?;
    Ok(expr)
}

/// Parses what the parameter `match[]` takes: one selector such as `up{job="model"}`.
pub fn parse_metric_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(text, ParseOptions::default())?;
    let selector = parser.vector_selector()?;
    if parser.peek() != &Token::End {
        return Err(parser.unexpected("", ""));
    }
    types::check(&Expr::Vector(selector.clone()), text)?;
    Ok(selector.matchers)
}

pub(super) struct Parser<'a> {
    pub(super) query: &'a str,
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    pub(super) options: ParseOptions,
}

impl ParseOptions {
    /// Everything that Prometheus has behind feature flags.
    pub fn all() -> ParseOptions {
        ParseOptions { experimental_functions: true, fill_modifiers: true, extended_range_selectors: true }
    }
}

impl<'a> Parser<'a> {
    fn new(query: &'a str, options: ParseOptions) -> Result<Parser<'a>, ParseError> {
        if query.len() > QUERY_BYTES_MAX {
            let message = format!("query has {} bytes, more than {QUERY_BYTES_MAX}", query.len());
            return Err(ParseError::new(query, Span::default(), message));
        }
        Ok(Parser { query, tokens: lex(query)?, at: 0, depth: 0, options })
    }

    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    pub(super) fn span(&self) -> Span {
        self.tokens[self.at].1
    }

    /// The span of the word just read.
    pub(super) fn last_span(&self) -> Span {
        self.tokens[self.at.saturating_sub(1)].1
    }

    pub(super) fn advance(&mut self) {
        // The last token is the end, and stays.
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    pub(super) fn text(&self) -> &'a str {
        let Span { start, end } = self.span();
        &self.query[start..end]
    }

    pub(super) fn eat(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        if found {
            self.advance();
        }
        found
    }

    /// Whether the next word is this keyword.
    pub(super) fn is_keyword(&self, keyword: &str) -> bool {
        *self.peek() == Token::Name && self.text().eq_ignore_ascii_case(keyword)
    }

    pub(super) fn eat_keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(keyword);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn next_is(&self, sign: &str) -> bool {
        let next = self.tokens.get(self.at + 1);
        next.is_some_and(|(token, _)| matches!(token, Token::Sign(s) if *s == sign))
    }

    pub(super) fn error(&self, span: Span, message: impl Into<String>) -> ParseError {
        ParseError::new(self.query, span, message)
    }

    /// The error for the next word; `context` and `expected` may be empty.
    pub(super) fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let text = self.text();
        let mut message = match self.peek() {
            Token::End => "unexpected end of input".to_owned(),
            Token::Number(_, true) => format!("unexpected duration {}", quote(text.as_bytes())),
            Token::Number(..) => format!("unexpected number {}", quote(text.as_bytes())),
            Token::String(value) => format!("unexpected string {}", quote(value)),
            Token::Sign(sign)
                if [
                    "+", "-", "*", "/", "%", "^", "==", "!=", "<", "<=", ">", ">=", "</", ">/", "=~", "!~",
                ]
                .contains(sign) =>
            {
                format!("unexpected <op:{sign}>")
            }
            Token::Name if is_keyword(text) => format!("unexpected <{text}>"),
            Token::Name => format!("unexpected identifier {}", quote(text.as_bytes())),
            Token::Sign(sign) => format!("unexpected {}", quote(sign.as_bytes())),
        };
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        self.error(self.span(), message)
    }

    pub(super) fn expect(&mut self, sign: &str, context: &str) -> Result<(), ParseError> {
        if self.eat(sign) { Ok(()) } else { Err(self.unexpected(context, &quote(sign.as_bytes()))) }
    }

    /// Runs `inner` one level deeper.
    pub(super) fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth >= QUERY_DEPTH_MAX {
            return Err(
                self.error(self.span(), format!("expression nests deeper than {QUERY_DEPTH_MAX} levels"))
            );
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// An expression whose operators bind at least as strongly as `precedence_min`.
    fn expr(&mut self, precedence_min: u8) -> Result<Expr, ParseError> {
        self.nested(|parser| {
            let mut lhs = parser.unary()?;
            // A chain of operators makes a tree as deep as it is long.
            let mut length = 0;
            while let Some(op) = parser.binary_op().filter(|op| op.precedence() >= precedence_min) {
                length += 1;
                if length + parser.depth > QUERY_DEPTH_MAX {
                    return Err(parser
                        .error(parser.span(), format!("more than {QUERY_DEPTH_MAX} operators in a row")));
                }
                parser.advance();
                lhs = parser.binary(lhs, op)?;
            }
            Ok(lhs)
        })
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        Some(match self.peek() {
            Token::Sign("+") => BinaryOp::Add,
            Token::Sign("-") => BinaryOp::Sub,
            Token::Sign("*") => BinaryOp::Mul,
            Token::Sign("/") => BinaryOp::Div,
            Token::Sign("%") => BinaryOp::Mod,
            Token::Sign("^") => BinaryOp::Pow,
            Token::Sign("==") => BinaryOp::Equal,
            Token::Sign("!=") => BinaryOp::NotEqual,
            Token::Sign("<") => BinaryOp::Less,
            Token::Sign("<=") => BinaryOp::LessEqual,
            Token::Sign(">") => BinaryOp::Greater,
            Token::Sign(">=") => BinaryOp::GreaterEqual,
            Token::Sign("</") => BinaryOp::TrimUpper,
            Token::Sign(">/") => BinaryOp::TrimLower,
            Token::Name => match self.text().to_ascii_lowercase().as_str() {
                "and" => BinaryOp::And,
                "or" => BinaryOp::Or,
                "unless" => BinaryOp::Unless,
                "atan2" => BinaryOp::Atan2,
                _ => return None,
            },
            _ => return None,
        })
    }

    /// The rest of a binary expression after its operator.
    fn binary(&mut self, lhs: Expr, op: BinaryOp) -> Result<Expr, ParseError> {
        let return_bool = self.eat_keyword("bool");
        let mut matching = VectorMatching::default();
        let on = self.is_keyword("on");
        let matches_labels = on || self.is_keyword("ignoring");
        if matches_labels {
            self.advance();
            matching.on = on;
            matching.labels = self.label_list("grouping opts")?;
        }
        for (keyword, cardinality) in
            [("group_left", Cardinality::ManyToOne), ("group_right", Cardinality::OneToMany)]
        {
            if self.is_keyword(keyword) && !matches_labels {
                return Err(self.unexpected("", ""));
            }
            if self.eat_keyword(keyword) {
                matching.cardinality = cardinality;
                if matches!(self.peek(), Token::Sign("(")) {
                    matching.include = self.label_list("grouping opts")?;
                }
                break;
            }
        }
        matching.fill = self.fill_modifiers()?;
        // Only `^` groups to the right.
        let rhs_precedence = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
        let rhs = self.expr(rhs_precedence)?;
        Ok(Expr::Binary(Box::new(BinaryExpr { op, lhs, rhs, return_bool, matching })))
    }

    /// `fill (0)`, or `fill_left (0)` and `fill_right (0)` in any order; they are names where no parenthesis follows.
    fn fill_modifiers(&mut self) -> Result<Fill, ParseError> {
        let mut fill = Fill::default();
        for _ in 0..2 {
            let keyword =
                ["fill", "fill_left", "fill_right"].into_iter().find(|keyword| self.is_keyword(keyword));
            let Some(keyword) = keyword.filter(|_| self.next_is("(")) else { return Ok(fill) };
            if !self.options.fill_modifiers {
                return Err(self.error(self.span(), "binop fill modifiers are experimental and not enabled"));
            }
            self.advance();
            self.advance();
            let negative = self.eat("-");
            if !negative {
                self.eat("+");
            }
            let Token::Number(value, _) = *self.peek() else { return Err(self.unexpected("fill", "number")) };
            self.advance();
            self.expect(")", "fill")?;
            let value = Some(if negative { -value } else { value });
            match keyword {
                "fill" => return Ok(Fill { left: value, right: value }),
                "fill_left" => fill.left = value,
                _ => fill.right = value,
            }
        }
        Ok(fill)
    }

    fn unary(&mut self) -> Result<Expr, ParseError> {
        let start = self.span();
        let negative = match self.peek() {
            Token::Sign("-") => true,
            Token::Sign("+") => false,
            _ => return self.postfix(),
        };
        self.advance();
        // A sign binds as strongly as `*`: `-2 ^ 2` is -(2 ^ 2).
        let expr = self.expr(BinaryOp::Mul.precedence() + 1)?;
        let span = start.to(expr.span());
        Ok(match expr {
            Expr::Number(number) => {
                let value = if negative { -number.value } else { number.value };
                Expr::Number(NumberLiteral { value, is_duration: number.is_duration, span })
            }
            expr => Expr::Unary(UnaryExpr { negative, expr: Box::new(expr), span }),
        })
    }

    fn postfix(&mut self) -> Result<Expr, ParseError> {
        let mut expr = self.primary()?;
        loop {
            expr = match self.peek() {
                Token::Sign("[") => self.window(expr)?,
                Token::Sign("@") => self.at_modifier(expr)?,
                Token::Name if self.is_keyword("offset") => self.offset_modifier(expr)?,
                Token::Name if self.is_keyword("anchored") => self.extend(expr, Extension::Anchored)?,
                Token::Name if self.is_keyword("smoothed") => self.extend(expr, Extension::Smoothed)?,
                _ => return Ok(expr),
            };
        }
    }

    fn primary(&mut self) -> Result<Expr, ParseError> {
        let span = self.span();
        match self.peek().clone() {
            Token::Number(value, is_duration) => {
                self.advance();
                Ok(Expr::Number(NumberLiteral { value, is_duration, span }))
            }
            Token::String(value) => {
                self.advance();
                Ok(Expr::String(StringLiteral { value, span }))
            }
            Token::Sign("(") => {
                self.advance();
                let inner = self.expr(0)?;
                if !self.eat(")") {
                    let unclosed = *self.peek() == Token::End;
                    let unclosed = unclosed.then(|| self.error(span, "unclosed left parenthesis"));
                    return Err(unclosed.unwrap_or_else(|| self.unexpected("", "")));
                }
                Ok(Expr::Paren(Box::new(inner), span.to(self.last_span())))
            }
            Token::Sign("{") => Ok(Expr::Vector(self.vector_selector()?)),
            Token::Name => self.name(),
            _ => Err(self.unexpected("", "")),
        }
    }

    /// A name: an aggregation, a function call or a metric.
    fn name(&mut self) -> Result<Expr, ParseError> {
        let text = self.text();
        let lower = text.to_ascii_lowercase();
        let aggregate = AggregateOp::ALL.iter().find(|(_, name)| *name == lower);
        if let Some((op, _)) = aggregate {
            let next =
                self.tokens.get(self.at + 1).map(|(token, span)| (token, &self.query[span.start..span.end]));
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
        if ["bool", "on", "ignoring", "group_left", "group_right"].contains(&&*lower) {
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
        let Some(function) = functions::find(name) else {
            return Err(self.error(span, format!("unknown function with name {}", quote(exact.as_bytes()))));
        };
        if function.experimental && !self.options.experimental_functions {
            let message = format!(
                "function {} is not enabled; Prometheus has it behind --enable-feature=promql-experimental-functions",
                quote(name.as_bytes())
            );
            return Err(self.error(span, message));
        }
        self.advance();
        let args = self.arguments("function call")?;
        let span = span.to(self.last_span());
        check_argument_count(self, function, &args, span)?;
        Ok(Expr::Call(Call { function, args, span }))
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
                return Err(
                    self.error(self.last_span(), format!("trailing commas not allowed in {context} args"))
                );
            }
        }
    }

    fn aggregate(&mut self, op: AggregateOp) -> Result<Expr, ParseError> {
        let start = self.span();
        if op.is_experimental() && !self.options.experimental_functions {
            let message = format!(
                "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                op.name()
            );
            return Err(self.error(start, message));
        }
        self.advance();
        let mut grouping = self.grouping()?;
        let mut args = self.arguments("aggregate expression")?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let (without, grouping) = grouping.unwrap_or_default();
        let span = start.to(self.last_span());
        let wanted = if op.parameter().is_some() { 2 } else { 1 };
        if args.is_empty() {
            return Err(self.error(span, "no arguments for aggregate expression provided"));
        }
        if args.len() != wanted {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                args.len()
            );
            return Err(self.error(span, message));
        }
        let parameter = op.parameter().map(|_| args.remove(0));
        let expr = args.remove(0);
        Ok(Expr::Aggregate(Box::new(AggregateExpr { op, expr, parameter, grouping, without, span })))
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

    fn label_list(&mut self, context: &str) -> Result<Vec<String>, ParseError> {
        self.expect("(", context)?;
        let mut labels = Vec::new();
        while !self.eat(")") {
            match self.peek().clone() {
                Token::Name if !self.text().contains(':') => labels.push(self.text().to_owned()),
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

/// Words that stand between expressions.
const KEYWORDS: [&str; 12] = [
    "and",
    "or",
    "unless",
    "atan2",
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
];

fn is_keyword(text: &str) -> bool {
    KEYWORDS.iter().any(|keyword| text.eq_ignore_ascii_case(keyword))
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
