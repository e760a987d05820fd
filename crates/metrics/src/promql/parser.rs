//! The parser: words to syntax tree, with types checked.
//!
//! Operators by precedence climbing, everything else by recursive descent. Error messages are Prometheus', and point
//! at the part that is wrong.

use super::ast::*;
use super::error::ParseError;
use super::lexer::{Token, lex};
use super::types;
use crate::matcher::{Matcher, PatternBudget};
use crate::text::quote;

/// Bytes of a query. The longest generated dashboards and rules stay below 100 kB.
pub const QUERY_BYTES_MAX: usize = 256 << 10;
/// How deep expressions may nest; each level takes stack in the parser and in the evaluator.
pub const QUERY_DEPTH_MAX: usize = 150;

/// Selectors of a request such as `/api/v1/series`; each is looked up.
const SELECTORS_MAX: usize = 1_000;
/// Label matchers of a selector, and labels of a list such as `by (…)`. Series have some dozen labels; each of these is looked
/// for in each series.
pub(super) const LABELS_MAX: usize = 200;

/// What the parser accepts beyond Prometheus' defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// Functions and aggregations behind `--enable-feature=promql-experimental-functions`.
    pub experimental_functions: bool,
    /// `fill`, `fill_left` and `fill_right`, behind `--enable-feature=promql-binop-fill-modifiers`.
    pub fill_modifiers: bool,
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
    parse_selector(text, &mut PatternBudget::default())
}

/// Parses several of them, which together may have as many patterns as one query.
///
/// # Errors
/// The first that is wrong, or they are too many.
pub fn parse_metric_selectors<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Vec<Matcher>>, ParseError> {
    let mut patterns = PatternBudget::default();
    let mut selectors = Vec::new();
    for text in texts {
        if selectors.len() >= SELECTORS_MAX {
            let message = format!("more than {SELECTORS_MAX} selectors in one request");
            return Err(ParseError::new(text, Span::default(), message));
        }
        selectors.push(parse_selector(text, &mut patterns)?);
    }
    Ok(selectors)
}

fn parse_selector(text: &str, patterns: &mut PatternBudget) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(text, ParseOptions::default())?;
    parser.patterns = *patterns;
    let selector = parser.vector_selector()?;
    if parser.peek() != &Token::End {
        return Err(parser.unexpected("", ""));
    }
    types::check(&Expr::Vector(selector.clone()), text)?;
    *patterns = parser.patterns;
    Ok(selector.matchers)
}

pub(super) struct Parser<'a> {
    pub(super) query: &'a str,
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    pub(super) options: ParseOptions,
    pub(super) patterns: PatternBudget,
}

impl ParseOptions {
    /// Everything that Prometheus has behind feature flags.
    pub fn all() -> ParseOptions {
        ParseOptions { experimental_functions: true, fill_modifiers: true }
    }
}

