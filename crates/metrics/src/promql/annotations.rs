//! Warnings and infos: what a user should know about a result, in Prometheus' words (util/annotations).

use super::ast::Span;
use super::error::position;
use crate::text::{format_general, quote};

/// What was noticed while a query ran. Each text once, in the order of the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// `PromQL warning: …`: the result is likely not what was meant.
    pub warnings: Vec<String>,
    /// `PromQL info: …`: the result may not be what was meant.
    pub infos: Vec<String>,
}

/// Texts kept of each kind; a query over many metrics would repeat itself for each.
const ANNOTATIONS_MAX: usize = 1_000;

fn add(list: &mut Vec<String>, text: String) {
    if list.len() < ANNOTATIONS_MAX && !list.contains(&text) {
        list.push(text);
    }
}

fn for_metric(metric: &str) -> String {
    if metric.is_empty() { String::new() } else { format!(" for metric name {}", quote(metric.as_bytes())) }
}

impl Annotations {
    fn warn(&mut self, query: &str, span: Span, text: &str) {
        let (line, column) = position(query, span.start);
        add(&mut self.warnings, format!("PromQL warning: {text} ({line}:{column})"));
    }

    fn inform(&mut self, query: &str, span: Span, text: &str) {
        let (line, column) = position(query, span.start);
        add(&mut self.infos, format!("PromQL info: {text} ({line}:{column})"));
    }

    pub(super) fn invalid_quantile(&mut self, query: &str, span: Span, q: f64) {
        let q = format_general(q);
        self.warn(query, span, &format!("quantile value should be between 0 and 1, got {q}"));
    }

    pub(super) fn bad_bucket_label(&mut self, query: &str, span: Span, metric: &str, le: &str) {
        let le = quote(le.as_bytes());
        let metric = for_metric(metric);
        self.warn(
            query,
            span,
            &format!("bucket label \"le\" is missing or has a malformed value of {le}{metric}"),
        );
    }

    pub(super) fn sort_in_range_query(&mut self, query: &str, span: Span) {
        let text = "sort is ineffective for range queries since results are always ordered by labels";
        self.warn(query, span, text);
    }

    pub(super) fn possible_non_counter(&mut self, query: &str, span: Span, metric: &str) {
        let metric = quote(metric.as_bytes());
        let text = format!(
            "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric}"
        );
        self.inform(query, span, &text);
    }

    pub(super) fn forced_monotonicity(&mut self, query: &str, span: Span, metric: &str) {
        let metric = for_metric(metric);
        let text = format!(
            "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){metric}"
        );
        self.inform(query, span, &text);
    }
}
