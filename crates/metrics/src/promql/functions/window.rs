//! Functions of a window of samples: `rate`, `increase`, `avg_over_time` and their like.
//!
//! A window is left-open: `(end - range, end]`. It has at least one sample and no stale marker. The functions here look at
//! its floats, of which there is at least one; what a window with native histograms results in is in `native`.

use super::{WindowFunction, extended};
use crate::kahan::KahanSum;
use crate::promql::annotations::Note;
use crate::promql::ast::Extension;
use crate::promql::numerics::{Mean, Variance, linear_regression, quantile as quantile_of};
use crate::promql::starts::Starts;
use crate::promql::value::SampleValue;
use crate::sample::{HistogramSample, Sample, Timed};

/// The samples of one series that a function looks at.
#[derive(Clone, Copy)]
pub(in crate::promql) struct Window<'a> {
    pub(in crate::promql) samples: &'a [Sample],
    pub(in crate::promql) histograms: &'a [HistogramSample],
    pub(in crate::promql) starts: Starts<'a>,
    /// The name of the metric, or empty where it has none.
    pub(in crate::promql) metric: &'a str,
    /// Takes what there is to tell.
    pub(in crate::promql) tell: &'a dyn Fn(Note<'_>),
    /// The window's end; `offset` and `@` move it away from the time of evaluation.
    pub(in crate::promql) end_ms: i64,
    pub(in crate::promql) range_ms: i64,
    /// Whether there are samples around the window too, and for what.
    pub(in crate::promql) extension: Option<Extension>,
    /// The time of evaluation.
    pub(in crate::promql) now_ms: i64,
    /// The scalar arguments, in order.
    pub(in crate::promql) parameters: &'a [f64],
}

impl Window<'_> {
    /// What a function makes of this window.
    pub(in crate::promql) fn apply(&self, function: WindowFunction) -> Option<SampleValue> {
        match function.histograms {
            _ if self.histograms.is_empty() => (function.floats)(self).map(SampleValue::Float),
            Some(of_histograms) => of_histograms(self),
            None if self.samples.is_empty() => None,
            None => {
                (self.tell)(Note::HistogramIgnoredInRange { metric: self.metric });
                (function.floats)(self).map(SampleValue::Float)
            }
        }
    }

    /// An anchored window from its anchor on: the newest sample at or before its start. `None` if no sample is after the start.
    pub(super) fn since_anchor(&self) -> Option<Self> {
        if self.extension != Some(Extension::Anchored) {
            return Some(*self);
        }
        let start_ms = self.end_ms.saturating_sub(self.range_ms);
        let float = self.samples.partition_point(|sample| sample.timestamp_ms <= start_ms);
        let histogram = self.histograms.partition_point(|sample| sample.timestamp_ms <= start_ms);
        if float == self.samples.len() && histogram == self.histograms.len() {
            return None;
        }
        let time = |at: Option<i64>| at.unwrap_or(i64::MIN);
        let float_ms = float.checked_sub(1).map(|at| self.samples[at].time_ms());
        let histogram_ms = histogram.checked_sub(1).map(|at| self.histograms[at].time_ms());
        let (float, histogram) = match time(float_ms) >= time(histogram_ms) {
            true => (float.saturating_sub(1), histogram),
            false => (float, histogram - 1),
        };
        Some(Window { samples: &self.samples[float..], histograms: &self.histograms[histogram..], ..*self })
    }

    fn first(&self) -> Sample {
        self.samples[0]
    }

    fn last(&self) -> Sample {
        self.samples[self.samples.len() - 1]
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.samples.iter().map(|s| s.value)
    }

    /// Pairs of neighbours.
    fn steps(&self) -> impl Iterator<Item = (f64, f64)> {
        self.samples.windows(2).map(|pair| (pair[0].value, pair[1].value))
    }
}

