//! A ScaledObject as a plan.

use flyball_engine::{
    Activation, Bounds, Composite, Fallback, FallbackBehavior, Formula, Metric, MetricSource, MetricTarget,
    Metrics, Milli, Name, Pause, Policy, PolicyError, Rules, Slo, TargetId, Time,
};
use kube::ResourceExt;

use super::{Ask, Names, Plan, Query, behavior};
use crate::kinds::scaled_object::{self as kind, ScaledObject, ScalingModifiers};
use crate::problem::{Checked, Problem};
use crate::quantity::Quantity;
use crate::scaled_object::{self as meaning, NAME_LABEL, PAUSED_REPLICAS};
use crate::trigger::{Trigger, TriggerMetric, TriggerSource, TriggerTarget};

/// What a ScaledObject with these triggers asks of the autoscaler.
///
/// # Errors
/// If bounds, metrics, formula, behavior or annotations make no sense; everything that is wrong is told.
pub fn plan_scaled_object(object: &ScaledObject, triggers: &[Trigger], rules: Rules) -> Checked<Plan> {
    let mut problems = Vec::new();
    let mut keep = |found: Checked<()>| problems.extend(found.err().unwrap_or_default());
    let bounds = bounds(object);
    keep(bounds.as_ref().map(|_| ()).map_err(Clone::clone));
    let metrics = metrics(object, triggers);
    keep(metrics.as_ref().map(|_| ()).map_err(Clone::clone));
    let behavior = behavior(object);
    keep(behavior.as_ref().map(|_| ()).map_err(Clone::clone));
    let pause = pause(object);
    keep(pause.as_ref().map(|_| ()).map_err(Clone::clone));
    let (Ok(bounds), Ok((metrics, queries)), Ok(behavior), Ok(pause)) = (bounds, metrics, behavior, pause)
    else {
        return Err(problems);
    };
    let target = &object.spec.scale_target_ref;
    let decided_by = match (metrics, objective(triggers)) {
        (None, Some(slo)) => Policy::for_objective(bounds, slo),
        (Some(metrics), slo) => Policy { slo, ..Policy::new(bounds, metrics) },
        // An object without triggers is refused before.
        (None, None) => {
            return Err(vec![Problem::required("spec.triggers", "no triggers defined in the ScaledObject")]);
        }
    };
    let policy = Policy {
        // An objective orders all that it needs at once, unless the manifest says how fast.
        behavior: behavior.or_else(|| decided_by.behavior.clone()),
        activation: Some(activation(object)),
        pause,
        fallback: object.spec.fallback.as_ref().map(fallback),
        rules,
        ..decided_by
    };
    Ok(Plan {
        target: TargetId::new(
            target.kind_or_default(),
            object.namespace().unwrap_or_default(),
            target.name.as_str(),
        ),
        api_version: target.api_version_or_default().to_owned(),
        policy,
        queries,
    })
}

