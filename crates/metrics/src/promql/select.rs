//! Instant selectors: from the store to values.
//!
//! A selector takes, at each step, the newest sample in the left-open lookback `(t - lookback, t]`; a stale
//! marker there means that the series has ended.

use super::ast::*;
use super::error::QueryError;
use super::eval::{Buckets, Evaluator};
use super::grid::{Grid, Row};
use super::starts::Starts;
use super::windows::Windows;
use crate::histogram::{NativeHistogram, ResetHint, Schema};
use crate::matcher::Matcher;
use crate::sample::{HistogramSample, Sample, Timed};
use crate::store::{SeriesHandle, SeriesRef};

/// What is wanted of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    Value,
    /// When it was taken, in seconds.
    Timestamp,
    /// Since when it counts, in seconds; zero if nobody knows.
    StartTimestamp,
    /// When it was taken, in seconds, if it is a float; a histogram stays itself.
    TimeOfFloat,
}

/// The samples of one series in a window: floats and histograms.
#[derive(Clone, Copy)]
pub(super) struct Samples<'a> {
    pub(super) floats: &'a [Sample],
    pub(super) histograms: &'a [HistogramSample],
    pub(super) starts: Starts<'a>,
}

impl Samples<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    /// What it costs to look at these samples: a histogram as much as its numbers.
    pub(super) fn weight(&self) -> usize {
        self.floats.len() + self.histograms.iter().map(|sample| sample.histogram.weight()).sum::<usize>()
    }

    /// What it costs to look at one of the histograms, on average.
    pub(super) fn weight_of_histogram(&self) -> usize {
        self.weight().saturating_sub(self.floats.len()).checked_div(self.histograms.len()).unwrap_or(0)
    }
}

impl Evaluator<'_> {
    /// The times that a selector or subquery looks at: one for each step, moved by `@` and `offset`.
    pub(super) fn shifted(&self, shift: &TimeShift) -> Result<Vec<i64>, QueryError> {
        let reference = self.reference(shift)?;
        Ok(self.times.iter().map(|time_ms| reference.at(time_ms)).collect())
    }

    pub(super) fn lookback_ms(&self) -> i64 {
        i64::try_from(self.options.lookback_delta.as_millis()).unwrap_or(i64::MAX)
    }

    /// The series of a selector.
    pub(super) fn select(&self, selector: &VectorSelector, pick: Pick) -> Result<Grid, QueryError> {
        if selector.extension == Some(Extension::Smoothed) && pick == Pick::Value {
            return self.smoothed(selector);
        }
        let selected = self.reader.select(&selector.matchers)?;
        let series = selected.iter().map(SeriesHandle::read).collect();
        let mut grid = self.newest(series, self.shifted(&selector.shift)?, pick)?;
        grid.one_metric = self.selects_one_metric(selector);
        Ok(grid)
    }

    /// The newest samples of series at the times of the steps, as far as they are not too old.
    pub(super) fn newest(
        &self,
        series: Vec<SeriesRef<'_>>,
        times_ms: Vec<i64>,
        pick: Pick,
    ) -> Result<Grid, QueryError> {
        let windows = Windows::new(self.lookback_ms(), times_ms);
        let (after_ms, to_ms) = windows.bounds();
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
        Ok(grid)
    }

    /// The histograms of a series in `(after_ms, to_ms]`, without their buckets where those are ignored.
    pub(super) fn histograms<'s>(
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

    pub(super) fn starts<'s>(&self, series: SeriesRef<'s>) -> Starts<'s> {
        Starts(series.start_times().filter(|_| self.options.use_start_timestamps))
    }

    /// Whether the series of a selector differ in more than what goes with the metric's name.
    pub(super) fn selects_one_metric(&self, selector: &VectorSelector) -> bool {
        let named = selector.matchers.iter().any(Matcher::is_metric_name);
        named && !self.reader.has_metadata_labels()
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
                Pick::Timestamp | Pick::TimeOfFloat => newest.timestamp_ms as f64 / 1_000.0,
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
                Pick::Value | Pick::TimeOfFloat => {
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

/// How many samples are at or before `time_ms`, knowing that `from` of them were at an earlier step.
pub(super) fn advance<T: Timed>(samples: &[T], from: usize, time_ms: i64) -> usize {
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
