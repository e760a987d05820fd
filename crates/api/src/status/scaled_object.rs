//! The status of a ScaledObject: what its definition says, whether that could be checked, and what was
//! decided (`controllers/keda/scaledobject_controller.go`, `scaling/executor/scale_scaledobjects.go`,
//! `fallback/fallback.go`).

use std::collections::BTreeMap;

use flyball_engine::{Activity, ActivityState, COMPOSITE_METRIC_NAME, Cause, Decision, Proposal, Reason};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::kinds::condition::PlainCondition;
use crate::kinds::scaled_object::{
    GroupVersionKindResource, HealthStatus, ScaledObject, ScaledObjectStatus, TriggerActivity,
};
use crate::plan::engine_name;
use crate::scaled_object::Pause;
use crate::trigger::{Trigger, TriggerMetric};

/// The status of an object whose triggers were read and whose workload was found with so many replicas.
pub fn defined(
    mut status: ScaledObjectStatus,
    object: &ScaledObject,
    triggers: &[Trigger],
    target: GroupVersionKindResource,
    replicas: i32,
) -> ScaledObjectStatus {
    initialize(&mut status.conditions);
    let api_version = if target.group.is_empty() {
        target.version.clone()
    } else {
        format!("{}/{}", target.group, target.version)
    };
    status.scale_target_kind = Some(format!("{api_version}.{}", target.kind));
    status.scale_target_gvkr = Some(target);
    status.original_replica_count.get_or_insert(replicas);
    status.hpa_name = Some(object.hpa_name());
    status.external_metric_names = external_metric_names(object, triggers);
    status.resource_metric_names = resource_metric_names(triggers);
    status.composite_scaler_name = object.spec.scaling_modifiers().map(|_| COMPOSITE_METRIC_NAME.to_owned());
    status.triggers_types = joined(object.spec.triggers.iter().map(|trigger| trigger.kind.as_str()));
    let references = object.spec.triggers.iter().filter_map(|trigger| trigger.authentication_ref.as_ref());
    status.authentications_types = joined(references.map(|reference| reference.name.as_str()));
    status.paused_replica_count = match object.paused() {
        Ok(Some(Pause::AtReplicas(replicas))) => i32::try_from(replicas).ok(),
        _ => None,
    };
    status
}

/// The status of an object that could not be checked, with what failed and why.
pub fn checked_failed(mut status: ScaledObjectStatus, what: &str, error: &str) -> ScaledObjectStatus {
    initialize(&mut status.conditions);
    set(&mut status.conditions, "Ready", "False", "ScaledObjectCheckFailed", format!("{what}: {error}"));
    set(&mut status.conditions, "Active", "Unknown", "UnknownState", "ScaledObject check failed");
    status
}

/// The status after a decision; with that of the HorizontalPodAutoscaler, if there is one.
pub fn decided(
    mut status: ScaledObjectStatus,
    object: &ScaledObject,
    decision: &Decision,
    hpa: Option<&HorizontalPodAutoscalerStatus>,
) -> ScaledObjectStatus {
    initialize(&mut status.conditions);
    if let Some(error) = unreadable_scale(decision) {
        let message = format!("Error getting current replicas count for ScaleTarget: {error}");
        set(&mut status.conditions, "Ready", "False", "ErrorGettingCurrentReplicas", message);
        return status;
    }
    let stopped = !matches!(object.paused(), Ok(None));
    set_paused(&mut status.conditions, stopped || object.paused_scale_in() || object.paused_scale_out());
    if stopped {
        set(&mut status.conditions, "Ready", "True", "ScaledObjectReady", "ScaledObject is paused");
        return status;
    }
    if let Some(activity) = decision.activity {
        let failing = has_failing_trigger(&status.external_metric_names, decision);
        let waits = waits_for_fallback(object, activity);
        set_ready(&mut status.conditions, failing, activity.is_active(), waits);
        // As long as nothing was read there is nothing to say.
        if failing || activity.state != ActivityState::Unknown {
            set_active(&mut status.conditions, activity.state);
        }
        set_fallback(&mut status.conditions, activity.fallback);
        status.last_active_time = last_active_time(status.last_active_time, object, activity);
    }
    if !decision.proposals.is_empty() {
        status.triggers_activity = triggers_activity(&status.external_metric_names, decision);
        status.health = health(object, &status.external_metric_names, decision);
    }
    if let Some(hpa) = hpa {
        set_hpa_active(&mut status.conditions, hpa);
    }
    status
}

