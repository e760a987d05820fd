//! Events as data: what `kubectl describe` and `kubectl get events` show of a decision.
//!
//! kube-controller-manager repeats the events of a metric that fails at every evaluation and lets the API
//! server count them. Here they are made when something begins to fail or fails for another reason, by a look at the
//! decision before. Words that differ in nothing but numbers (an age, a port) are the same reason.

use flyball_engine::{Cause, Decision, MetricName, Proposal, Reason, Stage, Unavailable};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerSpec;
use kube::ResourceExt;

use super::hpa::{Outcome, find, followed_metric, recommendation, selector_words, unavailable_words};
use crate::kinds::condition::PlainCondition;
use crate::kinds::scaled_object::{ScaledObject, ScaledObjectStatus};

/// An event about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether it is a `Warning`; otherwise it is `Normal`.
    pub warning: bool,
    /// One word for what happened.
    pub reason: String,
    /// One sentence for what happened.
    pub message: String,
}

impl Event {
    fn normal(reason: &str, message: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.to_owned(), message: message.into() }
    }

    fn warning(reason: &str, message: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.to_owned(), message: message.into() }
    }
}

/// The events about a HorizontalPodAutoscaler, given the decision before this one.
pub fn hpa_events(
    previous: Option<&Decision>,
    spec: &HorizontalPodAutoscalerSpec,
    decision: &Decision,
    outcome: &Outcome,
) -> Vec<Event> {
    let mut events = failures(previous, spec, decision);
    let (size, reason) = (decision.desired, rescale_reason(spec, decision));
    match outcome {
        _ if is_activation(spec, decision) => {}
        Outcome::Kept => {}
        Outcome::Rescaled => {
            events.push(Event::normal("SuccessfulRescale", format!("New size: {size}; reason: {reason}")));
        }
        Outcome::Failed { error } => {
            let message = format!("New size: {size}; reason: {reason}; error: {error}");
            events.push(Event::warning("FailedRescale", message));
        }
    }
    events
}

/// Between zero or idle and in use it is the ScaledObject that has the event.
fn is_activation(spec: &HorizontalPodAutoscalerSpec, decision: &Decision) -> bool {
    let min = u32::try_from(spec.min_replicas.unwrap_or(1)).unwrap_or(0);
    let activates = decision.steps.iter().any(|step| step.stage == Stage::Activate);
    activates && decision.current.min(decision.desired) < min
}

fn rescale_reason(spec: &HorizontalPodAutoscalerSpec, decision: &Decision) -> String {
    // There is no target that a metric could be above.
    if let Some(reason @ Reason::Objective(_)) = recommendation(decision) {
        return reason.to_string();
    }
    if decision.follows_metrics() {
        return match decision.desired > decision.current {
            true => format!("{} above target", followed_metric(spec, decision)),
            false => "All metrics below target".to_owned(),
        };
    }
    match decision.deciding_step().map(|step| &step.reason) {
        Some(Reason::TooManyReplicas { .. }) => {
            "Current number of replicas above Spec.MaxReplicas".to_owned()
        }
        Some(Reason::TooFewReplicas { .. }) => "Current number of replicas below Spec.MinReplicas".to_owned(),
        Some(reason) => reason.to_string(),
        None => String::new(),
    }
}

/// What keeps the autoscaler from deciding, or a metric from having a say, when that is news.
fn failures(
    previous: Option<&Decision>,
    spec: &HorizontalPodAutoscalerSpec,
    decision: &Decision,
) -> Vec<Event> {
    let mut events: Vec<Event> = began_to_fail(previous, decision)
        .filter_map(|unavailable| {
            let metric = find(spec, unavailable.metric.as_str())?;
            Some(Event::warning(unavailable.hpa_reason(), unavailable_words(unavailable, Some(metric))))
        })
        .collect();
    let Some(reason) = recommendation(decision) else { return events };
    let before = previous.and_then(|previous| undecided(spec, previous, recommendation(previous)?));
    if let Some((code, why)) = undecided(spec, decision, reason)
        && before.is_none_or(|(_, before)| without_numbers(&before) != without_numbers(&why))
    {
        events.extend(code.map(|code| Event::warning(code, why.clone())));
        if code != Some("FailedGetScale") {
            events.push(Event::warning("FailedComputeMetricsReplicas", why));
        }
    }
    events
}

