//! The rules about what autoscalers have in common: their targets, and how they share them.

use super::{Facts, Manifests, Origin, Place, Sourced, Workload, near};
use crate::kinds::scaled_object::ScaledObject;
use crate::kinds::vertical_pod_autoscaler::{ContainerResourcePolicy, UpdateMode, VerticalPodAutoscaler};
use crate::scaled_object::{TRANSFER_HPA_OWNERSHIP, VALIDATE_HPA_OWNERSHIP};
use kube::ResourceExt;

/// Kinds of Kubernetes' own that have no `scale` subresource.
const KINDS_WITHOUT_SCALE: [&str; 8] =
    ["DaemonSet", "Job", "CronJob", "Pod", "Service", "ConfigMap", "Secret", "Namespace"];

/// Kinds of Kubernetes' own that have one, with their API version.
const KINDS_WITH_SCALE: [(&str, &str); 4] = [
    ("Deployment", "apps/v1"),
    ("StatefulSet", "apps/v1"),
    ("ReplicaSet", "apps/v1"),
    ("ReplicationController", "v1"),
];

/// What an autoscaler is about.
pub(super) struct Target<'a> {
    pub(super) origin: &'a Origin,
    /// The field that names the target.
    pub(super) field: &'static str,
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
}

impl Target<'_> {
    fn is_of(&self, other: &Target<'_>) -> bool {
        self.kind == other.kind && self.name == other.name && self.origin.namespace == other.origin.namespace
    }

    pub(super) fn workload<'m>(&self, manifests: &'m Manifests) -> Option<&'m Sourced<Workload>> {
        manifests.workload(self.kind, self.name, &self.origin.namespace)
    }
}

pub(super) fn of_scaled_object(object: &Sourced<ScaledObject>) -> Target<'_> {
    let reference = &object.spec.scale_target_ref;
    Target {
        origin: &object.origin,
        field: "spec.scaleTargetRef",
        api_version: reference.api_version_or_default(),
        kind: reference.kind_or_default(),
        name: &reference.name,
    }
}

/// The targets of everything that sets replicas.
pub(super) fn horizontal(manifests: &Manifests) -> Vec<Target<'_>> {
    let of_hpas = manifests.hpas.iter().map(|hpa| {
        let reference = &hpa.spec.scale_target_ref;
        Target {
            origin: &hpa.origin,
            field: "spec.scaleTargetRef",
            api_version: reference.api_version.as_deref().unwrap_or("v1"),
            kind: &reference.kind,
            name: &reference.name,
        }
    });
    manifests.scaled_objects.iter().map(of_scaled_object).chain(of_hpas).collect()
}

/// The targets of everything that sets requests.
fn vertical(manifests: &Manifests) -> Vec<Target<'_>> {
    manifests.vpas.iter().map(of_vpa).collect()
}

pub(super) fn of_vpa(vpa: &Sourced<VerticalPodAutoscaler>) -> Target<'_> {
    let reference = &vpa.spec.target_ref;
    Target {
        origin: &vpa.origin,
        field: "spec.targetRef",
        api_version: reference.api_version.as_deref().unwrap_or("v1"),
        kind: &reference.kind,
        name: &reference.name,
    }
}

/// The same object written twice is not two autoscalers.
pub(super) fn two_autoscalers(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for (targets, undo) in [
        (horizontal(manifests), "put all triggers into one ScaledObject, and delete the other"),
        (vertical(manifests), "delete one of the two"),
    ] {
        for (index, target) in targets.iter().enumerate() {
            let first = targets[..index].iter().find(|other| {
                target.is_of(other)
                    && target.origin.object != other.origin.object
                    && !may_share(manifests, target.origin)
                    && !may_share(manifests, other.origin)
            });
            if let Some(first) = first {
                let (kind, name, other) = (target.kind, target.name, &first.origin.object);
                let message = format!("{kind} {name} is also scaled by {other}");
                places.push(Place::new(target.origin, format!("{}.name", target.field), message, undo));
            }
        }
    }
    places
}

/// KEDA lets a HorizontalPodAutoscaler be taken over, or be left alone, where an annotation says so.
fn may_share(manifests: &Manifests, origin: &Origin) -> bool {
    let says = |object: &dyn Fn() -> Option<String>, wanted: &str| object().as_deref() == Some(wanted);
    let transferred = manifests.scaled_objects.iter().any(|object| {
        object.origin == *origin
            && says(&|| object.annotations().get(TRANSFER_HPA_OWNERSHIP).cloned(), "true")
    });
    let skipped = manifests.hpas.iter().any(|hpa| {
        hpa.origin == *origin && says(&|| hpa.annotations().get(VALIDATE_HPA_OWNERSHIP).cloned(), "false")
    });
    transferred || skipped
}

