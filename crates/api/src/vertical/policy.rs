//! What a VerticalPodAutoscaler asks for.
//!
//! The defaults are VPA's, which has them in code. One is ours: `Auto`, which VPA describes as "the best that is
//! possible" and treats as `Recreate`, resizes in place first, since every node here can.

use std::time::Duration;

use flyball_engine::Name;
use flyball_engine::vertical::{
    ChangeRequirement, ContainerPolicy, ControlledValues, EvictionRequirement, MemoryOverrides, More,
    Resource, StartupBoost, UpdateMode, VerticalPolicy,
};
use kube::ResourceExt;

use crate::kinds::vertical_pod_autoscaler as kinds;
use crate::quantity::Quantity;
use kinds::VerticalPodAutoscaler;

const INTEGER_CPU_PREFIX: &str = "vpa-post-processor.kubernetes.io/";
const INTEGER_CPU_SUFFIX: &str = "_integerCPU";

/// The policy of a VerticalPodAutoscaler.
pub fn policy(object: &VerticalPodAutoscaler) -> VerticalPolicy {
    let mut policy = VerticalPolicy {
        mode: mode(object),
        startup_boost: object.spec.startup_boost.as_ref().and_then(boost),
        integer_cpu: integer_cpu(object),
        ..VerticalPolicy::default()
    };
    if let Some(update) = &object.spec.update_policy {
        policy.min_replicas = update.min_replicas.and_then(|min| u32::try_from(min).ok());
        policy.eviction_requirements = update.eviction_requirements.iter().filter_map(requirement).collect();
        policy.evict_after_oom = update.evict_after_oom_seconds.and_then(seconds);
    }
    for container in object.spec.resource_policy.iter().flat_map(|policy| &policy.container_policies) {
        match container.container_name.as_deref().unwrap_or_default() {
            "*" => policy.other_containers = container_policy(container),
            name => {
                policy.containers.insert(name.into(), container_policy(container));
            }
        }
    }
    policy
}

/// The update mode as users write it: what `kubectl get vpa` shows under MODE.
pub fn mode_name(object: &VerticalPodAutoscaler) -> &'static str {
    use kinds::UpdateMode as Mode;
    match object.spec.update_policy.as_ref().and_then(|policy| policy.update_mode) {
        Some(Mode::Off) => "Off",
        Some(Mode::Initial) => "Initial",
        Some(Mode::Auto) => "Auto",
        Some(Mode::InPlaceOrRecreate) => "InPlaceOrRecreate",
        Some(Mode::InPlace) => "InPlace",
        Some(Mode::Recreate) | None => "Recreate",
    }
}

fn mode(object: &VerticalPodAutoscaler) -> UpdateMode {
    match mode_name(object) {
        "Off" => UpdateMode::Off,
        "Initial" => UpdateMode::Initial,
        "Auto" | "InPlaceOrRecreate" => UpdateMode::InPlaceOrRecreate,
        "InPlace" => UpdateMode::InPlace,
        _ => UpdateMode::Recreate,
    }
}

fn container_policy(container: &kinds::ContainerResourcePolicy) -> ContainerPolicy {
    let controlled = container.controlled_resources.as_ref().map(|names| resources_of(names));
    let amount = |text: &Option<k8s_openapi::apimachinery::pkg::api::resource::Quantity>| {
        text.as_ref().and_then(|text| Quantity::try_from(text).ok())
    };
    ContainerPolicy {
        off: container.mode.as_deref() == Some("Off"),
        min_allowed: super::resources(&container.min_allowed),
        max_allowed: super::resources(&container.max_allowed),
        controlled: controlled.unwrap_or_else(|| Resource::ALL.to_vec()),
        values: match container.controlled_values.as_deref() {
            Some("RequestsOnly") => ControlledValues::RequestsOnly,
            _ => ControlledValues::RequestsAndLimits,
        },
        memory: MemoryOverrides {
            interval: container.memory_aggregation_interval_seconds.and_then(seconds),
            interval_count: container.memory_aggregation_interval_count.and_then(|n| u32::try_from(n).ok()),
            oom_bump_up_ratio: amount(&container.oom_bump_up_ratio).map(Quantity::as_f64),
            oom_min_bump_up_bytes: amount(&container.oom_min_bump_up).map(Quantity::value),
        },
        startup_boost: container.startup_boost.as_ref().and_then(boost),
    }
}

fn resources_of(names: &[String]) -> Vec<Resource> {
    Resource::ALL.into_iter().filter(|known| names.iter().any(|name| name == known.as_str())).collect()
}

fn requirement(requirement: &kinds::EvictionRequirement) -> Option<EvictionRequirement> {
    let change = match requirement.change_requirement.as_str() {
        "TargetHigherThanRequests" => ChangeRequirement::TargetHigherThanRequests,
        "TargetLowerThanRequests" => ChangeRequirement::TargetLowerThanRequests,
        _ => return None,
    };
    Some(EvictionRequirement { resources: resources_of(&requirement.resources), change })
}

fn boost(boost: &kinds::StartupBoost) -> Option<StartupBoost> {
    let cpu = boost.cpu.as_ref()?;
    let quantity = cpu.quantity.as_ref().and_then(|text| Quantity::try_from(text).ok());
    let more = More::new(&cpu.kind, cpu.factor, quantity.map(Quantity::milli_value)).ok()?;
    Some(StartupBoost { more, duration: cpu.duration_seconds.and_then(seconds).unwrap_or_default() })
}

fn seconds(seconds: i32) -> Option<Duration> {
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// `vpa-post-processor.kubernetes.io/NAME_integerCPU: "true"`.
fn integer_cpu(object: &VerticalPodAutoscaler) -> std::collections::BTreeSet<Name> {
    let annotations = object.annotations().iter().filter(|(_, value)| *value == "true");
    let names = annotations.filter_map(|(key, _)| {
        key.strip_prefix(INTEGER_CPU_PREFIX)?.strip_suffix(INTEGER_CPU_SUFFIX).map(Name::from)
    });
    names.collect()
}
