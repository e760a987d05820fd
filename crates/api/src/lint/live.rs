//! The rules about a running world: what its metrics, targets, pods and decisions show of one autoscaler.
//!
//! [`asked`] says what must be looked up for the autoscalers of some manifests; whoever can reach the world brings
//! [`LiveFacts`]; [`check`] finds what is wrong. Nothing here reads a clock: ages come with the facts.

use serde::{Deserialize, Serialize};

use super::autoscalers::{horizontal, of_scaled_object};
use super::{Check, Finding, Manifests, NotAdditive, Origin, Place, RULES};
use crate::lint::Facts;

/// A recorded history shorter than this says nothing about a threshold: ten minutes.
const HISTORY_SECONDS_MIN: f64 = 600.0;
/// A metric that never came to this part of its threshold has never come near it.
const NEAR_RATIO: f64 = 0.5;
/// At the maximum for longer than this is pinned, not a peak: ten minutes.
const PINNED_SECONDS_MIN: f64 = 600.0;
/// What Services measure, of all requests and whatever pod takes them.
const SERVICE_METRICS: &str = "flyball_service_";
/// A request that takes so many times as long by the Service's measure waits in front of the pod.
const IN_FRONT_RATIO: f64 = 2.0;
/// Less than this is the way to the pod and back: five milliseconds.
const IN_FRONT_SECONDS: f64 = 0.005;
/// Buckets of FastAPI's histogram as it comes: 0.1, 0.5 and 1 s.
const COARSE_BUCKETS: usize = 3;
/// So many turns from out to in or back, in the recorded decisions of the last hour, are flapping.
const TURNS_MAX: usize = 4;

/// What must be looked up for one autoscaler.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The autoscaler.
    pub origin: Origin,
    /// The kind of its target.
    pub kind: String,
    /// The name of its target.
    pub name: String,
    /// The queries of its triggers.
    pub queries: Vec<AskedQuery>,
    max_field: &'static str,
    max_replicas: u32,
}

/// A query of a trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct AskedQuery {
    /// The server that the trigger names.
    pub server: String,
    /// The query.
    pub query: String,
    path: String,
    threshold: Option<f64>,
    averaged: bool,
    is_quantile: bool,
    /// Whether all its series come from Services and not from pods.
    is_of_services: bool,
}

/// What a running world knows of one autoscaler and its target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveFacts {
    /// What the queries find, in the order that they were asked in.
    pub queries: Vec<LiveQuery>,
    /// What is scraped of the target's pods.
    pub scraped: Vec<ScrapedTarget>,
    /// Pods of the target that run.
    pub pods_running: usize,
    /// Pods of the target for which no node has room, with what the scheduler says.
    pub pods_without_room: Vec<PodWithoutRoom>,
    /// The decisions about the target, as far as they are kept.
    pub decisions: LiveDecisions,
    /// What the Services in front of the pods measured on average: seconds from a request's arrival to its answer.
    #[serde(default)]
    pub service_mean_seconds: Option<f64>,
}

/// What a query finds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveQuery {
    /// The server outside that answers it; nothing else is known then.
    pub server: Option<String>,
    /// Why it cannot be evaluated.
    pub error: Option<String>,
    /// What each selector finds.
    pub selectors: Vec<LiveSelector>,
    /// The values in the recorded past.
    pub history: Option<LiveHistory>,
    /// The bounds of the buckets of the histograms it selects, in order, without +Inf.
    pub bucket_bounds: Vec<f64>,
    /// Whether it has a result all the same where a selector finds nothing, as `or vector(0)` gives it.
    #[serde(default)]
    pub has_result: bool,
    /// What the servers themselves measured on average, if it selects their histogram of seconds: over the same time as
    /// what the Services measured.
    #[serde(default)]
    pub server_mean_seconds: Option<f64>,
}

