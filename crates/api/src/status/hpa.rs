//! The status of a HorizontalPodAutoscaler after a decision (`podautoscaler/horizontal.go`).
//!
//! `AbleToScale` is about the scale subresource and what stabilization did, `ScalingActive` about the metrics,
//! `ScalingLimited` about pace and bounds. A condition that a decision says nothing about stays as it was: when no
//! metric was read, because the replicas were out of bounds or paused, the last two do.

use flyball_engine::{Cause, CurrentMetric, Decision, Milli, Proposal, Reason, Stage, Unavailable};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, HorizontalPodAutoscalerCondition,
    HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus, MetricSpec, MetricStatus, MetricValueStatus,
    ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
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

/// The status after a decision, from the one before it.
pub fn hpa_status(
    previous: Option<&HorizontalPodAutoscalerStatus>,
    spec: &HorizontalPodAutoscalerSpec,
    generation: Option<i64>,
    decision: &Decision,
    outcome: &Outcome,
    now: Time,
) -> HorizontalPodAutoscalerStatus {
    let mut status = previous.cloned().unwrap_or_default();
    let mut conditions = status.conditions.take().unwrap_or_default();
    for (kind, value, reason, message) in conditions_of(spec, decision, outcome) {
        set_condition(&mut conditions, kind, value, reason, message, &now);
    }
    let unusable = matches!(verdict(spec, decision), Verdict::Unusable(..));
    let desired = if unusable { previous.map(|status| status.desired_replicas) } else { None };
    HorizontalPodAutoscalerStatus {
        conditions: Some(conditions),
        current_metrics: Some(current_metrics(spec, decision)),
        current_replicas: Some(replicas(decision.current)),
        desired_replicas: desired.unwrap_or(replicas(decision.desired)),
        last_scale_time: if *outcome == Outcome::Rescaled { Some(now) } else { status.last_scale_time },
        observed_generation: generation.or(status.observed_generation),
    }
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

/// Type, status, reason and message.
type Condition = (&'static str, bool, &'static str, String);

/// What the metrics came to.
pub(super) enum Verdict<'a> {
    /// No metric was looked at.
    NotComputed,
    /// Nothing can be said, or only that replicas could be taken away: the first metric that failed.
    Unusable(&'a Unavailable, Option<&'a MetricSpec>),
    /// This metric asks for the most.
    Decided(&'a Proposal, Option<&'a MetricSpec>),
}

/// What the metrics came to. One that fails may not keep others from scaling out, and must keep them from scaling in.
pub(super) fn verdict<'a>(spec: &'a HorizontalPodAutoscalerSpec, decision: &'a Decision) -> Verdict<'a> {
    let best = decision.proposals.iter().rev().max_by_key(|proposal| proposal.replicas);
    let Some(best) = best else { return Verdict::NotComputed };
    let failed = decision.proposals.iter().find_map(|proposal| match &proposal.reason {
        Reason::MetricUnavailable(unavailable) => Some(unavailable),
        _ => None,
    });
    match (best.replicas, failed) {
        (Some(replicas), Some(failed)) if replicas < decision.current => {
            Verdict::Unusable(failed, find(spec, failed.metric.as_str()))
        }
        (None, Some(failed)) => Verdict::Unusable(failed, find(spec, failed.metric.as_str())),
        (None, None) => Verdict::NotComputed,
        (Some(_), _) => Verdict::Decided(best, find(spec, best.metric.as_str())),
    }
}

fn find<'a>(spec: &'a HorizontalPodAutoscalerSpec, name: &str) -> Option<&'a MetricSpec> {
    let metrics = spec.metrics.as_deref().unwrap_or_default();
    let index = metric_keys(metrics).iter().position(|key| key == name)?;
    metrics.get(index)
}

fn conditions_of(
    spec: &HorizontalPodAutoscalerSpec,
    decision: &Decision,
    outcome: &Outcome,
) -> Vec<Condition> {
    let mut conditions = vec![able_to_scale(spec, decision, outcome)];
    conditions.extend(scaling_active(spec, decision));
    if let Verdict::Decided(..) = verdict(spec, decision) {
        conditions.push(scaling_limited(decision));
    }
    conditions
}

