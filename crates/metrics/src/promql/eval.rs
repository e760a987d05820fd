//! The evaluator: an expression and a row of times in, a grid of values out.
//!
//! An instant query is a range query with one step. Each expression is evaluated once for all steps, so selectors are
//! resolved, labels grouped and series matched once per query and not once per step.

use std::cell::{Cell, RefCell};

use super::EngineOptions;
use super::annotations::{Note, Notes};
use super::ast::*;
use super::duration::DurationContext;
use super::error::QueryError;
use super::grid::{Grid, Row};
use super::select::Pick;
use super::source::Reader;
use super::value::{QueryResult, SampleValue, Series, Value, VectorSample};
use crate::labels::Labels;
use crate::sample::{HistogramSample, Sample};

/// The times of evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Times {
    pub(super) start_ms: i64,
    pub(super) step_ms: i64,
    pub(super) count: usize,
    /// The end of what was asked for; the last step may be before it.
    pub(super) end_ms: i64,
}

impl Times {
    pub(super) fn once(time_ms: i64) -> Times {
        Times { start_ms: time_ms, step_ms: 1, count: 1, end_ms: time_ms }
    }

    pub(super) fn at(&self, step: usize) -> i64 {
        self.start_ms + self.step_ms * step as i64
    }

    pub(super) fn iter(self) -> impl Iterator<Item = i64> {
        (0..self.count).map(move |step| self.at(step))
    }

    /// From the first step to the last.
    pub(super) fn length_ms(&self) -> i64 {
        self.step_ms.saturating_mul(self.count.saturating_sub(1) as i64)
    }

    /// Whether one time was asked for, and not a row of times in which there happens to be one.
    pub(super) fn is_instant(&self) -> bool {
        self.start_ms == self.end_ms
    }
}

/// A value at each step.
pub(super) enum Evaluated {
    Scalar(Vec<f64>),
    Vector(Grid),
    String(Vec<u8>),
}

/// What all evaluators of one query share: annotations and what is left of its budget.
pub(super) struct Shared {
    notes: RefCell<Notes>,
    samples_left: Cell<usize>,
    visits_left: Cell<u64>,
}

/// Whether the buckets of native histograms matter to what is evaluated.
///
/// Where they don't, Prometheus reads histograms without them and finds restarts while it reads. That shows in hints and
/// annotations, so it is done here too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Buckets {
    /// Nothing is known.
    Kept,
    /// Only counts and sums are looked at.
    Ignored,
    /// Something around needs them, whatever is inside.
    Needed,
}

/// Evaluates one query, or (with other times) one of its subqueries.
#[derive(Clone, Copy)]
pub(super) struct Evaluator<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) query: &'a str,
    pub(super) options: &'a EngineOptions,
    pub(super) times: Times,
    pub(super) context: QueryContext,
    pub(super) buckets: Buckets,
    prepared: &'a [Prepared<'a>],
    shared: Option<&'a Shared>,
}

/// The value of a part of the query, worked out before the query runs.
pub(super) struct Prepared<'a> {
    pub(super) expr: &'a Expr,
    pub(super) grid: Grid,
    /// The argument of `rate` or `increase` and its first row, of which it may have to be told that it is no counter.
    pub(super) counter: Option<(&'a Expr, Grid)>,
}

