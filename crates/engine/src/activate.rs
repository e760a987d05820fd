//! Whether a target is in use, and what that means between zero (or idle) and one: KEDA's scale loop
//! (`pkg/scaling/executor`).
//!
//! In use: a trigger is above its activation threshold, strictly; or reads its fallback; or requests wait for a first
//! pod; or an annotation says so; or there is nothing but cpu and memory, which can't be measured without pods.
//! Not in use: every trigger was read and none is above. A trigger that can't be read leaves it open, and a target of
//! which that is not known stays as it is.
//!
//! A target comes into use from zero or idle with as many replicas as its metrics ask for, at least one and the
//! minimum; stabilization and pace don't hold back that minimum. Out of use it goes to idle, or to zero if the minimum
//! is zero, once the cooldown is over; until then it keeps what its metrics ask for, at least one and the minimum.
//! How it goes there is the stages' affair ([`ZeroRule::OneLoop`]), or at once ([`ZeroRule::OneStep`], KEDA's way).
//!
//! For stabilization the wish of an unused target is to be idle from the moment it is unused: cooldown and window
//! then run side by side, and with KEDA's numbers a target is gone after five minutes, not ten.
//!
//! [`ZeroRule::OneLoop`]: crate::ZeroRule::OneLoop
//! [`ZeroRule::OneStep`]: crate::ZeroRule::OneStep

use crate::decision::{Activity, ActivityState, CurrentMetric, Proposal};
use crate::memory::Memory;
use crate::milli::Milli;
use crate::policy::{Activation, Policy, SLO_METRIC_NAME};
use crate::reason::Reason;
use crate::recommend::View;
use crate::rules::ZeroRule;
use crate::time::Time;

/// What becomes of a recommendation.
pub(crate) struct Activated {
    pub(crate) activity: Activity,
    /// The replicas to go on with and why, where activation has a say.
    pub(crate) step: Option<(u32, Reason)>,
    /// What is remembered as wished for, if not the result of the step.
    pub(crate) wish: Option<u32>,
    /// The fewest replicas for now.
    pub(crate) min: u32,
    /// The result is final but for pauses: neither stabilization nor pace has a say.
    pub(crate) at_once: bool,
    /// The target comes into use: stabilization and pace can't hold it below `min`.
    pub(crate) starts: bool,
}

/// Judges whether the target is in use, remembers when it was, and says what follows for `recommended`.
pub(crate) fn step(
    view: &View<'_>,
    activation: &Activation,
    proposals: &[Proposal],
    waiting: u32,
    recommended: Option<u32>,
    memory: &mut Memory,
) -> Activated {
    let (policy, current) = (view.policy, view.counts.spec);
    let (state, reason) = judge(view, activation, proposals, waiting, memory.last_active);
    if matches!(state, ActivityState::Active | ActivityState::Forced) {
        memory.last_active = Some(view.now);
    }
    let activity = Activity {
        state,
        // Without pods there is nothing that could have the metric; that is no failure of the trigger.
        failing: proposals.iter().any(|p| p.is_unavailable() && !(current == 0 && p.is_missing())),
        fallback: proposals.iter().any(|p| matches!(p.reason, Reason::FallbackExists { .. })),
        last_active: memory.last_active,
    };
    let (min_active, floor) = (policy.min_active(), policy.min_inactive());
    let at_once = policy.rules.zero == ZeroRule::OneStep;
    let keep = Activated { activity, step: None, wish: None, min: min_active, at_once: false, starts: false };
    let can_idle = floor < min_active;
    let is_idle = can_idle && current <= floor;
    match state {
        ActivityState::Active | ActivityState::Forced if current == 0 || is_idle => {
            let wanted = if at_once { min_active } else { recommended.unwrap_or(0).max(min_active) };
            Activated { step: Some((wanted, reason)), at_once, starts: true, ..keep }
        }
        ActivityState::Active | ActivityState::Forced => keep,
        _ if !can_idle => keep,
        ActivityState::Unknown if is_idle => Activated { step: Some((current, reason)), min: floor, ..keep },
        ActivityState::Unknown => keep,
        // Without a recommendation something else can't be read: nothing may be taken away.
        ActivityState::Inactive if recommended.is_none() && !is_idle => keep,
        ActivityState::Inactive => {
            Activated { step: Some((floor, reason)), min: floor, at_once: at_once && !is_idle, ..keep }
        }
        ActivityState::CoolingDown if is_idle => {
            Activated { step: Some((current, reason)), min: floor, ..keep }
        }
        ActivityState::CoolingDown => {
            let kept = recommended.map(|replicas| (replicas.max(min_active), reason));
            Activated { step: kept, wish: recommended.map(|_| floor), ..keep }
        }
    }
}

