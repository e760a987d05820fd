//! The syntax tree of PromQL, with the place of each part in the query.
//!
//! Everything that the printer needs to write a query as Prometheus does is kept: a duration stays `5m` or an expression,
//! parentheses stay. Values of [`Expr`] come from [`parse`](super::parse), which also checks types.

use super::functions::Function;
pub use super::operators::*;
use crate::matcher::Matcher;

/// A part of the query text, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// From the start of this span to the end of `last`.
    pub(super) fn to(self, last: Span) -> Span {
        Span { start: self.start, end: last.end }
    }
}

/// What an expression results in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// One number without labels.
    Scalar,
    /// One sample of each series: "instant vector".
    Vector,
    /// A window of samples of each series: "range vector".
    Matrix,
    /// A text.
    String,
}

impl ValueType {
    /// The name in error messages.
    pub fn describe(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }

    /// The name in Prometheus' API.
    pub fn api_name(self) -> &'static str {
        match self {
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
            other => other.describe(),
        }
    }
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// `1.5`, `5m`, `Inf`
    Number(NumberLiteral),
    /// `"text"`
    String(StringLiteral),
    /// `(expr)`
    Paren(Box<Expr>, Span),
    /// `-expr`, `+expr`
    Unary(UnaryExpr),
    /// `a + b`
    Binary(Box<BinaryExpr>),
    /// `sum by (le) (expr)`
    Aggregate(Box<AggregateExpr>),
    /// `rate(x[1m])`
    Call(Call),
    /// `up{job="model"}`
    Vector(VectorSelector),
    /// `up{job="model"}[5m]`
    Matrix(Box<MatrixSelector>),
    /// `expr[5m:10s]`
    Subquery(Box<SubqueryExpr>),
}

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberLiteral {
    /// Seconds, when written as a duration.
    pub value: f64,
    /// Whether it was written as a duration (`5m`).
    pub is_duration: bool,
    /// Where it stands.
    pub span: Span,
}

/// A text. Escapes such as `\xff` may make it something else than UTF-8.
#[derive(Clone, Debug, PartialEq)]
pub struct StringLiteral {
    /// Its bytes.
    pub value: Vec<u8>,
    /// Where it stands.
    pub span: Span,
}

/// A sign before an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct UnaryExpr {
    /// `-` rather than `+`.
    pub negative: bool,
    /// What it stands before.
    pub expr: Box<Expr>,
    /// Where it stands.
    pub span: Span,
}

/// Two expressions and an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct BinaryExpr {
    /// The operator.
    pub op: BinaryOp,
    /// The left side.
    pub lhs: Expr,
    /// The right side.
    pub rhs: Expr,
    /// `bool`: 0 or 1 instead of a filter.
    pub return_bool: bool,
    /// How series of both sides find each other (vectors only).
    pub matching: VectorMatching,
    /// Where the operator stands.
    pub op_span: Span,
}

impl BinaryExpr {
    /// Where it stands.
    pub fn span(&self) -> Span {
        self.lhs.span().to(self.rhs.span())
    }

    /// Whether the result is another metric, and so has another name: after arithmetic and with `bool`.
    pub(super) fn changes_metric(&self) -> bool {
        let filters = self.op.is_comparison() || self.op.is_set_operator() || self.op.is_trim();
        !filters || self.return_bool
    }
}

/// An aggregation over series.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateExpr {
    /// The operator.
    pub op: AggregateOp,
    /// What is aggregated.
    pub expr: Expr,
    /// `k` of `topk`, `φ` of `quantile`, the label of `count_values`.
    pub parameter: Option<Expr>,
    /// The labels of `by` or `without`.
    pub grouping: Vec<String>,
    /// `without` rather than `by`.
    pub without: bool,
    /// Where it stands.
    pub span: Span,
}

/// A function call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Which function.
    pub function: &'static Function,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// Where it stands.
    pub span: Span,
}

impl Call {
    /// The second argument of `info`: written as a selector, but it only names labels and is not evaluated.
    pub(super) fn data_labels(&self) -> Option<&Expr> {
        self.args.get(1).filter(|_| self.function.name == "info")
    }

    /// The arguments that are evaluated.
    pub(super) fn evaluated_args(&self) -> &[Expr] {
        if self.data_labels().is_some() { &self.args[..1] } else { &self.args }
    }
}

/// `@` and `offset`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TimeShift {
    /// `@ …`
    pub at: Option<At>,
    /// `offset …`
    pub offset: Option<DurationExpr>,
}

/// The time of an `@` modifier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum At {
    /// Milliseconds since the epoch.
    Time(i64),
    /// `start()`: the query's start.
    Start,
    /// `end()`: the query's end.
    End,
}

/// Series at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric name, when it is written before the braces.
    pub name: Option<String>,
    /// All conditions, the one on the name included.
    pub matchers: Vec<Matcher>,
    /// When.
    pub shift: TimeShift,
    /// What is done at the ends of a window, or at the time of an instant vector, where no sample is.
    pub extension: Option<Extension>,
    /// Where it stands.
    pub span: Span,
}