/// What keeps the autoscaler from deciding at all: the event's reason, if it is not a metric's own, and the words.
fn undecided(
    spec: &HorizontalPodAutoscalerSpec,
    decision: &Decision,
    reason: &Reason,
) -> Option<(Option<&'static str>, String)> {
    Some(match reason {
        Reason::FailedGetScale { error } => (Some("FailedGetScale"), error.clone()),
        Reason::SelectorRequired => (Some("SelectorRequired"), "selector is required".to_owned()),
        Reason::InvalidSelector { .. } | Reason::AmbiguousSelector { .. } => {
            (Some(reason.code()), selector_words(reason))
        }
        Reason::MetricUnavailable(first) if first.cause != Cause::NotRead => {
            let error = unavailable_words(first, find(spec, first.metric.as_str()));
            let failed = decision.proposals.iter().filter(|proposal| proposal.is_unavailable()).count();
            let all = decision.proposals.len();
            (None, format!("invalid metrics ({failed} invalid out of {all}), first error is: {error}"))
        }
        _ => return None,
    })
}

/// The metrics that can't be used and could be before, or had not been read, or could not be for another reason.
fn began_to_fail<'a>(
    previous: Option<&'a Decision>,
    decision: &'a Decision,
) -> impl Iterator<Item = &'a Unavailable> {
    let cause = |unavailable: &Unavailable| without_numbers(&unavailable.cause.to_string());
    let failed_so_before = move |now: &Unavailable| {
        let proposals = previous.into_iter().flat_map(|decision| &decision.proposals);
        let mut before = proposals.filter(|before| before.metric == now.metric).filter_map(failure_of);
        before.any(|before| cause(before) == cause(now))
    };
    let failing = decision.proposals.iter().filter_map(failure_of);
    failing.filter(move |unavailable| !failed_so_before(unavailable))
}

/// The text with `#` for each number: what it says, whatever it counts.
pub fn without_numbers(text: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit();
    let mut said = String::with_capacity(text.len());
    for c in text.chars() {
        match is_number(c) {
            true if said.ends_with('#') => {}
            true => said.push('#'),
            false => said.push(c),
        }
    }
    said
}

/// Why a metric can't be used; nothing as long as it has not been read.
fn failure_of(proposal: &Proposal) -> Option<&Unavailable> {
    match &proposal.reason {
        Reason::MetricUnavailable(unavailable) if unavailable.cause != Cause::NotRead => Some(unavailable),
        _ => None,
    }
}

/// A decision about a ScaledObject, the one before it, and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'a> {
    /// The decision before; none after a start.
    pub previous: Option<&'a Decision>,
    /// The decision.
    pub decision: &'a Decision,
    /// What came of it.
    pub outcome: &'a Outcome,
}

/// The events about a ScaledObject, given its status before and after the decision.
pub fn scaled_object_events(
    object: &ScaledObject,
    before: &ScaledObjectStatus,
    after: &ScaledObjectStatus,
    decided: Option<Decided<'_>>,
) -> Vec<Event> {
    let mut events = scalers_watched(object, before, after);
    let turned = CONDITION_EVENTS
        .iter()
        .filter(|(kind, status, ..)| became(before, after, kind, status))
        .map(|&(kind, _, warning, reason, message)| Event {
            warning,
            reason: reason.unwrap_or_else(|| word(after, kind)).to_owned(),
            message: message.unwrap_or_else(|| sentence(after, kind)).to_owned(),
        });
    events.extend(turned);
    if let Some(Decided { previous, decision, outcome }) = decided {
        events.extend(scalers_failed(object, after, previous, decision));
        events.extend(between_zero_and_one(object, after, decision, outcome));
    }
    events
}

/// Triggers are read from when the workload is first found until a pause, and again after it.
fn scalers_watched(
    object: &ScaledObject,
    before: &ScaledObjectStatus,
    after: &ScaledObjectStatus,
) -> Vec<Event> {
    let stops = !matches!(object.paused(), Ok(None));
    let first = before.scale_target_kind.is_none() && after.scale_target_kind.is_some();
    if stops {
        return match became(before, after, "Paused", "True") && !first {
            true => vec![Event::normal("KEDAScalersStopped", "Stopped scalers watch")],
            false => Vec::new(),
        };
    }
    if !first && !became(before, after, "Paused", "False") {
        return Vec::new();
    }
    let built = |kind: &str| Event::normal("KEDAScalersStarted", format!("Scaler {kind} is built"));
    let mut events: Vec<Event> = object.spec.triggers.iter().map(|trigger| built(&trigger.kind)).collect();
    events.push(Event::normal("KEDAScalersStarted", "Started scalers watch"));
    events
}

/// The triggers that began to fail.
fn scalers_failed(
    object: &ScaledObject,
    after: &ScaledObjectStatus,
    previous: Option<&Decision>,
    decision: &Decision,
) -> Vec<Event> {
    let reason = match object.spec.scaling_modifiers() {
        Some(_) => "KEDAMetricSourceFailed",
        None => "KEDAScalerFailed",
    };
    let is_trigger =
        |metric: &MetricName| after.external_metric_names.iter().any(|name| name == metric.as_str());
    began_to_fail(previous, decision)
        .filter(|unavailable| is_trigger(&unavailable.metric))
        .map(|unavailable| Event::warning(reason, format!("{}: {}", unavailable.metric, unavailable.cause)))
        .collect()
}

