//! The rules about bounds, and about settings that cannot act.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::autoscalers::{horizontal, of_scaled_object};
use super::{Facts, Manifests, Origin, Place};
use crate::quantity::Quantity;
use crate::trigger::{are_resources, is_resource};

/// The replicas that an autoscaler may choose from.
pub(super) struct Bounds<'a> {
    pub(super) origin: &'a Origin,
    min_field: &'static str,
    pub(super) min: i32,
    max: i32,
}

pub(super) fn bounds(manifests: &Manifests) -> Vec<Bounds<'_>> {
    let objects = manifests.scaled_objects.iter().map(|object| Bounds {
        origin: &object.origin,
        min_field: "spec.minReplicaCount",
        min: object.spec.min_replicas(),
        max: object.spec.max_replicas(),
    });
    let hpas = manifests.hpas.iter().map(|hpa| Bounds {
        origin: &hpa.origin,
        min_field: "spec.minReplicas",
        min: hpa.spec.min_replicas.unwrap_or(1),
        max: hpa.spec.max_replicas,
    });
    objects.chain(hpas).collect()
}

pub(super) fn min_above_max(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let crossed = bounds(manifests).into_iter().filter(|bounds| bounds.min > bounds.max);
    let replicas = crossed.map(|Bounds { origin, min_field, min, max }| {
        let message = format!("the fewest replicas ({min}) are more than the most ({max})");
        Place::new(origin, min_field, message, "lower the minimum or raise the maximum")
    });
    replicas.chain(crossed_sizes(manifests)).collect()
}

/// The least allowed above the most, for a resource of a VerticalPodAutoscaler.
fn crossed_sizes(manifests: &Manifests) -> Vec<Place> {
    let mut places = Vec::new();
    for vpa in &manifests.vpas {
        let policies = vpa.spec.resource_policy.iter().flat_map(|policy| &policy.container_policies);
        for (index, policy) in policies.enumerate() {
            for (resource, least) in &policy.min_allowed {
                let Some(most) = policy.max_allowed.get(resource) else { continue };
                if amount(least) > amount(most) {
                    let field =
                        format!("spec.resourcePolicy.containerPolicies[{index}].minAllowed.{resource}");
                    let message =
                        format!("the least {resource} ({}) is more than the most ({})", least.0, most.0);
                    let help = "lower minAllowed or raise maxAllowed";
                    places.push(Place::new(&vpa.origin, field, message, help));
                }
            }
        }
    }
    places
}

fn amount(text: &Text) -> Option<Quantity> {
    Quantity::parse(&text.0).ok()
}

pub(super) fn no_room(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let equal = bounds(manifests).into_iter().filter(|bounds| bounds.min == bounds.max);
    equal
        .map(|Bounds { origin, min_field, min, .. }| {
            let message = format!("the fewest and the most replicas are both {min}");
            Place::new(origin, min_field, message, "raise the maximum, or delete the autoscaler")
        })
        .collect()
}

/// What KEDA's webhook warns about: settings of the step between zero and one, without such a step.
pub(super) fn setting_without_effect(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for object in &manifests.scaled_objects {
        let spec = &object.spec;
        let min = spec.min_replicas();
        if min == 0 || spec.idle_replica_count.is_some() {
            continue;
        }
        let settings = [
            ("spec.cooldownPeriod", spec.cooldown_period, "cooldownPeriod delays only the step to zero"),
            (
                "spec.initialCooldownPeriod",
                spec.initial_cooldown_period,
                "initialCooldownPeriod delays only the first step to zero",
            ),
        ];
        for (field, value, what) in settings {
            if value.is_some_and(|value| value > 0) {
                let message = format!("{what}, which minReplicaCount: {min} rules out");
                let help = "leave it out; to scale in later, set \
                            advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds";
                places.push(Place::new(&object.origin, field, message, help));
            }
        }
    }
    places
}

/// CPU or memory beside other triggers, where the others alone decide between some replicas and none.
pub(super) fn resource_idle_at_zero(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let sleepers = manifests.scaled_objects.iter().filter(|object| {
        let may_sleep = object.spec.min_replicas() == 0 || object.spec.idle_replica_count.is_some();
        may_sleep && !are_resources(&object.spec.triggers)
    });
    let mut places = Vec::new();
    for object in sleepers {
        let first = object.spec.triggers.iter().enumerate().find(|(_, trigger)| is_resource(&trigger.kind));
        let Some((index, trigger)) = first else { continue };
        let (kind, idle) = (&trigger.kind, object.spec.idle_replica_count.unwrap_or(0));
        let message = format!(
            "{kind} keeps no replica: {idle} is gone to once the other triggers are idle, however busy the pods are"
        );
        let help = "write minReplicaCount: 1 (and no idleReplicaCount), or see that another trigger is active \
                    as long as there is work";
        places.push(Place::new(&object.origin, format!("spec.triggers[{index}]"), message, help));
    }
    places
}

/// CPU and memory of no pods are no reason to start one.
pub(super) fn never_activated(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let objects = manifests.scaled_objects.iter();
    let asleep =
        objects.filter(|object| object.spec.min_replicas() == 0 && are_resources(&object.spec.triggers));
    asleep
        .map(|object| {
            let message = "the minimum is 0, but all triggers are cpu or memory, which need a pod to measure";
            let help = "write minReplicaCount: 1, or add a trigger that can be read without pods";
            Place::new(&object.origin, "spec.minReplicaCount", message, help)
        })
        .collect()
}

/// A workload that is scaled, and whose manifest names its replicas: each apply sets them back.
pub(super) fn replicas_in_manifest(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let targets = horizontal(manifests);
    let mut places = Vec::new();
    for workload in &manifests.workloads {
        let scaled = targets.iter().find(|target| {
            target.kind == workload.kind
                && target.name == workload.origin.name()
                && target.origin.namespace == workload.origin.namespace
        });
        let (Some(target), Some(replicas)) = (scaled, workload.written_replicas) else { continue };
        let message = format!(
            "replicas: {replicas} is set back by each apply, while {} changes it",
            target.origin.object
        );
        places.push(Place::new(&workload.origin, "spec.replicas", message, "leave replicas out"));
    }
    places
}

/// Fallback counts replicas that the bounds do not allow.
pub(super) fn fallback_out_of_bounds(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let objects = manifests.scaled_objects.iter();
    objects
        .filter_map(|object| {
            let replicas = object.spec.fallback.as_ref()?.replicas;
            let (min, max) = (object.spec.min_replicas(), object.spec.max_replicas());
            let target = of_scaled_object(object);
            let message =
                format!("falls back to {replicas} replicas of {}, of {min} to {max} allowed", target.name);
            let help = format!("write a number from {min} to {max}");
            (replicas < min || replicas > max)
                .then(|| Place::new(&object.origin, "spec.fallback.replicas", message, help))
        })
        .collect()
}
