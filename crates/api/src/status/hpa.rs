//! The status of a HorizontalPodAutoscaler after a decision (`podautoscaler/horizontal.go`).
//!
//! Which conditions there are is for the decision to say; here they get their sentences and their transition
//! times. A condition that a decision says nothing about stays as it was.

use flyball_engine::{
    Cause, CurrentMetric, Decision, Memory, Milli, Proposal, Reason, Stage, Unavailable, Written,
};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus, MetricSpec,
    MetricStatus, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::metric_name::{failure, sentence_name};
use crate::plan::metric_keys;
use crate::quantity::{Format, Quantity};

/// What came of a decision to change the replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to change.
    Kept,
    /// The scale subresource was written.
    Rescaled,
    /// The scale subresource could not be written.
    Failed {
        /// Why.
        error: String,
    },
}

impl Outcome {
    fn written(&self) -> Written {
        match self {
            Self::Kept => Written::Nothing,
            Self::Rescaled => Written::Rescaled,
            Self::Failed { .. } => Written::Failed,
        }
    }
}

/// The status after a decision, from the one before it. `memory` is what the engine remembers of the target.
pub fn hpa_status(
    previous: Option<&HorizontalPodAutoscalerStatus>,
    object: &HorizontalPodAutoscaler,
    decision: &Decision,
    memory: Option<&Memory>,
    outcome: &Outcome,
    now: Time,
) -> HorizontalPodAutoscalerStatus {
    let spec = &object.spec;
    let mut status = previous.cloned().unwrap_or_default();
    let mut conditions = status.conditions.take().unwrap_or_default();
    for condition in decision.hpa_conditions(outcome.written(), memory) {
        let message = message(condition.reason, spec, decision, outcome);
        let kind = condition.condition_type.as_str();
        set_condition(&mut conditions, kind, condition.status, condition.reason, message, &now);
    }
    let unusable = matches!(recommendation(decision), Some(Reason::MetricUnavailable(_)));
    let kept = unusable && !decision.rescales();
    let desired = previous.filter(|_| kept).map(|status| status.desired_replicas);
    HorizontalPodAutoscalerStatus {
        conditions: Some(conditions),
        current_metrics: Some(current_metrics(spec, decision)),
        current_replicas: Some(replicas(decision.current)),
        desired_replicas: desired.unwrap_or(replicas(decision.desired)),
        last_scale_time: if *outcome == Outcome::Rescaled { Some(now) } else { status.last_scale_time },
        observed_generation: object.metadata.generation.or(status.observed_generation),
    }
}

/// The status of an object that another one keeps from deciding, with why: as on a cluster, it is not active.
pub fn hpa_refused(
    previous: Option<&HorizontalPodAutoscalerStatus>,
    why: &str,
    now: Time,
) -> HorizontalPodAutoscalerStatus {
    let mut status = previous.cloned().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    set_condition(conditions, "ScalingActive", false, "AmbiguousSelector", why.to_owned(), &now);
    status
}

fn replicas(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Finds the condition by its type, or adds it; the transition time changes only with the status.
fn set_condition(
    conditions: &mut Vec<HorizontalPodAutoscalerCondition>,
    kind: &str,
    value: bool,
    reason: &str,
    message: String,
    now: &Time,
) {
    let status = if value { "True" } else { "False" };
    let old = conditions.iter().position(|condition| condition.type_ == kind);
    let kept = old.map(|index| &conditions[index]).filter(|condition| condition.status == status);
    let new = HorizontalPodAutoscalerCondition {
        observed_generation: None,
        last_transition_time: kept.map_or_else(|| Some(now.clone()), |old| old.last_transition_time.clone()),
        message: Some(message),
        reason: Some(reason.to_owned()),
        status: status.to_owned(),
        type_: kind.to_owned(),
    };
    match old {
        Some(index) => conditions[index] = new,
        None => conditions.push(new),
    }
}

/// What decided, or what kept the metrics from deciding.
pub(super) fn recommendation(decision: &Decision) -> Option<&Reason> {
    decision.steps.iter().find(|step| step.stage == Stage::Recommend).map(|step| &step.reason)
}

/// The metric that was followed, as sentences name it.
pub(super) fn followed_metric(spec: &HorizontalPodAutoscalerSpec, decision: &Decision) -> String {
    let reason = recommendation(decision);
    let followed = decision.proposals.iter().find(|proposal| Some(&proposal.reason) == reason);
    let Some(name) = followed.map(|proposal| &proposal.metric) else { return String::new() };
    find(spec, name.as_str()).map_or_else(|| name.to_string(), sentence_name)
}

/// The metric of the spec that has this name in the engine.
pub(super) fn find<'a>(spec: &'a HorizontalPodAutoscalerSpec, name: &str) -> Option<&'a MetricSpec> {
    let metrics = spec.metrics.as_deref().unwrap_or_default();
    let index = metric_keys(metrics).iter().position(|key| key == name)?;
    metrics.get(index)
}