pub(super) fn without_scale(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let targets = horizontal(manifests).into_iter();
    targets
        .filter_map(|target| {
            let kind = target.kind;
            if KINDS_WITHOUT_SCALE.contains(&kind) {
                let message = format!("a {kind} has no replicas that could be changed");
                let help = match kind {
                    "Job" | "CronJob" => "use a ScaledJob, or scale a Deployment",
                    _ => "name a Deployment, a StatefulSet or another kind with a scale subresource",
                };
                return Some(Place::new(target.origin, format!("{}.kind", target.field), message, help));
            }
            let (_, version) = KINDS_WITH_SCALE.iter().find(|(known, _)| *known == kind)?;
            (target.api_version != *version).then(|| {
                let message = format!("there is no {kind} in {}", target.api_version);
                let help = format!("write apiVersion: {version}");
                Place::new(target.origin, format!("{}.apiVersion", target.field), message, help)
            })
        })
        .collect()
}

/// A target that is not here, though other workloads of its kind and namespace are.
pub(super) fn target_missing(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let all = horizontal(manifests).into_iter().chain(vertical(manifests));
    all.filter(|target| target.workload(manifests).is_none())
        .filter_map(|target| {
            let same = |workload: &&Sourced<Workload>| {
                workload.kind == target.kind && workload.origin.namespace == target.origin.namespace
            };
            let names: Vec<&str> =
                manifests.workloads.iter().filter(same).map(|workload| workload.origin.name()).collect();
            let nearest = near(target.name, names.iter().copied()).or(names.first().copied())?;
            let message = format!("there is no {} {:?} here", target.kind, target.name);
            let help = format!("did you mean {nearest:?}?");
            Some(Place::new(target.origin, format!("{}.name", target.field), message, help))
        })
        .collect()
}

/// Whether a VerticalPodAutoscaler changes pods that run.
fn acts(vpa: &VerticalPodAutoscaler) -> bool {
    let mode = vpa.spec.update_policy.as_ref().and_then(|policy| policy.update_mode);
    !matches!(mode, Some(UpdateMode::Off | UpdateMode::Initial))
}

/// Whether a VerticalPodAutoscaler sizes a resource of at least one container.
fn sizes(vpa: &VerticalPodAutoscaler, resource: &str) -> bool {
    let policies = vpa.spec.resource_policy.as_ref().map(|policy| policy.container_policies.as_slice());
    let sized = |policy: &ContainerResourcePolicy| {
        let controlled = policy.controlled_resources.as_ref();
        policy.mode.as_deref() != Some("Off")
            && controlled.is_none_or(|resources| resources.iter().any(|controlled| controlled == resource))
    };
    match policies {
        None | Some([]) => true,
        Some(policies) => policies.iter().any(sized),
    }
}

pub(super) fn two_axes(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let utilizations = super::resources::utilizations(manifests);
    let mut places = Vec::new();
    for vpa in manifests.vpas.iter().filter(|vpa| acts(vpa)) {
        let target = of_vpa(vpa);
        let rival = utilizations
            .iter()
            .find(|utilization| utilization.target.is_of(&target) && sizes(vpa, utilization.resource));
        if let Some(rival) = rival {
            let (resource, other) = (rival.resource, &rival.target.origin.object);
            let message = format!(
                "sizes the {resource} of {}, which {other} scales by {resource} utilization",
                target.name
            );
            let help = format!("leave {resource} out of controlledResources, or scale by another metric");
            places.push(Place::new(&vpa.origin, "spec.resourcePolicy", message, help));
        }
    }
    places
}

pub(super) fn vpa_single_replica(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let unset = |vpa: &&Sourced<VerticalPodAutoscaler>| {
        vpa.spec.update_policy.as_ref().and_then(|policy| policy.min_replicas).is_none()
    };
    let vpas = manifests.vpas.iter().filter(|vpa| acts(vpa)).filter(unset);
    vpas.filter_map(|vpa| {
        let target = of_vpa(vpa);
        let replicas = fewest_replicas(manifests, &target)?;
        let message = format!("{} has {replicas} replica, so no pod is evicted", target.name);
        let help = "write updatePolicy.minReplicas: 1, or updateMode: InPlaceOrRecreate";
        (replicas < 2).then(|| Place::new(&vpa.origin, "spec.updatePolicy", message, help))
    })
    .collect()
}

/// The replicas that a target has at least: those of its manifest, or more where an autoscaler sees to that.
fn fewest_replicas(manifests: &Manifests, target: &Target<'_>) -> Option<i32> {
    let written = target.workload(manifests)?.replicas.unwrap_or(1);
    let scaling = horizontal(manifests).into_iter().filter(|other| other.is_of(target));
    let kept = scaling.filter_map(|other| {
        super::bounds::bounds(manifests).into_iter().find(|bounds| bounds.origin == other.origin)
    });
    Some(kept.map(|bounds| bounds.min).fold(written, i32::max))
}

pub(super) fn deprecated_mode(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let deprecated = manifests.vpas.iter().filter(|vpa| {
        vpa.spec.update_policy.as_ref().and_then(|policy| policy.update_mode) == Some(UpdateMode::Auto)
    });
    deprecated
        .map(|vpa| {
            let message =
                "updateMode Auto is the deprecated name of Recreate: pods are evicted to be resized";
            let help = "write InPlaceOrRecreate, which resizes pods while they run, or Recreate";
            Place::new(&vpa.origin, "spec.updatePolicy.updateMode", message, help)
        })
        .collect()
}
