//! Triggers: what a ScaledObject's `triggers` say, read and checked.
//!
//! A trigger says where a metric comes from and what is wanted of it. Reading one reports everything that is
//! wrong with it, and gives a [`Trigger`] only if nothing is. The metric's name and target are those that
//! KEDA gives the HorizontalPodAutoscaler, since users know them from `kubectl get hpa`.

pub mod cron;
pub mod external;
mod known;
pub mod metrics_api;
mod parameters;
pub mod prometheus;
pub mod resource;
pub mod schedule;
pub mod workload;

pub(crate) use known::edits;
pub use parameters::Resolved;

use crate::kinds::scaled_object::ScaleTrigger;
use crate::problem::{Cause, Checked, Problem};
use crate::quantity::{Format, Quantity};
use cron::Cron;
use external::External;
use metrics_api::MetricsApi;
use parameters::Parameters;
use prometheus::Prometheus;
use resource::{Resource, ResourceTarget};
use workload::KubernetesWorkload;

/// More triggers than any object has; each costs a query and a comparison with every other.
pub const TRIGGERS_MAX: usize = flyball_engine::METRICS_MAX;

/// Where a metric comes from, and what is wanted of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// The trigger's place in the list, from 0.
    pub index: usize,
    /// The name that formulas use.
    pub name: Option<String>,
    /// Whether the HorizontalPodAutoscaler is answered from the last poll.
    pub use_cached_metrics: bool,
    /// Where the metric comes from.
    pub source: Source,
    /// What is wanted of the metric.
    pub target: Target,
}

/// Where a metric comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A PromQL query.
    Prometheus(Prometheus),
    /// The pods' use of CPU or memory.
    Resource(Resource),
    /// The time of day.
    Cron(Cron),
    /// The number of other pods.
    KubernetesWorkload(KubernetesWorkload),
    /// An HTTP endpoint.
    MetricsApi(MetricsApi),
    /// A server of the user's own.
    External(External),
}

/// What is wanted of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This much for each replica.
    AverageValue(Quantity),
    /// This much in all, however many replicas there are.
    Value(Quantity),
    /// This much in percent of what the pods ask for.
    Utilization(i32),
    /// What the server of an external trigger answers; of the kind that the trigger asks for.
    Asked {
        /// Whether the target holds for each replica.
        average: bool,
    },
}

impl Trigger {
    /// Reads all triggers of an object, with what was looked up for each.
    ///
    /// # Errors
    /// Everything that is wrong with any of them. A trigger that misses what was not looked up is left out.
    pub fn parse_all<'a>(
        triggers: &'a [ScaleTrigger],
        resolved: impl Fn(&'a ScaleTrigger) -> Resolved<'a>,
    ) -> Checked<Vec<Self>> {
        let mut parsed = Vec::new();
        let mut problems: Vec<Problem> = too_many(triggers).into_iter().collect();
        for (index, trigger) in triggers.iter().enumerate().take(TRIGGERS_MAX) {
            let (one, found) = Self::parse(index, trigger, resolved(trigger));
            parsed.extend(one);
            problems.extend(found);
        }
        if problems.is_empty() { Ok(parsed) } else { Err(problems) }
    }

    /// Reads a trigger. There is one only if nothing is wrong, and nothing is missing that may still be
    /// looked up.
    pub fn parse(
        index: usize,
        trigger: &ScaleTrigger,
        resolved: Resolved<'_>,
    ) -> (Option<Self>, Vec<Problem>) {
        let path = format!("spec.triggers[{index}]");
        let kind = trigger.kind.as_str();
        let has_authentication = trigger.authentication_ref.is_some();
        let mut parameters =
            Parameters::new(path.clone(), kind, &trigger.metadata, resolved, has_authentication);
        let metric_type = trigger.metric_type.as_deref().filter(|text| !text.is_empty());
        let Some(source) = parse_source(trigger, metric_type, &mut parameters) else {
            return (None, vec![unsupported(&path, kind)]);
        };
        if let Some(source) = &source {
            check_target(source, &mut parameters);
        }
        let complete = !parameters.incomplete();
        let mut problems = parameters.into_problems();
        problems.extend(check_metric_type(&path, metric_type, is_resource(kind)));
        let parsed = source.filter(|_| complete && problems.is_empty()).map(|source| Self {
            index,
            name: trigger.name.clone().filter(|name| !name.is_empty()),
            use_cached_metrics: trigger.use_cached_metrics.unwrap_or(false),
            target: target(&source, metric_type),
            source,
        });
        (parsed, problems)
    }