/// The sentence of a condition, by its reason. The sentences are fixed; names and errors go into them.
fn message(
    reason: &str,
    spec: &HorizontalPodAutoscalerSpec,
    decision: &Decision,
    outcome: &Outcome,
) -> String {
    let fixed = match reason {
        "SucceededGetScale" => "the HPA controller was able to get the target's current scale",
        "ReadyForNewScale" => "recommended size matches current size",
        "ScaleDownStabilized" => {
            "recent recommendations were higher than current one, applying the highest recent recommendation"
        }
        "ScaleUpStabilized" => {
            "recent recommendations were lower than current one, applying the lowest recent recommendation"
        }
        "ScalingDisabled" => "scaling is disabled since the replica count of the target is zero",
        "DesiredWithinRange" => "the desired count is within the acceptable range",
        "TooFewReplicas" => "the desired replica count is less than the minimum replica count",
        "TooManyReplicas" => "the desired replica count is more than the maximum replica count",
        "ScaleUpLimit" => "the desired replica count is increasing faster than the maximum scale rate",
        "ScaleDownLimit" => "the desired replica count is decreasing faster than the maximum scale rate",
        "ScaledToZero" => "the HPA controller scaled the workload to zero",
        "NotScaledToZero" => "the HPA controller did not scale the workload to zero",
        _ => return message_with_names(reason, spec, decision, outcome),
    };
    fixed.to_owned()
}

fn message_with_names(
    reason: &str,
    spec: &HorizontalPodAutoscalerSpec,
    decision: &Decision,
    outcome: &Outcome,
) -> String {
    match (reason, outcome, recommendation(decision)) {
        ("SucceededRescale", ..) => {
            format!("the HPA controller was able to update the target scale to {}", decision.desired)
        }
        ("FailedUpdateScale", Outcome::Failed { error }, _) => {
            format!("the HPA controller was unable to update the target scale: {error}")
        }
        ("ValidMetricFound", ..) => {
            let metric = followed_metric(spec, decision);
            format!("the HPA was able to successfully calculate a replica count from {metric}")
        }
        (_, _, Some(Reason::FailedGetScale { error })) => {
            format!("the HPA controller was unable to get the target's current scale: {error}")
        }
        (_, _, Some(Reason::SelectorRequired)) => "the HPA target's scale is missing a selector".to_owned(),
        (_, _, Some(reason @ (Reason::InvalidSelector { .. } | Reason::AmbiguousSelector { .. }))) => {
            selector_words(reason)
        }
        (_, _, Some(Reason::MetricUnavailable(unavailable))) => {
            let metric = find(spec, unavailable.metric.as_str());
            let error = unavailable_words(unavailable, metric);
            format!("the HPA was unable to compute the replica count: {error}")
        }
        (_, _, reason) => reason.map(ToString::to_string).unwrap_or_default(),
    }
}

/// Why a selector is of no use, in the words of kube-controller-manager.
pub(super) fn selector_words(reason: &Reason) -> String {
    match reason {
        Reason::InvalidSelector { error } => {
            format!("couldn't convert selector into a corresponding internal selector object: {error}")
        }
        Reason::AmbiguousSelector { selector, autoscalers } => format!(
            "pods by selector {selector} are controlled by multiple HPAs: [{}]",
            autoscalers.join(" ")
        ),
        other => other.to_string(),
    }
}

