//! The rules for one ScaledObject or ScaledJob, one function a rule.
//!
//! Messages are those of KEDA's webhook (`apis/keda/v1alpha1/scaledobject_webhook.go`).

use flyball_engine::{Formula, Name};
use kube::ResourceExt;

use super::{Admission, CheckQuery, Neighbours, behavior, neighbours, triggers};
use crate::kinds::scaled_job::ScaledJob;
use crate::kinds::scaled_object::{FallbackBehavior, ScaledObject, ScalingModifiers};
use crate::problem::{Cause, Problem};
use crate::scaled_object::NAME_LABEL;
use crate::trigger::{are_resources, is_resource};

/// The longest value of a label.
const LABEL_VALUE_LENGTH_MAX: usize = 63;

/// Checks a ScaledObject that is created, or changed from an old one.
pub fn admit_scaled_object(
    object: &ScaledObject,
    old: Option<&ScaledObject>,
    neighbours: Neighbours<'_>,
    check_query: CheckQuery<'_>,
) -> Admission {
    if old.is_some_and(|old| only_loses_finalizer(object, old)) {
        return Admission::default();
    }
    let mut problems = name(object);
    problems.extend(replicas(object));
    problems.extend(fallback(object));
    problems.extend(modifiers(object));
    problems.extend(hpa_behavior(object));
    let (found, mut warnings) = triggers::check(&object.spec.triggers, check_query);
    problems.extend(found);
    problems.extend(neighbours::check(object, neighbours));
    warnings.extend(irrelevant_settings(object));
    Admission { problems, warnings }
}

/// Checks a ScaledJob that is created or changed.
pub fn admit_scaled_job(object: &ScaledJob, check_query: CheckQuery<'_>) -> Admission {
    let (mut problems, warnings) = triggers::check(&object.spec.triggers, check_query);
    for (index, trigger) in object.spec.triggers.iter().enumerate() {
        if let Some(metric_type) = trigger.metric_type.as_deref().filter(|text| !text.is_empty()) {
            let field = format!("spec.triggers[{index}].metricType");
            let message = "metricType is set in one of the ScaledJob scaler";
            problems.push(
                Problem::invalid(field, metric_type, message).cause(Cause::Forbidden).help("leave it out"),
            );
        }
    }
    Admission { problems, warnings }
}

/// Deletion must not be held up by a rule that the object broke all along.
fn only_loses_finalizer(object: &ScaledObject, old: &ScaledObject) -> bool {
    object.finalizers().len() < old.finalizers().len() && object.spec == old.spec
}

fn name(object: &ScaledObject) -> Vec<Problem> {
    let mut problems = Vec::new();
    let name = object.name_any();
    if name.len() > LABEL_VALUE_LENGTH_MAX {
        let message = format!(
            "scaledobject name {name:?} is {} characters long; must be no more than {LABEL_VALUE_LENGTH_MAX} \
             characters because it is used as the {NAME_LABEL:?} label value",
            name.len()
        );
        problems.push(Problem::invalid("metadata.name", name, message).cause(Cause::TooLong));
    }
    let hpa_name = object.hpa_name();
    if hpa_name.len() > LABEL_VALUE_LENGTH_MAX {
        let message = format!(
            "HPA name {hpa_name:?} derived from scaledobject is {} characters long; must be no more than \
             {LABEL_VALUE_LENGTH_MAX} characters; set spec.advanced.horizontalPodAutoscalerConfig.name to \
             a shorter \
             name or shorten the scaledobject name",
            hpa_name.len()
        );
        let field = "spec.advanced.horizontalPodAutoscalerConfig.name";
        problems.push(Problem::invalid(field, hpa_name, message).cause(Cause::TooLong));
    }
    problems
}

/// An explicit minimum of 0 counts as 1, as it does for the HorizontalPodAutoscaler.
fn replicas(object: &ScaledObject) -> Vec<Problem> {
    let spec = &object.spec;
    let min = spec.min_replica_count.map_or(0, |_| spec.hpa_min_replicas());
    let max = spec.max_replicas();
    let mut problems = Vec::new();
    if min > max {
        let message = format!("MinReplicaCount={min} must be less than MaxReplicaCount={max}");
        problems.push(
            Problem::invalid("spec.minReplicaCount", min, message)
                .help("lower minReplicaCount or raise maxReplicaCount"),
        );
    }
    if let Some(idle) = spec.idle_replica_count.filter(|idle| *idle >= min) {
        let message = format!("IdleReplicaCount={idle} must be less than MinReplicaCount={min}");
        problems.push(
            Problem::invalid("spec.idleReplicaCount", idle, message)
                .help("lower idleReplicaCount or raise minReplicaCount"),
        );
    }
    problems
}