    /// The metric's name in the HorizontalPodAutoscaler: `s0-prometheus`, or the resource. `None` for
    /// triggers whose server names its metrics itself; those names go through [`Trigger::qualify`].
    pub fn metric_name(&self, namespace: &str) -> Option<String> {
        match &self.source {
            Source::Resource(resource) => Some(resource.resource.clone()),
            Source::Prometheus(_) => Some(self.qualify("prometheus")),
            Source::Cron(cron) => Some(self.qualify(&cron.metric_name)),
            Source::KubernetesWorkload(_) => Some(self.qualify(&format!("workload-{namespace}"))),
            Source::MetricsApi(api) => Some(self.qualify(&format!("metric-api-{}", api.value_location))),
            Source::External(_) => None,
        }
    }

    /// The type of the trigger, as manifests have it.
    pub fn kind(&self) -> &str {
        match &self.source {
            Source::Prometheus(_) => "prometheus",
            Source::Resource(resource) => &resource.resource,
            Source::Cron(_) => "cron",
            Source::KubernetesWorkload(_) => "kubernetes-workload",
            Source::MetricsApi(_) => "metrics-api",
            Source::External(external) if external.push => "external-push",
            Source::External(_) => "external",
        }
    }

    /// A metric's name, made unique by the trigger's number and fit for a path of the metrics API.
    pub fn qualify(&self, name: &str) -> String {
        format!("s{}-{}", self.index, name.replace(['/', '.', ':', '%', '(', ')'], "-"))
    }

    /// The value above which the trigger is active; cpu and memory triggers never are, and servers of the
    /// user's own say so themselves.
    pub fn activation(&self) -> Option<f64> {
        match &self.source {
            Source::Prometheus(prometheus) => Some(prometheus.activation_threshold),
            Source::KubernetesWorkload(workload) => Some(workload.activation_value),
            Source::MetricsApi(api) => Some(api.activation_target_value),
            Source::Cron(_) => Some(0.0),
            Source::Resource(_) | Source::External(_) => None,
        }
    }
}

/// Where the metric comes from: nothing for a type that cannot be read, and nothing inside where a parameter
/// is wrong or still missing.
fn parse_source(
    trigger: &ScaleTrigger,
    metric_type: Option<&str>,
    parameters: &mut Parameters<'_>,
) -> Option<Option<Source>> {
    Some(match trigger.kind.as_str() {
        "prometheus" => Prometheus::parse(parameters).map(Source::Prometheus),
        kind @ ("cpu" | "memory") => Resource::parse(kind, metric_type, parameters).map(Source::Resource),
        "cron" => Cron::parse(parameters).map(Source::Cron),
        "kubernetes-workload" => KubernetesWorkload::parse(parameters).map(Source::KubernetesWorkload),
        "metrics-api" => MetricsApi::parse(parameters).map(Source::MetricsApi),
        kind @ ("external" | "external-push") => {
            External::parse(kind == "external-push", &trigger.metadata, parameters).map(Source::External)
        }
        _ => return None,
    })
}

/// A list of triggers that is too long to be meant.
pub(crate) fn too_many(triggers: &[ScaleTrigger]) -> Option<Problem> {
    (triggers.len() > TRIGGERS_MAX).then(|| {
        let message = format!("must have at most {TRIGGERS_MAX} items");
        Problem::invalid("spec.triggers", triggers.len(), message).cause(Cause::TooLong)
    })
}

/// Whether KEDA leaves the trigger to the HorizontalPodAutoscaler.
pub fn is_resource(kind: &str) -> bool {
    kind == "cpu" || kind == "memory"
}