/// Why a metric can't be used, in the words of kube-controller-manager around those of its source.
pub(super) fn unavailable_words(unavailable: &Unavailable, metric: Option<&MetricSpec>) -> String {
    let error = match &unavailable.cause {
        Cause::NotRead => "it has not been read yet".to_owned(),
        Cause::Missing(why) => format!("no data: {why}"),
        Cause::Partial { value, why } => format!("its value, {value}, is not all there is: {why}"),
        Cause::Stale { last, at, why } => {
            let words = format!("its last value, {last}, is of {at}, too long ago to act on");
            if why.is_empty() { words } else { format!("{words}: {why}") }
        }
        Cause::Failed(error) => error.clone(),
        Cause::UnknownType => "its type is not known".to_owned(),
    };
    metric.map_or_else(|| format!("{}: {error}", unavailable.metric), |metric| failure(metric, &error))
}

/// One entry for each metric of the spec, empty where it could not be read; none when nothing was read.
fn current_metrics(spec: &HorizontalPodAutoscalerSpec, decision: &Decision) -> Vec<MetricStatus> {
    if decision.proposals.is_empty() {
        return Vec::new();
    }
    let metrics = spec.metrics.as_deref().unwrap_or_default();
    metrics
        .iter()
        .zip(metric_keys(metrics))
        .map(|(metric, key)| {
            let proposal = decision.proposals.iter().find(|proposal| proposal.metric.as_str() == key);
            proposal
                .and_then(|proposal| current(proposal, decision))
                .map(|current| metric_status(metric, current))
                .unwrap_or_default()
        })
        .collect()
}

/// What a metric reads. An objective's counts replicas: those that it needs, over those that there are.
fn current(proposal: &Proposal, decision: &Decision) -> Option<CurrentMetric> {
    match (&proposal.reason, proposal.replicas) {
        (Reason::Objective(_), Some(needed)) => {
            let replicas = decision.current.max(1);
            Some(CurrentMetric::AverageValue(Milli::from_f64(f64::from(needed) / f64::from(replicas))))
        }
        _ => proposal.current,
    }
}

fn metric_status(metric: &MetricSpec, current: CurrentMetric) -> MetricStatus {
    let is_memory = |resource: &str| resource == "memory";
    let memory = metric.resource.as_ref().is_some_and(|resource| is_memory(&resource.name))
        || metric.container_resource.as_ref().is_some_and(|resource| is_memory(&resource.name));
    let current = current_value(current, if memory { Format::BinarySi } else { Format::DecimalSi });
    let mut status = MetricStatus { type_: metric.type_.clone(), ..MetricStatus::default() };
    if let Some(resource) = &metric.resource {
        status.resource = Some(ResourceMetricStatus { name: resource.name.clone(), current });
    } else if let Some(resource) = &metric.container_resource {
        let (container, name) = (resource.container.clone(), resource.name.clone());
        status.container_resource = Some(ContainerResourceMetricStatus { container, name, current });
    } else if let Some(pods) = &metric.pods {
        status.pods = Some(PodsMetricStatus { metric: pods.metric.clone(), current });
    } else if let Some(object) = &metric.object {
        let (described_object, metric) = (object.described_object.clone(), object.metric.clone());
        status.object = Some(ObjectMetricStatus { described_object, metric, current });
    } else if let Some(external) = &metric.external {
        status.external = Some(ExternalMetricStatus { metric: external.metric.clone(), current });
    }
    status
}

fn current_value(current: CurrentMetric, format: Format) -> MetricValueStatus {
    let quantity = |amount: Milli| Some(Quantity::from_milli(amount.get(), format).into());
    match current {
        CurrentMetric::Utilization { percent, average } => MetricValueStatus {
            average_utilization: Some(percent),
            average_value: quantity(average),
            ..MetricValueStatus::default()
        },
        CurrentMetric::AverageValue(amount) => {
            MetricValueStatus { average_value: quantity(amount), ..MetricValueStatus::default() }
        }
        CurrentMetric::Value(amount) => {
            MetricValueStatus { value: quantity(amount), ..MetricValueStatus::default() }
        }
    }
}