fn initialize(conditions: &mut Vec<PlainCondition>) {
    for (kind, status) in
        [("Ready", "Unknown"), ("Active", "Unknown"), ("Fallback", "Unknown"), ("Paused", "False")]
    {
        if !conditions.iter().any(|condition| condition.kind == kind) {
            conditions.push(PlainCondition {
                kind: kind.to_owned(),
                status: status.to_owned(),
                ..PlainCondition::default()
            });
        }
    }
}

fn set(
    conditions: &mut Vec<PlainCondition>,
    kind: &str,
    status: &str,
    reason: &str,
    message: impl Into<String>,
) {
    let new = PlainCondition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.into()),
    };
    match conditions.iter_mut().find(|condition| condition.kind == kind) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

fn unreadable_scale(decision: &Decision) -> Option<&str> {
    decision.steps.iter().find_map(|step| match &step.reason {
        Reason::FailedGetScale { error } => Some(error.as_str()),
        _ => None,
    })
}

/// A failing trigger whose fallback is still to come leaves the condition as it is.
fn waits_for_fallback(object: &ScaledObject, activity: Activity) -> bool {
    let has_fallback = object.spec.fallback.as_ref().is_some_and(|fallback| fallback.replicas != 0);
    !activity.is_active() && has_fallback
}

/// Whether a trigger was read and failed. Those that KEDA leaves to the HorizontalPodAutoscaler do not count.
fn has_failing_trigger(names: &[String], decision: &Decision) -> bool {
    external(names, decision).any(|proposal| match &proposal.reason {
        Reason::MetricUnavailable(unavailable) => unavailable.cause != Cause::NotRead,
        Reason::FallbackExists { .. } => true,
        _ => false,
    })
}

fn external<'a>(names: &'a [String], decision: &'a Decision) -> impl Iterator<Item = &'a Proposal> {
    decision
        .proposals
        .iter()
        .filter(|proposal| names.iter().any(|name| engine_name(name) == proposal.metric.as_str()))
}

fn set_ready(conditions: &mut Vec<PlainCondition>, failing: bool, active: bool, waits: bool) {
    match (failing, active) {
        (false, _) => {
            let message = "ScaledObject is defined correctly and is ready for scaling";
            set(conditions, "Ready", "True", "ScaledObjectReady", message);
        }
        (true, true) => {
            let message = "Some triggers defined in ScaledObject are not working correctly";
            set(conditions, "Ready", "Unknown", "PartialTriggerError", message);
        }
        (true, false) if waits => {}
        (true, false) => {
            let message = "Triggers defined in ScaledObject are not working correctly";
            set(conditions, "Ready", "False", "TriggerError", message);
        }
    }
}

fn set_active(conditions: &mut Vec<PlainCondition>, state: ActivityState) {
    let (status, reason, message) = match state {
        ActivityState::Active => ("True", "ScalerActive", "Scaling is performed because triggers are active"),
        ActivityState::Forced => {
            ("True", "ScalerActive", "Scaling is performed because activation is being forced by annotation")
        }
        ActivityState::CoolingDown => {
            ("False", "ScalerCooldown", "Scaler cooling down because triggers are not active")
        }
        // A trigger that can't be read says nothing else here; Ready tells it.
        ActivityState::Inactive | ActivityState::Unknown => {
            ("False", "ScalerNotActive", "Scaling is not performed because triggers are not active")
        }
    };
    set(conditions, "Active", status, reason, message);
}

fn set_fallback(conditions: &mut Vec<PlainCondition>, exists: bool) {
    if exists {
        let message = "At least one trigger is falling back on this scaled object";
        set(conditions, "Fallback", "True", "FallbackExists", message);
    } else {
        set(
            conditions,
            "Fallback",
            "False",
            "NoFallbackFound",
            "No fallbacks are active on this scaled object",
        );
    }
}

