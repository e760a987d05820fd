//! The whole public surface: take in facts, decide when due, say when that is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::decision::Decision;
use crate::memory::Memory;
use crate::name::{PoolName, TargetId};
use crate::observation::Observation;
use crate::share;
use crate::target::Target;
use crate::time::Time;

/// A target is evaluated up to this much early, so that a driver that ticks once in an interval, give or take the
/// scheduler's whims, does not find it not quite due at every other tick. Less than the shortest interval.
const EARLY_MAX: Duration = Duration::from_millis(50);

/// Decides how many replicas each target has.
///
/// A driver is a loop: give it every fact with [`observe`](Self::observe), wait for the next fact or for
/// [`next_evaluation`](Self::next_evaluation), then call [`evaluate`](Self::evaluate), carry the decisions out, and
/// tell it what came of them ([`Observation::Rescaled`]).
///
/// Facts about a target are taken in once it has a policy; until then, and after [`Observation::Deleted`], they are
/// dropped, so that nothing is kept of targets nobody scales. Time must not go backwards; if it does, that is as if
/// no time had passed.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    targets: BTreeMap<TargetId, Target>,
    /// When each target is due.
    due: BTreeSet<(Time, TargetId)>,
    pools: BTreeMap<PoolName, u32>,
}

impl Engine {
    /// An engine that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a fact. Never decides.
    pub fn observe(&mut self, now: Time, observation: Observation) {
        match observation {
            Observation::Policy { target, policy } => match self.targets.contains_key(&target) {
                true => self.change(target, |known| known.set_policy(now, *policy)),
                false => {
                    self.targets.insert(target, Target::new(now, *policy));
                }
            },
            Observation::Deleted { target } => {
                if let Some(at) = self.targets.remove(&target).and_then(|known| known.due()) {
                    self.due.remove(&(at, target));
                }
            }
            Observation::Memory { target, memory } => self.change(target, |known| known.set_memory(*memory)),
            Observation::Scale { target, scale } => self.change(target, |known| known.set_scale(scale)),
            Observation::ScaleFailed { target, error } => {
                self.change(target, |known| known.set_scale_error(error))
            }
            Observation::Pods { target, pods } => self.change(target, |known| known.set_pods(pods)),
            Observation::Metric { target, metric, reading } => {
                self.change(target, |known| known.set_reading(now, &metric, reading));
            }
            Observation::Demand { target, demand } => self.change(target, |known| known.set_demand(demand)),
            Observation::Waiting { target, requests } => {
                self.change(target, |known| known.set_waiting(requests))
            }
            Observation::Sizing { target, sizing } => self.change(target, |known| known.set_sizing(sizing)),
            Observation::Rescaled { target, from, to, error: None } => {
                self.change(target, |known| known.rescaled(now, from, to));
            }
            // Nothing changed, so nothing is remembered; the decision is made again when due.
            Observation::Rescaled { error: Some(_), .. } => {}
            Observation::Capacity { pool, replicas } => {
                self.pools.insert(pool, replicas);
            }
        }
    }

    /// Decides for every target that is due, or as good as due: one decision each, in the order of their names, "keep" included.
    pub fn evaluate(&mut self, now: Time) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for (_, target) in take_due(&mut self.due, now + EARLY_MAX) {
            let Some(known) = self.targets.get_mut(&target) else { continue };
            decisions.extend(known.evaluate(&target, now));
            if let Some(at) = known.due() {
                self.due.insert((at, target));
            }
        }
        decisions.sort_by(|a, b| a.target.cmp(&b.target));
        self.share(&mut decisions);
        decisions
    }

    /// The targets that [`evaluate`](Self::evaluate) would decide about: what they are measured by is worth reading now.
    pub fn due(&self, now: Time) -> impl Iterator<Item = &TargetId> {
        let latest = now + EARLY_MAX;
        self.due.iter().take_while(move |(at, _)| *at <= latest).map(|(_, target)| target)
    }

    /// When [`evaluate`](Self::evaluate) next has something to do if nothing else is observed.
    pub fn next_evaluation(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// What is remembered of a target, to be given back after a restart ([`Observation::Memory`]).
    pub fn memory(&self, target: &TargetId) -> Option<&Memory> {
        self.targets.get(target).map(Target::memory)
    }

    /// Changes a known target, and with it perhaps when it is due.
    fn change(&mut self, target: TargetId, change: impl FnOnce(&mut Target)) {
        let Some(known) = self.targets.get_mut(&target) else { return };
        let before = known.due();
        change(known);
        let after = known.due();
        if before == after {
            return;
        }
        if let Some(at) = before {
            self.due.remove(&(at, target.clone()));
        }
        if let Some(at) = after {
            self.due.insert((at, target));
        }
    }

    /// Cuts the decisions down to what the pools have room for.
    fn share(&self, decisions: &mut [Decision]) {
        for (pool, capacity) in &self.pools {
            let priority = |target: &TargetId| {
                let share = self.targets.get(target)?.policy().share.as_ref()?;
                (share.pool == *pool).then_some(share.priority)
            };
            if !decisions.iter().any(|d| priority(&d.target).is_some()) {
                continue;
            }
            let is_deciding =
                |target: &TargetId| decisions.binary_search_by(|d| d.target.cmp(target)).is_ok();
            let others =
                self.targets.iter().filter(|(target, _)| priority(target).is_some() && !is_deciding(target));
            let others = others.map(|(_, known)| u64::from(known.current())).sum();
            let mut deciding: Vec<(&mut Decision, i32)> = decisions
                .iter_mut()
                .filter_map(|d| priority(&d.target).map(|priority| (d, priority)))
                .collect();
            share::step(pool, *capacity, others, &mut deciding);
        }
    }
}

/// Takes out what is due by `now`, so that each target is evaluated once, however soon it is due again.
fn take_due(due: &mut BTreeSet<(Time, TargetId)>, now: Time) -> BTreeSet<(Time, TargetId)> {
    match due.iter().find(|(at, _)| *at > now).cloned() {
        Some(first_later) => {
            let later = due.split_off(&first_later);
            std::mem::replace(due, later)
        }
        None => std::mem::take(due),
    }
}