/// Replica counts are never negative: the schema and KEDA's webhook see to it.
fn count(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

fn bounds(object: &ScaledObject) -> Checked<Bounds> {
    let spec = &object.spec;
    let idle = spec.idle_replica_count.map(count);
    Bounds::new(count(spec.min_replicas()), count(spec.max_replicas()), idle).map_err(|error| {
        let (field, value) = match error {
            PolicyError::Max { .. } => ("spec.maxReplicaCount", spec.max_replicas()),
            PolicyError::IdleNotBelowMin { .. } => {
                ("spec.idleReplicaCount", spec.idle_replica_count.unwrap_or(0))
            }
            _ => ("spec.minReplicaCount", spec.min_replicas()),
        };
        vec![Problem::invalid(field, value, error.to_string())]
    })
}

fn behavior(object: &ScaledObject) -> Checked<Option<flyball_engine::Behavior>> {
    let path = "spec.advanced.horizontalPodAutoscalerConfig.behavior";
    object.spec.behavior().map(|written| behavior::convert(path, written)).transpose()
}

fn pause(object: &ScaledObject) -> Checked<Pause> {
    let field = || format!("metadata.annotations[{PAUSED_REPLICAS}]");
    match object.paused() {
        Err(error) => {
            let text = object.annotations().get(PAUSED_REPLICAS).cloned().unwrap_or_default();
            let message = format!("failed to parse paused replica count: {error}");
            Err(vec![Problem::invalid(field(), text, message).help("write a whole number in quotes")])
        }
        Ok(Some(meaning::Pause::AtCurrent)) => Ok(Pause::AtCurrent),
        Ok(Some(meaning::Pause::AtReplicas(replicas))) => Ok(Pause::AtReplicas(replicas)),
        Ok(None) => match (object.paused_scale_in(), object.paused_scale_out()) {
            (false, false) => Ok(Pause::No),
            (scale_in, scale_out) => Ok(Pause::Directions { scale_in, scale_out }),
        },
    }
}

fn activation(object: &ScaledObject) -> Activation {
    let created = object.creation_timestamp().map_or(0, |time| time.0.as_millisecond());
    Activation {
        cooldown: object.spec.cooldown_period(),
        initial_cooldown: object.spec.initial_cooldown_period(),
        polling_interval: object.spec.polling_interval(),
        created: Time::from_millis(u64::try_from(created).unwrap_or(0)),
        forced: object.force_activation(),
    }
}

fn fallback(fallback: &kind::Fallback) -> Fallback {
    Fallback {
        failure_threshold: count(fallback.failure_threshold),
        replicas: count(fallback.replicas),
        behavior: match fallback.behavior {
            kind::FallbackBehavior::Static => FallbackBehavior::Static,
            kind::FallbackBehavior::CurrentReplicas => FallbackBehavior::CurrentReplicas,
            kind::FallbackBehavior::CurrentReplicasIfHigher => FallbackBehavior::CurrentReplicasIfHigher,
            kind::FallbackBehavior::CurrentReplicasIfLower => FallbackBehavior::CurrentReplicasIfLower,
            kind::FallbackBehavior::ScalingModifiers => FallbackBehavior::ScalingModifiers,
        },
    }
}

/// The metrics, and what must be read for each. There are none where an objective stands alone.
fn metrics(object: &ScaledObject, triggers: &[Trigger]) -> Checked<(Option<Metrics>, Vec<Query>)> {
    let mut names = Names::default();
    let mut problems = Vec::new();
    let mut list = Vec::new();
    let mut queries = Vec::new();
    problems.extend(several_objectives(triggers));
    for trigger in triggers.iter().filter(|trigger| objective_of(trigger).is_none()) {
        let (metric, ask) = planned(object, trigger, &mut names);
        match metric {
            Ok(metric) => {
                let keep_for = trigger.use_cached_metrics.then(|| object.spec.polling_interval());
                queries.push(Query { metric: metric.name().clone(), ask, keep_for });
                list.push(metric);
            }
            Err(error) => {
                let field = format!("spec.triggers[{}]", trigger.index);
                problems.push(Problem::invalid(field, trigger.index, error.to_string()));
            }
        }
    }
    let composite = match object.spec.scaling_modifiers().map(composite).transpose() {
        Ok(composite) => composite,
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    if list.is_empty() && composite.is_none() && objective(triggers).is_some() {
        return Ok((None, queries));
    }
    let metrics = Metrics::new(list, composite).map_err(|error| {
        let field = match error {
            PolicyError::FormulaName { .. }
            | PolicyError::FormulaResource { .. }
            | PolicyError::FormulaVariable { .. } => "spec.advanced.scalingModifiers.formula",
            _ => "spec.triggers",
        };
        vec![Problem::invalid(field, triggers.len(), error.to_string())]
    })?;
    Ok((Some(metrics), queries))
}

fn objective_of(trigger: &Trigger) -> Option<&Slo> {
    match &trigger.source {
        TriggerSource::ServiceObjective(objective) => Some(&objective.slo),
        _ => None,
    }
}

fn objective(triggers: &[Trigger]) -> Option<Slo> {
    triggers.iter().find_map(objective_of).cloned()
}

fn several_objectives(triggers: &[Trigger]) -> Option<Problem> {
    let second = triggers.iter().filter(|trigger| objective_of(trigger).is_some()).nth(1)?;
    let field = format!("spec.triggers[{}].type", second.index);
    let message = "a target has at most one objective";
    Some(
        Problem::invalid(field, "slo", message)
            .help("join the promises in one trigger: \"p95 < 100ms and errors < 1%\""),
    )
}

/// The metric of one trigger, and what must be read for it.
fn planned(
    object: &ScaledObject,
    trigger: &Trigger,
    names: &mut Names,
) -> (Result<Metric, PolicyError>, Ask) {
    let (name, source, ask) = match trigger.metric(&object.namespace().unwrap_or_default()) {
        TriggerMetric::Resource { resource, container } => {
            let name = names.unique(super::hpa::resource_key(&resource, container.as_deref()));
            let source = super::hpa::resource_source(&resource, container.as_deref());
            (name, source, Ask::Resource { resource, container })
        }
        TriggerMetric::External(name) => {
            let name = names.unique(name);
            let selector = [(NAME_LABEL.to_owned(), object.name_any())].into();
            let source =
                MetricSource::External { metric: Name::from(name.as_str()), selector: Some(selector) };
            (name, source, Ask::Trigger(Box::new(trigger.clone())))
        }
    };
    let metric = Metric::new(name, source, engine_target(trigger.target));
    (metric.map(|metric| describe(metric, trigger)), ask)
}

/// What the engine needs to know of the trigger beside its metric.
fn describe(mut metric: Metric, trigger: &Trigger) -> Metric {
    metric.activation_threshold = trigger.activation().unwrap_or(0.0);
    metric.formula_name = trigger.name.as_deref().map(Name::from);
    metric.trigger_type = trigger.kind().to_owned();
    metric
}

fn engine_target(target: TriggerTarget) -> MetricTarget {
    match target {
        TriggerTarget::AverageValue(amount) => MetricTarget::AverageValue(milli(amount)),
        TriggerTarget::Value(amount) => MetricTarget::Value(milli(amount)),
        TriggerTarget::Utilization(percent) => MetricTarget::Utilization(count(percent)),
    }
}

fn milli(amount: Quantity) -> Milli {
    Milli::new(amount.milli_value())
}

fn composite(modifiers: &ScalingModifiers) -> Checked<Composite> {
    let field = |name: &str| format!("spec.advanced.scalingModifiers.{name}");
    let text = modifiers.formula.clone().unwrap_or_default();
    let formula = Formula::new(&text)
        .map_err(|error| vec![Problem::invalid(field("formula"), text.as_str(), error.to_string())])?;
    let number = |name: &str, text: &str| {
        let parsed = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        parsed.ok_or_else(|| {
            vec![Problem::invalid(field(name), text, "not a number").help("write a number in quotes")]
        })
    };
    let wanted = number("target", modifiers.target.as_deref().unwrap_or_default())?;
    let activation = number("activationTarget", modifiers.activation_target.as_deref().unwrap_or("0"))?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "KEDA drops what is beyond thousandths, and the ends saturate"
    )]
    let amount = Milli::new((wanted * 1000.0) as i64);
    let target = match modifiers.metric_type.as_deref() {
        Some("Value") => MetricTarget::Value(amount),
        _ => MetricTarget::AverageValue(amount),
    };
    Composite::new(formula, target, activation)
        .map_err(|error| vec![Problem::invalid(field("target"), wanted, error.to_string())])
}