fn able_to_scale(spec: &HorizontalPodAutoscalerSpec, decision: &Decision, outcome: &Outcome) -> Condition {
    let kind = "AbleToScale";
    if let Outcome::Failed { error } = outcome {
        let message = format!("the HPA controller was unable to update the target scale: {error}");
        return (kind, false, "FailedUpdateScale", message);
    }
    if *outcome == Outcome::Rescaled {
        let message =
            format!("the HPA controller was able to update the target scale to {}", decision.desired);
        return (kind, true, "SucceededRescale", message);
    }
    if let Some(error) = decision.steps.iter().find_map(|step| match &step.reason {
        Reason::FailedGetScale { error } => Some(error),
        _ => None,
    }) {
        let message = format!("the HPA controller was unable to get the target's current scale: {error}");
        return (kind, false, "FailedGetScale", message);
    }
    if !matches!(verdict(spec, decision), Verdict::Decided(..)) {
        let message = "the HPA controller was able to get the target's current scale";
        return (kind, true, "SucceededGetScale", message.to_owned());
    }
    let stabilized =
        decision.steps.iter().rfind(|step| step.stage == Stage::Stabilize).map(|step| &step.reason);
    let (reason, message) = match stabilized {
        Some(Reason::ScaleDownStabilized { .. }) => (
            "ScaleDownStabilized",
            "recent recommendations were higher than current one, applying the highest recent recommendation",
        ),
        Some(Reason::ScaleUpStabilized { .. }) => (
            "ScaleUpStabilized",
            "recent recommendations were lower than current one, applying the lowest recent recommendation",
        ),
        _ => ("ReadyForNewScale", "recommended size matches current size"),
    };
    (kind, true, reason, message.to_owned())
}

fn scaling_active(spec: &HorizontalPodAutoscalerSpec, decision: &Decision) -> Option<Condition> {
    let kind = "ScalingActive";
    let unread = decision.steps.iter().find_map(|step| match &step.reason {
        Reason::ScalingDisabled => Some((
            "ScalingDisabled",
            "scaling is disabled since the replica count of the target is zero".to_owned(),
        )),
        Reason::SelectorRequired => {
            Some(("InvalidSelector", "the HPA target's scale is missing a selector".to_owned()))
        }
        Reason::InvalidSelector { error } => Some((
            "InvalidSelector",
            format!("couldn't convert selector into a corresponding internal selector object: {error}"),
        )),
        Reason::AmbiguousSelector { selector, autoscalers } => Some((
            "AmbiguousSelector",
            format!(
                "pods by selector {selector} are controlled by multiple HPAs: [{}]",
                autoscalers.join(" ")
            ),
        )),
        _ => None,
    });
    if let Some((reason, message)) = unread {
        return Some((kind, false, reason, message));
    }
    match verdict(spec, decision) {
        Verdict::NotComputed => None,
        Verdict::Unusable(unavailable, metric) => {
            let message = format!(
                "the HPA was unable to compute the replica count: {}",
                unavailable_words(unavailable, metric)
            );
            Some((kind, false, unavailable.hpa_reason(), message))
        }
        Verdict::Decided(proposal, metric) => {
            let name = metric.map_or_else(|| proposal.metric.to_string(), sentence_name);
            let message = format!("the HPA was able to successfully calculate a replica count from {name}");
            Some((kind, true, "ValidMetricFound", message))
        }
    }
}

/// The last stage that held something back has the word.
fn scaling_limited(decision: &Decision) -> Condition {
    let kind = "ScalingLimited";
    let limited = |reason: &'static str, message: &str| (kind, true, reason, message.to_owned());
    let limits = decision.steps.iter().rev().filter(|step| matches!(step.stage, Stage::Pace | Stage::Bound));
    for step in limits {
        match &step.reason {
            Reason::TooFewReplicas { .. } => {
                return limited(
                    "TooFewReplicas",
                    "the desired replica count is less than the minimum replica count",
                );
            }
            Reason::TooManyReplicas { .. } => {
                return limited(
                    "TooManyReplicas",
                    "the desired replica count is more than the maximum replica count",
                );
            }
            Reason::ScaleUpLimit(_) => {
                let message = "the desired replica count is increasing faster than the maximum scale rate";
                return limited("ScaleUpLimit", message);
            }
            Reason::ScaleDownLimit(_) => {
                let message = "the desired replica count is decreasing faster than the maximum scale rate";
                return limited("ScaleDownLimit", message);
            }
            _ => {}
        }
    }
    (kind, false, "DesiredWithinRange", "the desired count is within the acceptable range".to_owned())
}

/// Why a metric can't be used, in the words of kube-controller-manager around those of its source.
pub(super) fn unavailable_words(unavailable: &Unavailable, metric: Option<&MetricSpec>) -> String {
    let error = match &unavailable.cause {
        Cause::NotRead => "it has not been read yet".to_owned(),
        Cause::Missing(why) => format!("no data: {why}"),
        Cause::Stale { last, at } => format!("its last value, {last}, is of {at}, too long ago to act on"),
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
                .and_then(|proposal| proposal.current)
                .map(|current| metric_status(metric, current))
                .unwrap_or_default()
        })
        .collect()
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
