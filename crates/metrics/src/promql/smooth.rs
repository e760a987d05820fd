//! `smoothed` instant vectors, and extended range vectors as results: values on the line between samples.

use super::annotations::Note;
use super::ast::*;
use super::error::QueryError;
use super::eval::Evaluator;
use super::functions::extended::{interpolate, interpolate_histograms};
use super::functions::window::Window;
use super::grid::Grid;
use super::select::Samples;
use super::starts::Starts;
use super::value::SampleValue;
use super::windows::Windows;
use crate::histogram::ResetHint;
use crate::labels::METRIC_NAME;
use crate::sample::{HistogramSample, Sample, Timed};

impl Evaluator<'_> {
    /// The series of a `smoothed` selector: at each time the value on the line between the samples before and after it, or the
    /// one before it if there is none after it.
    pub(super) fn smoothed(&self, selector: &VectorSelector) -> Result<Grid, QueryError> {
        let lookback_ms = self.lookback_ms();
        let windows = Windows::new(0, self.shifted(&selector.shift)?);
        let windows = windows.extended(Some(Extension::Smoothed), lookback_ms);
        let tell = |note: Note<'_>| self.note(selector.span, note);
        self.map_selected(selector, &windows, |step, row, samples| {
            let metric = row.get(METRIC_NAME);
            if !samples.floats.is_empty() && !samples.histograms.is_empty() {
                tell(Note::MixedFloatsAndHistograms { metric });
                return None;
            }
            let time_ms = windows.ends_ms[step];
            if samples.histograms.is_empty() {
                float_at(samples, time_ms).map(SampleValue::Float)
            } else {
                histogram_at(samples, time_ms, metric, &tell)
            }
        })
    }
}

/// The neighbours of a time: the sample before it, and the one at or after it.
fn around<T: Timed>(samples: &[T], time_ms: i64) -> (Option<&T>, Option<&T>) {
    let after = samples.partition_point(|sample| sample.time_ms() < time_ms);
    (after.checked_sub(1).map(|before| &samples[before]), samples.get(after))
}

fn float_at(samples: Samples<'_>, time_ms: i64) -> Option<f64> {
    match around(samples.floats, time_ms) {
        (_, Some(exact)) if exact.timestamp_ms == time_ms => Some(exact.value),
        (Some(before), Some(after)) => Some(interpolate(*before, *after, time_ms, false)),
        (before, _) => before.map(|before| before.value),
    }
}

fn histogram_at(
    samples: Samples<'_>,
    time_ms: i64,
    metric: &str,
    tell: &dyn Fn(Note<'_>),
) -> Option<SampleValue> {
    let (before, after) = around(samples.histograms, time_ms);
    if let Some(exact) = after.filter(|after| after.timestamp_ms == time_ms) {
        return Some(SampleValue::Histogram(exact.histogram.clone()));
    }
    let histogram = match (before?, after) {
        (before, Some(after)) => {
            if before.histogram.schema.is_custom() != after.histogram.schema.is_custom() {
                tell(Note::MixedSchemas { metric });
                return None;
            }
            let is_gauge = |sample: &HistogramSample| sample.histogram.reset_hint == ResetHint::Gauge;
            let is_counter = !(is_gauge(before) && is_gauge(after));
            interpolate_histograms(before, after, time_ms, is_counter, metric, tell)?
        }
        (before, None) => {
            // A hint tells of a sample and the one before it, and so nothing of this value.
            let mut histogram = (*before.histogram).clone();
            histogram.reset_hint = ResetHint::Unknown;
            histogram
        }
    };
    Some(SampleValue::Histogram(histogram.into()))
}

/// The floats of an extended window, with one at each of its ends.
pub(super) fn framed(
    floats: &[Sample],
    histograms: &[HistogramSample],
    windows: &Windows,
    extension: Extension,
) -> Result<Vec<Sample>, QueryError> {
    if !histograms.is_empty() {
        let message = format!("{} modifier is not supported with histograms", extension.keyword());
        return Err(QueryError::Execution(message));
    }
    let end_ms = windows.ends_ms.first().copied().unwrap_or(0);
    let window = Window {
        samples: floats,
        histograms,
        starts: Starts::default(),
        metric: "",
        tell: &|_| {},
        end_ms,
        range_ms: windows.range_ms,
        extension: Some(extension),
        now_ms: end_ms,
        parameters: &[],
    };
    let Some((left, right, ends)) = window.float_ends(false) else { return Ok(Vec::new()) };
    let first = Sample::new(end_ms.saturating_sub(windows.range_ms), left);
    let inner = window.inner(floats, ends).iter().copied();
    Ok([first].into_iter().chain(inner).chain([Sample::new(end_ms, right)]).collect())
}
