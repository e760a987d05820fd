//! Functions of windows with native histograms, and of single histograms.
//!
//! Where a window has floats too, most functions have no result and say so.

use std::sync::Arc;

use super::extended;
use super::window::{Sampled, Window};
use crate::histogram::{Added, HistogramMean, HistogramSum, MixedSchemas, NativeHistogram, ResetHint};
use crate::kahan::KahanSum;
use crate::promql::annotations::{Note, Operation};
use crate::promql::value::SampleValue;
use crate::sample::HistogramSample;

/// A sample of a window.
#[derive(Clone, Copy)]
enum Point<'a> {
    Float(f64),
    Histogram(&'a NativeHistogram),
}

impl<'a> Window<'a> {
    /// All samples in the order of their times.
    fn points(&self) -> Vec<(i64, Point<'a>)> {
        let floats = self.samples.iter().map(|sample| (sample.timestamp_ms, Point::Float(sample.value)));
        let histogram =
            |sample: &'a HistogramSample| (sample.timestamp_ms, Point::Histogram(&sample.histogram));
        let mut points: Vec<_> = floats.chain(self.histograms.iter().map(histogram)).collect();
        points.sort_by_key(|(timestamp_ms, _)| *timestamp_ms);
        points
    }

    /// Whether there are histograms only; tells of a mix.
    fn is_pure(&self) -> bool {
        if !self.samples.is_empty() {
            (self.tell)(Note::MixedFloatsAndHistograms { metric: self.metric });
        }
        self.samples.is_empty()
    }

    fn mixed_schemas(&self) -> Note<'a> {
        Note::MixedSchemas { metric: self.metric }
    }
}

pub(super) fn histogram_cell(histogram: NativeHistogram) -> Option<SampleValue> {
    Some(SampleValue::Histogram(Arc::new(histogram)))
}

pub(super) fn rate(window: &Window<'_>) -> Option<SampleValue> {
    extrapolated(window, true, window.range_seconds())
}

pub(super) fn increase(window: &Window<'_>) -> Option<SampleValue> {
    extrapolated(window, true, 1.0)
}

pub(super) fn delta(window: &Window<'_>) -> Option<SampleValue> {
    extrapolated(window, false, 1.0)
}

fn extrapolated(window: &Window<'_>, is_counter: bool, divisor: f64) -> Option<SampleValue> {
    let (true, [first, rest @ ..]) = (window.is_pure(), window.histograms) else { return None };
    if window.extension.is_some() {
        return extended::histogram_increase(window, is_counter, divisor);
    }
    let zero_ms = window.zero_ms(first.timestamp_ms).filter(|_| is_counter);
    let last = match rest {
        [.., last] => last,
        [] if zero_ms.is_some() => first,
        [] => return None,
    };
    let mut notes = Vec::new();
    let increase = increase_of(window, is_counter, zero_ms.is_some(), &mut notes);
    if increase.is_none() {
        notes.push(window.mixed_schemas());
    }
    notes.into_iter().for_each(window.tell);
    let mut increase = increase?;
    let counts_from_zero = is_counter && increase.count > 0.0 && first.histogram.count >= 0.0;
    let factor = window.stretch(&Sampled {
        first_ms: first.timestamp_ms,
        last_ms: last.timestamp_ms,
        count: window.histograms.len(),
        zero_before: counts_from_zero.then(|| first.histogram.count / increase.count),
        zero_ms,
    });
    increase.scale(factor / divisor);
    histogram_cell(increase)
}

/// The increase between the first and the last histogram; from zero on if the counter was zero in the window.
fn increase_of<'a>(
    window: &Window<'a>,
    is_counter: bool,
    from_zero: bool,
    notes: &mut Vec<Note<'a>>,
) -> Option<NativeHistogram> {
    let first = &*window.histograms[0].histogram;
    if window.histograms.len() == 1 {
        return Some(first.clone());
    }
    let mut increase = increase_between(window, is_counter, notes)?;
    if from_zero {
        note_reconciled(increase.add(first).ok()?, Operation::Addition, notes);
    }
    Some(increase)
}

