//! The rules about the queries of triggers, and what is wanted of their results.

use super::monitors;
use super::{Facts, Manifests, NotAdditive, Origin, Place, QueryFacts};
use crate::kinds::scaled_object::ScaleTrigger;

/// Fewer samples than this in a window leave it empty when one scrape fails.
const WINDOW_SCRAPES_MIN: u32 = 4;

/// A latency target of more seconds than this was hardly meant in seconds.
const LATENCY_SECONDS_MAX: f64 = 60.0;

/// A latency target of fewer milliseconds than this was hardly meant in milliseconds.
const LATENCY_MILLISECONDS_MIN: f64 = 1.0;

/// The bucket bounds that prometheus-fastapi-instrumentator gives this histogram: 0.1, 0.5 and 1 second.
const COARSE_HISTOGRAM: &str = "http_request_duration_seconds_bucket";

/// A prometheus trigger, where it is, and what its query does.
struct Trigger<'a> {
    origin: &'a Origin,
    path: String,
    trigger: &'a ScaleTrigger,
    facts: QueryFacts,
}

impl Trigger<'_> {
    /// Whether the value is divided by the replicas, as KEDA does unless it is told otherwise.
    fn is_averaged(&self) -> bool {
        self.origin.object.starts_with("scaledobject/")
            && self
                .trigger
                .metric_type
                .as_deref()
                .is_none_or(|kind| kind == "AverageValue" || kind.is_empty())
    }

    fn threshold(&self) -> Option<f64> {
        self.trigger.metadata.get("threshold")?.trim().parse().ok()
    }

    fn place(&self, field: &str, message: impl Into<String>, help: impl Into<String>) -> Place {
        Place::new(self.origin, format!("{}.{field}", self.path), message, help)
    }
}

fn triggers<'a>(manifests: &'a Manifests, facts: Facts<'_>) -> Vec<Trigger<'a>> {
    let prometheus = manifests.triggers().filter(|(.., trigger)| trigger.kind == "prometheus");
    prometheus
        .filter_map(|(origin, path, trigger)| {
            let facts = facts(trigger.metadata.get("query")?.trim())?;
            Some(Trigger { origin, path, trigger, facts })
        })
        .collect()
}

/// The names of the metrics that the queries of an object select.
pub(super) fn selected_metrics(triggers: &[ScaleTrigger], facts: Facts<'_>) -> Vec<String> {
    let queries = triggers.iter().filter(|trigger| trigger.kind == "prometheus");
    let queries = queries.filter_map(|trigger| trigger.metadata.get("query"));
    queries.filter_map(|query| facts(query.trim())).flat_map(|facts| facts.metrics).collect()
}

pub(super) fn average_of_quantile(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let averaged = triggers(manifests, facts).into_iter().filter(Trigger::is_averaged);
    averaged
        .filter_map(|found| {
            let what = found.facts.not_additive?;
            let default = if found.trigger.metric_type.is_some() { "" } else { ", KEDA's default," };
            let message = format!(
                "metricType AverageValue{default} divides {what} by the replicas, which do not add up to it"
            );
            Some(found.place("metricType", message, "write metricType: Value"))
        })
        .collect()
}

pub(super) fn quantile_without_le(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let found = triggers(manifests, facts).into_iter().filter(|found| found.facts.loses_le);
    found
        .map(|found| {
            let message = "histogram_quantile of buckets that were aggregated without le";
            found.place("metadata.query", message, "aggregate with by (le)")
        })
        .collect()
}

pub(super) fn several_series(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let found = triggers(manifests, facts).into_iter().filter(|found| found.facts.may_return_many_series);
    found
        .map(|found| {
            let message = "the query can return several series";
            found.place("metadata.query", message, "aggregate the result, such as by sum(…) or max(…)")
        })
        .collect()
}

pub(super) fn may_vanish(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let found = triggers(manifests, facts).into_iter().filter(|found| found.facts.may_vanish);
    found
        .map(|found| {
            let message = "the comparison leaves no series where it does not hold";
            let help = "leave the comparison to threshold and activationThreshold, or end with or vector(0)";
            found.place("metadata.query", message, help)
        })
        .collect()
}

pub(super) fn raw_counter(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let found = triggers(manifests, facts).into_iter();
    found
        .filter_map(|found| {
            let counter = found.facts.raw_counters.first()?;
            let message = format!("{counter} is a counter, read without rate()");
            Some(found.place("metadata.query", message, format!("write rate({counter}[2m])")))
        })
        .collect()
}

