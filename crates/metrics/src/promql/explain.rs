//! Why a query has the value it has, or none: what each of its selectors found.
//!
//! "No data is not no load": an empty result has a cause, and the cause is almost always a selector. For each one this
//! tells how many series match and how old their newest sample is; for one that matches nothing, the condition that
//! excludes everything, and names that are near.

use super::EngineOptions;
use super::ast::{Expr, VectorSelector};
use super::duration::DurationContext;
use crate::labels::METRIC_NAME;
use crate::matcher::Matcher;
use crate::sample::Sample;
use crate::store::Store;

/// Near names that are told at most.
const NEAREST_MAX: usize = 3;

/// What a selector found.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectorExplanation {
    /// The selector as Prometheus writes it, with its window.
    pub selector: String,
    /// Series in the store that match all conditions, whatever their age.
    pub series_matched: usize,
    /// Of those, series with a sample where the query looks.
    pub series_with_samples: usize,
    /// Samples where the query looks, over all series.
    pub samples: usize,
    /// The fewest samples that a series with any has there; `rate` needs two.
    pub samples_min: usize,
    /// The time of the newest sample of any matching series, up to the time asked for.
    pub newest_ms: Option<i64>,
    /// Conditions that match no series at all on their own.
    pub matchers_without_series: Vec<String>,
    /// The condition whose removal would let series through, when each matches something but not together.
    pub excluding_matcher: Option<String>,
    /// Existing metric names (or, for an unknown label value, values) near the one that matches nothing, nearest first.
    pub nearest: Vec<String>,
}

/// Explains each selector of a query, from left to right.
pub fn explain(
    store: &Store,
    expr: &Expr,
    time_ms: i64,
    options: &EngineOptions,
) -> Vec<SelectorExplanation> {
    let durations = DurationContext { query: "", step_seconds: 0.0, range_seconds: 0.0 };
    let lookback_ms = i64::try_from(options.lookback_delta.as_millis()).unwrap_or(i64::MAX);
    let one = |(selector, range): (&VectorSelector, Option<&super::DurationExpr>)| {
        let range_ms = range.and_then(|range| durations.ms(range).ok()).unwrap_or(lookback_ms);
        let offset_ms =
            selector.shift.offset.as_ref().and_then(|offset| durations.ms(offset).ok()).unwrap_or(0);
        let fixed = match selector.shift.at {
            Some(super::At::Time(ms)) => Some(ms),
            _ => None,
        };
        let end_ms = fixed.unwrap_or(time_ms).saturating_sub(offset_ms);
        let text = match range {
            Some(range) => format!("{}[{range}]", Expr::Vector(selector.clone())),
            None => Expr::Vector(selector.clone()).to_string(),
        };
        explain_selector(store, selector, text, end_ms, range_ms)
    };
    expr.selectors().into_iter().map(one).collect()
}

fn explain_selector(
    store: &Store,
    selector: &VectorSelector,
    text: String,
    end_ms: i64,
    range_ms: i64,
) -> SelectorExplanation {
    let matched = store.select(&selector.matchers);
    let mut scratch = Vec::new();
    let mut counts = Vec::new();
    let mut newest_ms = None;
    for series in &matched {
        let window = series.samples(end_ms.saturating_sub(range_ms), end_ms, &mut scratch);
        counts.push(window.iter().filter(|sample| !sample.is_stale_marker()).count());
        let real = |sample: &Sample| !sample.is_stale_marker() && sample.timestamp_ms <= end_ms;
        let last = series.newest().filter(real).map(|sample| sample.timestamp_ms);
        let last = last.or_else(|| {
            let all = series.samples(i64::MIN, end_ms, &mut scratch);
            all.iter().rev().find(|sample| !sample.is_stale_marker()).map(|sample| sample.timestamp_ms)
        });
        newest_ms = newest_ms.max(last);
    }
    counts.retain(|count| *count > 0);
    let mut explanation = SelectorExplanation {
        selector: text,
        series_matched: matched.len(),
        series_with_samples: counts.len(),
        samples: counts.iter().sum(),
        samples_min: counts.iter().min().copied().unwrap_or(0),
        newest_ms,
        matchers_without_series: Vec::new(),
        excluding_matcher: None,
        nearest: Vec::new(),
    };
    if matched.is_empty() {
        find_cause(store, &selector.matchers, &mut explanation);
    }
    explanation
}

/// Finds what lets nothing through.
fn find_cause(store: &Store, matchers: &[Matcher], explanation: &mut SelectorExplanation) {
    let alone: Vec<&Matcher> =
        matchers.iter().filter(|matcher| store.select(std::slice::from_ref(*matcher)).is_empty()).collect();
    explanation.matchers_without_series = alone.iter().map(ToString::to_string).collect();
    // A name that does not exist is the better cause to tell than a label of it.
    let named = |matcher: &&&Matcher| matcher.name() == METRIC_NAME;
    if let Some(unknown) = alone.iter().find(named).or(alone.first()) {
        explanation.nearest = nearest(unknown.value(), &store.label_values(unknown.name()));
        return;
    }
    for (i, excluded) in matchers.iter().enumerate() {
        let others: Vec<Matcher> = matchers
            .iter()
            .enumerate()
            .filter(|(j, _)| *j != i)
            .map(|(_, matcher)| matcher.clone())
            .collect();
        let without = store.select(&others);
        if !others.is_empty() && !without.is_empty() && excluded.name() != METRIC_NAME {
            explanation.excluding_matcher = Some(excluded.to_string());
            let mut values: Vec<&str> =
                without.iter().map(|series| series.labels().get(excluded.name())).collect();
            values.sort_unstable();
            values.dedup();
            explanation.nearest = nearest(excluded.value(), &values);
            return;
        }
    }
}

/// The texts with the fewest edits to `wanted`, if they are near enough to be meant.
fn nearest(wanted: &str, texts: &[&str]) -> Vec<String> {
    let far = wanted.chars().count() / 2 + 1;
    let mut scored: Vec<(usize, &str)> = texts
        .iter()
        .filter(|text| !text.is_empty())
        .map(|text| (score(wanted, text), *text))
        .filter(|(distance, _)| *distance <= far)
        .collect();
    scored.sort_unstable();
    scored.into_iter().take(NEAREST_MAX).map(|(_, text)| text.to_owned()).collect()
}

/// Edit distance; a name that only lacks a suffix such as `_total` or `_bucket` is one edit away.
fn score(wanted: &str, text: &str) -> usize {
    let (short, long) = if wanted.len() < text.len() { (wanted, text) } else { (text, wanted) };
    let suffix = long.strip_prefix(short).is_some_and(|rest| rest.starts_with('_'));
    if suffix && !short.is_empty() { 1 } else { edit_distance(wanted, text) }
}

/// How many letters must be added, removed or exchanged (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut current = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let exchanged = previous[j] + usize::from(x != *y);
            current.push(exchanged.min(previous[j + 1] + 1).min(current[j] + 1));
        }
        previous = current;
    }
    previous[b.len()]
}
