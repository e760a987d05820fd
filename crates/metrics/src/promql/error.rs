//! What can be wrong with a query, in Prometheus' words.

use super::ast::Span;

/// A query that is not PromQL: `1:7: parse error: …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: parse error: {message}", line_and_column(*.line, *.column))]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// In bytes, from 1.
    pub column: usize,
    /// The part of the query that is wrong.
    pub span: Span,
    /// What is wrong.
    pub message: String,
}

fn line_and_column(line: usize, column: usize) -> String {
    format!("{line}:{column}")
}

impl ParseError {
    pub(super) fn new(query: &str, span: Span, message: impl Into<String>) -> ParseError {
        let (line, column) = position(query, span.start);
        ParseError { line, column, span, message: message.into() }
    }
}

/// Line and column of a byte of the query, both from 1.
pub(super) fn position(query: &str, at: usize) -> (usize, usize) {
    let before = &query.as_bytes()[..at.min(query.len())];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    (before.iter().filter(|b| **b == b'\n').count() + 1, before.len() - line_start + 1)
}

/// Why a query has no result. The text of `Display` is what Prometheus' API answers in `error`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QueryError {
    /// The query is not PromQL, or its parameters make no sense (API: `bad_data`).
    #[error("invalid parameter \"query\": {0}")]
    Parse(#[from] ParseError),
    /// A parameter of the request makes no sense (API: `bad_data`).
    #[error("{0}")]
    BadData(String),
    /// The query can't be evaluated on this data (API: `execution`).
    #[error("{0}")]
    Execution(String),
    /// The query took longer than it may (API: `timeout`).
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// Whoever asked has gone (API: `canceled`).
    #[error("query was canceled in expression evaluation")]
    Canceled,
}