/// What a selector finds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveSelector {
    /// As it is written.
    pub selector: String,
    /// Series that match.
    pub series: usize,
    /// Samples where the query looks.
    pub samples: usize,
    /// The age of the newest sample of any matching series, in seconds.
    pub newest_age_seconds: Option<f64>,
    /// Names or values that are near the one that matches nothing.
    pub nearest: Vec<String>,
}

/// The values of a query in the recorded past.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveHistory {
    /// How far the values reach back, in seconds.
    pub seconds: f64,
    /// The lowest value.
    pub min: f64,
    /// The highest value.
    pub max: f64,
}

/// A target of the scraper.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScrapedTarget {
    /// Its URL.
    pub url: String,
    /// Whether the last scrape worked; nothing before the first.
    pub up: Option<bool>,
    /// Why not.
    pub error: String,
}

/// A pod that no node has room for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodWithoutRoom {
    /// Its name.
    pub name: String,
    /// What the scheduler says.
    pub message: String,
}

/// The decisions about a target, as far as they are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveDecisions {
    /// For how long the target has been held at its maximum though its metrics ask for more, in seconds.
    pub pinned_seconds: Option<f64>,
    /// How many replicas its metrics ask for.
    pub wanted: Option<u32>,
    /// How often the replicas turned from growing to shrinking or back in the last hour.
    pub turns: usize,
}

/// An autoscaler, and what a running world knows of it.
pub struct Subject<'a> {
    asked: &'a Asked,
    facts: &'a LiveFacts,
}

impl Subject<'_> {
    /// Each query with what it finds, unless a server outside answers it.
    fn queries(&self) -> impl Iterator<Item = (&AskedQuery, &LiveQuery)> {
        self.asked.queries.iter().zip(&self.facts.queries).filter(|(_, found)| found.server.is_none())
    }

    fn at_query(&self, query: &AskedQuery, field: &str, message: String, help: String) -> Place {
        Place::new(&self.asked.origin, format!("{}.{field}", query.path), message, help)
    }
}

/// What must be looked up for each autoscaler.
pub fn asked(manifests: &Manifests, facts: Facts<'_>) -> Vec<Asked> {
    let objects = manifests.scaled_objects.iter().map(|object| {
        let triggers = object.spec.triggers.iter().enumerate();
        let queries =
            triggers.filter(|(_, trigger)| trigger.kind == "prometheus").filter_map(|(index, trigger)| {
                let text = |name: &str| trigger.metadata.get(name).map(|text| text.trim().to_owned());
                let query = text("query")?;
                let known = facts(&query)?;
                Some(AskedQuery {
                    server: text("serverAddress").unwrap_or_default(),
                    is_quantile: known.not_additive == Some(NotAdditive::Quantile),
                    is_of_services: !known.metrics.is_empty()
                        && known.metrics.iter().all(|metric| metric.starts_with(SERVICE_METRICS)),
                    query,
                    path: format!("spec.triggers[{index}]"),
                    threshold: text("threshold").and_then(|text| text.parse().ok()),
                    averaged: trigger.metric_type.as_deref() != Some("Value"),
                })
            });
        let target = of_scaled_object(object);
        Asked {
            origin: object.origin.clone(),
            kind: target.kind.to_owned(),
            name: target.name.to_owned(),
            queries: queries.collect(),
            max_field: "spec.maxReplicaCount",
            max_replicas: u32::try_from(object.spec.max_replicas()).unwrap_or(0),
        }
    });
    let hpas = horizontal(manifests).into_iter().filter_map(|target| {
        let hpa = manifests.hpas.iter().find(|hpa| hpa.origin == *target.origin)?;
        Some(Asked {
            origin: target.origin.clone(),
            kind: target.kind.to_owned(),
            name: target.name.to_owned(),
            queries: Vec::new(),
            max_field: "spec.maxReplicas",
            max_replicas: u32::try_from(hpa.spec.max_replicas).unwrap_or(0),
        })
    });
    objects.chain(hpas).collect()
}

