//! Comparing what a query gave with what the script expects.

use std::collections::BTreeMap;

use flyball_metrics::Labels;
use flyball_metrics::promql::{Series, Value};

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
type Points = BTreeMap<i64, f64>;

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
            let got: Vec<(Labels, f64)> = samples.iter().map(|s| (s.labels.clone(), s.value)).collect();
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
pub(crate) fn compare_vector(eval: &Eval, got: Vec<(Labels, f64)>) -> Result<(), String> {
    let mut wanted = Vec::new();
    for line in &eval.results {
        let (labels, rest) = parse_series(line)?;
        match &*parse_items(rest)? {
            [Item::Float(value)] => wanted.push((labels, *value)),
            [Item::Histogram] => return Err("expects a native histogram".into()),
            other => return Err(format!("one value expected in {line}, got {other:?}")),
        }
    }
    let ordered = eval.expectations.iter().any(|e| matches!(e, Expectation::Ordered));
    if got.len() != wanted.len() {
        return Err(format!("expected {} samples {wanted:?}, got {}: {got:?}", wanted.len(), got.len()));
    }
    for (i, (labels, value)) in wanted.iter().enumerate() {
        let found = got.iter().position(|(other, _)| other == labels);
        let Some(at) = found else { return Err(format!("{labels} is missing in {got:?}")) };
        if ordered && at != i {
            return Err(format!("{labels} is at place {at}, not {i}"));
        }
        if !almost_equal(*value, got[at].1) {
            return Err(format!("{labels}: expected {value}, got {}", got[at].1));
        }
    }
    Ok(())
}

fn compare_matrix(eval: &Eval, got: &[Series], start_ms: i64, step_ms: i64) -> Result<(), String> {
    let mut wanted: Vec<(Labels, Points)> = Vec::new();
    for line in &eval.results {
        let (labels, rest) = parse_series(line)?;
        let mut points = Points::new();
        for (i, item) in parse_items(rest)?.into_iter().enumerate() {
            match item {
                Item::Gap => {}
                Item::Float(value) => drop(points.insert(start_ms + step_ms * i as i64, value)),
                Item::Histogram => return Err("expects a native histogram".into()),
            }
        }
        wanted.push((labels, points));
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
        let samples: Points = series.samples.iter().map(|s| (s.timestamp_ms, s.value)).collect();
        let equal = samples.len() == points.len()
            && points.iter().all(|(t, v)| samples.get(t).is_some_and(|value| almost_equal(*v, *value)));
        if !equal {
            return Err(format!("{labels}: expected {points:?}, got {samples:?}"));
        }
    }
    Ok(())
}
