//! Why a query has the value it has, or none: what each of its selectors found, and what each of its steps resulted in.
//!
//! "No data is not no load": an empty result has a cause, and the cause is almost always a selector. For each one this
//! tells how many series match and how old their newest sample is; for one that matches nothing, the condition that
//! excludes everything, and names that are near.

mod cause;
mod nearest;
mod steps;

use std::collections::BTreeSet;

pub use cause::{Cause, why_empty};
use nearest::nearest;
pub use steps::{STEPS_MAX, Step, steps};

use super::EngineOptions;
use super::ast::{Expr, MatrixSelector, VectorSelector};
use super::duration::DurationContext;
use super::source::{Reader, Source};
use crate::labels::{Labels, METRIC_NAME};
use crate::matcher::Matcher;
use crate::sample::Sample;
use crate::store::{SeriesHandle, SeriesRef};

/// Selectors of a query that are explained.
const SELECTORS_MAX: usize = 100;
/// Matchers of a selector that are looked at one by one to find which of them lets nothing through.
const MATCHERS_MAX: usize = 20;
/// Targets that are told of each selector at most.
const SOURCES_MAX: usize = 100;
/// Series whose scrape interval is looked at.
const INTERVALS_MAX: usize = 20;
/// How far back a scrape interval is looked for.
const INTERVAL_WINDOW_MS: i64 = 10 * 60 * 1_000;

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
    /// The time of the oldest sample of any matching series that is kept, also after the time asked for.
    pub oldest_ms: Option<i64>,
    /// Conditions that match no series at all on their own.
    pub matchers_without_series: Vec<String>,
    /// The condition whose removal would let series through, when each matches something but not together.
    pub excluding_matcher: Option<String>,
    /// The length of its window; `None` for a plain selector.
    pub range_ms: Option<i64>,
    /// The end of its window.
    pub end_ms: i64,
    /// How far apart its newest samples are: the median over its series, the largest of each.
    pub interval_ms: Option<i64>,
    /// The targets of the matching series, by `job` and `instance`.
    pub sources: Vec<Labels>,
    /// Existing metric names (or, for an unknown label value, values) near the one that matches nothing, nearest first.
    pub nearest: Vec<String>,
}

/// Explains each selector of a query, from left to right.
pub fn explain<'a>(
    source: impl Into<Source<'a>>,
    expr: &Expr,
    time_ms: i64,
    options: &EngineOptions,
) -> Vec<SelectorExplanation> {
    // What went wrong is told by the query's own result.
    let Ok(reader) = Reader::of(source.into(), expr, &options.stop) else { return Vec::new() };
    let durations = DurationContext { step_seconds: 0.0, range_seconds: 0.0 };
    let lookback_ms = i64::try_from(options.lookback_delta.as_millis()).unwrap_or(i64::MAX);
    let one = |(selector, range): (&VectorSelector, Option<&super::DurationExpr>)| {
        let range_ms = range.and_then(|range| durations.ms(range).ok());
        let offset_ms =
            selector.shift.offset.as_ref().and_then(|offset| durations.ms(offset).ok()).unwrap_or(0);
        let fixed = match selector.shift.at {
            Some(super::At::Time(ms)) => Some(ms),
            _ => None,
        };
        let end_ms = fixed.unwrap_or(time_ms).saturating_sub(offset_ms);
        let (vector, span) = (selector.clone(), selector.span);
        let written = match range {
            Some(range) => Expr::Matrix(Box::new(MatrixSelector { vector, range: range.clone(), span })),
            None => Expr::Vector(vector),
        };
        explain_selector(&reader, selector, written.to_string(), (range_ms, lookback_ms), end_ms)
    };
    expr.selectors().into_iter().take(SELECTORS_MAX).map(one).collect()
}

