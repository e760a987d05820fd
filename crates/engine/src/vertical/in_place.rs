//! Whether a pod can be resized where it runs (`pkg/updater/restriction/pods_inplace_restriction.go`).
//!
//! A resize has states, and each has a way out:
//!
//! | state | `InPlaceOrRecreate` | `InPlace` |
//! |---|---|---|
//! | none | resize, if the budget allows it or nothing restarts | the same |
//! | deferred: no room now | wait 5 minutes, then evict | wait |
//! | infeasible: never room | evict | try again once less is wanted |
//! | in progress | wait 1 hour, then evict | wait |
//! | failed, or unknown | evict | wait |
//!
//! The waiting starts with the resize itself. Upstream starts it when it first sees a pod of that name resize and never
//! again; and in mode `InPlace` it patches although it decided to wait.

use serde::{Deserialize, Serialize};

use super::budget::Group;
use super::facts::{PodFacts, Resize, Resizing};
use super::policy::{UpdateMode, VerticalRules};
use super::resources::Resources;
use super::update_reason::UpdateReason;
use crate::name::Name;
use crate::time::Time;

/// What to do with a pod that is to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InPlace {
    /// Resize it.
    Approved,
    /// Wait.
    Deferred,
    /// Evict it instead.
    Evict,
    /// The node refused it: remember what was tried.
    Infeasible,
    /// The node refused no more than is wanted now.
    InfeasibleCached,
}

/// What one container is to request: the targets of a resize.
pub type Targets = [(Name, Resources)];

/// Whether something is wanted less than the last time.
pub fn has_lower_target(last: &Targets, new: &Targets) -> bool {
    let lower = |container: &Name, new: &Resources| {
        let last = last.iter().find(|(name, _)| name == container);
        last.is_some_and(|(_, last)| {
            new.iter().any(|(resource, amount)| last.get(resource).is_some_and(|last| amount < last))
        })
    };
    new.iter().any(|(container, targets)| lower(container, targets))
}

/// What was tried and was infeasible, and what would be tried now.
#[derive(Clone, Copy, Debug)]
pub struct Attempts<'a> {
    /// None if nothing failed yet.
    pub infeasible: Option<&'a Targets>,
    /// Now.
    pub current: &'a Targets,
}

impl Attempts<'_> {
    /// Whether it would only fail again. Only mode `InPlace` asks: the other evicts.
    pub fn would_fail(&self, mode: UpdateMode) -> bool {
        mode == UpdateMode::InPlace
            && self.infeasible.is_some_and(|last| !has_lower_target(last, self.current))
    }
}

/// Decides for a pod that is to be changed, in a mode that resizes. `group` are the pods it belongs to, or why none of
/// them may be touched; `attempts` are none while nothing is recommended.
pub fn decide(
    now: Time,
    mode: UpdateMode,
    pod: &PodFacts,
    group: Result<&Group, UpdateReason>,
    attempts: Option<Attempts<'_>>,
    rules: &VerticalRules,
) -> (InPlace, Option<UpdateReason>) {
    let wait = |reason| (InPlace::Deferred, Some(reason));
    let group = match group {
        Ok(group) => group,
        Err(reason) => return wait(reason),
    };
    if pod.pending {
        return wait(UpdateReason::Pending);
    }
    let Some(attempts) = attempts else { return wait(UpdateReason::NoRecommendation) };
    if attempts.would_fail(mode) {
        return (InPlace::InfeasibleCached, Some(UpdateReason::ResizeInfeasible));
    }
    if let Some(resize) = pod.resize {
        return under_way(now, mode, &resize, group);
    }
    let restarts_nothing = rules.in_place_skip_disruption_budget && !pod.restarts_on_resize();
    match group.disruptable() {
        Err(reason) if !restarts_nothing => wait(reason),
        _ => (InPlace::Approved, None),
    }
}

fn under_way(now: Time, mode: UpdateMode, resize: &Resize, group: &Group) -> (InPlace, Option<UpdateReason>) {
    let state = resize.state;
    if mode == UpdateMode::InPlace {
        let decision = if state == Resizing::Infeasible { InPlace::Infeasible } else { InPlace::Deferred };
        return (decision, Some(UpdateReason::ResizeUnderWay(state)));
    }
    match group.may_replace(now, resize) {
        Ok(()) => (InPlace::Evict, Some(UpdateReason::ResizeFailed(state))),
        Err(reason) => (InPlace::Deferred, Some(reason)),
    }
}