/// Type and status of a condition that turned; then whether that is a warning, its reason and its message.
/// What is not said is taken from the condition.
type ConditionEvent = (&'static str, &'static str, bool, Option<&'static str>, Option<&'static str>);

const CONDITION_EVENTS: &[ConditionEvent] = &[
    ("Ready", "True", false, Some("ScaledObjectReady"), Some("ScaledObject is ready for scaling")),
    ("Ready", "False", true, None, None),
    ("Ready", "Unknown", true, None, None),
    ("Paused", "True", false, Some("ScaledObjectPaused"), Some("ScaledObject is paused")),
    (
        "Paused",
        "False",
        false,
        Some("ScaledObjectUnpaused"),
        Some("pause annotation removed for ScaledObject"),
    ),
    (
        "Fallback",
        "True",
        false,
        Some("ScaledObjectFallbackActivated"),
        Some("ScaledObject fallback is active"),
    ),
    (
        "Fallback",
        "False",
        false,
        Some("ScaledObjectFallbackDeactivated"),
        Some("ScaledObject fallback is no longer active"),
    ),
];

fn condition<'a>(status: &'a ScaledObjectStatus, kind: &str) -> Option<&'a PlainCondition> {
    status.conditions.iter().find(|condition| condition.kind == kind)
}

/// Whether a condition turned. A condition that is only now known to be as it should has no news.
fn became(before: &ScaledObjectStatus, after: &ScaledObjectStatus, kind: &str, status: &str) -> bool {
    let old = condition(before, kind).map_or("Unknown", |condition| condition.status.as_str());
    let new = condition(after, kind).map_or("Unknown", |condition| condition.status.as_str());
    let from = if kind == "Ready" || status == "True" { old != status } else { old == "True" };
    new == status && from
}

fn word<'a>(status: &'a ScaledObjectStatus, kind: &str) -> &'a str {
    condition(status, kind).and_then(|condition| condition.reason.as_deref()).unwrap_or_default()
}

fn sentence<'a>(status: &'a ScaledObjectStatus, kind: &str) -> &'a str {
    condition(status, kind).and_then(|condition| condition.message.as_deref()).unwrap_or_default()
}

/// KEDA's own steps: from zero or idle into use, and back.
fn between_zero_and_one(
    object: &ScaledObject,
    status: &ScaledObjectStatus,
    decision: &Decision,
    outcome: &Outcome,
) -> Option<Event> {
    let inactive = object.spec.idle_replica_count.and_then(|idle| u32::try_from(idle).ok()).unwrap_or(0);
    let (from, to) = (decision.current, decision.desired);
    let step = decision.steps.iter().find(|step| step.stage == Stage::Activate)?;
    let activated = from <= inactive && to > from;
    let deactivated = to <= inactive && from > to;
    if *outcome == Outcome::Kept || !(activated || deactivated) {
        return None;
    }
    let kind =
        status.scale_target_kind.clone().unwrap_or_else(|| object.spec.scale_target_ref.group_version_kind());
    let place = format!("{}/{}", object.namespace().unwrap_or_default(), object.spec.scale_target_ref.name);
    let failed = matches!(outcome, Outcome::Failed { .. });
    Some(match (activated, failed) {
        (true, false) => {
            let message =
                format!("Scaled {kind} {place} from {from} to {to}, {}", cause(&step.reason, decision));
            Event::normal("KEDAScaleTargetActivated", message)
        }
        (true, true) => Event::warning(
            "KEDAScaleTargetActivationFailed",
            format!("Failed to scale {kind} {place} from {from} to {to}"),
        ),
        (false, false) => Event::normal(
            "KEDAScaleTargetDeactivated",
            format!("Deactivated {kind} {place} from {from} to {to}"),
        ),
        (false, true) => Event::warning(
            "KEDAScaleTargetDeactivationFailed",
            format!("Failed to deactivate {kind} {place} from {from} to {to}"),
        ),
    })
}

fn cause(reason: &Reason, decision: &Decision) -> String {
    match reason {
        Reason::ForceActivation => "caused by forced activation annotation".to_owned(),
        Reason::ScalerActive { metric, .. } | Reason::ActiveByFallback { metric } => {
            let active = decision.proposals.iter().filter(|proposal| proposal.active == Some(true));
            let names: Vec<&str> = active.map(|proposal| proposal.metric.as_str()).collect();
            let names = if names.is_empty() { metric.as_str().to_owned() } else { names.join(";") };
            format!("triggered by {names}")
        }
        reason => format!("because {reason}"),
    }
}
