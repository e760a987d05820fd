//! Not too fast: how far the replicas may go by `behavior`'s policies (`convertDesiredReplicasWithBehaviorRate`).
//!
//! A policy allows so many pods or percent in its period, counted from the replicas at the period's start: the current
//! ones without the changes since. A change exactly one period ago is over. Percentages are computed as the original
//! does, `start * (1 + value / 100)`, rounding artefacts included. Of several policies the one that allows most or
//! least change counts, as `selectPolicy` says; `Disabled` allows none.
//!
//! A limit beyond the bounds is not one: then the bound decides, and is the reason.

use std::time::Duration;

use crate::behavior::{PolicyKind, ScalingPolicy, ScalingRules, SelectPolicy};
use crate::memory::Memory;
use crate::policy::Policy;
use crate::reason::{Pace, PaceRule, Reason};
use crate::recommend::ceil;
use crate::rules::NoBehavior;
use crate::time::Time;

/// As many of `desired` as may be reached now, and why if that is not all.
pub(crate) fn step(
    now: Time,
    current: u32,
    desired: u32,
    min: u32,
    policy: &Policy,
    memory: &Memory,
) -> (u32, Option<Reason>) {
    let Some(behavior) = policy.effective_behavior() else {
        return legacy(current, desired, policy);
    };
    if desired > current {
        let pace = limit(now, current, &behavior.scale_up, Direction::Up, memory);
        if desired > pace.allowed && pace.allowed < policy.bounds.max() {
            return (pace.allowed, Some(Reason::ScaleUpLimit(pace)));
        }
    } else if desired < current {
        let pace = limit(now, current, &behavior.scale_down, Direction::Down, memory);
        if desired < pace.allowed && pace.allowed > min {
            return (pace.allowed, Some(Reason::ScaleDownLimit(pace)));
        }
    }
    (desired, None)
}

/// Without `behavior`: so many times as many at each evaluation, and down without limit.
fn legacy(current: u32, desired: u32, policy: &Policy) -> (u32, Option<Reason>) {
    let NoBehavior::Legacy { factor, minimum } = policy.rules.no_behavior else { return (desired, None) };
    let allowed = ceil((factor * f64::from(current)).max(minimum).trunc());
    if desired > allowed && allowed < policy.bounds.max() {
        (allowed, Some(Reason::ScaleUpLimit(Pace { allowed, rule: PaceRule::Legacy })))
    } else {
        (desired, None)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Up,
    Down,
}

/// How far one direction goes, never on the other side of the current replicas.
fn limit(now: Time, current: u32, rules: &ScalingRules, direction: Direction, memory: &Memory) -> Pace {
    if rules.select() == SelectPolicy::Disabled {
        return Pace { allowed: current, rule: PaceRule::Disabled };
    }
    let paces = rules.policies().iter().map(|policy| allowed_by(now, current, *policy, direction, memory));
    // Most change is the highest limit upwards and the lowest downwards.
    let highest = (rules.select() == SelectPolicy::Max) == (direction == Direction::Up);
    let chosen =
        paces.reduce(|a, b| if (b.allowed > a.allowed) == highest && b.allowed != a.allowed { b } else { a });
    let pace = chosen.unwrap_or(Pace { allowed: current, rule: PaceRule::Disabled });
    let allowed = match direction {
        Direction::Up => pace.allowed.max(current),
        Direction::Down => pace.allowed.min(current),
    };
    Pace { allowed, ..pace }
}

fn allowed_by(now: Time, current: u32, policy: ScalingPolicy, direction: Direction, memory: &Memory) -> Pace {
    let added = net_change(now, policy.period, memory);
    let start = (i64::from(current) - added) as f64;
    let value = f64::from(policy.value);
    let allowed = match (policy.kind, direction) {
        (PolicyKind::Pods, Direction::Up) => start + value,
        (PolicyKind::Pods, Direction::Down) => start - value,
        (PolicyKind::Percent, Direction::Up) => start * (1.0 + value / 100.0),
        (PolicyKind::Percent, Direction::Down) => (start * (1.0 - value / 100.0)).trunc(),
    };
    let (used, changes) = match direction {
        Direction::Up => (added, &memory.scale_ups),
        Direction::Down => (-added, &memory.scale_downs),
    };
    let allowed = ceil(allowed);
    let left = match direction {
        Direction::Up => allowed.saturating_sub(current),
        Direction::Down => current.saturating_sub(allowed),
    };
    let more_at = changes.oldest_in(now, policy.period).map(|oldest| oldest + policy.period);
    Pace { allowed, rule: PaceRule::Policy { policy, used, left, more_at } }
}

/// Replicas added in the period, less those taken away.
fn net_change(now: Time, period: Duration, memory: &Memory) -> i64 {
    memory.scale_ups.change_in(now, period) - memory.scale_downs.change_in(now, period)
}
