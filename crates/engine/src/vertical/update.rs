//! One round of the updater: for each pod, whether it is resized, evicted or left alone, and why
//! (`pkg/updater/logic/updater.go`).
//!
//! Startup boosts end first. Then the pods that are to be changed are gone through, the most urgent first: in place
//! where the mode allows that, and otherwise by eviction as long as the budget lasts. Evictions come last, so that a
//! resize that failed finds what is left of the budget.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::admit::container_resources;
use super::boost;
use super::budget::{Configured, Group};
use super::cap::for_pod;
use super::estimate::ContainerRecommendation;
use super::facts::{ContainerFacts, PodFacts};
use super::in_place::{self, Attempts, InPlace, Targets};
use super::limit_range::LimitRanges;
use super::policy::{UpdateMode, VerticalPolicy, VerticalRules};
use super::priority::{self, Priority};
use super::resources::{ContainerResources, Resources};
use super::update_reason::UpdateReason;
use crate::name::Name;
use crate::time::Time;

/// What to do with one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodUpdate {
    /// The pod.
    pub pod: Name,
    /// What to do.
    pub action: Action,
    /// Why it is to be changed, or why not.
    pub reason: UpdateReason,
    /// What holds a change back, or moves it from a resize to an eviction.
    pub held_by: Option<UpdateReason>,
}

/// What to do with one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Nothing.
    Keep,
    /// Nothing yet.
    Wait,
    /// Resize it in place to these; what is not listed stays. If that fails, `InPlaceOrRecreate` evicts.
    Resize(Vec<(Name, ContainerResources)>),
    /// Evict it, so that its successor gets what is recommended.
    Evict,
    /// Nothing, and remember that a resize to these was infeasible.
    RememberInfeasible(Vec<(Name, Resources)>),
}

/// All that a round needs to know of one VerticalPodAutoscaler and its pods.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// What the user asked for.
    pub policy: &'a VerticalPolicy,
    /// What is recommended, as the status has it; empty while nothing is.
    pub recommended: &'a [ContainerRecommendation],
    /// What the namespace allows.
    pub ranges: &'a LimitRanges,
    /// Settings of the updater.
    pub rules: &'a VerticalRules,
    /// The live pods of each controller, and how many it wants.
    pub groups: &'a [(Configured, Vec<PodFacts>)],
    /// The targets that were infeasible, by pod.
    pub infeasible: &'a BTreeMap<Name, Vec<(Name, Resources)>>,
}

/// A pod that is to be changed.
struct Candidate<'a> {
    pod: &'a PodFacts,
    group: usize,
    priority: Priority,
    reason: UpdateReason,
    capped: Vec<ContainerRecommendation>,
}

impl Candidate<'_> {
    fn targets(&self) -> Vec<(Name, Resources)> {
        self.capped.iter().map(|one| (one.container.clone(), one.target)).collect()
    }
}