pub(super) fn rate(window: &Window<'_>) -> Option<f64> {
    if window.extension.is_some() {
        return extended::increase(window, true).map(|increase| increase / window.range_seconds());
    }
    extrapolated(window, true).map(|(increase, factor)| increase * (factor / window.range_seconds()))
}

pub(super) fn increase(window: &Window<'_>) -> Option<f64> {
    if window.extension.is_some() {
        return extended::increase(window, true);
    }
    extrapolated(window, true).map(|(increase, factor)| increase * factor)
}

pub(super) fn delta(window: &Window<'_>) -> Option<f64> {
    if window.extension.is_some() {
        return extended::increase(window, false);
    }
    extrapolated(window, false).map(|(increase, factor)| increase * factor)
}

/// The increase between the first and the last sample, and the factor that stretches it to the whole window.
fn extrapolated(window: &Window<'_>, is_counter: bool) -> Option<(f64, f64)> {
    let (first, last) = (window.first(), window.last());
    let zero_ms = window.zero_ms(first.timestamp_ms).filter(|_| is_counter);
    if window.samples.len() < 2 && zero_ms.is_none() {
        return None;
    }
    let mut increase = last.value - first.value;
    if is_counter {
        window
            .overlap(window.samples.iter().map(|sample| sample.timestamp_ms))
            .into_iter()
            .for_each(window.tell);
        window.each_reset(|previous| increase += previous);
    }
    if zero_ms.is_some() {
        increase += first.value;
    }
    let counts_from_zero = is_counter && increase > 0.0 && first.value >= 0.0;
    let sampled = Sampled {
        first_ms: first.timestamp_ms,
        last_ms: last.timestamp_ms,
        count: window.samples.len(),
        zero_before: counts_from_zero.then(|| first.value / increase),
        zero_ms,
    };
    Some((increase, window.stretch(&sampled)))
}

/// When a window was sampled.
pub(in crate::promql) struct Sampled {
    pub(in crate::promql) first_ms: i64,
    pub(in crate::promql) last_ms: i64,
    /// At least 2, or 1 if it is known when the counter was zero.
    pub(in crate::promql) count: usize,
    /// How long before the first sample a counter was zero, as a share of the time between the first and the last sample.
    pub(in crate::promql) zero_before: Option<f64>,
    /// When the counter was zero, if its start timestamp tells.
    pub(in crate::promql) zero_ms: Option<i64>,
}

impl Sampled {
    /// The factor from the increase between the samples to that of the whole window.
    ///
    /// Towards an end of the window without samples for more than 1.1 average distances, only half a distance is added; a
    /// counter is never stretched to before it was zero. (Prometheus: `extrapolatedRate`.)
    pub(in crate::promql) fn stretch(&self, after_ms: i64, to_ms: i64) -> f64 {
        let timing = Timing::of(self.first_ms, self.last_ms, self.count, (after_ms, to_ms));
        match self.zero_ms {
            Some(zero_ms) => timing.since_zero(zero_ms, self.last_ms).stretch(None),
            None => timing.stretch(self.zero_before),
        }
    }
}

/// What the times of a window's samples say about stretching; the same for all series that were sampled together.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::promql) struct Timing {
    /// Seconds between the first and the last sample.
    between: f64,
    to_start: f64,
    to_end: f64,
}

impl Timing {
    /// Of `count` samples from `first_ms` to `last_ms` in the window `(after_ms, to_ms]`.
    pub(in crate::promql) fn of(
        first_ms: i64,
        last_ms: i64,
        count: usize,
        (after_ms, to_ms): (i64, i64),
    ) -> Timing {
        let seconds = |ms: i64| ms as f64 / 1_000.0;
        let between = seconds(last_ms - first_ms);
        let average = between / (count - 1).max(1) as f64;
        let stretch = |gap: f64| if gap >= average * 1.1 { average / 2.0 } else { gap };
        Timing {
            between,
            to_start: stretch(seconds(first_ms - after_ms)),
            to_end: stretch(seconds(to_ms - last_ms)),
        }
    }

