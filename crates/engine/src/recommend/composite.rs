//! What the formula over the triggers asks for (`advanced.scalingModifiers`).
//!
//! A trigger that can't be read makes the composite metric unknown, unless the fallback says what to do: `nil` for the
//! trigger, if its behavior is `scalingModifiers`, and its replicas only when nothing is left; or else its replicas in
//! place of the whole formula.

use crate::decision::Proposal;
use crate::milli::Milli;
use crate::name::Name;
use crate::policy::{COMPOSITE_METRIC_NAME, Composite, FallbackBehavior};
use crate::reason::{Cause, Reason, Unavailable};
use crate::recommend::reading::Usable;
use crate::recommend::{Judgement, View, fallback, metric, total};

/// Computes the formula and asks for what its value needs.
pub(super) fn propose(view: &View<'_>, composite: &Composite) -> Proposal {
    let (judgement, active) = judge(view, composite);
    let Judgement { replicas, reason, current } = judgement;
    Proposal { metric: Name::from(COMPOSITE_METRIC_NAME), replicas, reason, current, active, failures: 0 }
}

fn judge(view: &View<'_>, composite: &Composite) -> (Judgement, Option<bool>) {
    let inputs =
        view.policy.metrics.list().iter().zip(view.readings).filter(|(metric, _)| metric.activates());
    // Why a trigger's fallback counts, if that is to be `nil`.
    let mut nil = None;
    for (metric, kept) in inputs {
        let Err(cause) = kept.usable(view.now, metric) else { continue };
        let failures = kept.failures(view.now, metric, view.policy);
        let Some(fallback) = fallback::due(view, metric, failures) else {
            return (Judgement::none(metric::unavailable(view, metric, kept, cause)), None);
        };
        let reason = fallback::reason(view, fallback, metric, failures, &cause);
        if fallback.behavior != FallbackBehavior::ScalingModifiers {
            return instead(view, composite, reason);
        }
        nil = Some(reason);
    }
    match (composite.formula().compute(|name| input(view, name), view.now), nil) {
        (Ok(Some(value)), _) if value.is_finite() => {
            let (active, target) = (value > composite.activation_target(), composite.target());
            // Unlike a trigger's, it may be negative.
            match total::replicas(Milli::from_f64(value), target, view.counts, view.tolerance()) {
                Ok(outcome) if outcome.replicas <= view.counts.spec && partial(view).is_some() => {
                    let why = partial(view).unwrap_or_default().to_owned();
                    let cause = Cause::Partial { value: Milli::from_f64(value), why };
                    (Judgement::none(unavailable(view, cause)), active.then_some(true))
                }
                Ok(outcome) => {
                    let name = Name::from(COMPOSITE_METRIC_NAME);
                    (outcome.judge(&name, target, view.tolerance()), Some(active))
                }
                Err(error) => (failed(view, error).0, Some(active)),
            }
        }
        (Ok(Some(value)), _) => failed(view, format!("the formula comes to {value}")),
        (Ok(None), Some(reason)) => instead(view, composite, reason),
        (Ok(None), None) => failed(view, "the formula comes to nil".to_owned()),
        (Err(error), _) => failed(view, format!("the formula can't be computed: {error}")),
    }
}

/// What a formula gets for a name; none for a trigger without a value.
fn input(view: &View<'_>, name: &Name) -> Option<f64> {
    let metrics = view.policy.metrics.list();
    let index = metrics.iter().position(|m| m.activates() && m.formula_name.as_ref() == Some(name))?;
    match view.readings[index].usable(view.now, &metrics[index]) {
        Ok(Usable::Total(value) | Usable::Partial(value, _)) => Some(value),
        Ok(Usable::Idle) => Some(0.0),
        Ok(Usable::PerPod(_)) | Err(_) => None,
    }
}

/// The fallback's replicas, which count as active as any fallback does.
fn instead(view: &View<'_>, composite: &Composite, reason: Reason) -> (Judgement, Option<bool>) {
    let fallback = view.policy.fallback.as_ref();
    match fallback.and_then(|fallback| fallback::outcome(view, fallback, composite.target())) {
        Some(outcome) => {
            let (replicas, current) = (Some(outcome.replicas), Some(outcome.current));
            (Judgement { replicas, reason, current }, Some(true))
        }
        None => failed(view, "its fallback is shared out over ready pods, and no pod is ready".to_owned()),
    }
}

fn failed(view: &View<'_>, error: String) -> (Judgement, Option<bool>) {
    (Judgement::none(unavailable(view, Cause::Failed(error))), None)
}

fn unavailable(view: &View<'_>, cause: Cause) -> Reason {
    let (metric, source_type) = (Name::from(COMPOSITE_METRIC_NAME), Name::from("External"));
    Reason::MetricUnavailable(Unavailable { metric, source_type, since: view.now, cause })
}

/// Why an input of the formula is not whole, if one is not: then the formula's value isn't either.
fn partial<'a>(view: &View<'a>) -> Option<&'a str> {
    let inputs = view.policy.metrics.list().iter().zip(view.readings);
    inputs.filter(|(metric, _)| metric.activates()).find_map(|(metric, kept)| {
        match kept.usable(view.now, metric) {
            Ok(Usable::Partial(_, why)) => Some(why),
            _ => None,
        }
    })
}
