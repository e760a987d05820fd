//! A wish must last: replicas go up only to the lowest recommendation of the upper window, and down only to the
//! highest of the lower one (`stabilizeRecommendationWithBehaviors`).
//!
//! Without `behavior`, under [`NoBehavior::Legacy`], there is only the lower window, and a recommendation exactly as old
//! as the window still counts; otherwise it does not. What is remembered is the wish, not what became of it.

use std::time::Duration;

use crate::behavior::SelectPolicy;
use crate::memory::{Memory, Recommendation};
use crate::policy::Policy;
use crate::reason::Reason;
use crate::rules::NoBehavior;
use crate::time::Time;

/// The replicas that may be wanted now, and why if they are not `desired`. Remembers `wish`.
pub(crate) fn step(
    now: Time,
    current: u32,
    desired: u32,
    wish: u32,
    policy: &Policy,
    memory: &mut Memory,
) -> (u32, Option<Reason>) {
    let stabilized = limit(now, current, desired, policy, memory);
    let windows = Windows::of(policy);
    let (up_cutoff, down_cutoff) = (now - windows.up, now - windows.down);
    let new = Recommendation { replicas: wish, at: now };
    let obsolete = |at: Time| at < down_cutoff && (windows.legacy || at < up_cutoff);
    let log = memory.recommendations.get_or_insert_default();
    match policy.rules.no_behavior {
        NoBehavior::Legacy { .. } => log.store(new, obsolete),
        NoBehavior::Defaults => log.store_extremes(new, obsolete, !windows.up.is_zero()),
    }
    stabilized
}

/// The same, without remembering.
pub(crate) fn limit(
    now: Time,
    current: u32,
    desired: u32,
    policy: &Policy,
    memory: &Memory,
) -> (u32, Option<Reason>) {
    let windows = Windows::of(policy);
    let Some(log) = &memory.recommendations else { return (desired, None) };
    let (up_cutoff, down_cutoff) = (now - windows.up, now - windows.down);
    let highest = match windows.legacy {
        true => log.highest(|at| at >= down_cutoff),
        false => log.highest(|at| at > down_cutoff),
    };
    let lowest = log.lowest(|at| at > up_cutoff);
    let down = highest.map_or(desired, |highest| highest.replicas.max(desired));
    let up = lowest.map_or(desired, |lowest| lowest.replicas.min(desired));
    let stabilized = if windows.legacy { down } else { current.max(up).min(down) };
    let reason = if stabilized > desired {
        highest.map(|highest| Reason::ScaleDownStabilized {
            highest: highest.replicas,
            seen_at: highest.at,
            window: windows.down,
            disabled: scales_in_never(policy),
        })
    } else if stabilized < desired {
        lowest.map(|lowest| Reason::ScaleUpStabilized {
            lowest: lowest.replicas,
            seen_at: lowest.at,
            window: windows.up,
        })
    } else {
        None
    };
    (stabilized, reason)
}

fn scales_in_never(policy: &Policy) -> bool {
    policy.behavior.as_ref().is_some_and(|behavior| behavior.scale_down.select() == SelectPolicy::Disabled)
}

struct Windows {
    up: Duration,
    down: Duration,
    legacy: bool,
}

impl Windows {
    fn of(policy: &Policy) -> Self {
        let controller = policy.rules.downscale_stabilization;
        match (&policy.behavior, policy.rules.no_behavior) {
            (Some(behavior), _) => Self {
                up: behavior.scale_up.stabilization_window().unwrap_or_default(),
                down: behavior.scale_down.stabilization_window().unwrap_or(controller),
                legacy: false,
            },
            (None, NoBehavior::Defaults) => Self { up: Duration::ZERO, down: controller, legacy: false },
            (None, NoBehavior::Legacy { .. }) => Self { up: Duration::ZERO, down: controller, legacy: true },
        }
    }
}