pub(super) fn short_window(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let found = triggers(manifests, facts).into_iter();
    found
        .filter_map(|found| {
            let object = manifests.scaled_objects.iter().find(|object| object.origin == *found.origin)?;
            let interval = monitors::interval(manifests, object)?;
            let least = interval * WINDOW_SCRAPES_MIN;
            let shortest = found.facts.range_windows.iter().min().filter(|window| **window < least)?;
            let message = format!(
                "the window of {} s holds fewer than {WINDOW_SCRAPES_MIN} scrapes, one every {} s",
                shortest.as_secs_f64(),
                interval.as_secs_f64()
            );
            let help = format!("write a window of at least {} s, or scrape more often", least.as_secs_f64());
            Some(found.place("metadata.query", message, help))
        })
        .collect()
}

pub(super) fn threshold_unit(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let found = triggers(manifests, facts).into_iter().filter(|found| !found.facts.is_scaled);
    found
        .filter_map(|found| {
            let (message, help) = odd_threshold(&found.facts, found.threshold()?)?;
            Some(found.place("metadata.threshold", message, help))
        })
        .collect()
}

/// What is odd about a threshold, and what may have been meant.
fn odd_threshold(facts: &QueryFacts, threshold: f64) -> Option<(String, String)> {
    let measured_in = |units: &[&str]| {
        facts.metrics.iter().any(|metric| {
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| metric.strip_suffix(suffix));
            units.iter().any(|unit| bare.unwrap_or(metric).ends_with(unit))
        })
    };
    let is_latency = matches!(facts.not_additive, Some(NotAdditive::Quantile | NotAdditive::Average));
    if is_latency && measured_in(&["_seconds"]) && threshold > LATENCY_SECONDS_MAX {
        let message = format!("the threshold of a latency in seconds is {threshold}");
        return Some((message, format!("write {} if milliseconds were meant", threshold / 1000.0)));
    }
    if is_latency && measured_in(&["_milliseconds", "_ms"]) && threshold < LATENCY_MILLISECONDS_MIN {
        let message = format!("the threshold of a latency in milliseconds is {threshold}");
        return Some((message, format!("write {} if seconds were meant", threshold * 1000.0)));
    }
    let is_share = facts.is_share || measured_in(&["_ratio", "_utilization", "_usage_perc"]);
    (is_share && threshold > 1.0).then(|| {
        let message = format!("the threshold of a share from 0 to 1 is {threshold}");
        (message, format!("write {} if percent was meant", threshold / 100.0))
    })
}

pub(super) fn coarse_histogram(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let found = triggers(manifests, facts).into_iter();
    found
        .filter(|found| found.facts.not_additive == Some(NotAdditive::Quantile))
        .filter(|found| found.facts.metrics.iter().any(|metric| metric == COARSE_HISTOGRAM))
        .map(|found| {
            let message = format!(
                "{COARSE_HISTOGRAM} has only the bounds 0.1, 0.5 and 1 s in FastAPI's instrumentator: \
                 a p95 is guessed between them, and reads 0.095 while every request takes under 0.1 s"
            );
            let help = "give the instrumentator bounds around the threshold, or query \
                        http_request_duration_highr_seconds_bucket";
            found.place("metadata.query", message, help)
        })
        .collect()
}

/// Fields of a trigger that were written one level too deep.
pub(super) fn misplaced_parameter(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for (origin, path, trigger) in manifests.triggers() {
        for name in ["metricType", "useCachedMetrics"] {
            let Some(value) = trigger.metadata.get(name) else { continue };
            let message = format!("{name} in metadata is read by nobody: it is a field of the trigger");
            let help = format!("write {name}: {value} beside type, one level up");
            places.push(Place::new(origin, format!("{path}.metadata.{name}"), message, help));
        }
    }
    places
}

pub(super) fn ignored_parameter(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let named = manifests
        .triggers()
        .filter(|(.., trigger)| trigger.kind == "prometheus" && trigger.metadata.contains_key("metricName"));
    named
        .map(|(origin, path, _)| {
            let index = path.trim_start_matches("spec.triggers[").trim_end_matches(']');
            let message = format!("metricName has no effect; the metric is called s{index}-prometheus");
            Place::new(origin, format!("{path}.metadata.metricName"), message, "leave it out")
        })
        .collect()
}