/// Every finding about an autoscaler in a running world.
pub fn check(asked: &Asked, facts: &LiveFacts) -> Vec<Finding> {
    let subject = Subject { asked, facts };
    let found = RULES.iter().flat_map(|rule| {
        let places = match rule.check {
            Check::Live(check) => check(&subject),
            Check::Manifests(_) | Check::Reader => Vec::new(),
        };
        places.into_iter().map(|place| rule.found(place))
    });
    found.collect()
}

pub(super) fn query_fails(subject: &Subject<'_>) -> Vec<Place> {
    let failing = subject.queries().filter_map(|(query, found)| Some((query, found.error.clone()?)));
    failing
        .map(|(query, error)| {
            subject.at_query(query, "metadata.query", error, "try it in the Prometheus API".to_owned())
        })
        .collect()
}

/// The selectors of the queries that have no result; where there is one, a part without series is meant to be able to.
fn wanting<'a>(subject: &'a Subject<'_>) -> impl Iterator<Item = (&'a AskedQuery, &'a LiveSelector)> {
    let queries = subject.queries().filter(|(_, found)| !found.has_result);
    queries.flat_map(|(query, found)| found.selectors.iter().map(move |selector| (query, selector)))
}

/// Whether what a world shows refutes a finding about manifests: series that are there come from somewhere, a target that
/// is up has a port and a path, and a histogram has the buckets that it has.
pub fn refutes(asked: &Asked, facts: &LiveFacts, finding: &Finding) -> bool {
    let mut up = facts.scraped.iter().filter(|target| target.up == Some(true));
    match finding.code {
        "nothing-scraped" => finding.origin == asked.origin && has_all_series(facts),
        "coarse-histogram" => {
            let mut queries = asked.queries.iter().zip(&facts.queries);
            finding.origin == asked.origin
                && queries.any(|(query, found)| {
                    finding.field.starts_with(&format!("{}.", query.path))
                        && found.bucket_bounds.len() > COARSE_BUCKETS
                })
        }
        "metrics-port-undeclared" => {
            finding.origin.namespace == asked.origin.namespace
                && finding.message.starts_with(&format!("no container of {} declares", asked.name))
                && up.next().is_some()
        }
        "metrics-path" => up.any(|target| {
            let path = target.url.splitn(4, '/').nth(3).unwrap_or_default();
            finding.message.contains(&format!("{:?}", format!("/{path}")))
        }),
        _ => false,
    }
}

/// Whether every query of an autoscaler has what it selects, wherever that comes from.
fn has_all_series(facts: &LiveFacts) -> bool {
    let found = |query: &LiveQuery| {
        query.has_result
            || query.server.is_none() && query.selectors.iter().all(|selector| selector.series > 0)
    };
    !facts.queries.is_empty() && facts.queries.iter().all(found)
}

pub(super) fn series_missing(subject: &Subject<'_>) -> Vec<Place> {
    let missing = wanting(subject).filter(|(_, selector)| selector.series == 0);
    missing
        .map(|(query, selector)| {
            let help = match selector.nearest.as_slice() {
                [] => "see that the pods are scraped and have had a request; labelled series begin with the first".to_owned(),
                nearest => format!("did you mean {}?", nearest.join(" or ")),
            };
            let message = format!("no series matches {}", selector.selector);
            subject.at_query(query, "metadata.query", message, help)
        })
        .collect()
}

pub(super) fn samples_old(subject: &Subject<'_>) -> Vec<Place> {
    let old = wanting(subject).filter(|(_, selector)| selector.series > 0 && selector.samples == 0);
    old.map(|(query, selector)| {
        let age = selector.newest_age_seconds.map_or("gone".to_owned(), |age| format!("{} old", span(age)));
        let message = format!("no sample of {} is in the window: the newest is {age}", selector.selector);
        let help = "see why its target is no longer scraped".to_owned();
        subject.at_query(query, "metadata.query", message, help)
    })
    .collect()
}

