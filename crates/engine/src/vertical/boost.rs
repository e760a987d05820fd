//! More CPU while a container starts (AEP-7862, `pkg/admission-controller/resource/pod/patch/resource_updates.go`).
//!
//! Admission gives it and notes down what the container had; the updater takes it away again in place once the pod has
//! been ready for long enough, in every update mode.

use std::fmt::Write as _;
use std::time::Duration;

use super::facts::{Boosted, PodFacts};
use super::limits::proportional_limit;
use super::policy::{ControlledValues, VerticalPolicy, VerticalRules};
use super::resources::{ContainerResources, Resource, Resources};
use super::startup_boost::StartupBoost;
use crate::time::Time;

/// Adds a boost to what a container is about to get.
pub(crate) fn boost(
    boost: &StartupBoost,
    original: &ContainerResources,
    values: ControlledValues,
    rules: &VerticalRules,
    new: &mut ContainerResources,
) {
    let base = new.requests.bound(Resource::Cpu).unwrap_or(original.requests.amount(Resource::Cpu));
    let mut boosted = boost.more.apply(base);
    if let Some(max) = rules.max_allowed_cpu_boost_millis.filter(|max| *max != 0) {
        boosted = boosted.min(max);
    }
    match values {
        ControlledValues::RequestsOnly => boosted = under_limit(boosted, original),
        ControlledValues::RequestsAndLimits => {
            let (limit, _) = proportional_limit(Resource::Cpu, original, boosted, &Resources::default());
            new.limits.set(Resource::Cpu, limit.or(new.limits.get(Resource::Cpu)));
        }
    }
    new.requests.set(Resource::Cpu, Some(boosted));
}

/// A request that exceeds the limit stays 1m under it, so that the pod's quality-of-service class stays what it is.
fn under_limit(boosted: i64, original: &ContainerResources) -> i64 {
    match original.limits.get(Resource::Cpu) {
        Some(limit) if boosted > limit => {
            if limit > 1 {
                limit - 1
            } else {
                limit
            }
        }
        _ => boosted,
    }
}

/// The annotation `vpaCpuStartupBoost/NAME`: what a container had.
pub(crate) fn annotation(original: &ContainerResources) -> String {
    let list = |resources: &Resources| {
        let mut list = String::from("{");
        if let Some(cpu) = resources.get(Resource::Cpu) {
            // Writing to a String can't fail.
            let _ = write!(list, "\"cpu\":\"{}\"", Resource::Cpu.quantity(cpu));
        }
        list + "}"
    };
    format!("{{\"requests\":{},\"limits\":{}}}", list(&original.requests), list(&original.limits))
}

/// The boosts of a pod that are over.
pub(crate) fn over<'a>(
    now: Time,
    pod: &'a PodFacts,
    policy: &'a VerticalPolicy,
) -> impl Iterator<Item = &'a Boosted> {
    pod.boosted.iter().filter(move |boosted| {
        let duration = policy.boost(&boosted.container).map_or(Duration::ZERO, |boost| boost.duration);
        pod.ready_since.is_some_and(|since| now.since(since) >= duration)
    })
}