/// The times of the whole query, which subqueries see too.
#[derive(Clone, Copy)]
pub(super) struct QueryContext {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) durations: DurationContext,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(
        reader: &'a Reader<'a>,
        query: &'a str,
        options: &'a EngineOptions,
        times: Times,
        range_ms: i64,
    ) -> Evaluator<'a> {
        // An instant query has neither step nor range.
        let step_ms = if range_ms == 0 && times.step_ms == 1 { 0 } else { times.step_ms };
        let seconds = |ms: i64| ms as f64 / 1_000.0;
        let durations = DurationContext { step_seconds: seconds(step_ms), range_seconds: seconds(range_ms) };
        let context = QueryContext { start_ms: times.start_ms, end_ms: times.start_ms + range_ms, durations };
        let buckets = Buckets::Kept;
        Evaluator { reader, query, options, times, context, buckets, prepared: &[], shared: None }
    }

    /// The same, knowing the values of some parts of the query.
    pub(super) fn knowing(self, prepared: &'a [Prepared<'a>]) -> Evaluator<'a> {
        Evaluator { prepared, ..self }
    }

    /// Evaluates an instant query.
    pub(super) fn run(self, expr: &Expr) -> Result<QueryResult, QueryError> {
        self.with_shared(|evaluator| {
            let timestamp_ms = evaluator.times.start_ms;
            if expr.value_type() == ValueType::Matrix {
                return evaluator.window_of_query(expr).map(Value::Matrix);
            }
            Ok(match evaluator.eval(expr)? {
                Evaluated::Scalar(values) => Value::Scalar(Sample::new(timestamp_ms, values[0])),
                Evaluated::String(bytes) => {
                    Value::String { timestamp_ms, text: String::from_utf8_lossy(&bytes).into_owned() }
                }
                Evaluated::Vector(grid) => {
                    let grid = grid.finish()?;
                    let samples = (0..grid.rows.len()).filter_map(|row| {
                        let value = grid.cell(row, 0)?;
                        Some(VectorSample { labels: grid.rows[row].labels.clone(), timestamp_ms, value })
                    });
                    Value::Vector(samples.collect())
                }
            })
        })
    }

    /// Evaluates a range query.
    pub(super) fn run_range(self, expr: &Expr) -> Result<QueryResult, QueryError> {
        self.with_shared(|evaluator| {
            let grid = match evaluator.eval(expr)? {
                Evaluated::Vector(grid) => grid.finish()?,
                Evaluated::Scalar(values) => {
                    let mut grid = Grid::new(evaluator.times.count);
                    grid.push(Row::new(Labels::empty())).copy_from_slice(&values);
                    grid
                }
                Evaluated::String(_) => Grid::new(evaluator.times.count),
            };
            let mut series: Vec<Series> = (0..grid.rows.len())
                .map(|row| {
                    let (samples, histograms) = evaluator.samples_of(&grid, row);
                    Series { labels: grid.rows[row].labels.clone(), samples, histograms }
                })
                .filter(|series| !series.samples.is_empty() || !series.histograms.is_empty())
                .collect();
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            Ok(Value::Matrix(series))
        })
    }

    fn with_shared(
        self,
        f: impl FnOnce(Evaluator<'_>) -> Result<Value, QueryError>,
    ) -> Result<QueryResult, QueryError> {
        let shared = Shared {
            notes: RefCell::default(),
            samples_left: Cell::new(self.options.samples_max),
            visits_left: Cell::new(self.options.visits_max),
        };
        let value = f(Evaluator { shared: Some(&shared), ..self })?;
        let samples = self.options.samples_max - shared.samples_left.get();
        Ok(QueryResult { value, annotations: shared.notes.into_inner().told(self.query), samples })
    }

    /// The samples of a row at this evaluator's times.
    pub(super) fn samples_of(&self, grid: &Grid, row: usize) -> (Vec<Sample>, Vec<HistogramSample>) {
        let (mut floats, mut histograms) = (Vec::new(), Vec::new());
        for (step, cell) in grid.cells(row) {
            let timestamp_ms = self.times.at(step);
            match cell {
                SampleValue::Float(value) => floats.push(Sample::new(timestamp_ms, value)),
                SampleValue::Histogram(histogram) => {
                    histograms.push(HistogramSample { timestamp_ms, histogram })
                }
            }
        }
        (floats, histograms)
    }

    /// Takes samples from the query's budget; a histogram, or anything else that takes memory, counts as so many.
    pub(super) fn charge(&self, samples: usize) -> Result<(), QueryError> {
        let Some(shared) = self.shared else { return Ok(()) };
        self.options.stop.check()?;
        let left = shared.samples_left.get().checked_sub(samples);
        let message = "query processing would load too many samples into memory in query execution";
        shared.samples_left.set(left.ok_or_else(|| QueryError::Execution(message.into()))?);
        Ok(())
    }

    /// Takes the memory of labels that a query makes from its budget of samples.
    pub(super) fn charge_labels(&self, labels: &Labels) -> Result<(), QueryError> {
        self.charge(labels.heap_bytes() / size_of::<f64>())
    }

    /// Takes looks at samples from the query's budget.
    pub(super) fn charge_visits(&self, visits: usize) -> Result<(), QueryError> {
        let Some(shared) = self.shared else { return Ok(()) };
        self.options.stop.check()?;
        let left = shared.visits_left.get().checked_sub(visits as u64);
        let message = format!(
            "query would look at more than {} samples; shorten its windows or its range",
            self.options.visits_max
        );
        shared.visits_left.set(left.ok_or(QueryError::Execution(message))?);
        Ok(())
    }

    /// A grid for `rows` rows, paid for.
    pub(super) fn grid(&self, rows: usize) -> Result<Grid, QueryError> {
        self.charge(rows.saturating_mul(self.times.count))?;
        let mut grid = Grid::new(self.times.count);
        grid.rows.reserve(rows);
        grid.values.reserve(rows * self.times.count);
        Ok(grid)
    }

    /// Tells of a part of the query.
    pub(super) fn note(&self, span: Span, note: Note<'_>) {
        if let Some(shared) = self.shared {
            shared.notes.borrow_mut().add(span, note);
        }
    }

    /// The same query at other times.
    pub(super) fn at(&self, times: Times) -> Evaluator<'a> {
        Evaluator { times, prepared: &[], ..*self }
    }

    /// The same, but with something around that needs the buckets of histograms, or ignores them.
    pub(super) fn with_buckets(&self, buckets: Buckets) -> Evaluator<'a> {
        let buckets = if self.buckets == Buckets::Needed { Buckets::Needed } else { buckets };
        Evaluator { buckets, ..*self }
    }

    pub(super) fn eval(&self, expr: &Expr) -> Result<Evaluated, QueryError> {
        let value = self.eval_anew(expr)?;
        if let Evaluated::Scalar(values) = &value {
            self.charge(values.len())?;
        }
        Ok(value)
    }

    fn eval_anew(&self, expr: &Expr) -> Result<Evaluated, QueryError> {
        if let Some(prepared) = self.prepared.iter().find(|prepared| std::ptr::eq(prepared.expr, expr)) {
            self.charge(prepared.grid.values.len())?;
            if let Some((argument, rows)) = &prepared.counter {
                self.warn_of_non_counters(rows, argument);
            }
            return Ok(Evaluated::Vector(prepared.grid.clone()));
        }
        if !self.times.is_instant() && self.is_invariant(expr) {
            return self.eval_once(expr);
        }
        Ok(match expr {
            Expr::Number(number) => Evaluated::Scalar(vec![number.value; self.times.count]),
            Expr::String(string) => Evaluated::String(string.value.clone()),
            Expr::Paren(inner, _) => self.eval(inner)?,
            Expr::Unary(unary) => self.unary(unary)?,
            Expr::Binary(binary) => self.binary(binary)?,
            Expr::Aggregate(aggregate) => Evaluated::Vector(self.aggregate(aggregate)?),
            Expr::Call(call) => self.call(call)?,
            Expr::Vector(selector) => Evaluated::Vector(self.select(selector, Pick::Value)?),
            Expr::Matrix(_) | Expr::Subquery(_) => {
                return Err(QueryError::Execution("range vector where an instant vector is expected".into()));
            }
        })
    }

    /// A vector, without series that have no sample at any step; the parser has checked that it is one.
    pub(super) fn vector(&self, expr: &Expr) -> Result<Grid, QueryError> {
        match self.eval(expr)? {
            Evaluated::Vector(grid) => {
                // What is done with histograms makes new ones, as large as these.
                self.charge(grid.histogram_weight())?;
                Ok(grid.without_empty_rows())
            }
            _ => Err(QueryError::Execution("expected an instant vector".into())),
        }
    }

    /// A scalar; the parser has checked that it is one.
    pub(super) fn scalar(&self, expr: &Expr) -> Result<Vec<f64>, QueryError> {
        match self.eval(expr)? {
            Evaluated::Scalar(values) => Ok(values),
            _ => Err(QueryError::Execution("expected a scalar".into())),
        }
    }

    fn unary(&self, unary: &UnaryExpr) -> Result<Evaluated, QueryError> {
        let operand = self.eval(&unary.expr)?;
        if !unary.negative {
            return Ok(operand);
        }
        Ok(match operand {
            Evaluated::Vector(mut grid) => {
                grid.negate();
                Evaluated::Vector(grid.drop_names(self.options.delayed_name_removal)?)
            }
            Evaluated::Scalar(values) => Evaluated::Scalar(values.into_iter().map(|value| -value).collect()),
            string => string,
        })
    }
}
