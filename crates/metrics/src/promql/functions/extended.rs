//! `rate`, `increase` and `delta` of `anchored` and `smoothed` windows, which nothing is extrapolated from: their values
//! at the window's ends come from the samples around the ends.
//!
//! Such a window holds samples from before its start too, and a smoothed one from after its end (Prometheus:
//! `extendedRate`, `extendedHistogramRate`).

use super::native::{histogram_cell, tell_outcome};
use super::window::Window;
use crate::histogram::{MixedSchemas, NativeHistogram, ResetHint};
use crate::promql::annotations::{Note, Operation};
use crate::promql::ast::Extension;
use crate::promql::value::SampleValue;
use crate::sample::{HistogramSample, Sample, Timed};

impl Window<'_> {
    fn start_ms(&self) -> i64 {
        self.end_ms.saturating_sub(self.range_ms)
    }

    fn is_smoothed(&self) -> bool {
        self.extension == Some(Extension::Smoothed)
    }

    /// The places of the samples that the values at both ends come from; `None` if nothing was sampled in the window.
    fn ends<T: Timed>(&self, samples: &[T]) -> Option<(usize, usize)> {
        let mut last = samples.len().checked_sub(1)?;
        let at_start = samples[..last].partition_point(|sample| sample.time_ms() <= self.start_ms());
        let first = at_start.saturating_sub(1);
        if self.is_smoothed() {
            last = samples[..last].partition_point(|sample| sample.time_ms() < self.end_ms);
        }
        (samples[last].time_ms() > self.start_ms()).then_some((first, last))
    }

    /// Whether there are samples after a window only, so that nothing is known of its values.
    fn is_before(&self, first: &impl Timed) -> bool {
        first.time_ms() > self.end_ms
    }

    /// The samples between the ends, without those that stand for the ends themselves.
    pub(in crate::promql) fn inner<'s, T: Timed>(
        &self,
        samples: &'s [T],
        (first, last): (usize, usize),
    ) -> &'s [T] {
        let from = first + usize::from(samples[first].time_ms() <= self.start_ms());
        let to = last + usize::from(samples[last].time_ms() < self.end_ms);
        samples.get(from..to).unwrap_or_default()
    }

    /// The values at both ends of a window of floats, and the places of their samples.
    pub(in crate::promql) fn float_ends(&self, is_counter: bool) -> Option<(f64, f64, (usize, usize))> {
        let (first, last) = self.ends(self.samples)?;
        let value = |at: usize| self.samples[at].value;
        let between =
            |at: usize, time_ms| interpolate(self.samples[at], self.samples[at + 1], time_ms, is_counter);
        let before = self.is_smoothed() && self.samples[first].timestamp_ms < self.start_ms();
        let left = if before { between(first, self.start_ms()) } else { value(first) };
        let after = self.is_smoothed() && last > 0 && self.samples[last].timestamp_ms > self.end_ms;
        let right = if after { between(last - 1, self.end_ms) } else { value(last) };
        Some((left, right, (first, last)))
    }
}

/// The value at a time between two samples, on the line between them. A counter that restarted in between began at zero.
pub(in crate::promql) fn interpolate(before: Sample, after: Sample, time_ms: i64, is_counter: bool) -> f64 {
    let from = if is_counter && after.value < before.value { 0.0 } else { before.value };
    let elapsed = (time_ms - before.timestamp_ms) as f64;
    from + (after.value - from) * elapsed / (after.timestamp_ms - before.timestamp_ms) as f64
}

/// How much a window's values went up (or, no counters, up or down) from its start to its end.
pub(super) fn increase(window: &Window<'_>, is_counter: bool) -> Option<f64> {
    let (left, right, ends) = window.float_ends(is_counter)?;
    if window.is_before(&window.samples[ends.0]) {
        return None;
    }
    let mut increase = right - left;
    if is_counter {
        let inner = window.inner(window.samples, ends).iter().map(|sample| sample.value);
        increase += lost_in_restarts(left, inner.chain([right]));
    }
    Some(increase)
}

/// The sum of the values before each restart of a counter.
fn lost_in_restarts(first: f64, rest: impl Iterator<Item = f64>) -> f64 {
    let (mut lost, mut previous) = (0.0, first);
    for value in rest {
        if value < previous {
            lost += previous;
        }
        previous = value;
    }
    lost
}