fn judge(
    view: &View<'_>,
    activation: &Activation,
    proposals: &[Proposal],
    waiting: u32,
    last_active: Option<Time>,
) -> (ActivityState, Reason) {
    if waiting > 0 {
        return (ActivityState::Active, Reason::RequestsWaiting { requests: waiting });
    }
    if activation.forced {
        return (ActivityState::Forced, Reason::ForceActivation);
    }
    let deciding = deciding(view.policy, proposals);
    if deciding.is_empty() {
        return (ActivityState::Active, Reason::ResourceTriggersOnly);
    }
    if let Some(reason) = deciding.iter().find_map(|(proposal, threshold)| active(proposal, *threshold)) {
        return (ActivityState::Active, reason);
    }
    if let Some((unknown, _)) = deciding.iter().find(|(proposal, _)| proposal.is_unavailable()) {
        return (ActivityState::Unknown, Reason::TriggerError { metric: unknown.metric.clone() });
    }
    let until = match last_active {
        Some(at) => at + activation.cooldown,
        None => activation.created + activation.initial_cooldown,
    };
    if until < view.now {
        (ActivityState::Inactive, Reason::ScalerNotActive { last_active })
    } else {
        (ActivityState::CoolingDown, Reason::ScalerCooldown { until })
    }
}

/// The proposals that can activate, with their thresholds: the composite metric's alone, or every trigger's but cpu
/// and memory.
fn deciding<'a>(policy: &Policy, proposals: &'a [Proposal]) -> Vec<(&'a Proposal, f64)> {
    match policy.metrics.composite() {
        Some(composite) => proposals.iter().take(1).map(|p| (p, composite.activation_target())).collect(),
        None => {
            let metrics = policy.metrics.list().iter().zip(proposals);
            let objective =
                proposals.iter().filter(|p| policy.slo.is_some() && *p.metric.as_str() == *SLO_METRIC_NAME);
            metrics
                .filter(|(m, _)| m.activates())
                .map(|(m, p)| (p, m.activation_threshold))
                .chain(objective.map(|p| (p, 0.0)))
                .collect()
        }
    }
}

/// Why this proposal makes the target active; none if it does not. A fallback to no replicas does not.
fn active(proposal: &Proposal, threshold: f64) -> Option<Reason> {
    let metric = proposal.metric.clone();
    match &proposal.reason {
        Reason::FallbackExists { replicas, .. } => {
            (*replicas > 0).then_some(Reason::ActiveByFallback { metric })
        }
        Reason::AboveTarget(measured)
        | Reason::BelowTarget(measured)
        | Reason::NegativeValue { measured, .. }
        | Reason::WithinTolerance { measured, .. }
            if proposal.active == Some(true) =>
        {
            Some(Reason::ScalerActive {
                metric,
                value: measured.value,
                threshold: Milli::from_f64(threshold),
            })
        }
        Reason::Objective(_) if proposal.active == Some(true) => {
            let value = match proposal.current {
                Some(CurrentMetric::Value(value)) => value,
                _ => Milli::default(),
            };
            Some(Reason::ScalerActive { metric, value, threshold: Milli::from_f64(threshold) })
        }
        _ => None,
    }
}
