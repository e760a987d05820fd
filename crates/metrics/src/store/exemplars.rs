//! Exemplars: examples of what was counted, such as the trace of a slow request. Only the newest are kept, over all series.

use std::collections::{HashMap, VecDeque};

use crate::labels::Labels;

/// Exemplars that are kept, about 300 bytes each.
const EXEMPLARS_MAX: usize = 20_000;
/// Characters of an exemplar's labels, names and values together (OpenMetrics 1.0; Prometheus: `ExemplarMaxLabelSetLength`).
const LABELS_CHARS_MAX: usize = 128;

/// An example of what a series counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// What tells it from others, such as `trace_id`.
    pub labels: Labels,
    /// The value that was observed.
    pub value: f64,
    /// When, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

/// The newest exemplars, in the order in which they came.
#[derive(Default)]
pub(super) struct Exemplars {
    all: VecDeque<(Labels, Exemplar)>,
    newest: HashMap<Labels, Exemplar>,
}

impl Exemplars {
    /// Takes an exemplar of a series that is later than its last one; tells whether it did.
    pub(super) fn append(&mut self, series: &Labels, exemplar: Exemplar) -> bool {
        let chars = |text: &str| text.chars().count();
        let length: usize = exemplar.labels.iter().map(|(name, value)| chars(name) + chars(value)).sum();
        let newest = self.newest.get(series);
        let later = newest.is_none_or(|newest| newest.timestamp_ms < exemplar.timestamp_ms);
        if !later || length > LABELS_CHARS_MAX {
            return false;
        }
        if self.all.len() >= EXEMPLARS_MAX
            && let Some((series, oldest)) = self.all.pop_front()
            && self.newest.get(&series) == Some(&oldest)
        {
            self.newest.remove(&series);
        }
        self.newest.insert(series.clone(), exemplar.clone());
        self.all.push_back((series.clone(), exemplar));
        true
    }

    /// The exemplars in `[from_ms, to_ms]`.
    pub(super) fn between(&self, from_ms: i64, to_ms: i64) -> Vec<(Labels, Exemplar)> {
        let in_time = |exemplar: &Exemplar| (from_ms..=to_ms).contains(&exemplar.timestamp_ms);
        self.all.iter().filter(|(_, exemplar)| in_time(exemplar)).cloned().collect()
    }

    /// Drops what is older than `cutoff_ms`.
    pub(super) fn evict(&mut self, cutoff_ms: i64) {
        self.all.retain(|(_, exemplar)| exemplar.timestamp_ms >= cutoff_ms);
        self.newest.retain(|_, exemplar| exemplar.timestamp_ms >= cutoff_ms);
    }
}