pub(super) fn target_down(subject: &Subject<'_>) -> Vec<Place> {
    let down = subject.facts.scraped.iter().filter(|target| target.up == Some(false));
    down.map(|target| {
        let message = format!("{} cannot be scraped: {}", target.url, target.error);
        let help =
            "see that the program listens there, and what it answers: the path, the port and the format";
        Place::new(&subject.asked.origin, "spec.scaleTargetRef", message, help)
    })
    .collect()
}

pub(super) fn pods_not_scraped(subject: &Subject<'_>) -> Vec<Place> {
    let (asked, facts) = (subject.asked, subject.facts);
    let mut of_pods = subject.queries().filter(|(query, _)| !query.is_of_services);
    let needed = of_pods.any(|(_, found)| found.selectors.iter().any(|selector| selector.series == 0));
    if !needed || facts.pods_running == 0 || !facts.scraped.is_empty() {
        return Vec::new();
    }
    let pods =
        if facts.pods_running == 1 { "1 pod".to_owned() } else { format!("{} pods", facts.pods_running) };
    let run = if facts.pods_running == 1 { "runs, and is not" } else { "run, and none is" };
    let message = format!("{pods} of {} {} {run} scraped", asked.kind, asked.name);
    let help = "add a ServiceMonitor that selects their Service, a PodMonitor, or the annotation prometheus.io/scrape";
    vec![Place::new(&asked.origin, "spec.triggers", message, help)]
}

/// Each query with its threshold and the values of a past that is long enough to tell something.
fn histories<'a>(subject: &'a Subject<'_>) -> impl Iterator<Item = (&'a AskedQuery, f64, &'a LiveHistory)> {
    subject.queries().filter_map(|(query, found)| {
        let history = found.history.as_ref().filter(|history| history.seconds >= HISTORY_SECONDS_MIN)?;
        Some((query, query.threshold?, history))
    })
}

pub(super) fn threshold_never_near(subject: &Subject<'_>) -> Vec<Place> {
    let far = histories(subject).filter(|(_, threshold, history)| history.max < threshold * NEAR_RATIO);
    far.map(|(query, threshold, history)| {
        let (max, time) = (number(history.max), span(history.seconds));
        let message =
            format!("in the last {time} the value never rose above {max}; the threshold is {threshold}");
        let help =
            format!("write a threshold that load reaches; under the load of that time, less than {max}");
        subject.at_query(query, "metadata.threshold", message, help)
    })
    .collect()
}

pub(super) fn threshold_never_left(subject: &Subject<'_>) -> Vec<Place> {
    let replicas = f64::from(subject.asked.max_replicas);
    let stuck = histories(subject).filter(|(query, threshold, history)| {
        let share = if query.averaged { history.min / replicas } else { history.min };
        share > *threshold
    });
    stuck
        .map(|(query, threshold, history)| {
            let (min, time) = (number(history.min), span(history.seconds));
            let each =
                if query.averaged { format!(" for each of {replicas} replicas") } else { String::new() };
            let message = format!(
                "in the last {time} the value never fell below {min}; the threshold is {threshold}{each}"
            );
            subject.at_query(
                query,
                "metadata.threshold",
                message,
                "raise the threshold, or maxReplicaCount".to_owned(),
            )
        })
        .collect()
}

pub(super) fn coarse_buckets(subject: &Subject<'_>) -> Vec<Place> {
    let quantiles =
        subject.queries().filter(|(query, found)| query.is_quantile && !found.bucket_bounds.is_empty());
    quantiles
        .filter_map(|(query, found)| {
            let threshold = query.threshold?;
            let bounds = &found.bucket_bounds;
            let upper = bounds.iter().copied().find(|bound| *bound >= threshold);
            let lower = bounds.iter().copied().rfind(|bound| *bound < threshold);
            let message = match (lower, upper) {
                (_, None) => format!(
                    "the threshold {threshold} lies above the last bucket, which ends at {}: it is never reached",
                    number(bounds.last().copied().unwrap_or_default())
                ),
                (lower, Some(upper)) if upper > threshold && upper > 2.0 * lower.unwrap_or(0.0) => format!(
                    "the threshold {threshold} lies in the bucket from {} to {}: a value in between is guessed",
                    number(lower.unwrap_or(0.0)),
                    number(upper)
                ),
                _ => return None,
            };
            let help = format!("give the histogram a bucket that ends at {threshold}");
            Some(subject.at_query(query, "metadata.threshold", message, help))
        })
        .collect()
}

