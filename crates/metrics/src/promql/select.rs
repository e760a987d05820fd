//! Selectors and windows: from the store to values.
//!
//! An instant selector takes, at each step, the newest sample in the left-open lookback `(t - lookback, t]`; a stale
//! marker there means that the series has ended. A range takes all samples in `(t - range, t]`.

use super::ast::*;
use super::error::QueryError;
use super::eval::{Evaluator, Times};
use super::grid::{Grid, Name, Row};
use super::value::Series;
use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::sample::Sample;

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

    /// The series of a selector; `value` takes what is wanted of a sample.
    pub(super) fn select(
        &self,
        selector: &VectorSelector,
        value: fn(&Sample) -> f64,
    ) -> Result<Grid, QueryError> {
        let times = self.shifted(&selector.shift)?;
        let lookback_ms = i64::try_from(self.options.lookback_delta.as_millis()).unwrap_or(i64::MAX);
        let windows = Windows { range_ms: lookback_ms, ends_ms: times };
        let (after_ms, to_ms) = windows.bounds();
        let series = self.store.select(&selector.matchers);
        let mut grid = self.grid(series.len())?;
        let mut scratch = Vec::new();
        for series in series {
            let samples = series.samples(after_ms, to_ms, &mut scratch);
            if samples.is_empty() {
                continue;
            }
            self.charge(samples.len())?;
            let values = grid.push(Row::new(series.labels().clone()));
            let mut cursor = 0;
            for (target, time) in values.iter_mut().zip(&windows.ends_ms) {
                cursor = advance(samples, cursor, *time);
                let Some(newest) = cursor.checked_sub(1).map(|newest| &samples[newest]) else { continue };
                if newest.timestamp_ms > time.saturating_sub(lookback_ms) && !newest.is_stale_marker() {
                    *target = value(newest);
                }
            }
            grid.pop_if_empty();
        }
        grid.one_metric = self.selects_one_metric(selector);
        Ok(grid)
    }

    /// Whether the series of a selector differ in more than what goes with the metric's name.
    fn selects_one_metric(&self, selector: &VectorSelector) -> bool {
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
        mut f: impl FnMut(Row, &[Sample]) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let (after_ms, to_ms) = windows.bounds();
        match expr.unwrap_parens() {
            Expr::Matrix(matrix) => {
                let (mut scratch, mut alive) = (Vec::new(), Vec::new());
                for series in self.store.select(&matrix.vector.matchers) {
                    let mut samples = series.samples(after_ms, to_ms, &mut scratch);
                    self.charge(samples.len())?;
                    if samples.iter().any(Sample::is_stale_marker) {
                        alive.clear();
                        alive.extend(samples.iter().filter(|sample| !sample.is_stale_marker()));
                        samples = &alive;
                    }
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
                    let samples = inner.samples_of(&grid, i);
                    self.charge(samples.len())?;
                    if !samples.is_empty() {
                        f(row.clone(), &samples)?;
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
        Ok((self.at(times).vector(&subquery.expr)?, times))
    }

    /// A range vector as the result of an instant query.
    pub(super) fn window_of_query(&self, expr: &Expr) -> Result<Vec<Series>, QueryError> {
        let windows = self.windows(expr)?;
        let mut found: Vec<(Labels, Vec<Sample>)> = Vec::new();
        self.each_series(expr, &windows, |row, samples| {
            let labels = if row.name == Name::Kept { row.labels } else { row.labels.without_name() };
            found.push((labels, samples.to_vec()));
            Ok(())
        })?;
        found.sort_by(|a, b| a.0.cmp(&b.0));
        if found.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(super::grid::same_labelset());
        }
        Ok(found.into_iter().map(|(labels, samples)| Series { labels, samples }).collect())
    }

    /// Applies a function to each window of each series; rows without a result are left out.
    pub(super) fn map_windows(
        &self,
        expr: &Expr,
        windows: &Windows,
        mut f: impl FnMut(usize, &[Sample]) -> Option<f64>,
    ) -> Result<Grid, QueryError> {
        let mut grid = self.grid(0)?;
        self.each_series(expr, windows, |row, samples| {
            self.charge(self.times.count)?;
            let values = grid.push(row);
            let (mut start, mut end, mut visits) = (0, 0, 0);
            for (step, (target, window_end)) in values.iter_mut().zip(&windows.ends_ms).enumerate() {
                end = advance(samples, end, *window_end);
                start = advance(samples, start, window_end.saturating_sub(windows.range_ms)).min(end);
                visits += end - start + 1;
                if start < end
                    && let Some(value) = f(step, &samples[start..end])
                {
                    *target = value;
                }
            }
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

/// How many samples are at or before `time_ms`, knowing that `from` of them were at an earlier step.
fn advance(samples: &[Sample], from: usize, time_ms: i64) -> usize {
    let mut at = from;
    // The steps of a query move by little; but the first one may have to skip many.
    if samples.get(at + 16).is_some_and(|sample| sample.timestamp_ms <= time_ms) {
        return at + samples[at..].partition_point(|sample| sample.timestamp_ms <= time_ms);
    }
    while samples.get(at).is_some_and(|sample| sample.timestamp_ms <= time_ms) {
        at += 1;
    }
    at
}