/// The same of a window of native histograms, divided by a number.
pub(super) fn histogram_increase(window: &Window<'_>, is_counter: bool, divisor: f64) -> Option<SampleValue> {
    let (first, last) = window.ends(window.histograms)?;
    let histograms = &window.histograms[first..=last];
    if window.is_before(&histograms[0]) {
        return None;
    }
    check(window, histograms, is_counter)?;
    let (left, right) = histogram_ends(window, histograms, is_counter)?;
    let is_gauge = |histogram: &NativeHistogram| histogram.reset_hint == ResetHint::Gauge;
    if !(is_counter || is_gauge(&left) && is_gauge(&right)) {
        (window.tell)(Note::HistogramIsNoGauge { metric: window.metric });
    }
    let told = |outcome, operation| tell_outcome(outcome, operation, window.metric, window.tell);
    let mut increase = right.clone();
    told(increase.sub(&left), Operation::Subtraction)?;
    if is_counter && let Some(lost) = histograms_lost_in_restarts(window, histograms, &left, &right)? {
        told(increase.add(&lost), Operation::Addition)?;
    }
    increase.divide(divisor);
    increase.reset_hint = ResetHint::Gauge;
    increase.compact();
    histogram_cell(increase)
}

/// Nothing if the kinds of buckets are mixed; tells of that, and of gauges among counters.
fn check(window: &Window<'_>, histograms: &[HistogramSample], is_counter: bool) -> Option<()> {
    for HistogramSample { histogram, .. } in histograms {
        if histogram.schema.is_custom() != histograms[0].histogram.schema.is_custom() {
            return tell_outcome(Err(MixedSchemas), Operation::Subtraction, window.metric, window.tell);
        }
        if is_counter && histogram.reset_hint == ResetHint::Gauge {
            (window.tell)(Note::HistogramIsNoCounter { metric: window.metric });
        }
    }
    Some(())
}

/// The histograms at both ends of a window.
fn histogram_ends(
    window: &Window<'_>,
    histograms: &[HistogramSample],
    is_counter: bool,
) -> Option<(NativeHistogram, NativeHistogram)> {
    let [first, .., last] = histograms else {
        let only = &*histograms.first()?.histogram;
        return Some((only.clone(), only.clone()));
    };
    let between = |pair: &[HistogramSample], time_ms| {
        interpolate_histograms(&pair[0], &pair[1], time_ms, is_counter, window.metric, window.tell)
    };
    let left = match window.is_smoothed() && first.timestamp_ms < window.start_ms() {
        true => between(&histograms[..2], window.start_ms())?,
        false => (*first.histogram).clone(),
    };
    let right = match window.is_smoothed() && last.timestamp_ms > window.end_ms {
        true => between(&histograms[histograms.len() - 2..], window.end_ms)?,
        false => (*last.histogram).clone(),
    };
    Some((left, right))
}

/// The sum of the histograms before each restart, of which `left` and `right` stand for the first and the last;
/// `Some(None)` if there was no restart.
fn histograms_lost_in_restarts(
    window: &Window<'_>,
    histograms: &[HistogramSample],
    left: &NativeHistogram,
    right: &NativeHistogram,
) -> Option<Option<NativeHistogram>> {
    let [first, second, ..] = histograms else { return Some(None) };
    let mut rest = histograms[1..].iter().map(|sample| &*sample.histogram);
    let mut previous = left;
    let interpolated = window.is_smoothed() && first.timestamp_ms < window.start_ms();
    if interpolated && second.histogram.detect_reset(&first.histogram) {
        // The interpolation knows this restart; what was counted before the next one begins with the sample after it.
        previous = &second.histogram;
        rest.next();
    }
    // Both ends lie between the same two samples, which leaves nothing to look at.
    if rest.next_back().is_none() {
        return Some(None);
    }
    let mut lost: Option<NativeHistogram> = None;
    for current in rest.chain([right]) {
        if current.detect_reset(previous) {
            match &mut lost {
                None => lost = Some(previous.clone()),
                Some(lost) => {
                    let outcome = lost.add(previous);
                    tell_outcome(outcome, Operation::Addition, window.metric, window.tell)?;
                }
            }
        }
        previous = current;
    }
    Some(lost)
}

/// The histogram at a time between two others; `None` if their schemas are mixed, which is told. A counter that
/// restarted in between began at zero.
pub(in crate::promql) fn interpolate_histograms(
    before: &HistogramSample,
    after: &HistogramSample,
    time_ms: i64,
    is_counter: bool,
    metric: &str,
    tell: &dyn Fn(Note<'_>),
) -> Option<NativeHistogram> {
    if let Some(exact) = [before, after].into_iter().find(|sample| sample.timestamp_ms == time_ms) {
        return Some((*exact.histogram).clone());
    }
    let elapsed = (time_ms - before.timestamp_ms) as f64 / (after.timestamp_ms - before.timestamp_ms) as f64;
    let mut between = (*after.histogram).clone();
    if is_counter && after.histogram.detect_reset(&before.histogram) {
        between.scale(elapsed);
        return Some(between);
    }
    tell_outcome(between.sub(&before.histogram), Operation::Subtraction, metric, tell)?;
    between.scale(elapsed);
    tell_outcome(between.add(&before.histogram), Operation::Addition, metric, tell)?;
    Some(between)
}