/// A query on what the servers measure, while requests wait in front of them.
pub(super) fn waiting_in_front(subject: &Subject<'_>) -> Vec<Place> {
    let Some(whole) = subject.facts.service_mean_seconds else { return Vec::new() };
    let measured = subject.queries().filter_map(|(query, found)| Some((query, found.server_mean_seconds?)));
    let hidden = measured.filter(|(_, own)| whole >= own * IN_FRONT_RATIO && whole - own >= IN_FRONT_SECONDS);
    hidden
        .map(|(query, own)| {
            let message = format!(
                "the Service measures {} s a request, the pods themselves {} s: the rest is waiting that the query cannot see",
                number(whole),
                number(own)
            );
            let help = format!("query {SERVICE_METRICS}request_duration_seconds_bucket of the Service instead");
            subject.at_query(query, "metadata.query", message, help)
        })
        .collect()
}

pub(super) fn pinned(subject: &Subject<'_>) -> Vec<Place> {
    let decisions = &subject.facts.decisions;
    let pinned = decisions.pinned_seconds.filter(|seconds| *seconds >= PINNED_SECONDS_MIN);
    let place = pinned.map(|seconds| {
        let wanted = decisions.wanted.map_or("more".to_owned(), |wanted| wanted.to_string());
        let message = format!(
            "held at the maximum of {} for {}; the metrics ask for {wanted}",
            subject.asked.max_replicas,
            span(seconds)
        );
        let help = "raise the maximum, or give each pod more; `flyball why` tells which metric asks";
        Place::new(&subject.asked.origin, subject.asked.max_field, message, help)
    });
    place.into_iter().collect()
}

pub(super) fn pods_without_room(subject: &Subject<'_>) -> Vec<Place> {
    let pods = subject.facts.pods_without_room.iter();
    pods.map(|pod| {
        let message = format!("no node has room for pod {}: {}", pod.name, pod.message);
        let help = "ask for less in resources.requests, lower the maximum, or add nodes";
        Place::new(&subject.asked.origin, subject.asked.max_field, message, help)
    })
    .collect()
}

pub(super) fn flapping(subject: &Subject<'_>) -> Vec<Place> {
    let turns = subject.facts.decisions.turns;
    if turns < TURNS_MAX {
        return Vec::new();
    }
    let message = format!("the replicas turned {turns} times between growing and shrinking in the last hour");
    let help =
        "lengthen behavior.scaleDown.stabilizationWindowSeconds, or average the query over a longer window";
    vec![Place::new(
        &subject.asked.origin,
        "spec.advanced.horizontalPodAutoscalerConfig.behavior",
        message,
        help,
    )]
}

/// A length of time, in its largest whole unit.
fn span(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        seconds if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.0} h", seconds / 3600.0),
    }
}

/// A number with three digits that count.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = (2.0 - value.abs().log10().floor()).clamp(0.0, 12.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 12")]
    let text = format!("{value:.*}", digits as usize);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans_are_short() {
        for (value, expected) in
            [(0.0, "0"), (0.0942857, "0.0943"), (0.5, "0.5"), (1234.5, "1234"), (20.0, "20")]
        {
            assert_eq!(number(value), expected);
        }
        for (seconds, expected) in [(5.4, "5 s"), (600.0, "10 min"), (7200.0, "2 h")] {
            assert_eq!(span(seconds), expected);
        }
    }
}
