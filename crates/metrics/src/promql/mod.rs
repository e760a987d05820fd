//! PromQL: parse, print, evaluate, explain.
//!
//! Own lexer, parser and evaluator, because annotations and errors need the place in the query, and because a trigger's query is
//! evaluated every second. The words, the rounding and the order of operations are Prometheus 3's with default flags; the
//! test suite of Prometheus itself is the judge (`tests/promqltest.rs`).
//!
//! An evaluation reads a store ([`Source`]) and nothing else. A query can't run away: the number of samples it
//! reads and keeps is bounded ([`EngineOptions`]), and so is its depth.

mod aggregate;
mod annotations;
mod ast;
mod binary;
mod call;
mod calls;
mod duration;
mod error;
mod eval;
mod explain;
mod functions;
mod grid;
mod histograms;
mod incremental;
mod info;
mod lexer;
mod modifiers;
mod numerics;
mod operators;
mod parser;
mod prettify;
mod print;
mod reference;
mod select;
mod selectors;
mod smooth;
mod source;
mod starts;
mod stop;
mod strings;
mod tree;
mod types;
mod value;
mod windows;

use std::time::Duration;

pub use annotations::Annotations;
pub use ast::*;
pub use error::{ParseError, QueryError};
pub use explain::{Cause, STEPS_MAX, SelectorExplanation, Step, explain, steps, why_empty};
pub use functions::{Function, all as functions, find as find_function};
pub use incremental::LiveQuery;
pub use parser::{
    ParseOptions, QUERY_BYTES_MAX, QUERY_DEPTH_MAX, parse, parse_metric_selector, parse_metric_selectors,
    parse_with,
};
pub use prettify::prettify;
pub use source::{SELECTED_SERIES_MAX, Source, select};
pub use stop::Stop;
pub use tree::tree;
pub use value::{QueryResult, SampleValue, Series, Value, VectorSample};

use eval::{Evaluator, Times};
use source::Reader;

/// Evaluations that a range query may have; Prometheus' limit.
pub const RANGE_STEPS_MAX: i64 = 11_000;

/// How queries are evaluated. The defaults are a Prometheus server's.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How old a sample may be to count as a series' value. Default: five minutes.
    pub lookback_delta: Duration,
    /// The step of a subquery that names none. Default: one minute, Prometheus' evaluation interval.
    pub subquery_step: Duration,
    /// Samples that one query may hold. Default: 50 million.
    pub samples_max: usize,
    /// Samples that functions of one query may look at, each as often as it is looked at; bounds the time of a query,
    /// about five seconds of a core. Default: five billion.
    pub visits_max: u64,
    /// Drop metric names when the query ends and not at each operator. Default: no, as on a server without
    /// `--enable-feature=promql-delayed-name-removal`.
    pub delayed_name_removal: bool,
    /// Let `rate`, `irate`, `increase` and `resets` see restarts by the start timestamps of samples, and `start_timestamp` tell
    /// them. Default: no, as on a server without `--enable-feature=use-start-timestamps`.
    pub use_start_timestamps: bool,
    /// Ends the query before it has a result. Default: nobody does.
    pub stop: Stop,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            lookback_delta: Duration::from_secs(300),
            subquery_step: Duration::from_secs(60),
            samples_max: 50_000_000,
            visits_max: 5_000_000_000,
            delayed_name_removal: false,
            use_start_timestamps: false,
            stop: Stop::default(),
        }
    }
}

/// The value of a parsed query at one time. `query` is its text, for the positions in annotations.
///
/// ```
/// use flyball_metrics::{Labels, Sample, Store, StoreOptions, promql};
///
/// let mut store = Store::new(StoreOptions::default());
/// let labels = Labels::new([("__name__", "http_requests_total"), ("pod", "model-1")]);
/// for second in 0..60 {
///     store.append_to(&labels, Sample::new(second * 1000, (second * 5) as f64))?;
/// }
/// let query = "sum(rate(http_requests_total[30s]))";
/// let expr = promql::parse(query)?;
/// let result = promql::eval_instant(&store, query, &expr, 59_000, &promql::EngineOptions::default())?;
/// let promql::Value::Vector(samples) = &result.value else { panic!() };
/// assert_eq!(samples[0].value, promql::SampleValue::Float(5.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn eval_instant<'a>(
    source: impl Into<Source<'a>>,
    query: &str,
    expr: &Expr,
    time_ms: i64,
    options: &EngineOptions,
) -> Result<QueryResult, QueryError> {
    let reader = Reader::of(source.into(), expr, &options.stop)?;
    Evaluator::new(&reader, query, options, Times::once(time_ms), 0).run(expr)
}

/// The values of a parsed query at `start_ms`, `start_ms + step_ms`, … up to `end_ms`.
pub fn eval_range<'a>(
    source: impl Into<Source<'a>>,
    query: &str,
    expr: &Expr,
    (start_ms, end_ms, step_ms): (i64, i64, i64),
    options: &EngineOptions,
) -> Result<QueryResult, QueryError> {
    let bad = |text: &str| Err(QueryError::BadData(text.into()));
    if step_ms <= 0 {
        return bad(
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        );
    }
    let Some(range_ms) = end_ms.checked_sub(start_ms).filter(|range| *range >= 0) else {
        return bad("invalid parameter \"end\": end timestamp must not be before start time");
    };
    if range_ms / step_ms > RANGE_STEPS_MAX {
        return bad(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        );
    }
    if !matches!(expr.value_type(), ValueType::Scalar | ValueType::Vector) {
        let got = expr.value_type().describe();
        return Err(QueryError::BadData(format!(
            "invalid parameter \"query\": invalid expression type \"{got}\" for range query, must be Scalar or instant Vector"
        )));
    }
    let count = usize::try_from(range_ms / step_ms).unwrap_or(0) + 1;
    let reader = Reader::of(source.into(), expr, &options.stop)?;
    Evaluator::new(&reader, query, options, Times { start_ms, step_ms, count, end_ms }, range_ms)
        .run_range(expr)
}

#[cfg(test)]
mod tests;