fn fallback(object: &ScaledObject) -> Vec<Problem> {
    let Some(fallback) = &object.spec.fallback else { return Vec::new() };
    let mut problems = Vec::new();
    let (threshold, replicas) = (fallback.failure_threshold, fallback.replicas);
    if threshold < 0 || replicas < 0 {
        let message = format!(
            "FailureThreshold={threshold} & Replicas={replicas} must both be greater than or equal to 0"
        );
        let (field, value) = if threshold < 0 {
            ("spec.fallback.failureThreshold", threshold)
        } else {
            ("spec.fallback.replicas", replicas)
        };
        problems.push(Problem::invalid(field, value, message));
    }
    let modifiers = object.spec.scaling_modifiers();
    if modifiers.is_none() && are_resources(&object.spec.triggers) {
        let message = "at least one trigger (that is not cpu or memory) has to have the `AverageValue` type for the \
                       fallback to be enabled";
        problems.push(
            Problem::invalid("spec.fallback", serde_json::json!(fallback), message)
                .cause(Cause::Forbidden)
                .help("leave fallback out or add a trigger"),
        );
    }
    let has_formula = modifiers.is_some_and(|modifiers| !text(modifiers.formula.as_ref()).is_empty());
    if fallback.behavior == FallbackBehavior::ScalingModifiers && !has_formula {
        let message = "scalingModifiers fallback behavior requires scalingModifiers.formula to be defined";
        problems.push(Problem::invalid("spec.fallback.behavior", "scalingModifiers", message));
    }
    problems
}

fn text(value: Option<&String>) -> &str {
    value.map_or("", |text| text.trim())
}

fn modifiers(object: &ScaledObject) -> Vec<Problem> {
    let Some(modifiers) = object.spec.scaling_modifiers() else { return Vec::new() };
    let mut problems = formula(object, modifiers);
    problems.extend(composite_target(modifiers));
    if modifiers.metric_type.as_deref() == Some("Utilization") {
        let message = "error trigger type is Utilization, but it needs to be AverageValue or Value for \
        external metrics";
        let field = "spec.advanced.scalingModifiers.metricType";
        problems.push(Problem::invalid(field, "Utilization", message).cause(Cause::NotSupported));
    }
    if let Some(activation) =
        modifiers.activation_target.as_deref().filter(|text| text.trim().parse::<f64>().is_err())
    {
        let field = "spec.advanced.scalingModifiers.activationTarget";
        problems.push(Problem::invalid(field, activation, "not a number").help("write a number in quotes"));
    }
    problems
}

fn formula(object: &ScaledObject, modifiers: &ScalingModifiers) -> Vec<Problem> {
    let field = "spec.advanced.scalingModifiers.formula";
    let formula = text(modifiers.formula.as_ref());
    if formula.is_empty() {
        return vec![Problem::required(field, "error ScalingModifiers.Formula is mandatory")];
    }
    let named = |resources: bool| -> Vec<&str> {
        let triggers = object.spec.triggers.iter().filter(|trigger| is_resource(&trigger.kind) == resources);
        triggers.filter_map(|trigger| trigger.name.as_deref()).collect()
    };
    let (names, resources) = (named(false), named(true));
    let problem = |why: String| {
        let message = format!("error validating formula in ScalingModifiers: {why}");
        Problem::invalid(field, formula, message)
            .help(format!("the named triggers are [{}]", names.join(", ")))
    };
    let parsed = match Formula::new(formula) {
        Err(error) => return vec![problem(error.to_string())],
        Ok(parsed) => parsed,
    };
    let unknown = parsed.names().iter().map(Name::as_str).filter(|name| !names.contains(name)).map(|name| {
        if resources.contains(&name) {
            format!(
                "{name} is a cpu or memory trigger, and those feed no formula: they ask for replicas beside \
                 it; for usage in a formula, read it with a prometheus trigger"
            )
        } else {
            format!("unknown name {name}")
        }
    });
    let hidden = parsed.variables().iter().map(Name::as_str).filter(|name| names.contains(name));
    let hidden = hidden.map(|name| format!("cannot redeclare {name}, which is a trigger"));
    unknown.chain(hidden).map(problem).collect()
}

fn composite_target(modifiers: &ScalingModifiers) -> Option<Problem> {
    let field = "spec.advanced.scalingModifiers.target";
    let help = "write a number greater than 0 in quotes";
    match text(modifiers.target.as_ref()) {
        "" => {
            let message =
                "error validating formula in ScalingModifiers: formula is given but target is empty";
            Some(Problem::required(field, message).help(help))
        }
        target => {
            let why = match target.parse::<f64>() {
                Ok(number) if number > 0.0 && number.is_finite() => return None,
                Ok(_) => "must be greater than 0",
                Err(_) => "not a number",
            };
            let message = format!(
                "error validating target in ScalingModifiers: error converting target for scalingModifiers \
                 (string->float) to valid target: {why}"
            );
            Some(Problem::invalid(field, target, message).help(help))
        }
    }
}

fn hpa_behavior(object: &ScaledObject) -> Vec<Problem> {
    let path = "spec.advanced.horizontalPodAutoscalerConfig.behavior";
    object.spec.behavior().map(|rules| behavior::check(path, rules)).unwrap_or_default()
}

/// Settings that have no effect between one replica and many.
fn irrelevant_settings(object: &ScaledObject) -> Vec<String> {
    let spec = &object.spec;
    if spec.min_replicas() == 0 || spec.idle_replica_count.is_some() {
        return Vec::new();
    }
    let cached = spec.triggers.iter().any(|trigger| trigger.use_cached_metrics == Some(true));
    let mut warnings = Vec::new();
    if spec.polling_interval.is_some() && !cached {
        warnings.push(
            "PollingInterval is configured but is not relevant. PollingInterval is only relevant when \
             minReplicaCount = 0, idleReplicaCount is set, or useCachedMetrics is enabled"
                .to_owned(),
        );
    }
    if spec.cooldown_period.is_some() {
        warnings.push(
            "CooldownPeriod is configured but is not relevant. CooldownPeriod is only relevant when \
             minReplicaCount = 0 or idleReplicaCount is set"
                .to_owned(),
        );
    }
    warnings
}