impl<'a> Parser<'a> {
    fn new(query: &'a str, options: ParseOptions) -> Result<Parser<'a>, ParseError> {
        if query.len() > QUERY_BYTES_MAX {
            let message = format!("query has {} bytes, more than {QUERY_BYTES_MAX}", query.len());
            return Err(ParseError::new(query, Span::default(), message));
        }
        Ok(Parser {
            query,
            tokens: lex(query)?,
            at: 0,
            depth: 0,
            options,
            patterns: PatternBudget::default(),
        })
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
        self.peek_second().is_some_and(|(token, _)| matches!(token, Token::Sign(s) if *s == sign))
    }

    /// The word after the next.
    pub(super) fn peek_second(&self) -> Option<(&Token, &'a str)> {
        self.tokens.get(self.at + 1).map(|(token, span)| (token, &self.query[span.start..span.end]))
    }

    pub(super) fn error(&self, span: Span, message: impl Into<String>) -> ParseError {
        ParseError::new(self.query, span, message)
    }

    /// The error for the next word; `context` and `expected` may be empty.
    pub(super) fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let mut message = format!("unexpected {}", self.described());
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

    /// The next word as error messages call it.
    fn described(&self) -> String {
        let text = self.text();
        let quoted = quote(text.as_bytes());
        match self.peek() {
            Token::End => "end of input".to_owned(),
            Token::Number(_, true) => format!("duration {}", clipped(text)),
            Token::Number(..) => format!("number {}", clipped(text)),
            Token::String(_) => format!("string {}", clipped(text)),
            Token::Sign(sign) if OPERATORS.contains(sign) => format!("<op:{sign}>"),
            Token::Sign(_) => quoted,
            Token::Name => {
                let lower = text.to_ascii_lowercase();
                match &*lower {
                    "and" | "or" | "unless" | "atan2" => format!("<op:{text}>"),
                    "start" | "end" | "step" | "range" | "min_of" | "max_of" => quoted,
                    keyword if KEYWORDS.contains(&keyword) => format!("<{text}>"),
                    _ if AggregateOp::ALL.iter().any(|(_, name)| *name == lower) => format!("<aggr:{text}>"),
                    _ if text.contains(':') => format!("metric identifier {quoted}"),
                    _ => format!("identifier {quoted}"),
                }
            }
        }
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

    /// An error if so many things in a row, here, make too deep a tree.
    pub(super) fn check_chain(&self, length: usize, of: &str) -> Result<(), ParseError> {
        if length + self.depth > QUERY_DEPTH_MAX {
            return Err(self.error(self.span(), format!("more than {QUERY_DEPTH_MAX} {of} in a row")));
        }
        Ok(())
    }

    /// An expression whose operators bind at least as strongly as `precedence_min`.
    ///
    /// What expressions in each other have to go through is split into small functions, each of which takes little stack.
    pub(super) fn expr(&mut self, precedence_min: u8) -> Result<Expr, ParseError> {
        self.nested(|parser| {
            let lhs = parser.unary()?;
            parser.operators(lhs, precedence_min)
        })
    }

    /// The operators after an expression, with their right sides.
    fn operators(&mut self, mut lhs: Expr, precedence_min: u8) -> Result<Expr, ParseError> {
        // A chain of operators makes a tree as deep as it is long.
        let mut length = 0;
        while let Some(op) = self.binary_op().filter(|op| op.precedence() >= precedence_min) {
            length += 1;
            self.check_chain(length, "operators")?;
            let op_span = self.span();
            self.advance();
            lhs = self.binary(lhs, op, op_span)?;
        }
        Ok(lhs)
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
    fn binary(&mut self, lhs: Expr, op: BinaryOp, op_span: Span) -> Result<Expr, ParseError> {
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
        Ok(Expr::Binary(Box::new(BinaryExpr { op, lhs, rhs, return_bool, matching, op_span })))
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
        let expr = self.primary()?;
        self.modifiers(expr)
    }

    /// Everything that can stand after an expression, and belongs to it.
    fn modifiers(&mut self, mut expr: Expr) -> Result<Expr, ParseError> {
        for length in 0.. {
            self.check_chain(length, "modifiers")?;
            expr = match self.peek() {
                Token::Sign("[") => self.window(expr)?,
                Token::Sign("@") => self.at_modifier(expr)?,
                Token::Name if self.is_keyword("offset") => self.offset_modifier(expr)?,
                Token::Name if self.is_keyword("anchored") => self.extend(expr, Extension::Anchored)?,
                Token::Name if self.is_keyword("smoothed") => self.extend(expr, Extension::Smoothed)?,
                _ => return Ok(expr),
            };
        }
        Ok(expr)
    }

    fn primary(&mut self) -> Result<Expr, ParseError> {
        match self.peek() {
            Token::Sign("(") => self.parentheses(),
            Token::Sign("{") => self.vector_selector().map(Expr::Vector),
            Token::Name => self.name(),
            _ => self.literal(),
        }
    }

    fn parentheses(&mut self) -> Result<Expr, ParseError> {
        let start = self.span();
        self.advance();
        let inner = self.expr(0)?;
        if !self.eat(")") {
            return Err(match self.peek() {
                Token::End => self.error(start, "unclosed left parenthesis"),
                _ => self.unexpected("", ""),
            });
        }
        Ok(Expr::Paren(Box::new(inner), start.to(self.last_span())))
    }

    fn literal(&mut self) -> Result<Expr, ParseError> {
        let span = self.span();
        let literal = match self.peek().clone() {
            Token::Number(value, is_duration) => Expr::Number(NumberLiteral { value, is_duration, span }),
            Token::String(value) => Expr::String(StringLiteral { value, span }),
            _ => return Err(self.unexpected("", "")),
        };
        self.advance();
        Ok(literal)
    }
}

/// Words that stand between expressions.
const KEYWORDS: [&str; 13] = [
    "offset",
    "anchored",
    "smoothed",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "fill",
    "fill_left",
    "fill_right",
    "bool",
];

/// Signs that stand between expressions.
const OPERATORS: [&str; 16] =
    ["+", "-", "*", "/", "%", "^", "==", "!=", "<", "<=", ">", ">=", "</", ">/", "=~", "!~"];

/// A word in quotes, or its beginning if it is long.
fn clipped(text: &str) -> String {
    match text.char_indices().nth(10) {
        Some((end, _)) => format!("{}...", quote(&text.as_bytes()[..end])),
        None => quote(text.as_bytes()),
    }
}