fn explain_selector(
    reader: &Reader<'_>,
    selector: &VectorSelector,
    text: String,
    (range_ms, lookback_ms): (Option<i64>, i64),
    end_ms: i64,
) -> SelectorExplanation {
    let after_ms = end_ms.saturating_sub(range_ms.unwrap_or(lookback_ms));
    let selected = reader.select(&selector.matchers).unwrap_or_default();
    let matched: Vec<SeriesRef<'_>> = selected.iter().map(SeriesHandle::read).collect();
    let (mut scratch, mut histograms) = (Vec::new(), Vec::new());
    let (mut counts, mut intervals) = (Vec::new(), Vec::new());
    let mut newest_ms = None;
    let mut sources = BTreeSet::new();
    for series in &matched {
        let floats = series.samples(after_ms, end_ms, &mut scratch);
        let histograms = series.histograms(after_ms, end_ms, &mut histograms);
        // Without a range, what came before a marker is not seen.
        let marker = floats.last().filter(|newest| newest.is_stale_marker() && range_ms.is_none());
        let ended_ms = marker.map_or(i64::MIN, |marker| marker.timestamp_ms);
        let seen = |sample: &&Sample| !sample.is_stale_marker() && sample.timestamp_ms > ended_ms;
        let histograms = histograms.iter().filter(|sample| sample.timestamp_ms > ended_ms);
        counts.push(floats.iter().filter(seen).count() + histograms.count());
        newest_ms = newest_ms.max(newest_until(*series, end_ms));
        if intervals.len() < INTERVALS_MAX {
            intervals.extend(interval(*series, end_ms));
        }
        if sources.len() < SOURCES_MAX {
            sources.insert(series.labels().keep(&["job", "instance"]));
        }
    }
    intervals.sort_unstable();
    counts.retain(|count| *count > 0);
    let mut explanation = SelectorExplanation {
        selector: text,
        series_matched: matched.len(),
        series_with_samples: counts.len(),
        samples: counts.iter().sum(),
        samples_min: counts.iter().min().copied().unwrap_or(0),
        newest_ms,
        oldest_ms: matched.iter().filter_map(SeriesRef::oldest_ms).min(),
        range_ms,
        end_ms,
        interval_ms: intervals.get(intervals.len() / 2).copied(),
        sources: sources.into_iter().collect(),
        matchers_without_series: Vec::new(),
        excluding_matcher: None,
        nearest: Vec::new(),
    };
    if matched.is_empty() {
        find_cause(reader, &selector.matchers, &mut explanation);
    }
    explanation
}

/// The time of the newest sample up to `end_ms` that is no stale marker.
fn newest_until(series: SeriesRef<'_>, end_ms: i64) -> Option<i64> {
    if let Some(alive_ms) = series.alive_ms().filter(|alive_ms| *alive_ms <= end_ms) {
        return Some(alive_ms);
    }
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    let all = series.samples(i64::MIN, end_ms, &mut floats);
    let float = all.iter().rev().find(|sample| !sample.is_stale_marker()).map(|sample| sample.timestamp_ms);
    let histogram = series.histograms(i64::MIN, end_ms, &mut histograms).last().map(|s| s.timestamp_ms);
    float.max(histogram)
}

/// The distance of the newest two samples.
fn interval(series: SeriesRef<'_>, end_ms: i64) -> Option<i64> {
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    let after_ms = end_ms.saturating_sub(INTERVAL_WINDOW_MS);
    let floats = series.samples(after_ms, end_ms, &mut floats).iter();
    let floats = floats.filter(|sample| !sample.is_stale_marker()).map(|sample| sample.timestamp_ms);
    let histograms = series.histograms(after_ms, end_ms, &mut histograms).iter().map(|s| s.timestamp_ms);
    let mut times: Vec<i64> = floats.chain(histograms).collect();
    times.sort_unstable();
    match times.as_slice() {
        [.., before, last] => Some(last - before),
        _ => None,
    }
}

/// Finds what lets nothing through.
fn find_cause(reader: &Reader<'_>, matchers: &[Matcher], explanation: &mut SelectorExplanation) {
    let matchers = &matchers[..matchers.len().min(MATCHERS_MAX)];
    let select = |matchers: &[Matcher]| reader.select(matchers).unwrap_or_default();
    let alone: Vec<&Matcher> =
        matchers.iter().filter(|matcher| select(std::slice::from_ref(*matcher)).is_empty()).collect();
    explanation.matchers_without_series = alone.iter().map(ToString::to_string).collect();
    // A name that does not exist is the better cause to tell than a label of it.
    let named = |matcher: &&&Matcher| matcher.name() == METRIC_NAME;
    if let Some(unknown) = alone.iter().find(named).or(alone.first()) {
        explanation.nearest = nearest(unknown.value(), &reader.label_values(unknown.name()));
        return;
    }
    for (i, excluded) in matchers.iter().enumerate() {
        let others: Vec<Matcher> = matchers
            .iter()
            .enumerate()
            .filter(|(j, _)| *j != i)
            .map(|(_, matcher)| matcher.clone())
            .collect();
        let without = select(&others);
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
