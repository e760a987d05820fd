//! Mistakes that no server refuses, found in manifests before they are in production.
//!
//! Every rule is one row of [`RULES`]: a name that never changes, how bad it is, why it matters, and a
//! function that finds it. A finding names the object and the field, says what is there, and what to write
//! instead. What a query does is told by whoever can parse it, as plain facts ([`QueryFacts`]).

mod monitors;
mod queries;
mod workloads;

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::{Resource, ResourceExt};

use crate::kinds::monitor::{PodMonitor, ServiceMonitor};
use crate::kinds::scaled_object::ScaledObject;
use crate::kinds::vertical_pod_autoscaler::VerticalPodAutoscaler;

/// The objects that are looked at together, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// What is scaled by metrics.
    pub scaled_objects: Vec<ScaledObject>,
    /// What is sized.
    pub vertical_pod_autoscalers: Vec<VerticalPodAutoscaler>,
    /// The workloads.
    pub deployments: Vec<Deployment>,
    /// How the workloads are reached.
    pub services: Vec<Service>,
    /// What is scraped by Service.
    pub service_monitors: Vec<ServiceMonitor>,
    /// What is scraped by pod.
    pub pod_monitors: Vec<PodMonitor>,
}

/// What a PromQL query does, as far as the rules care.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryFacts {
    /// The names of the metrics it selects.
    pub metrics: Vec<String>,
    /// The windows of its range selectors.
    pub range_windows: Vec<Duration>,
    /// Its result is a quantile, an average or a ratio: replicas do not add up to it.
    pub is_not_additive: bool,
    /// It takes a `histogram_quantile` of buckets that were aggregated without keeping the label `le`.
    pub loses_le: bool,
    /// Nothing in it keeps it from returning several series.
    pub may_return_many_series: bool,
}

/// Tells what a query does; nothing about a query that does not parse.
pub type Facts<'a> = &'a dyn Fn(&str) -> Option<QueryFacts>;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot work as meant.
    Error,
    /// It works, but hardly as meant.
    Warning,
    /// Good to know.
    Note,
}

/// One rule.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Its name: stable, and the anchor of its documentation.
    pub code: &'static str,
    /// How bad it is to break it.
    pub severity: Severity,
    /// Why it matters, in one sentence.
    pub why: &'static str,
    check: fn(&Manifests, Facts<'_>) -> Vec<Place>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({})", self.code)
    }
}

/// One place where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's name.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The object, as `kind/name`.
    pub object: String,
    /// The object's namespace.
    pub namespace: String,
    /// The field's path in the object.
    pub field: String,
    /// What is there.
    pub message: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to write instead.
    pub help: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        write!(f, "{severity}[{}] {} {}: {}", self.code, self.object, self.field, self.message)
    }
}

/// A finding before its rule is known.
struct Place {
    object: String,
    namespace: String,
    field: String,
    message: String,
    help: String,
}

impl Place {
    fn new<K: Resource<DynamicType = ()>>(
        object: &K,
        field: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            object: format!("{}/{}", K::kind(&()).to_lowercase(), object.name_any()),
            namespace: namespace(object),
            field: field.into(),
            message: message.into(),
            help: help.into(),
        }
    }
}

/// An object without a namespace goes to `default`, as it does by `kubectl apply`.
fn namespace(object: &impl ResourceExt) -> String {
    object.namespace().unwrap_or_else(|| "default".to_owned())
}

/// Every finding, the worst first, in the order of the rules and the objects.
pub fn check(manifests: &Manifests, facts: Facts<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES
        .iter()
        .flat_map(|rule| {
            (rule.check)(manifests, facts).into_iter().map(|place| Finding {
                code: rule.code,
                severity: rule.severity,
                object: place.object,
                namespace: place.namespace,
                field: place.field,
                message: place.message,
                why: rule.why,
                help: place.help,
            })
        })
        .collect();
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// Every rule.
pub const RULES: &[Rule] = &[
    Rule {
        code: "average-of-quantile",
        severity: Severity::Error,
        why: "AverageValue divides the result by the number of replicas, so a latency looks the better the more replicas \
              there are, and the workload stops short of its target.",
        check: queries::average_of_quantile,
    },
    Rule {
        code: "quantile-without-le",
        severity: Severity::Error,
        why: "histogram_quantile reads the buckets by their label le; without it the result is empty.",
        check: queries::quantile_without_le,
    },
    Rule {
        code: "several-series",
        severity: Severity::Error,
        why: "A trigger needs one number; KEDA fails when the result has several series.",
        check: queries::several_series,
    },
    Rule {
        code: "nothing-scraped",
        severity: Severity::Error,
        why: "Without a scrape there are no series, the query returns nothing, and KEDA reads nothing as \
        no load.",
        check: monitors::nothing_scraped,
    },
    Rule {
        code: "monitor-selects-nothing",
        severity: Severity::Error,
        why: "A ServiceMonitor selects Services by the labels of the Service, not of its pods, in the \
        namespaces it names.",
        check: monitors::selects_nothing,
    },
    Rule {
        code: "monitor-port-unknown",
        severity: Severity::Error,
        why: "port is the name of a port of the Service; a number or the name of a container's port \
        matches nothing.",
        check: monitors::port_unknown,
    },
    Rule {
        code: "service-selects-nothing",
        severity: Severity::Error,
        why: "A Service without pods has no endpoints, so nothing is reached and nothing is scraped.",
        check: monitors::service_selects_nothing,
    },
    Rule {
        code: "metrics-port-undeclared",
        severity: Severity::Warning,
        why: "If no container listens there, every scrape is refused and the series never exist.",
        check: monitors::port_undeclared,
    },
    Rule {
        code: "short-window",
        severity: Severity::Warning,
        why: "A rate needs two samples; under four scrape intervals one missed scrape leaves a gap that \
        reads as no data.",
        check: queries::short_window,
    },
    Rule {
        code: "threshold-unit",
        severity: Severity::Warning,
        why: "Prometheus measures in seconds and ratios; a threshold in milliseconds or percent is never \
        reached.",
        check: queries::threshold_unit,
    },
    Rule {
        code: "two-axes-one-resource",
        severity: Severity::Warning,
        why: "The VerticalPodAutoscaler changes the requests that utilization is measured against, so the two undo each \
              other's work.",
        check: workloads::two_axes,
    },
    Rule {
        code: "vpa-single-replica",
        severity: Severity::Warning,
        why: "The VerticalPodAutoscaler evicts no pod of a workload with fewer than two replicas, unless \
        it is told to.",
        check: workloads::vpa_single_replica,
    },
    Rule {
        code: "no-readiness-probe",
        severity: Severity::Warning,
        why: "Without a readiness probe a pod gets requests before its model is loaded, and new replicas count as soon as \
              they start.",
        check: workloads::no_readiness_probe,
    },
    Rule {
        code: "ignored-parameter",
        severity: Severity::Note,
        why: "KEDA no longer reads metricName; the metric is named after the trigger's place.",
        check: queries::ignored_parameter,
    },
    Rule {
        code: "monitor-release-label",
        severity: Severity::Note,
        why: "kube-prometheus-stack only looks at monitors with the label release of its Helm release.",
        check: monitors::release_label,
    },
];