/// Only an object that was paused before has something to say when it is not.
fn set_paused(conditions: &mut Vec<PlainCondition>, paused: bool) {
    let was_paused =
        conditions.iter().any(|condition| condition.kind == "Paused" && condition.status == "True");
    if paused {
        set(conditions, "Paused", "True", "ScaledObjectPaused", "ScaledObject is paused");
    } else if was_paused {
        let message = "pause annotation removed for ScaledObject";
        set(conditions, "Paused", "False", "ScaledObjectUnpaused", message);
    }
}

/// What the HorizontalPodAutoscaler says of its metrics.
fn set_hpa_active(conditions: &mut Vec<PlainCondition>, hpa: &HorizontalPodAutoscalerStatus) {
    let active = hpa.conditions.iter().flatten().find(|condition| condition.type_ == "ScalingActive");
    let Some(active) = active else { return };
    let (reason, message) =
        (active.reason.as_deref().unwrap_or_default(), active.message.as_deref().unwrap_or_default());
    match (active.status.as_str(), reason) {
        ("True", _) => set(conditions, "HPAActive", "True", "HPAActive", "HPA is actively scaling"),
        (_, "ScalingDisabled") => set(conditions, "HPAActive", "True", "ScalingDisabled", message),
        (_, reason) => {
            let reason = if reason.is_empty() { "HPAMetricsUnavailable" } else { reason };
            set(conditions, "HPAActive", "False", reason, format!("HPA is not actively scaling: {message}"));
        }
    }
}

fn external_metric_names(object: &ScaledObject, triggers: &[Trigger]) -> Vec<String> {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let names = triggers.iter().filter_map(|trigger| match trigger.metric(namespace) {
        TriggerMetric::External(name) => Some(name),
        TriggerMetric::Resource { .. } => None,
    });
    names.collect()
}

fn resource_metric_names(triggers: &[Trigger]) -> Vec<String> {
    let names = triggers.iter().filter_map(|trigger| match trigger.metric("") {
        TriggerMetric::Resource { resource, container: None } => Some(resource),
        _ => None,
    });
    names.collect()
}

/// Each text once, in the order of its first use, joined by commas; nothing if there is none.
pub(crate) fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut unique: Vec<&str> = Vec::new();
    for text in texts {
        if !unique.contains(&text) {
            unique.push(text);
        }
    }
    (!unique.is_empty()).then(|| unique.join(","))
}

fn triggers_activity(names: &[String], decision: &Decision) -> BTreeMap<String, TriggerActivity> {
    external(names, decision)
        .map(|proposal| {
            let is_active = proposal.active.unwrap_or(false);
            (proposal.metric.to_string(), TriggerActivity { is_active })
        })
        .collect()
}

/// Failures are counted for the fallback, so there is nothing to show without one.
fn health(object: &ScaledObject, names: &[String], decision: &Decision) -> BTreeMap<String, HealthStatus> {
    if object.spec.fallback.is_none() {
        return BTreeMap::new();
    }
    external(names, decision)
        .map(|proposal| {
            let failures = proposal.failures;
            let health = HealthStatus {
                number_of_failures: Some(i32::try_from(failures).unwrap_or(i32::MAX)),
                status: Some(if failures == 0 { "Happy" } else { "Failing" }.to_owned()),
            };
            (proposal.metric.to_string(), health)
        })
        .collect()
}

/// The time is written once in a polling interval, as KEDA does, while the object is active; and exactly once
/// it is not, because the cooldown counts from it.
fn last_active_time(previous: Option<Time>, object: &ScaledObject, activity: Activity) -> Option<Time> {
    let Some(new) = activity.last_active.and_then(timestamp) else { return previous };
    let recent = |previous: &Time| {
        let age_seconds = new.0.as_second() - previous.0.as_second();
        u64::try_from(age_seconds).is_ok_and(|age| age < object.spec.polling_interval().as_secs())
    };
    match previous {
        Some(previous) if activity.is_active() && recent(&previous) => Some(previous),
        _ => Some(new),
    }
}

/// Kubernetes writes whole seconds.
fn timestamp(at: flyball_engine::Time) -> Option<Time> {
    let seconds = i64::try_from(at.as_millis() / 1000).ok()?;
    Timestamp::from_second(seconds).ok().map(Time)
}