/// The last histogram less the first, with what was lost in restarts in between; `None` if their schemas are mixed.
/// (Prometheus: `histogramRate`.)
fn increase_between<'a>(
    window: &Window<'a>,
    is_counter: bool,
    notes: &mut Vec<Note<'a>>,
) -> Option<NativeHistogram> {
    let all: Vec<&NativeHistogram> = window.histograms.iter().map(|sample| &*sample.histogram).collect();
    let (first, last) = (all[0], all[all.len() - 1]);
    let is_gauge = |histogram: &NativeHistogram| histogram.reset_hint == ResetHint::Gauge;
    let no_counter = Note::HistogramIsNoCounter { metric: window.metric };
    if is_counter && (is_gauge(first) || is_gauge(last)) {
        notes.push(no_counter);
    }
    let restarted = |i: usize| {
        let [before, after] = [i, i + 1].map(|i| window.histograms[i].timestamp_ms);
        window.starts.is_restart(before, after)
    };
    // What was counted before a restart right after the first one doesn't matter, whatever its buckets are.
    let nothing = NativeHistogram::empty(all[1].schema.clone());
    let restarted_at_once = restarted(0) || all[1].detect_reset(first);
    let previous = if is_counter && restarted_at_once { &nothing } else { first };
    if previous.schema.is_custom() != last.schema.is_custom() {
        return None;
    }
    // Those in between matter for counters only.
    let between = if is_counter { &all[1..all.len() - 1] } else { &[] };
    if between.iter().any(|histogram| histogram.schema.is_custom() != last.schema.is_custom()) {
        notes.clear();
        return None;
    }
    if between.iter().any(|histogram| is_gauge(histogram)) {
        notes.push(no_counter);
    }
    let schemas = between.iter().chain([&previous, &last]).map(|histogram| histogram.schema.number());
    let mut increase = last.clone();
    increase.reduce_to(schemas.min().and_then(|schema| i8::try_from(schema).ok()).unwrap_or_default());
    let rest = if is_counter { &all[1..] } else { &[] };
    subtract_counter(&mut increase, previous, rest, restarted, notes).ok()?;
    if is_counter {
        notes.extend(window.overlap(window.histograms.iter().map(|sample| sample.timestamp_ms)));
    }
    let gauges = is_gauge(first) && is_gauge(last);
    if !(is_counter || gauges) {
        notes.push(Note::HistogramIsNoGauge { metric: window.metric });
    }
    increase.reset_hint = ResetHint::Gauge;
    increase.compact();
    Some(increase)
}

/// Subtracts `first`, and adds what `rest` had before each restart; `restarted` tells of those that only start timestamps show.
fn subtract_counter(
    increase: &mut NativeHistogram,
    first: &NativeHistogram,
    rest: &[&NativeHistogram],
    restarted: impl Fn(usize) -> bool,
    notes: &mut Vec<Note<'_>>,
) -> Result<(), MixedSchemas> {
    note_reconciled(increase.sub(first)?, Operation::Subtraction, notes);
    let mut previous = first;
    for (i, current) in rest.iter().enumerate() {
        if restarted(i) || current.detect_reset(previous) {
            note_reconciled(increase.add(previous)?, Operation::Addition, notes);
        }
        previous = current;
    }
    Ok(())
}

