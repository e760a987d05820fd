//! From what the samples say to what a pod gets (`pkg/utils/vpa/capping.go`, `pkg/recommender/routines`).
//!
//! In two places, in this order; where two bounds contradict each other, the later one wins:
//!
//! 1. for the status, the same for all pods: round up, whole cores, `minAllowed`, `maxAllowed`;
//! 2. for one pod, as its updater and its admission need it: the pod's LimitRange, the container's LimitRange, the
//!    policy again, and for `RequestsOnly` the container's limit.
//!
//! Upstream does this to target, lower and upper bound on their own, and their order may break on the way. Here it
//! holds after every cap, unless [`VerticalRules::ordered`] says otherwise.

use super::estimate::ContainerRecommendation;
use super::facts::ContainerFacts;
use super::format::{integer_cpu, round_up_to_scale};
use super::limit_range::{Bound, LimitRange, LimitRanges, PodShare, fit_pod};
use super::policy::{ContainerPolicy, ControlledValues, VerticalPolicy, VerticalRules};
use super::reason::VerticalReason;
use super::resources::{ContainerResources, Resource, Resources};

/// A rule that changes one amount, and says why if it does.
type Rule<'a> = &'a dyn Fn(Resource, i64) -> (i64, Option<VerticalReason>);

impl ContainerRecommendation {
    /// Applies a rule to target and bounds.
    fn apply(&mut self, rules: &VerticalRules, rule: Rule<'_>) {
        for (resource, amount) in self.target.iter() {
            if let (to, Some(reason)) = rule(resource, amount) {
                self.step(resource, to, reason);
            }
        }
        self.lower_bound = self.lower_bound.map(|resource, amount| rule(resource, amount).0);
        self.upper_bound = self.upper_bound.map(|resource, amount| rule(resource, amount).0);
        if rules.ordered {
            self.order();
        }
    }
}

/// Bounds an estimate for the status: rounding, whole cores where asked for, the policy.
pub fn for_status(
    mut estimate: ContainerRecommendation,
    policy: &VerticalPolicy,
    rules: &VerticalRules,
) -> ContainerRecommendation {
    let own = policy.container(&estimate.container);
    let round = |resource, amount| {
        let scale = match resource {
            Resource::Cpu => rules.round_cpu_millis,
            Resource::Memory => rules.round_memory_bytes,
        };
        (round_up_to_scale(amount, scale).unwrap_or(amount), Some(VerticalReason::Rounded))
    };
    let whole_cores = |resource, amount| match resource {
        Resource::Cpu => (integer_cpu(amount), Some(VerticalReason::IntegerCpu)),
        Resource::Memory => (amount, None),
    };
    estimate.apply(rules, &round);
    estimate.uncapped_target = estimate.uncapped_target.map(|resource, amount| round(resource, amount).0);
    if rules.integer_cpu || policy.integer_cpu.contains(&estimate.container) {
        estimate.apply(rules, &whole_cores);
        estimate.uncapped_target =
            estimate.uncapped_target.map(|resource, amount| whole_cores(resource, amount).0);
    }
    estimate.apply(rules, &|resource, amount| own.cap(resource, amount, &rules.max_allowed));
    estimate
}

impl ContainerPolicy {
    /// An amount within `minAllowed` and `maxAllowed`; the maximum wins, and the policy's own over the one for all.
    fn cap(&self, resource: Resource, amount: i64, for_all: &Resources) -> (i64, Option<VerticalReason>) {
        let (amount, low) = Bound::Min.apply(amount, self.min_allowed.bound(resource));
        let own = self.max_allowed.bound(resource);
        let (amount, high) = Bound::Max.apply(amount, own.or(for_all.bound(resource)));
        let reason = match (low, high) {
            (_, true) if own.is_some() => Some(VerticalReason::MaxAllowed),
            (_, true) => Some(VerticalReason::GlobalMaxAllowed),
            (true, false) => Some(VerticalReason::MinAllowed),
            (false, false) => None,
        };
        (amount, reason)
    }
}

