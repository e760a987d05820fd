//! Warnings and infos: what a user should know about a result, in Prometheus' words (util/annotations).

use std::fmt;

use super::ast::Span;
use super::error::position;
use crate::text::{format_digits, format_general, format_rfc3339, quote};

/// What was noticed while a query ran. Each text once, with the place of the last time, in the order of the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// `PromQL warning: …`: the result is likely not what was meant.
    pub warnings: Vec<String>,
    /// `PromQL info: …`: the result may not be what was meant.
    pub infos: Vec<String>,
}

/// Texts that are kept; a query over many metrics would repeat itself for each.
const ANNOTATIONS_MAX: usize = 1_000;

/// What histograms were combined for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Addition => "addition",
            Operation::Subtraction => "subtraction",
            Operation::Aggregation => "aggregation",
        }
    }
}

/// Something to tell about a part of the query. `metric` is the name of the metric, or empty where it has none.
#[derive(Clone, Copy, Debug)]
pub(super) enum Note<'a> {
    InvalidQuantile(f64),
    InvalidRatio { ratio: f64, capped: f64 },
    BadBucketLabel { metric: &'a str, le: &'a str },
    SortInRangeQuery,
    MixedFloatsAndHistograms { metric: &'a str },
    MixedFloatsAndHistogramsInAggregation,
    MixedClassicAndNative { metric: &'a str },
    MixedSchemas { metric: &'a str },
    HistogramIsNoCounter { metric: &'a str },
    HistogramIsNoGauge { metric: &'a str },
    IncompatibleBuckets { operator: &'a str },
    ResetsCollide(Operation),
    PossibleNonCounter { metric: &'a str },
    ForcedMonotonicity { metric: &'a str, forced: Forced },
    IncompatibleTypes { left: &'a str, operator: &'a str, right: &'a str },
    HistogramIgnoredInAggregation { aggregation: &'a str },
    HistogramIgnoredInRange { metric: &'a str },
    NanObservationsAreResult { metric: &'a str },
    NanObservationsSkewResult { metric: &'a str },
    NanObservationsNotInFraction { metric: &'a str },
    BoundsReconciled(Operation),
    StartsOverlap { metric: &'a str },
}

impl Note<'_> {
    fn is_warning(self) -> bool {
        use Note::*;
        !matches!(
            self,
            PossibleNonCounter { .. }
                | ForcedMonotonicity { .. }
                | IncompatibleTypes { .. }
                | HistogramIgnoredInAggregation { .. }
                | HistogramIgnoredInRange { .. }
                | NanObservationsAreResult { .. }
                | NanObservationsSkewResult { .. }
                | NanObservationsNotInFraction { .. }
                | BoundsReconciled(_)
        )
    }

    fn text(self) -> String {
        let quoted = |text: &str| quote(text.as_bytes());
        let with_metric = |text: &str, metric: &str| {
            let metric = if metric.is_empty() {
                String::new()
            } else {
                format!(" for metric name {}", quoted(metric))
            };
            format!("{text}{metric}")
        };
        match self {
            Note::InvalidQuantile(q) => {
                format!("quantile value should be between 0 and 1, got {}", format_general(q))
            }
            Note::InvalidRatio { ratio, capped } => format!(
                "ratio value should be between -1 and 1, got {}, capping to {}",
                format_general(ratio),
                format_general(capped)
            ),
            Note::BadBucketLabel { metric, le } => with_metric(
                &format!("bucket label \"le\" is missing or has a malformed value of {}", quoted(le)),
                metric,
            ),
            Note::SortInRangeQuery => {
                "sort is ineffective for range queries since results are always ordered by labels".into()
            }
            Note::MixedFloatsAndHistograms { metric } => {
                format!("encountered a mix of histograms and floats for metric name {}", quoted(metric))
            }
            Note::MixedFloatsAndHistogramsInAggregation => {
                "encountered a mix of histograms and floats for aggregation".into()
            }
            Note::MixedClassicAndNative { metric } => {
                with_metric("vector contains a mix of classic and native histograms", metric)
            }
            Note::MixedSchemas { metric } => format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
                quoted(metric)
            ),
            Note::HistogramIsNoCounter { metric } => {
                format!("this native histogram metric is not a counter: {}", quoted(metric))
            }
            Note::HistogramIsNoGauge { metric } => {
                format!("this native histogram metric is not a gauge: {}", quoted(metric))
            }
            Note::IncompatibleBuckets { operator } => {
                format!("incompatible bucket layout encountered for binary operator {operator}")
            }
            Note::ResetsCollide(operation) => {
                format!("conflicting counter resets during histogram {}", operation.name())
            }
            Note::PossibleNonCounter { metric } => format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                quoted(metric)
            ),
            Note::ForcedMonotonicity { metric, .. } => with_metric(
                "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)",
                metric,
            ),
            Note::IncompatibleTypes { left, operator, right } => format!(
                "incompatible sample types encountered for binary operator {}: {left} {operator} {right}",
                quoted(operator)
            ),
            Note::HistogramIgnoredInAggregation { aggregation } => {
                format!("ignored histogram in {aggregation} aggregation")
            }
            Note::HistogramIgnoredInRange { metric } => format!(
                "ignored histograms in a range containing both floats and histograms for metric name {}",
                quoted(metric)
            ),
            Note::NanObservationsAreResult { metric } => {
                with_metric("input to histogram_quantile has NaN observations, result is NaN", metric)
            }
            Note::NanObservationsSkewResult { metric } => with_metric(
                "input to histogram_quantile has NaN observations, result is skewed higher",
                metric,
            ),
            Note::NanObservationsNotInFraction { metric } => with_metric(
                "input to histogram_fraction has NaN observations, which are excluded from all fractions",
                metric,
            ),
            Note::BoundsReconciled(operation) => {
                format!("mismatched custom buckets were reconciled during {}", operation.name())
            }
            Note::StartsOverlap { metric } => format!(
                "sample has start time that overlaps with previous sample timestamp for metric {}",
                quoted(metric)
            ),
        }
    }
}

/// What was done to the buckets of classic histograms to make their counts rise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Forced {
    /// The lowest and the highest bound of a changed bucket.
    pub(super) bounds: (f64, f64),
    /// The largest change of a count.
    pub(super) difference: f64,
    /// The times of evaluation, first and last, and how many.
    pub(super) times_ms: (i64, i64),
    pub(super) count: usize,
}

impl Forced {
    fn join(&mut self, other: Forced) {
        self.bounds = (self.bounds.0.min(other.bounds.0), self.bounds.1.max(other.bounds.1));
        self.difference = self.difference.max(other.difference);
        let (first, last) = other.times_ms;
        self.times_ms = (self.times_ms.0.min(first), self.times_ms.1.max(last));
        self.count += other.count;
    }
}

impl fmt::Display for Forced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [self.bounds.0, self.bounds.1].map(format_general);
        let difference = format_digits(self.difference, 2);
        let [first, last] = [self.times_ms.0, self.times_ms.1].map(format_rfc3339);
        let count = self.count;
        write!(
            f,
            ", from buckets {from} to {to}, with a max diff of {difference}, over {count} samples from {first} to {last}"
        )
    }
}

/// What was noticed so far.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Noted>);

#[derive(Debug)]
struct Noted {
    is_warning: bool,
    text: String,
    span: Span,
    forced: Option<Forced>,
}

impl Notes {
    /// Adds what there is to tell about a part of the query.
    pub(super) fn add(&mut self, span: Span, note: Note<'_>) {
        let text = note.text();
        let forced = match note {
            Note::ForcedMonotonicity { forced, .. } => Some(forced),
            _ => None,
        };
        let is_full = self.0.len() >= ANNOTATIONS_MAX;
        match self.0.iter_mut().find(|noted| noted.text == text) {
            Some(noted) => match (&mut noted.forced, forced) {
                (Some(all), Some(one)) => all.join(one),
                _ => noted.span = span,
            },
            None if is_full => {}
            None => self.0.push(Noted { is_warning: note.is_warning(), text, span, forced }),
        }
    }

    /// The texts, with their places in the query.
    pub(super) fn told(self, query: &str) -> Annotations {
        let mut annotations = Annotations::default();
        for Noted { is_warning, text, span, forced } in self.0 {
            let (line, column) = position(query, span.start);
            let detail = forced.map(|forced| forced.to_string()).unwrap_or_default();
            let (kind, list) = match is_warning {
                true => ("warning", &mut annotations.warnings),
                false => ("info", &mut annotations.infos),
            };
            list.push(format!("PromQL {kind}: {text}{detail} ({line}:{column})"));
        }
        annotations
    }
}
