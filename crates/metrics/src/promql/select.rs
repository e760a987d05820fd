//! Selectors and windows: from the store to values.
//!
//! An instant selector takes, at each step, the newest sample in the left-open lookback `(t - lookback, t]`; a stale
//! marker there means that the series has ended. A range takes all samples in `(t - range, t]`.

use super::ast::*;
use super::error::QueryError;
use super::eval::{Buckets, Evaluator, Times};
use super::grid::{Grid, Name, Row};
use super::starts::Starts;
use super::value::{SampleValue, Series};
use crate::histogram::{NativeHistogram, ResetHint, Schema};
use crate::matcher::Matcher;
use crate::sample::{HistogramSample, Sample};
use crate::store::SeriesRef;

/// What is wanted of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    Value,
    /// When it was taken, in seconds.
    Timestamp,
    /// Since when it counts, in seconds; zero if nobody knows.
    StartTimestamp,
}

/// The samples of one series in a window: floats and histograms.
#[derive(Clone, Copy)]
pub(super) struct Samples<'a> {
    pub(super) floats: &'a [Sample],
    pub(super) histograms: &'a [HistogramSample],
    pub(super) starts: Starts<'a>,
}

impl Samples<'_> {
    fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    /// What it costs to look at these samples: a histogram as much as its numbers.
    fn weight(&self) -> usize {
        let numbers =
            |sample: &HistogramSample| 3 + sample.histogram.positive.len() + sample.histogram.negative.len();
        self.floats.len() + self.histograms.iter().map(numbers).sum::<usize>()
    }
}

/// The windows of a range vector, one for each step.
pub(super) struct Windows {
    pub(super) range_ms: i64,
    /// The end of the window of each step.
    pub(super) ends_ms: Vec<i64>,
}

impl Windows {
    fn bounds(&self) -> (i64, i64) {
        let first = self.ends_ms.iter().min().copied().unwrap_or(0);
        let last = self.ends_ms.iter().max().copied().unwrap_or(0);
        (first.saturating_sub(self.range_ms), last)
    }
}

