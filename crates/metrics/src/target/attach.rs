//! The labels of a series: those of the page, those of the target, and what metric relabelings make of them.

use super::{Limits, ScrapeError, TargetOptions};
use crate::labels::{Labels, METRIC_NAME};
use crate::relabel;
use crate::text::quote;

/// Characters of a name or value that a message quotes, as in Prometheus.
const QUOTED_CHARS_MAX: usize = 50;

/// The labels under which a series is stored; `None`: metric relabelings drop it.
pub(super) fn labels_of(
    exposed: &Labels,
    target: &Labels,
    options: &TargetOptions,
) -> Result<Option<Labels>, ScrapeError> {
    let attached = attach(exposed, target, options.honor_labels);
    let Some(labels) = relabel::apply(&options.metric_relabelings, &attached) else { return Ok(None) };
    if labels.is_empty() {
        return Ok(None);
    }
    if labels.metric_name().is_empty() {
        return Err(ScrapeError::NoMetricName);
    }
    check(&labels, &options.limits)?;
    Ok(Some(labels))
}

/// Exposed labels with the target's: a clashing exposed label is kept, or renamed to `exported_…`.
fn attach(exposed: &Labels, target: &Labels, honor_labels: bool) -> Labels {
    let mut pairs: Vec<(String, &str)> = Vec::with_capacity(exposed.len() + target.len());
    for (name, value) in exposed.iter() {
        let mut name = name.to_owned();
        if !honor_labels && !target.get(&name).is_empty() {
            while !target.get(&name).is_empty() || !exposed.get(&name).is_empty() {
                name.insert_str(0, "exported_");
            }
        }
        pairs.push((name, value));
    }
    let honored = |name: &str| honor_labels && !exposed.get(name).is_empty();
    let added = target.iter().filter(|(name, _)| !honored(name));
    Labels::new(pairs.iter().map(|(name, value)| (&**name, *value)).chain(added))
}

/// Prometheus' label limits, in its words.
fn check(labels: &Labels, limits: &Limits) -> Result<(), ScrapeError> {
    let over = |length: usize, limit: usize| limit > 0 && length > limit;
    let metric = shortened(labels.get(METRIC_NAME));
    let exceeded = |name: &str, what: String| {
        Err(ScrapeError::LabelLimit(format!("{name} exceeded (metric: {metric}, {what})")))
    };
    let (count, limit) = (labels.len(), limits.label_limit);
    if over(count, limit) {
        return exceeded("label_limit", format!("number of labels: {count}, limit: {limit}"));
    }
    for (name, value) in labels.iter() {
        let (shown, limit) = (shortened(name), limits.label_name_length_limit);
        if over(name.len(), limit) {
            let what = format!("label name: {shown}, length: {}, limit: {limit}", name.len());
            return exceeded("label_name_length_limit", what);
        }
        let limit = limits.label_value_length_limit;
        if over(value.len(), limit) {
            let quoted = quote(shortened(value).as_bytes());
            let what =
                format!("label name: {shown}, value: {quoted}, length: {}, limit: {limit}", value.len());
            return exceeded("label_value_length_limit", what);
        }
    }
    Ok(())
}

fn shortened(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}
