//! Range vectors: the windows of each step, and the samples in them, of selectors and of subqueries.
//!
//! A window is left-open: `(t - range, t]`. An extended selector looks at samples around it too.

use super::ast::*;
use super::error::QueryError;
use super::eval::{Buckets, Evaluator, Times};
use super::grid::{Grid, Name, Row};
use super::select::{Samples, advance};
use super::smooth;
use super::starts::Starts;
use super::value::{SampleValue, Series};
use crate::histogram::ResetHint;
use crate::sample::{HistogramSample, Sample, Timed};
use crate::store::SeriesHandle;

/// The windows of a range vector, one for each step.
pub(super) struct Windows {
    pub(super) range_ms: i64,
    /// The end of the window of each step.
    pub(super) ends_ms: Vec<i64>,
    /// What is done with samples around the windows.
    pub(super) extension: Option<Extension>,
    /// How far around the windows there may be samples of use: before their starts, and after their ends.
    reach_ms: (i64, i64),
}

impl Windows {
    pub(super) fn new(range_ms: i64, ends_ms: Vec<i64>) -> Windows {
        Windows { range_ms, ends_ms, extension: None, reach_ms: (0, 0) }
    }

    /// The same windows with the samples around them that an extended selector needs.
    pub(super) fn extended(self, extension: Option<Extension>, lookback_ms: i64) -> Windows {
        let reach_ms = match extension {
            None => (0, 0),
            Some(Extension::Anchored) => (lookback_ms, 0),
            Some(Extension::Smoothed) => (lookback_ms, lookback_ms),
        };
        Windows { extension, reach_ms, ..self }
    }

    /// The samples that belong to a window: those after the first time, and up to the second.
    fn around(&self, end_ms: i64) -> (i64, i64) {
        let start_ms = end_ms.saturating_sub(self.range_ms);
        (start_ms.saturating_sub(self.reach_ms.0), end_ms.saturating_add(self.reach_ms.1))
    }

    /// The samples that belong to any of the windows.
    pub(super) fn bounds(&self) -> (i64, i64) {
        let first = self.ends_ms.iter().min().map_or(0, |end_ms| self.around(*end_ms).0);
        let last = self.ends_ms.iter().max().map_or(0, |end_ms| self.around(*end_ms).1);
        (first, last)
    }
}