impl Evaluator<'_> {
    /// The times that a selector or subquery looks at: one for each step, moved by `@` and `offset`.
    fn shifted(&self, shift: &TimeShift) -> Result<Vec<i64>, QueryError> {
        let offset_ms = match &shift.offset {
            Some(offset) => self.context.durations.ms(offset)?,
            None => 0,
        };
        let fixed = match shift.at {
            Some(At::Time(ms)) => Some(ms),
            Some(At::Start) => Some(self.context.start_ms),
            Some(At::End) => Some(self.context.end_ms),
            None => None,
        };
        Ok(self.times.iter().map(|time| fixed.unwrap_or(time).saturating_sub(offset_ms)).collect())
    }

    /// The series of a selector.
    pub(super) fn select(&self, selector: &VectorSelector, pick: Pick) -> Result<Grid, QueryError> {
        let times = self.shifted(&selector.shift)?;
        let lookback_ms = i64::try_from(self.options.lookback_delta.as_millis()).unwrap_or(i64::MAX);
        let windows = Windows { range_ms: lookback_ms, ends_ms: times };
        let (after_ms, to_ms) = windows.bounds();
        let series = self.store.select(&selector.matchers);
        let mut grid = self.grid(series.len())?;
        let (mut floats, mut histograms) = (Vec::new(), Vec::new());
        for series in series {
            let samples = Samples {
                floats: series.samples(after_ms, to_ms, &mut floats),
                histograms: self.histograms(series, after_ms, to_ms, &mut histograms),
                starts: self.starts(series),
            };
            if samples.is_empty() {
                continue;
            }
            self.charge(samples.weight())?;
            let values = grid.push(Row::new(series.labels().clone()));
            take_newest(samples, &windows, pick, values);
            if !samples.histograms.is_empty() {
                take_newest_histograms(samples, &windows, pick, &mut grid);
            }
            grid.pop_if_empty();
        }
        grid.one_metric = self.selects_one_metric(selector);
        Ok(grid)
    }

    /// The histograms of a series in `(after_ms, to_ms]`, without their buckets where those are ignored.
    fn histograms<'s>(
        &self,
        series: SeriesRef<'s>,
        after_ms: i64,
        to_ms: i64,
        scratch: &'s mut Vec<HistogramSample>,
    ) -> &'s [HistogramSample] {
        if self.buckets != Buckets::Ignored {
            return series.histograms(after_ms, to_ms, scratch);
        }
        // Prometheus begins to read where the window begins; what is read there is not in the window, but before it.
        let mut read = Vec::new();
        let found = without_buckets(series.histograms(after_ms.saturating_sub(1), to_ms, &mut read));
        scratch.clear();
        scratch.extend(found.into_iter().filter(|sample| sample.timestamp_ms > after_ms));
        scratch
    }

    fn starts<'s>(&self, series: SeriesRef<'s>) -> Starts<'s> {
        Starts(series.start_times().filter(|_| self.options.use_start_timestamps))
    }

    /// Whether the series of a selector differ in more than what goes with the metric's name.
    pub(super) fn selects_one_metric(&self, selector: &VectorSelector) -> bool {
        let named = selector.matchers.iter().any(Matcher::is_metric_name);
        named && !self.store.has_label("__type__") && !self.store.has_label("__unit__")
    }

    /// The windows of a matrix selector or subquery.
    pub(super) fn windows(&self, expr: &Expr) -> Result<Windows, QueryError> {
        let (range, shift) = match expr.unwrap_parens() {
            Expr::Matrix(matrix) => (&matrix.range, &matrix.vector.shift),
            Expr::Subquery(subquery) => (&subquery.range, &subquery.shift),
            _ => return Err(QueryError::Execution("expected a range vector".into())),
        };
        Ok(Windows { range_ms: self.context.durations.positive_ms(range)?, ends_ms: self.shifted(shift)? })
    }

    /// Calls `f` with each series of a range vector and all its samples in any of the windows, stale markers left out.
    pub(super) fn each_series(
        &self,
        expr: &Expr,
        windows: &Windows,
        mut f: impl FnMut(Row, Samples<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let (after_ms, to_ms) = windows.bounds();
        match expr.unwrap_parens() {
            Expr::Matrix(matrix) => {
                let (mut scratch, mut alive, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
                for series in self.store.select(&matrix.vector.matchers) {
                    let mut floats = series.samples(after_ms, to_ms, &mut scratch);
                    if floats.iter().any(Sample::is_stale_marker) {
                        alive.clear();
                        alive.extend(floats.iter().filter(|sample| !sample.is_stale_marker()));
                        floats = &alive;
                    }
                    let histograms = self.histograms(series, after_ms, to_ms, &mut histograms);
                    let samples = Samples { floats, histograms, starts: self.starts(series) };
                    self.charge(samples.weight())?;
                    if !samples.is_empty() {
                        f(Row::new(series.labels().clone()), samples)?;
                    }
                }
                Ok(())
            }
            Expr::Subquery(subquery) => {
                let (grid, times) = self.subquery(subquery, after_ms, to_ms)?;
                let inner = self.at(times);
                for (i, row) in grid.rows.iter().enumerate() {
                    let (floats, mut histograms) = inner.samples_of(&grid, i);
                    histograms.iter_mut().for_each(forget_resets);
                    let starts = Starts::default();
                    let samples = Samples { floats: &floats, histograms: &histograms, starts };
                    self.charge(samples.weight())?;
                    if !samples.is_empty() {
                        f(row.clone(), samples)?;
                    }
                }
                Ok(())
            }
            _ => Err(QueryError::Execution("expected a range vector".into())),
        }
    }

    /// Evaluates the expression of a subquery at the multiples of its step in `(after_ms, to_ms]`.
    fn subquery(
        &self,
        subquery: &SubqueryExpr,
        after_ms: i64,
        to_ms: i64,
    ) -> Result<(Grid, Times), QueryError> {
        let step_ms = match &subquery.step {
            Some(step) => self.context.durations.positive_ms(step)?,
            None => i64::try_from(self.options.subquery_step.as_millis()).unwrap_or(i64::MAX).max(1),
        };
        let start_ms = (after_ms.div_euclid(step_ms)).saturating_add(1).saturating_mul(step_ms);
        let count = if to_ms < start_ms { 0 } else { (to_ms - start_ms) / step_ms + 1 };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.charge(count)?;
        let times = Times { start_ms, step_ms, count };
        if count == 0 {
            return Ok((Grid::new(0), times));
        }
        Ok((self.at(times).with_buckets(Buckets::Needed).vector(&subquery.expr)?, times))
    }

    /// A range vector as the result of an instant query.
    pub(super) fn window_of_query(&self, expr: &Expr) -> Result<Vec<Series>, QueryError> {
        let windows = self.windows(expr)?;
        let mut found: Vec<Series> = Vec::new();
        self.each_series(expr, &windows, |row, samples| {
            let labels = if row.name == Name::Kept { row.labels } else { row.labels.without_name() };
            let (samples, histograms) = (samples.floats.to_vec(), samples.histograms.to_vec());
            found.push(Series { labels, samples, histograms });
            Ok(())
        })?;
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        if found.windows(2).any(|pair| pair[0].labels == pair[1].labels) {
            return Err(super::grid::same_labelset());
        }
        Ok(found)
    }

    /// Applies a function to each window of each series; rows without a result are left out.
    pub(super) fn map_windows(
        &self,
        expr: &Expr,
        windows: &Windows,
        mut f: impl FnMut(usize, &Row, Samples<'_>) -> Option<SampleValue>,
    ) -> Result<Grid, QueryError> {
        let mut grid = self.grid(0)?;
        let mut results: Vec<(usize, SampleValue)> = Vec::new();
        self.each_series(expr, windows, |row, samples| {
            self.charge(self.times.count)?;
            grid.push(row);
            let at = grid.rows.len() - 1;
            let mut floats = Cursor::default();
            let mut histograms = Cursor::default();
            let mut visits = 0;
            let weight = samples.weight().saturating_sub(samples.floats.len());
            let weight = weight.checked_div(samples.histograms.len()).unwrap_or(0);
            for (step, end_ms) in windows.ends_ms.iter().enumerate() {
                let after_ms = end_ms.saturating_sub(windows.range_ms);
                let window = Samples {
                    floats: floats.window(samples.floats, after_ms, *end_ms),
                    histograms: histograms.window(samples.histograms, after_ms, *end_ms),
                    starts: samples.starts,
                };
                visits += window.floats.len() + window.histograms.len() * weight + 1;
                if !window.is_empty()
                    && let Some(cell) = f(step, &grid.rows[at], window)
                {
                    results.push((step, cell));
                }
            }
            results.drain(..).for_each(|(step, cell)| grid.set_cell(at, step, cell));
            grid.pop_if_empty();
            self.charge_visits(visits)
        })?;
        grid.one_metric = match expr.unwrap_parens() {
            Expr::Matrix(matrix) => self.selects_one_metric(&matrix.vector),
            _ => false,
        };
        Ok(grid)
    }
}

/// Takes, at each step, the newest of the floats in the window, unless it is a stale marker.
fn take_newest(samples: Samples<'_>, windows: &Windows, pick: Pick, values: &mut [f64]) {
    let mut cursor = 0;
    for (target, time) in values.iter_mut().zip(&windows.ends_ms) {
        cursor = advance(samples.floats, cursor, *time);
        let Some(newest) = cursor.checked_sub(1).map(|newest| &samples.floats[newest]) else { continue };
        if newest.timestamp_ms > time.saturating_sub(windows.range_ms) && !newest.is_stale_marker() {
            *target = match pick {
                Pick::Value => newest.value,
                Pick::Timestamp => newest.timestamp_ms as f64 / 1_000.0,
                Pick::StartTimestamp => samples.starts.at(newest.timestamp_ms) as f64 / 1_000.0,
            };
        }
    }
}

/// Puts histograms into the newest row where they are newer than its floats.
fn take_newest_histograms(samples: Samples<'_>, windows: &Windows, pick: Pick, grid: &mut Grid) {
    let row = grid.rows.len() - 1;
    let (mut float, mut histogram) = (0, 0);
    for (step, time) in windows.ends_ms.iter().enumerate() {
        float = advance(samples.floats, float, *time);
        histogram = advance(samples.histograms, histogram, *time);
        let Some(newest) = histogram.checked_sub(1).map(|newest| &samples.histograms[newest]) else {
            continue;
        };
        let newer =
            float.checked_sub(1).is_some_and(|at| samples.floats[at].timestamp_ms > newest.timestamp_ms);
        if !newer && newest.timestamp_ms > time.saturating_sub(windows.range_ms) {
            let time_ms = match pick {
                Pick::Value => {
                    grid.set_histogram(row, step, newest.histogram.clone());
                    continue;
                }
                Pick::Timestamp => newest.timestamp_ms,
                Pick::StartTimestamp => samples.starts.at(newest.timestamp_ms),
            };
            grid.set(row, step, time_ms as f64 / 1_000.0);
        }
    }
}

/// Histograms with count and sum only, and with hints that tell what their buckets would.
fn without_buckets(histograms: &[HistogramSample]) -> Vec<HistogramSample> {
    let bare = |(i, sample): (usize, &HistogramSample)| {
        let full = &sample.histogram;
        let before = i.checked_sub(1).map(|before| &histograms[before].histogram);
        let reset_hint = match (full.reset_hint, before) {
            (ResetHint::Unknown, Some(before)) if full.detect_reset(before) => ResetHint::Reset,
            (ResetHint::Unknown, Some(_)) => ResetHint::NotReset,
            (hint, _) => hint,
        };
        let schema = if full.schema.is_custom() { Schema::Custom([].into()) } else { full.schema.clone() };
        let bare = NativeHistogram {
            reset_hint,
            count: full.count,
            sum: full.sum,
            ..NativeHistogram::empty(schema)
        };
        HistogramSample { timestamp_ms: sample.timestamp_ms, histogram: bare.into() }
    };
    histograms.iter().enumerate().map(bare).collect()
}

/// Between the samples of a subquery others may be left out, so what a hint says about the one before does not hold.
fn forget_resets(sample: &mut HistogramSample) {
    if matches!(sample.histogram.reset_hint, ResetHint::Reset | ResetHint::NotReset) {
        std::sync::Arc::make_mut(&mut sample.histogram).reset_hint = ResetHint::Unknown;
    }
}

/// A sample that has a time.
trait Timed {
    fn time_ms(&self) -> i64;
}

impl Timed for Sample {
    fn time_ms(&self) -> i64 {
        self.timestamp_ms
    }
}

impl Timed for HistogramSample {
    fn time_ms(&self) -> i64 {
        self.timestamp_ms
    }
}

/// Where the last window was, as the next one is near.
#[derive(Default)]
struct Cursor {
    start: usize,
    end: usize,
}

impl Cursor {
    fn window<'s, T: Timed>(&mut self, samples: &'s [T], after_ms: i64, to_ms: i64) -> &'s [T] {
        self.end = advance(samples, self.end, to_ms);
        self.start = advance(samples, self.start, after_ms).min(self.end);
        &samples[self.start..self.end]
    }
}

/// How many samples are at or before `time_ms`, knowing that `from` of them were at an earlier step.
fn advance<T: Timed>(samples: &[T], from: usize, time_ms: i64) -> usize {
    let mut at = from;
    // The steps of a query move by little; but the first one may have to skip many.
    if samples.get(at + 16).is_some_and(|sample| sample.time_ms() <= time_ms) {
        return at + samples[at..].partition_point(|sample| sample.time_ms() <= time_ms);
    }
    while samples.get(at).is_some_and(|sample| sample.time_ms() <= time_ms) {
        at += 1;
    }
    at
}
