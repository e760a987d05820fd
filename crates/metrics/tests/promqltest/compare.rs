//! Comparing what a query gave with what the script expects.

use std::collections::BTreeMap;

use flyball_metrics::histogram::{Buckets, NativeHistogram};
use flyball_metrics::promql::{SampleValue, Series, Value};
use flyball_metrics::{Labels, Sample};

use super::case::{Eval, EvalTimes, Expectation, parse_number, parse_series};
use super::load::{Item, parse_items};

/// The relative difference that still counts as equal.
const EPSILON: f64 = 1e-6;

pub(crate) fn almost_equal(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || a.abs() + b.abs() < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / (a.abs() + b.abs()).min(f64::MAX) < EPSILON
}

/// Samples by time.
type Points<T> = BTreeMap<i64, T>;

/// Whether a sample is what a script expects; hints count where they are written out.
fn item_equal(wanted: &Item, got: &SampleValue) -> bool {
    match (wanted, got) {
        (Item::Float(wanted), SampleValue::Float(got)) => almost_equal(*wanted, *got),
        (Item::Histogram(wanted, hint_is_set), SampleValue::Histogram(got)) => {
            let (mut a, mut b) = ((**wanted).clone(), (**got).clone());
            a.compact();
            b.compact();
            (!hint_is_set || a.reset_hint == b.reset_hint) && histograms_equal(&a, &b)
        }
        _ => false,
    }
}

fn histograms_equal(a: &NativeHistogram, b: &NativeHistogram) -> bool {
    let buckets_equal = |a: &Buckets, b: &Buckets| {
        a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.0 == b.0 && almost_equal(a.1, b.1))
    };
    a.schema == b.schema
        && almost_equal(a.count, b.count)
        && almost_equal(a.sum, b.sum)
        && a.zero_threshold == b.zero_threshold
        && almost_equal(a.zero_count, b.zero_count)
        && buckets_equal(&a.positive, &b.positive)
        && buckets_equal(&a.negative, &b.negative)
}

/// A sample as a script writes it.
fn show(value: &SampleValue) -> String {
    match value {
        SampleValue::Float(value) => value.to_string(),
        SampleValue::Histogram(histogram) => histogram.to_script(),
    }
}

/// Compares a result with the expected one of the block.
pub(crate) fn compare(eval: &Eval, value: &Value) -> Result<(), String> {
    for expectation in &eval.expectations {
        match (expectation, value) {
            (Expectation::String(wanted), Value::String { text, .. }) if wanted == text => return Ok(()),
            (Expectation::String(wanted), other) => {
                return Err(format!("expected string {wanted:?}, got {other:?}"));
            }
            _ => {}
        }
    }
    let range = eval.expectations.iter().find_map(|expectation| match expectation {
        Expectation::RangeVector { start_ms, step_ms } => Some((*start_ms, *step_ms)),
        _ => None,
    });
    if let ([number], Value::Scalar(sample)) = (&*eval.results, value) {
        let wanted = parse_number(number).ok_or_else(|| format!("expected {number}, got a scalar"))?;
        let equal = almost_equal(wanted, sample.value);
        return if equal { Ok(()) } else { Err(format!("expected {wanted}, got {}", sample.value)) };
    }
    match (value, range, eval.times) {
        (Value::Vector(samples), None, EvalTimes::Instant(_)) => {
            let got = samples.iter().map(|s| (s.labels.clone(), s.value.clone())).collect();
            compare_vector(eval, got)
        }
        (Value::Matrix(series), Some((start_ms, step_ms)), _) => {
            compare_matrix(eval, series, start_ms, step_ms)
        }
        (Value::Matrix(series), None, EvalTimes::Range { start_ms, step_ms, .. }) => {
            compare_matrix(eval, series, start_ms, step_ms)
        }
        (other, ..) => Err(format!("unexpected kind of result: {other:?}")),
    }
}

/// Compares samples at one time.
pub(crate) fn compare_vector(eval: &Eval, got: Vec<(Labels, SampleValue)>) -> Result<(), String> {
    let mut wanted = Vec::new();
    for line in &eval.results {
        let (labels, rest) = parse_series(line)?;
        match &*parse_items(rest)? {
            [item] if *item != Item::Gap => wanted.push((labels, item.clone())),
            other => return Err(format!("one value expected in {line}, got {other:?}")),
        }
    }
    let ordered = eval.expectations.iter().any(|e| matches!(e, Expectation::Ordered));
    if got.len() != wanted.len() {
        let got: Vec<String> =
            got.iter().map(|(labels, value)| format!("{labels} {}", show(value))).collect();
        return Err(format!("expected {} samples, got {}: {got:?}", wanted.len(), got.len()));
    }
    for (i, (labels, item)) in wanted.iter().enumerate() {
        let found = got.iter().position(|(other, _)| other == labels);
        let Some(at) = found else { return Err(format!("{labels} is missing in {got:?}")) };
        if ordered && at != i {
            return Err(format!("{labels} is at place {at}, not {i}"));
        }
        if !item_equal(item, &got[at].1) {
            return Err(format!("{labels}: expected {item:?}, got {}", show(&got[at].1)));
        }
    }
    Ok(())
}

fn compare_matrix(eval: &Eval, got: &[Series], start_ms: i64, step_ms: i64) -> Result<(), String> {
    let mut wanted: Vec<(Labels, Points<Item>)> = Vec::new();
    for line in &eval.results {
        let (labels, rest) = parse_series(line)?;
        let items = parse_items(rest)?.into_iter().enumerate().filter(|(_, item)| *item != Item::Gap);
        wanted.push((labels, items.map(|(i, item)| (start_ms + step_ms * i as i64, item)).collect()));
    }
    if !got.is_sorted_by(|a, b| a.labels <= b.labels) {
        return Err("series are not sorted by labels".into());
    }
    if got.len() != wanted.len() {
        return Err(format!("expected {} series, got {}: {got:?}", wanted.len(), got.len()));
    }
    for (labels, points) in wanted {
        let Some(series) = got.iter().find(|series| series.labels == labels) else {
            return Err(format!("{labels} is missing in {got:?}"));
        };
        let samples = points_of(series);
        let equal = samples.len() == points.len()
            && points.iter().all(|(t, item)| samples.get(t).is_some_and(|value| item_equal(item, value)));
        if !equal {
            let samples: Vec<String> =
                samples.iter().map(|(t, value)| format!("{t}: {}", show(value))).collect();
            return Err(format!("{labels}: expected {points:?}, got {samples:?}"));
        }
    }
    Ok(())
}

/// The samples of a series, of both kinds.
pub(crate) fn points_of(series: &Series) -> Points<SampleValue> {
    let float = |sample: &Sample| (sample.timestamp_ms, SampleValue::Float(sample.value));
    let histograms = series.histograms.iter();
    let histograms = histograms.map(|s| (s.timestamp_ms, SampleValue::Histogram(s.histogram.clone())));
    series.samples.iter().map(float).chain(histograms).collect()
}