    /// The same with a zero at a time before the first sample, from where nothing needs to be stretched.
    fn since_zero(self, zero_ms: i64, last_ms: i64) -> Timing {
        Timing { between: (last_ms - zero_ms) as f64 / 1_000.0, to_start: 0.0, ..self }
    }

    /// The factor, for a counter that was zero so long before (see [`Sampled::zero_before`]).
    pub(in crate::promql) fn stretch(&self, zero_before: Option<f64>) -> f64 {
        let mut to_start = self.to_start;
        if let Some(to_zero) = zero_before.map(|share| self.between * share)
            && to_zero < to_start
        {
            to_start = to_zero;
        }
        (self.between + to_start + self.to_end) / self.between
    }
}

impl<'a> Window<'a> {
    pub(super) fn stretch(&self, sampled: &Sampled) -> f64 {
        sampled.stretch(self.end_ms - self.range_ms, self.end_ms)
    }

    /// When the counter was zero before its first sample, if that is in the window and known.
    pub(super) fn zero_ms(&self, first_ms: i64) -> Option<i64> {
        self.starts.zero_ms(self.end_ms.saturating_sub(self.range_ms), first_ms)
    }

    /// What to tell if the start of one of the samples of these times contradicts the sample before it.
    pub(super) fn overlap(&self, times_ms: impl Iterator<Item = i64> + Clone) -> Option<Note<'a>> {
        let mut neighbours = times_ms.clone().zip(times_ms.skip(1));
        let found = !self.starts.is_empty()
            && neighbours.any(|(previous, current)| self.starts.is_overlap(previous, current));
        found.then_some(Note::StartsOverlap { metric: self.metric })
    }

    /// Calls `f` with the value before each restart of the counter.
    fn each_reset(&self, mut f: impl FnMut(f64)) {
        if self.starts.is_empty() {
            self.steps()
                .filter(|(previous, current)| current < previous)
                .for_each(|(previous, _)| f(previous));
            return;
        }
        for pair in self.samples.windows(2) {
            let restarted = self.starts.is_restart(pair[0].timestamp_ms, pair[1].timestamp_ms);
            if pair[1].value < pair[0].value || restarted {
                f(pair[0].value);
            }
        }
    }

    pub(super) fn range_seconds(&self) -> f64 {
        self.range_ms as f64 / 1_000.0
    }
}

pub(super) fn irate(window: &Window<'_>) -> Option<f64> {
    let [.., previous, last] = window.samples else { return None };
    let restarted = window.starts.is_restart(previous.timestamp_ms, last.timestamp_ms);
    let reset = last.value < previous.value || restarted;
    let increase = if reset { last.value } else { last.value - previous.value };
    Some(increase / ((last.timestamp_ms - previous.timestamp_ms) as f64 / 1_000.0))
}

pub(super) fn idelta(window: &Window<'_>) -> Option<f64> {
    let [.., previous, last] = window.samples else { return None };
    Some(last.value - previous.value)
}

pub(super) fn changes(window: &Window<'_>) -> Option<f64> {
    let changed = |(a, b): &(f64, f64)| a != b && !(a.is_nan() && b.is_nan());
    Some(window.since_anchor()?.steps().filter(changed).count() as f64)
}

pub(super) fn resets(window: &Window<'_>) -> Option<f64> {
    let mut count = 0;
    window.since_anchor()?.each_reset(|_| count += 1);
    Some(f64::from(count))
}

pub(super) fn deriv(window: &Window<'_>) -> Option<f64> {
    let enough = window.samples.len() >= 2;
    enough.then(|| linear_regression(window.samples, window.first().timestamp_ms).0)
}

pub(super) fn predict_linear(window: &Window<'_>) -> Option<f64> {
    if window.samples.len() < 2 {
        return None;
    }
    let (slope, now) = linear_regression(window.samples, window.now_ms);
    Some(slope * window.parameters[0] + now)
}

