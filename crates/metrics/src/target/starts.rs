//! Since when the samples of an OpenMetrics page count: what its `_created` series say (OpenMetrics 1.0, "Created").
//!
//! They are series of their own, so they are stored like all others too.

use std::collections::HashMap;

use super::Known;
use super::page::Found;
use crate::labels::{BUCKET_LABEL, Labels, METRIC_NAME};
use crate::store::UNKNOWN_START_MS;

/// What the name of a start ends with.
const CREATED: &str = "_created";
/// What the names of samples end with beyond that of their family.
const SUFFIXES: [&str; 4] = ["_total", "_bucket", "_count", "_sum"];
/// The labels that tell samples of one metric from each other.
const OWN_LABELS: [&str; 2] = [BUCKET_LABEL, "quantile"];

/// The starts of a page, in milliseconds, by the labels of their metrics.
#[derive(Default)]
pub(super) struct Starts(HashMap<Labels, i64>);

impl Starts {
    pub(super) fn of(known: &[Known], found: impl Iterator<Item = Found>) -> Starts {
        let start = |found: Found| {
            let labels = &known.get(found.known as usize)?.labels;
            let family = labels.metric_name().strip_suffix(CREATED)?;
            Some((metric(labels, family), (found.value * 1_000.0) as i64))
        };
        Starts(found.filter_map(start).collect())
    }

    /// The start of a series; unknown if the page has none for it.
    pub(super) fn of_series(&self, labels: &Labels) -> i64 {
        if self.0.is_empty() {
            return UNKNOWN_START_MS;
        }
        let name = labels.metric_name();
        let family = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        self.0.get(&metric(labels, family)).copied().unwrap_or(UNKNOWN_START_MS)
    }
}

/// The labels that all samples of a metric share, with the name of its family.
fn metric(labels: &Labels, family: &str) -> Labels {
    let shared = labels.iter().filter(|(name, _)| !OWN_LABELS.contains(name));
    Labels::from_sorted(shared.map(|(name, value)| (name, if name == METRIC_NAME { family } else { value })))
}