/// `anchored` and `smoothed`: how a selector looks at samples outside of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// `anchored`: the window begins with the newest sample at or before its start.
    Anchored,
    /// `smoothed`: values at the window's ends lie on the line between the samples around them.
    Smoothed,
}

impl Extension {
    /// As written in a query.
    pub fn keyword(self) -> &'static str {
        match self {
            Extension::Anchored => "anchored",
            Extension::Smoothed => "smoothed",
        }
    }
}

/// Series over a window.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    /// Which series; its `shift` moves the window.
    pub vector: VectorSelector,
    /// The length of the window.
    pub range: DurationExpr,
    /// Where it stands.
    pub span: Span,
}

/// An expression, evaluated over a window.
#[derive(Clone, Debug, PartialEq)]
pub struct SubqueryExpr {
    /// The expression.
    pub expr: Expr,
    /// The length of the window.
    pub range: DurationExpr,
    /// The distance of evaluations; the engine's default when not written.
    pub step: Option<DurationExpr>,
    /// When.
    pub shift: TimeShift,
    /// Where it stands.
    pub span: Span,
}

/// A duration, or arithmetic over durations (`[1h / 2]`, `offset (step() * 2)`).
#[derive(Clone, Debug, PartialEq)]
pub enum DurationExpr {
    /// A number of seconds.
    Number(NumberLiteral),
    /// `step()`: the distance of the query's evaluations.
    Step(Span),
    /// `range()`: end minus start of the query.
    Range(Span),
    /// `-expr`, `+expr`
    Unary(bool, Box<DurationExpr>, Span),
    /// `+ - * / % ^`
    Binary(BinaryOp, Box<DurationExpr>, Box<DurationExpr>),
    /// `min_of(a, b)` and (`true`) `max_of(a, b)`
    Extreme(bool, Box<DurationExpr>, Box<DurationExpr>, Span),
    /// `(expr)`
    Paren(Box<DurationExpr>, Span),
}

impl DurationExpr {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            DurationExpr::Number(number) => number.span,
            DurationExpr::Step(span)
            | DurationExpr::Range(span)
            | DurationExpr::Unary(_, _, span)
            | DurationExpr::Extreme(_, _, _, span)
            | DurationExpr::Paren(_, span) => *span,
            DurationExpr::Binary(_, lhs, rhs) => lhs.span().to(rhs.span()),
        }
    }
}

impl Expr {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Expr::Number(number) => number.span,
            Expr::String(string) => string.span,
            Expr::Paren(_, span) => *span,
            Expr::Unary(unary) => unary.span,
            Expr::Binary(binary) => binary.span(),
            Expr::Aggregate(aggregate) => aggregate.span,
            Expr::Call(call) => call.span,
            Expr::Vector(selector) => selector.span,
            Expr::Matrix(selector) => selector.span,
            Expr::Subquery(subquery) => subquery.span,
        }
    }

    /// The place that annotations tell for an argument: without parentheses around it; for a subquery, that of the whole
    /// query, as Prometheus has lost it by then.
    pub(super) fn told_at(&self) -> Span {
        match self.unwrap_parens() {
            Expr::Subquery(_) => Span::default(),
            other => other.span(),
        }
    }

    /// What it results in.
    pub fn value_type(&self) -> ValueType {
        match self {
            Expr::Number(_) => ValueType::Scalar,
            Expr::String(_) => ValueType::String,
            Expr::Paren(inner, _) => inner.value_type(),
            Expr::Unary(unary) => unary.expr.value_type(),
            Expr::Binary(binary) => match (binary.lhs.value_type(), binary.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            Expr::Aggregate(_) | Expr::Vector(_) => ValueType::Vector,
            Expr::Call(call) => call.function.returns,
            Expr::Matrix(_) | Expr::Subquery(_) => ValueType::Matrix,
        }
    }

    /// The expression inside any parentheses.
    pub fn unwrap_parens(&self) -> &Expr {
        let mut expr = self;
        while let Expr::Paren(inner, _) = expr {
            expr = inner;
        }
        expr
    }

    /// The expressions directly inside this one, as far as they are evaluated.
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => Vec::new(),
            Expr::Paren(inner, _) => vec![inner],
            Expr::Unary(unary) => vec![&unary.expr],
            Expr::Binary(binary) => vec![&binary.lhs, &binary.rhs],
            Expr::Aggregate(aggregate) => aggregate.parameter.iter().chain([&aggregate.expr]).collect(),
            Expr::Call(call) => call.evaluated_args().iter().collect(),
            Expr::Subquery(subquery) => vec![&subquery.expr],
        }
    }

    /// The selectors in it, from left to right, with the window of those that have one.
    pub fn selectors(&self) -> Vec<(&VectorSelector, Option<&DurationExpr>)> {
        match self {
            Expr::Vector(selector) => vec![(selector, None)],
            Expr::Matrix(selector) => vec![(&selector.vector, Some(&selector.range))],
            other => other.children().into_iter().flat_map(Expr::selectors).collect(),
        }
    }
}