/// Smoothed value with a trend (Holt's linear method); the parameters are the smoothing and the trend factor.
pub(super) fn double_exponential_smoothing(window: &Window<'_>) -> Option<f64> {
    let (smoothing, trend_factor) = (window.parameters[0], window.parameters[1]);
    let [first, second, ..] = window.samples else { return None };
    let mut trend = second.value - first.value;
    let (mut before, mut level) = (0.0, first.value);
    for (i, value) in window.values().enumerate().skip(1) {
        if i > 1 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        before = level;
        level = smoothing * value + (1.0 - smoothing) * (level + trend);
    }
    Some(level)
}

pub(super) fn avg(window: &Window<'_>) -> Option<f64> {
    let mut mean = Mean::of_first(window.first().value);
    window.values().skip(1).for_each(|value| mean.add(value));
    Some(mean.mean())
}

pub(super) fn sum(window: &Window<'_>) -> Option<f64> {
    let mut sum = KahanSum::default();
    window.values().for_each(|value| sum.add(value));
    Some(sum.total())
}

pub(super) fn count(window: &Window<'_>) -> Option<f64> {
    Some(window.samples.len() as f64)
}

pub(super) fn present(_: &Window<'_>) -> Option<f64> {
    Some(1.0)
}

pub(super) fn first(window: &Window<'_>) -> Option<f64> {
    Some(window.first().value)
}

pub(super) fn last(window: &Window<'_>) -> Option<f64> {
    Some(window.last().value)
}

pub(super) fn min(window: &Window<'_>) -> Option<f64> {
    Some(extreme(window, |value, best| value < best).value)
}

pub(super) fn max(window: &Window<'_>) -> Option<f64> {
    Some(extreme(window, |value, best| value > best).value)
}

/// The first sample that no other beats; NaN is beaten by all.
fn extreme(window: &Window<'_>, beats: fn(f64, f64) -> bool) -> Sample {
    let better = |best: Sample, sample: &Sample| {
        if beats(sample.value, best.value) || best.value.is_nan() { *sample } else { best }
    };
    window.samples.iter().fold(window.first(), better)
}

/// The time of the last sample that no other beats.
fn time_of_extreme(window: &Window<'_>, beats_or_equals: fn(f64, f64) -> bool) -> Option<f64> {
    Some(extreme(window, beats_or_equals).timestamp_ms as f64 / 1_000.0)
}

pub(super) fn time_of_min(window: &Window<'_>) -> Option<f64> {
    time_of_extreme(window, |value, best| value <= best)
}

pub(super) fn time_of_max(window: &Window<'_>) -> Option<f64> {
    time_of_extreme(window, |value, best| value >= best)
}

pub(super) fn time_of_first(window: &Window<'_>) -> Option<f64> {
    Some(window.first().timestamp_ms as f64 / 1_000.0)
}

/// For Prometheus, nothing was last before 1970.
pub(super) fn time_of_last(window: &Window<'_>) -> Option<f64> {
    Some(window.last().timestamp_ms.max(0) as f64 / 1_000.0)
}

pub(super) fn quantile(window: &Window<'_>) -> Option<f64> {
    let q = window.parameters[0];
    if !(0.0..=1.0).contains(&q) {
        (window.tell)(Note::InvalidQuantile(q));
    }
    Some(quantile_of(q, &mut window.values().collect::<Vec<_>>()))
}

pub(super) fn median_absolute_deviation(window: &Window<'_>) -> Option<f64> {
    let mut values: Vec<f64> = window.values().collect();
    if values.iter().any(|value| value.is_nan()) {
        return Some(f64::NAN);
    }
    let median = quantile_of(0.5, &mut values);
    let mut deviations: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    Some(quantile_of(0.5, &mut deviations))
}

pub(super) fn stdvar(window: &Window<'_>) -> Option<f64> {
    let mut variance = Variance::default();
    window.values().for_each(|value| variance.add(value));
    Some(variance.variance())
}

pub(super) fn stddev(window: &Window<'_>) -> Option<f64> {
    stdvar(window).map(f64::sqrt)
}
