//! Which pods are to be changed, and which first (`pkg/updater/priority`).
//!
//! A pod is to be changed when a request lies outside the recommended bounds, when a container was killed for want of
//! memory soon after its start, or when the pod is old enough and the change is large enough to be worth it. Pods that
//! need more come first, then those that are furthest off.

use std::cmp::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::estimate::ContainerRecommendation;
use super::facts::{ContainerFacts, PodFacts, Termination};
use super::policy::{ChangeRequirement, EvictionRequirement, VerticalPolicy, VerticalRules};
use super::resources::{Resource, Resources};
use super::update_reason::{Outside, UpdateReason};
use crate::name::Name;
use crate::time::Time;

/// How far a pod is from what is recommended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Priority {
    /// The first request that lies outside the bounds, or is missing.
    pub outside: Option<Outside>,
    /// A container needs more of something.
    pub scale_up: bool,
    /// A container needs more memory.
    pub more_memory: bool,
    /// The differences of the pod's requests from the recommendation, each relative to the requests, added up.
    pub resource_diff: f64,
}

impl Priority {
    /// The order of the queue: the most urgent first.
    pub fn cmp_urgency(&self, other: &Self) -> Ordering {
        let by_direction = other.scale_up.cmp(&self.scale_up);
        by_direction.then_with(|| other.resource_diff.total_cmp(&self.resource_diff))
    }

    /// How far a pod is from what is recommended for it.
    pub fn of(pod: &PodFacts, recommended: &[ContainerRecommendation]) -> Self {
        let mut priority = Self::default();
        let mut requested = Resources::default();
        let mut wanted = Resources::default();
        for container in pod.observed_containers() {
            let Some(one) = recommended.iter().find(|one| one.container == container.name) else { continue };
            for (resource, target) in one.target.iter() {
                let request = container.resources().requests.get(resource);
                add(&mut wanted, resource, target);
                add(&mut requested, resource, request.unwrap_or(0));
                let more = request.is_none_or(|request| target > request);
                priority.scale_up |= more;
                priority.more_memory |= more && resource == Resource::Memory;
                priority.outside = priority.outside.take().or_else(|| outside(container, one, resource));
            }
        }
        priority.resource_diff =
            wanted.iter().map(|(resource, wanted)| diff(requested.amount(resource), wanted, resource)).sum();
        priority
    }
}

fn add(sum: &mut Resources, resource: Resource, amount: i64) {
    sum.set(resource, Some(sum.amount(resource).saturating_add(amount)));
}

/// The relative difference. Upstream compares thousandths, and no request counts as one of them.
fn diff(requested: i64, wanted: i64, resource: Resource) -> f64 {
    let thousandths = match resource {
        Resource::Cpu => 1.0,
        Resource::Memory => 1000.0,
    };
    let requested = (requested as f64 * thousandths).max(1.0);
    (requested - wanted as f64 * thousandths).abs() / requested
}

fn outside(container: &ContainerFacts, one: &ContainerRecommendation, resource: Resource) -> Option<Outside> {
    let request = container.resources().requests.get(resource);
    let bounds = (one.lower_bound.get(resource), one.upper_bound.get(resource));
    let is_outside = request.is_none_or(|request| {
        bounds.0.is_some_and(|lower| request < lower) || bounds.1.is_some_and(|upper| request > upper)
    });
    is_outside.then(|| Outside { container: container.name.clone(), resource, request, bounds })
}

/// Whether a pod of this priority is to be changed now, and why or why not.
pub fn accept(
    now: Time,
    pod: &PodFacts,
    priority: &Priority,
    policy: &VerticalPolicy,
    rules: &VerticalRules,
) -> Result<UpdateReason, UpdateReason> {
    let threshold = policy.evict_after_oom.unwrap_or(rules.evict_after_oom);
    let answered = rules.quick_oom_only_for_more && !priority.more_memory;
    if let Some((container, ran_for)) = quick_oom(pod, policy, threshold).filter(|_| !answered) {
        let changes = priority.resource_diff != 0.0;
        let reason = UpdateReason::QuickOom { container, ran_for, changes };
        return if changes { Ok(reason) } else { Err(reason) };
    }
    if let Some(outside) = &priority.outside {
        return Ok(UpdateReason::OutsideBounds(outside.clone()));
    }
    let Some(started) = pod.started else { return Err(UpdateReason::StartUnknown) };
    let (age, diff) = (now.since(started), priority.resource_diff);
    if age < rules.lifetime_threshold {
        return Err(UpdateReason::WithinBounds { age, threshold: rules.lifetime_threshold });
    }
    if diff < rules.pod_update_threshold {
        return Err(UpdateReason::SmallDifference { diff, threshold: rules.pod_update_threshold });
    }
    Ok(UpdateReason::LargeDifference { diff, threshold: rules.pod_update_threshold, age })
}

/// A container that was killed for want of memory sooner than `threshold` after its start.
fn quick_oom(pod: &PodFacts, policy: &VerticalPolicy, threshold: Duration) -> Option<(Name, Duration)> {
    let sized = |container: &&ContainerFacts| !policy.container(&container.name).off;
    pod.observed_containers().filter(sized).find_map(|container| match container.last_termination {
        Some(Termination { oom_killed: true, ran_for }) if ran_for < threshold => {
            Some((container.name.clone(), ran_for))
        }
        _ => None,
    })
}

/// Whether a change of this pod goes in a direction that the policy allows: that of one container is enough.
pub fn requirements_hold(
    pod: &PodFacts,
    recommended: &[ContainerRecommendation],
    requirements: &[EvictionRequirement],
) -> bool {
    recommended.iter().any(|one| {
        let container = pod.containers.iter().find(|container| container.name == one.container);
        container.is_some_and(|container| container_admitted(container, &one.target, requirements))
    })
}

fn container_admitted(
    container: &ContainerFacts,
    target: &Resources,
    requirements: &[EvictionRequirement],
) -> bool {
    let requests = container.resources().requests;
    if Resource::ALL.iter().any(|resource| requests.get(*resource).is_none()) {
        return true;
    }
    let changes = |resource: &Resource, change| match (target.get(*resource), requests.get(*resource)) {
        (Some(target), Some(request)) => match change {
            ChangeRequirement::TargetHigherThanRequests => target > request,
            ChangeRequirement::TargetLowerThanRequests => target < request,
        },
        _ => false,
    };
    requirements.iter().all(|one| one.resources.iter().any(|resource| changes(resource, one.change)))
}