impl Evaluator<'_> {
    /// The windows of a matrix selector or subquery.
    pub(super) fn windows(&self, expr: &Expr) -> Result<Windows, QueryError> {
        let (range, shift, extension) = match expr.unwrap_parens() {
            Expr::Matrix(matrix) => (&matrix.range, &matrix.vector.shift, matrix.vector.extension),
            Expr::Subquery(subquery) => (&subquery.range, &subquery.shift, None),
            _ => return Err(QueryError::Execution("expected a range vector".into())),
        };
        let windows = Windows::new(self.context.durations.positive_ms(range)?, self.shifted(shift)?);
        Ok(windows.extended(extension, self.lookback_ms()))
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
            Expr::Matrix(matrix) => self.each_selected(&matrix.vector, windows, f),
            Expr::Subquery(subquery) => {
                // Prometheus goes on as far as the query does, though a pinned window does not move. That shows in annotations.
                let moved_ms = subquery.shift.at.map_or(0, |_| self.times.length_ms());
                let (grid, times) = self.subquery(subquery, after_ms, to_ms.saturating_add(moved_ms))?;
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

    /// The same for the series of a selector.
    fn each_selected(
        &self,
        selector: &VectorSelector,
        windows: &Windows,
        mut f: impl FnMut(Row, Samples<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let (after_ms, to_ms) = windows.bounds();
        let (mut scratch, mut alive, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
        for series in self.reader.select(&selector.matchers)?.iter().map(SeriesHandle::read) {
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
        let times = Times { start_ms, step_ms, count, end_ms: to_ms };
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
            let (floats, histograms) = (samples.floats, samples.histograms.to_vec());
            let samples = match windows.extension {
                Some(extension) => smooth::framed(floats, &histograms, &windows, extension)?,
                None => floats.to_vec(),
            };
            if samples.is_empty() && histograms.is_empty() {
                return Ok(());
            }
            found.push(Series { labels, samples, histograms });
            Ok(())
        })?;
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        if found.windows(2).any(|pair| pair[0].labels == pair[1].labels) {
            return Err(super::grid::same_labelset());
        }
        Ok(found)
    }

    /// Applies a function to each window of each series of a range vector; rows without a result are left out.
    pub(super) fn map_windows(
        &self,
        expr: &Expr,
        windows: &Windows,
        f: impl FnMut(usize, &Row, Samples<'_>) -> Option<SampleValue>,
    ) -> Result<Grid, QueryError> {
        if let Expr::Matrix(matrix) = expr.unwrap_parens() {
            return self.map_selected(&matrix.vector, windows, f);
        }
        self.map_each(windows, f, |take| self.each_series(expr, windows, take))
    }

    /// The same for the series of a selector.
    pub(super) fn map_selected(
        &self,
        selector: &VectorSelector,
        windows: &Windows,
        f: impl FnMut(usize, &Row, Samples<'_>) -> Option<SampleValue>,
    ) -> Result<Grid, QueryError> {
        let mut grid = self.map_each(windows, f, |take| self.each_selected(selector, windows, take))?;
        grid.one_metric = self.selects_one_metric(selector);
        Ok(grid)
    }

    fn map_each(
        &self,
        windows: &Windows,
        mut f: impl FnMut(usize, &Row, Samples<'_>) -> Option<SampleValue>,
        each: impl FnOnce(TakeSeries<'_>) -> Result<(), QueryError>,
    ) -> Result<Grid, QueryError> {
        let mut grid = self.grid(0)?;
        let mut results: Vec<(usize, SampleValue)> = Vec::new();
        each(&mut |row, samples| {
            self.charge(self.times.count)?;
            grid.push(row);
            let at = grid.rows.len() - 1;
            let (mut cursor, mut visits) = (Cursors::default(), 0);
            let weight = samples.weight_of_histogram();
            for (step, end_ms) in windows.ends_ms.iter().enumerate() {
                let window = cursor.window(samples, windows.around(*end_ms));
                visits += window.floats.len() + window.histograms.len() * weight + 1;
                if visits > VISITS_AT_ONCE {
                    self.charge_visits(std::mem::take(&mut visits))?;
                }
                if !window.is_empty()
                    && let Some(cell) = f(step, &grid.rows[at], window)
                {
                    if let SampleValue::Histogram(histogram) = &cell {
                        self.charge(histogram.weight())?;
                    }
                    results.push((step, cell));
                }
            }
            results.drain(..).for_each(|(step, cell)| grid.set_cell(at, step, cell));
            grid.pop_if_empty();
            self.charge_visits(visits)
        })?;
        Ok(grid)
    }
}

/// Looks at samples after which a query is asked whether it may go on; about a millisecond.
const VISITS_AT_ONCE: usize = 1_000_000;

/// Takes a series with all its samples in any of the windows.
type TakeSeries<'t> = &'t mut dyn FnMut(Row, Samples<'_>) -> Result<(), QueryError>;

/// Between the samples of a subquery others may be left out, so what a hint says about the one before does not hold.
fn forget_resets(sample: &mut HistogramSample) {
    if matches!(sample.histogram.reset_hint, ResetHint::Reset | ResetHint::NotReset) {
        std::sync::Arc::make_mut(&mut sample.histogram).reset_hint = ResetHint::Unknown;
    }
}

/// Where the last window was, as the next one is near.
#[derive(Default)]
struct Cursors {
    floats: Cursor,
    histograms: Cursor,
}

impl Cursors {
    fn window<'s>(&mut self, samples: Samples<'s>, (after_ms, to_ms): (i64, i64)) -> Samples<'s> {
        Samples {
            floats: self.floats.window(samples.floats, after_ms, to_ms),
            histograms: self.histograms.window(samples.histograms, after_ms, to_ms),
            starts: samples.starts,
        }
    }
}

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