/// What one pod's containers get of what is recommended. Recommendations for containers that it does not have, or that
/// the policy leaves alone, are left out. With a LimitRange for pods, a container without a recommendation takes part
/// with what it requests.
pub fn for_pod(
    recommended: &[ContainerRecommendation],
    containers: &[ContainerFacts],
    policy: &VerticalPolicy,
    ranges: &LimitRanges,
    rules: &VerticalRules,
) -> Vec<ContainerRecommendation> {
    let has = |name: &_| containers.iter().find(|container| container.name == *name);
    let mut pod: Vec<_> = recommended.iter().filter(|one| has(&one.container).is_some()).cloned().collect();
    if let Some(range) = &ranges.pod {
        for container in containers {
            let requests = container.resources().requests;
            if !requests.is_empty() && !pod.iter().any(|one| one.container == container.name) {
                let mut inserted = ContainerRecommendation::new(container.name.clone());
                inserted.target = requests;
                pod.push(inserted);
            }
        }
        fit_to_pod_range(&mut pod, containers, range, rules);
    }
    for one in &mut pod {
        let Some(container) = has(&one.container) else { continue };
        fit_container(one, container.resources(), policy.container(&one.container), ranges, rules);
    }
    pod.retain(|one| !policy.container(&one.container).off);
    pod
}

fn fit_container(
    one: &mut ContainerRecommendation,
    own: ContainerResources,
    policy: &ContainerPolicy,
    ranges: &LimitRanges,
    rules: &VerticalRules,
) {
    if let Some(range) = &ranges.container {
        one.apply(rules, &|resource, amount| range.cap(resource, amount, &own));
    }
    one.apply(rules, &|resource, amount| policy.cap(resource, amount, &Resources::default()));
    if policy.values == ControlledValues::RequestsOnly {
        one.apply(rules, &|resource, amount| {
            let (amount, capped) = Bound::Max.apply(amount, own.limits.bound(resource));
            (amount, capped.then_some(VerticalReason::ContainerLimit))
        });
    }
}

/// Upper bounds, targets and lower bounds are each brought into the range on their own; then their order is mended.
fn fit_to_pod_range(
    pod: &mut [ContainerRecommendation],
    containers: &[ContainerFacts],
    range: &LimitRange,
    rules: &VerticalRules,
) {
    type Field = fn(&mut ContainerRecommendation) -> &mut Resources;
    let bounds: [Field; 2] = [|one| &mut one.upper_bound, |one| &mut one.lower_bound];
    for resource in Resource::ALL {
        for field in bounds {
            fit_field(pod, containers, resource, range, &|one| field(one), &|one, amount, _| {
                field(one).set(resource, Some(amount));
            });
        }
        fit_field(pod, containers, resource, range, &|one| &mut one.target, &|one, amount, reason| {
            one.step(resource, amount, reason);
        });
    }
    if rules.ordered {
        pod.iter_mut().for_each(ContainerRecommendation::order);
    }
}

/// Only amounts that exist are changed: upstream writes into a list that is not there, and panics. A container without
/// a recommendation has no bounds, and takes part in theirs with what it requests.
fn fit_field(
    pod: &mut [ContainerRecommendation],
    containers: &[ContainerFacts],
    resource: Resource,
    range: &LimitRange,
    field: &dyn Fn(&mut ContainerRecommendation) -> &mut Resources,
    change: &dyn Fn(&mut ContainerRecommendation, i64, VerticalReason),
) {
    let (mut members, mut shares) = (Vec::new(), Vec::new());
    for (index, one) in pod.iter_mut().enumerate() {
        let Some(container) = containers.iter().find(|container| container.name == one.container) else {
            continue;
        };
        let own = container.resources();
        let bounded = !(one.lower_bound.is_empty() && one.upper_bound.is_empty());
        let amount = field(one).get(resource);
        let requested = if bounded { None } else { own.requests.get(resource) };
        if let Some(amount) = amount.or(requested) {
            members.push(index);
            shares.push(PodShare { own, amount });
        }
    }
    if let Some(reason) = fit_pod(resource, range, &mut shares) {
        for (index, share) in members.into_iter().zip(&shares) {
            if field(&mut pod[index]).get(resource).is_some() {
                change(&mut pod[index], share.amount, reason);
            }
        }
    }
}