impl Round<'_> {
    /// What to do with each pod: those to be changed first, in their order.
    pub fn plan(&self, now: Time) -> Vec<PodUpdate> {
        let mut groups: Vec<Result<Group, UpdateReason>> = self
            .groups
            .iter()
            .map(|(configured, pods)| {
                Group::new(*configured, &pods.iter().collect::<Vec<_>>(), self.policy, self.rules)
            })
            .collect();
        let (mut plan, mut candidates, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (_, pods)) in self.groups.iter().enumerate() {
            for pod in pods {
                if let Some(update) = self.unboost(now, pod, &mut groups[index]) {
                    plan.push(update);
                    continue;
                }
                match self.candidate(now, pod, index) {
                    Ok(candidate) => candidates.push(candidate),
                    Err(reason) => kept.push(update(pod, Action::Keep, reason, None)),
                }
            }
        }
        candidates.sort_by(|a, b| a.priority.cmp_urgency(&b.priority));
        let mut evictions = Vec::new();
        for candidate in candidates {
            self.resize_or_queue(now, candidate, &mut groups, &mut plan, &mut evictions);
        }
        for (candidate, held_by) in evictions {
            plan.push(self.evict(now, &candidate, held_by, &mut groups));
        }
        plan.extend(kept);
        plan
    }

    /// Ends the startup boosts of a pod that are over. It goes to what is recommended, or back to what it had.
    fn unboost(
        &self,
        now: Time,
        pod: &PodFacts,
        group: &mut Result<Group, UpdateReason>,
    ) -> Option<PodUpdate> {
        if !self.rules.startup_boost || pod.boosted.is_empty() {
            return None;
        }
        let over: Vec<_> = boost::over(now, pod, self.policy).collect();
        let Some(first) = over.first() else {
            return Some(update(pod, Action::Keep, UpdateReason::Boosted, None));
        };
        let reason = UpdateReason::BoostOver { container: first.container.clone() };
        let held_by = match (&group, pod.resize) {
            (Err(reason), _) => Some(reason.clone()),
            (_, Some(resize)) => Some(UpdateReason::ResizeUnderWay(resize.state)),
            _ if pod.pending => Some(UpdateReason::Pending),
            (Ok(group), None) => group.disruptable().err(),
        };
        if held_by.is_some() {
            return Some(update(pod, Action::Wait, reason, held_by));
        }
        let capped = self.cap(pod);
        let back = over.iter().map(|boosted| {
            let found = pod.containers.iter().find(|own| own.name == boosted.container);
            let recommended = capped.iter().find(|one| one.container == boosted.container);
            let new =
                found.zip(recommended).filter(|_| self.policy.mode != UpdateMode::Off).map(|(own, one)| {
                    let before = ContainerFacts::new(own.name.clone(), boosted.original);
                    self.resources_for(&before, &one.target)
                });
            (boosted.container.clone(), new.unwrap_or(boosted.original))
        });
        let back = back.collect();
        if let Ok(group) = group {
            group.disrupt(pod);
        }
        Some(update(pod, Action::Resize(back), reason, None))
    }

    fn cap(&self, pod: &PodFacts) -> Vec<ContainerRecommendation> {
        for_pod(self.recommended, &pod.containers, self.policy, self.ranges, self.rules)
    }

    /// Whether a pod is to be changed.
    fn candidate<'p>(
        &self,
        now: Time,
        pod: &'p PodFacts,
        group: usize,
    ) -> Result<Candidate<'p>, UpdateReason> {
        if !self.policy.mode.changes_running() {
            return Err(UpdateReason::ModeOff);
        }
        if self.recommended.is_empty() {
            return Err(UpdateReason::NoRecommendation);
        }
        let capped = self.cap(pod);
        let priority = Priority::of(pod, &capped);
        let reason = priority::accept(now, pod, &priority, self.policy, self.rules)?;
        let requirements = &self.policy.eviction_requirements;
        if !requirements.is_empty() && !priority::requirements_hold(pod, &capped, requirements) {
            return Err(UpdateReason::EvictionRequirements);
        }
        Ok(Candidate { pod, group, priority, reason, capped })
    }

    fn resize_or_queue<'p>(
        &self,
        now: Time,
        candidate: Candidate<'p>,
        groups: &mut [Result<Group, UpdateReason>],
        plan: &mut Vec<PodUpdate>,
        evictions: &mut Vec<(Candidate<'p>, Option<UpdateReason>)>,
    ) {
        if !self.policy.mode.resizes() {
            evictions.push((candidate, None));
            return;
        }
        let (pod, targets) = (candidate.pod, candidate.targets());
        let infeasible: Option<&Targets> = self.infeasible.get(&pod.name).map(Vec::as_slice);
        let attempts = Attempts { infeasible, current: &targets };
        let group = groups[candidate.group].as_ref().map_err(Clone::clone);
        let (decision, held_by) =
            in_place::decide(now, self.policy.mode, pod, group, Some(attempts), self.rules);
        let action = match decision {
            InPlace::Evict => {
                evictions.push((candidate, held_by));
                return;
            }
            InPlace::Approved => {
                if let Ok(group) = &mut groups[candidate.group] {
                    group.disrupt(pod);
                }
                Action::Resize(self.new_resources(&candidate))
            }
            InPlace::Infeasible => Action::RememberInfeasible(targets),
            InPlace::Deferred | InPlace::InfeasibleCached => Action::Wait,
        };
        plan.push(update(pod, action, candidate.reason, held_by));
    }

    fn new_resources(&self, candidate: &Candidate<'_>) -> Vec<(Name, ContainerResources)> {
        let containers = candidate.pod.containers.iter().filter_map(|container| {
            let one = candidate.capped.iter().find(|one| one.container == container.name)?;
            Some((container.name.clone(), self.resources_for(container, &one.target)))
        });
        containers.collect()
    }

    fn resources_for(&self, container: &ContainerFacts, target: &Resources) -> ContainerResources {
        let values = self.policy.container(&container.name).values;
        let range = self.ranges.container.unwrap_or_default();
        container_resources(container, Some(target), values, &range.default_limit, false).0
    }

    fn evict(
        &self,
        now: Time,
        candidate: &Candidate<'_>,
        held_by: Option<UpdateReason>,
        groups: &mut [Result<Group, UpdateReason>],
    ) -> PodUpdate {
        let (pod, reason) = (candidate.pod, candidate.reason.clone());
        let allowed = match &mut groups[candidate.group] {
            Err(reason) => Err(reason.clone()),
            Ok(group) => group.may_evict(now, pod, self.policy).map(|()| group.disrupt(pod)),
        };
        match allowed {
            Ok(()) => update(pod, Action::Evict, reason, held_by),
            Err(held_by) => update(pod, Action::Wait, reason, Some(held_by)),
        }
    }
}

fn update(pod: &PodFacts, action: Action, reason: UpdateReason, held_by: Option<UpdateReason>) -> PodUpdate {
    PodUpdate { pod: pod.name.clone(), action, reason, held_by }
}
