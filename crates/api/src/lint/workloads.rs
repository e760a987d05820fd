//! The rules about workloads and how autoscalers share them.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;

use super::{Facts, Manifests, Place, namespace};
use crate::kinds::vertical_pod_autoscaler::{ContainerResourcePolicy, UpdateMode, VerticalPodAutoscaler};

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
    let mut places = Vec::new();
    for vpa in manifests.vertical_pod_autoscalers.iter().filter(|vpa| acts(vpa)) {
        let rivals = manifests.scaled_objects.iter().filter(|object| {
            let reference = &object.spec.scale_target_ref;
            namespace(*object) == namespace(vpa)
                && reference.name == vpa.spec.target_ref.name
                && reference.kind_or_default() == vpa.spec.target_ref.kind
        });
        for object in rivals {
            let triggers = object.spec.triggers.iter();
            let shared = triggers
                .filter(|trigger| trigger.metric_type.as_deref() == Some("Utilization"))
                .find(|trigger| sizes(vpa, &trigger.kind));
            if let Some(trigger) = shared {
                let message = format!(
                    "sizes the {} of {}, which the ScaledObject {} scales by {} utilization",
                    trigger.kind,
                    vpa.spec.target_ref.name,
                    object.name_any(),
                    trigger.kind
                );
                let help =
                    format!("leave {} out of controlledResources, or scale by another metric", trigger.kind);
                places.push(Place::new(vpa, "spec.resourcePolicy", message, help));
            }
        }
    }
    places
}

fn deployment<'a>(manifests: &'a Manifests, vpa: &VerticalPodAutoscaler) -> Option<&'a Deployment> {
    let reference = &vpa.spec.target_ref;
    manifests.deployments.iter().find(|deployment| {
        reference.kind == "Deployment"
            && deployment.name_any() == reference.name
            && namespace(*deployment) == namespace(vpa)
    })
}

pub(super) fn vpa_single_replica(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let vpas = manifests.vertical_pod_autoscalers.iter().filter(|vpa| acts(vpa));
    let unset =
        vpas.filter(|vpa| vpa.spec.update_policy.as_ref().and_then(|policy| policy.min_replicas).is_none());
    unset
        .filter_map(|vpa| {
            let replicas = deployment(manifests, vpa)?.spec.replicas.unwrap_or(1);
            let message =
                format!("{} has {replicas} replica, so no pod is evicted", vpa.spec.target_ref.name);
            let help = "write updatePolicy.minReplicas: 1, or updateMode: InPlaceOrRecreate";
            (replicas < 2).then(|| Place::new(vpa, "spec.updatePolicy", message, help))
        })
        .collect()
}

pub(super) fn no_readiness_probe(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for deployment in &manifests.deployments {
        let pod = deployment.spec.template.spec.as_ref();
        let containers = pod.into_iter().flat_map(|pod| pod.containers.iter().enumerate());
        for (index, container) in containers.filter(|(_, container)| container.readiness_probe.is_none()) {
            let field = format!("spec.template.spec.containers[{index}].readinessProbe");
            let message = format!("container {} has no readiness probe", container.name);
            places.push(Place::new(
                deployment,
                field,
                message,
                "add one that succeeds once the model is loaded",
            ));
        }
    }
    places
}
