//! The rules about the queries of triggers.

use super::{Facts, Manifests, Place, QueryFacts};
use crate::kinds::scaled_object::{ScaleTrigger, ScaledObject};
use crate::lint::monitors;

/// Fewer samples than this in a window leave it empty when one scrape fails.
const WINDOW_SCRAPES_MIN: u32 = 4;

/// A latency target of more seconds than this was hardly meant in seconds.
const LATENCY_SECONDS_MAX: f64 = 60.0;

/// A prometheus trigger, where it is, and what its query does.
struct Trigger<'a> {
    object: &'a ScaledObject,
    path: String,
    trigger: &'a ScaleTrigger,
    facts: QueryFacts,
}

fn triggers<'a>(manifests: &'a Manifests, facts: Facts<'_>) -> Vec<Trigger<'a>> {
    let all = manifests.scaled_objects.iter().flat_map(|object| {
        object.spec.triggers.iter().enumerate().map(move |(index, trigger)| (object, index, trigger))
    });
    all.filter(|(_, _, trigger)| trigger.kind == "prometheus")
        .filter_map(|(object, index, trigger)| {
            let facts = facts(trigger.metadata.get("query")?.trim())?;
            Some(Trigger { object, path: format!("spec.triggers[{index}]"), trigger, facts })
        })
        .collect()
}

/// The names of the metrics that the queries of an object select.
pub(super) fn selected_metrics(object: &ScaledObject, facts: Facts<'_>) -> Vec<String> {
    let queries = object.spec.triggers.iter().filter(|trigger| trigger.kind == "prometheus");
    let queries = queries.filter_map(|trigger| trigger.metadata.get("query"));
    queries.filter_map(|query| facts(query.trim())).flat_map(|facts| facts.metrics).collect()
}

pub(super) fn average_of_quantile(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let averaged = |found: &Trigger<'_>| {
        found.trigger.metric_type.as_deref().unwrap_or("AverageValue") == "AverageValue"
    };
    triggers(manifests, facts)
        .into_iter()
        .filter(|found| found.facts.is_not_additive && averaged(found))
        .map(|found| {
            let what = if found.trigger.metric_type.is_some() { "" } else { ", the default," };
            let message = format!(
                "metricType AverageValue{what} is used for a quantile, average or ratio, which \
                replicas do not add up to"
            );
            Place::new(found.object, format!("{}.metricType", found.path), message, "write metricType: Value")
        })
        .collect()
}

pub(super) fn quantile_without_le(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let found = triggers(manifests, facts).into_iter().filter(|found| found.facts.loses_le);
    found
        .map(|found| {
            let message = "histogram_quantile of buckets that were aggregated without le";
            Place::new(
                found.object,
                format!("{}.metadata.query", found.path),
                message,
                "aggregate with by (le)",
            )
        })
        .collect()
}

pub(super) fn several_series(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let found = triggers(manifests, facts).into_iter().filter(|found| found.facts.may_return_many_series);
    found
        .map(|found| {
            let message = "the query can return several series";
            let help = "aggregate the result, such as by sum(…) or max(…)";
            Place::new(found.object, format!("{}.metadata.query", found.path), message, help)
        })
        .collect()
}

pub(super) fn short_window(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let found = triggers(manifests, facts).into_iter();
    found
        .filter_map(|found| {
            let interval = monitors::interval(manifests, found.object)?;
            let least = interval * WINDOW_SCRAPES_MIN;
            let shortest = found.facts.range_windows.iter().min().filter(|window| **window < least)?;
            let message = format!(
                "the window of {} s holds fewer than {WINDOW_SCRAPES_MIN} scrapes, one every {} s",
                shortest.as_secs_f64(),
                interval.as_secs_f64()
            );
            let help = format!("write a window of at least {} s, or scrape more often", least.as_secs_f64());
            Some(Place::new(found.object, format!("{}.metadata.query", found.path), message, help))
        })
        .collect()
}

pub(super) fn threshold_unit(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let found = triggers(manifests, facts).into_iter();
    found
        .filter(|found| found.facts.is_not_additive)
        .filter(|found| found.facts.metrics.iter().any(|metric| metric.contains("_seconds")))
        .filter_map(|found| {
            let threshold = found.trigger.metadata.get("threshold")?.trim().parse::<f64>().ok()?;
            let message = format!("the threshold of a metric in seconds is {threshold}");
            let help = format!("write {} if milliseconds were meant", threshold / 1000.0);
            let place = Place::new(found.object, format!("{}.metadata.threshold", found.path), message, help);
            (threshold > LATENCY_SECONDS_MAX).then_some(place)
        })
        .collect()
}

pub(super) fn ignored_parameter(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let objects = manifests.scaled_objects.iter();
    objects
        .flat_map(|object| {
            let triggers = object.spec.triggers.iter().enumerate();
            let named = triggers.filter(|(_, trigger)| {
                trigger.kind == "prometheus" && trigger.metadata.contains_key("metricName")
            });
            named.map(move |(index, _)| {
                let message = format!("metricName has no effect; the metric is called s{index}-prometheus");
                Place::new(
                    object,
                    format!("spec.triggers[{index}].metadata.metricName"),
                    message,
                    "leave it out",
                )
            })
        })
        .collect()
}