/// Whether there are triggers and KEDA leaves all of them to the HorizontalPodAutoscaler.
pub fn are_resources(triggers: &[ScaleTrigger]) -> bool {
    !triggers.is_empty() && triggers.iter().all(|trigger| is_resource(&trigger.kind))
}

/// Whether KEDA knows the type of trigger.
pub fn is_known(kind: &str) -> bool {
    known::is_known(kind)
}

fn unsupported(path: &str, kind: &str) -> Problem {
    let field = format!("{path}.type");
    if known::is_known(kind) {
        let message = format!("trigger type {kind:?} is one of KEDA's, but cannot be read here");
        return Problem::invalid(field, kind, message)
            .cause(Cause::NotSupported)
            .help(format!("use one of {}", known::SUPPORTED));
    }
    let help = match known::nearest(kind) {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => format!("use one of {}", known::SUPPORTED),
    };
    let message = format!("no scaler found for type: {kind}");
    Problem::invalid(field, kind, message).cause(Cause::NotSupported).help(help)
}

fn check_metric_type(path: &str, metric_type: Option<&str>, is_resource: bool) -> Option<Problem> {
    let message = match (is_resource, metric_type) {
        (true, Some("Utilization" | "AverageValue")) | (false, None | Some("AverageValue" | "Value")) => {
            return None;
        }
        (true, _) => format!(
            "unknown metric type: {}, allowed values are 'Utilization' or 'AverageValue'",
            metric_type.unwrap_or_default()
        ),
        (false, Some("Utilization")) => {
            "'Utilization' metric type is unsupported for external metrics, allowed \
             values are 'Value' or 'AverageValue'"
                .to_owned()
        }
        (false, Some(other)) => {
            format!("unknown metric type: {other}, allowed values are 'Value' or 'AverageValue'")
        }
    };
    let help = if is_resource { "write Utilization or AverageValue" } else { "write AverageValue or Value" };
    Some(
        match metric_type {
            Some(text) => {
                Problem::invalid(format!("{path}.metricType"), text, message).cause(Cause::NotSupported)
            }
            None => Problem::required(format!("{path}.metricType"), message),
        }
        .help(help),
    )
}

/// The parameter that has the target, and the target.
fn wanted(source: &Source) -> Option<(&'static str, f64)> {
    match source {
        Source::Prometheus(prometheus) => Some(("threshold", prometheus.threshold)),
        Source::KubernetesWorkload(workload) => Some(("value", workload.value)),
        Source::MetricsApi(api) => Some(("targetValue", api.target_value)),
        Source::Resource(_) | Source::Cron(_) | Source::External(_) => None,
    }
}

/// A target of zero, once rounded to thousandths, is one that the HorizontalPodAutoscaler refuses.
fn check_target(source: &Source, parameters: &mut Parameters<'_>) {
    if let Some((name, value)) = wanted(source)
        && quantity(value).milli_value() == 0
        && parameters.fine()
    {
        let message =
            format!("target {value} is {} to three decimals, and must be positive", quantity(value));
        parameters.refuse(name, message, "write a number of at least 0.001, in a smaller unit if need be");
    }
}

fn target(source: &Source, metric_type: Option<&str>) -> Target {
    let average = metric_type != Some("Value");
    match (source, wanted(source)) {
        (Source::Resource(resource), _) => match resource.target {
            ResourceTarget::Utilization(percent) => Target::Utilization(percent),
            ResourceTarget::AverageValue(amount) => Target::AverageValue(amount),
        },
        (_, Some((_, value))) if average => Target::AverageValue(quantity(value)),
        (_, Some((_, value))) => Target::Value(quantity(value)),
        (Source::External(_), None) => Target::Asked { average },
        // The value of a schedule is the number of replicas, so each of them is worth one.
        (_, None) if average => Target::AverageValue(quantity(1.0)),
        (_, None) => Target::Value(quantity(1.0)),
    }
}

/// A value as KEDA passes it on: to three decimals, and 0 where it is negative or not finite.
pub fn quantity(value: f64) -> Quantity {
    let value = if value.is_finite() { value.max(0.0) } else { 0.0 };
    Quantity::parse(&format!("{value:.3}")).unwrap_or(Quantity::from_units(i64::MAX, Format::DecimalSi))
}