/// Nothing if histograms could not be combined; tells of that, and of bounds that had to be dropped.
pub(super) fn tell_outcome(
    outcome: Result<Added, MixedSchemas>,
    operation: Operation,
    metric: &str,
    tell: &dyn Fn(Note<'_>),
) -> Option<()> {
    match outcome {
        Ok(added) if added.bounds_reconciled => tell(Note::BoundsReconciled(operation)),
        Ok(_) => {}
        Err(MixedSchemas) => {
            tell(Note::MixedSchemas { metric });
            return None;
        }
    }
    Some(())
}

fn note_reconciled(added: Added, operation: Operation, notes: &mut Vec<Note<'_>>) {
    if added.bounds_reconciled {
        notes.push(Note::BoundsReconciled(operation));
    }
}

pub(super) fn irate(window: &Window<'_>) -> Option<SampleValue> {
    between_last_two(window, true)
}

pub(super) fn idelta(window: &Window<'_>) -> Option<SampleValue> {
    between_last_two(window, false)
}

fn between_last_two(window: &Window<'_>, is_rate: bool) -> Option<SampleValue> {
    let points = window.points();
    let [.., (before_ms, before), (last_ms, last)] = &points[..] else { return None };
    let seconds = (last_ms - before_ms) as f64 / 1_000.0;
    let restarted = is_rate && window.starts.is_restart(*before_ms, *last_ms);
    match (before, last) {
        (Point::Float(before), Point::Float(last)) => {
            let reset = restarted || is_rate && last < before;
            let increase = if reset { *last } else { last - before };
            Some(SampleValue::Float(if is_rate { increase / seconds } else { increase }))
        }
        (Point::Histogram(before), Point::Histogram(last)) => {
            let mut increase = (*last).clone();
            let gauges = [before, last].map(|histogram| histogram.reset_hint == ResetHint::Gauge);
            if is_rate && gauges != [false, false] {
                (window.tell)(Note::HistogramIsNoCounter { metric: window.metric });
            }
            if !is_rate && gauges != [true, true] {
                (window.tell)(Note::HistogramIsNoGauge { metric: window.metric });
            }
            if !is_rate || !(restarted || last.detect_reset(before)) {
                tell_outcome(increase.sub(before), Operation::Subtraction, window.metric, window.tell)?;
            }
            increase.reset_hint = ResetHint::Gauge;
            increase.compact();
            if is_rate {
                increase.divide(seconds);
            }
            histogram_cell(increase)
        }
        _ => {
            (window.tell)(Note::MixedFloatsAndHistograms { metric: window.metric });
            None
        }
    }
}

pub(super) fn changes(window: &Window<'_>) -> Option<SampleValue> {
    count_pairs(window, |(_, before), (_, after)| match (before, after) {
        (Point::Float(a), Point::Float(b)) => a != b && !(a.is_nan() && b.is_nan()),
        (Point::Histogram(a), Point::Histogram(b)) => !a.same_data(b),
        _ => true,
    })
}

pub(super) fn resets(window: &Window<'_>) -> Option<SampleValue> {
    count_pairs(window, |(before_ms, before), (after_ms, after)| {
        let reset = match (before, after) {
            (Point::Float(before), Point::Float(after)) => after < before,
            (Point::Histogram(before), Point::Histogram(after)) => after.detect_reset(before),
            _ => true,
        };
        reset || window.starts.is_restart(before_ms, after_ms)
    })
}

fn count_pairs(
    window: &Window<'_>,
    counts: impl Fn((i64, Point<'_>), (i64, Point<'_>)) -> bool,
) -> Option<SampleValue> {
    let points = window.since_anchor()?.points();
    let count = points.windows(2).filter(|pair| counts(pair[0], pair[1])).count();
    Some(SampleValue::Float(count as f64))
}

/// What is noticed while histograms are combined.
#[derive(Default)]
pub(in crate::promql) struct Noticed {
    reset: bool,
    not_reset: bool,
    pub(in crate::promql) bounds_reconciled: bool,
}

impl Noticed {
    pub(in crate::promql) fn hint(&mut self, hint: ResetHint) {
        self.reset |= hint == ResetHint::Reset;
        self.not_reset |= hint == ResetHint::NotReset;
    }

    pub(in crate::promql) fn resets_collide(&self) -> bool {
        self.reset && self.not_reset
    }
}

pub(super) fn sum(window: &Window<'_>) -> Option<SampleValue> {
    let mut sum: HistogramSum = window.histograms[0].histogram.lifted();
    combine(window, |histogram| sum.add(histogram)).then(|| sum.total()).and_then(histogram_cell)
}

pub(super) fn avg(window: &Window<'_>) -> Option<SampleValue> {
    let mut mean = HistogramMean::of_first(&window.histograms[0].histogram);
    combine(window, |histogram| mean.add(histogram)).then(|| mean.mean()).and_then(histogram_cell)
}

/// Adds all histograms but the first; tells whether that makes a result.
fn combine(
    window: &Window<'_>,
    mut add: impl FnMut(&NativeHistogram) -> Result<Added, MixedSchemas>,
) -> bool {
    if !window.is_pure() {
        return false;
    }
    let mut noticed = Noticed::default();
    for (i, sample) in window.histograms.iter().enumerate() {
        noticed.hint(sample.histogram.reset_hint);
        if i == 0 {
            continue;
        }
        match add(&sample.histogram) {
            Ok(added) => noticed.bounds_reconciled |= added.bounds_reconciled,
            Err(MixedSchemas) => {
                (window.tell)(window.mixed_schemas());
                return false;
            }
        }
    }
    if noticed.resets_collide() {
        (window.tell)(Note::ResetsCollide(Operation::Aggregation));
    }
    if noticed.bounds_reconciled {
        (window.tell)(Note::BoundsReconciled(Operation::Aggregation));
    }
    true
}

pub(super) fn count(window: &Window<'_>) -> Option<SampleValue> {
    Some(SampleValue::Float((window.samples.len() + window.histograms.len()) as f64))
}

pub(super) fn present(_: &Window<'_>) -> Option<SampleValue> {
    Some(SampleValue::Float(1.0))
}

fn first_point<'a>(window: &Window<'a>) -> Option<(i64, Point<'a>)> {
    window.points().first().copied()
}

fn last_point<'a>(window: &Window<'a>) -> Option<(i64, Point<'a>)> {
    window.points().last().copied()
}

fn cell((_, point): (i64, Point<'_>)) -> SampleValue {
    match point {
        Point::Float(value) => SampleValue::Float(value),
        Point::Histogram(histogram) => SampleValue::Histogram(Arc::new(histogram.clone())),
    }
}

fn seconds((timestamp_ms, _): (i64, Point<'_>)) -> SampleValue {
    SampleValue::Float(timestamp_ms as f64 / 1_000.0)
}

pub(super) fn first(window: &Window<'_>) -> Option<SampleValue> {
    first_point(window).map(cell)
}

pub(super) fn last(window: &Window<'_>) -> Option<SampleValue> {
    last_point(window).map(cell)
}

pub(super) fn time_of_first(window: &Window<'_>) -> Option<SampleValue> {
    first_point(window).map(seconds)
}

pub(super) fn time_of_last(window: &Window<'_>) -> Option<SampleValue> {
    last_point(window).map(|(timestamp_ms, point)| seconds((timestamp_ms.max(0), point)))
}

/// The mean of the observed values.
pub(super) fn mean(histogram: &NativeHistogram) -> f64 {
    histogram.sum / histogram.count
}

/// The estimated variance of the observed values; those of a bucket are thought to be in its middle.
pub(super) fn variance(histogram: &NativeHistogram) -> f64 {
    let mean = mean(histogram);
    let mut squares = KahanSum::default();
    for bucket in histogram.buckets().filter(|bucket| bucket.count != 0.0) {
        let value = if histogram.schema.is_custom() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
        };
        let delta = value - mean;
        squares.add(bucket.count * delta * delta);
    }
    (squares.sum + squares.compensation) / histogram.count
}
