//! The rules that need other objects: two autoscalers for one workload, names that are taken, requests that
//! are missing.
//!
//! Messages are those of KEDA's webhook (`apis/keda/v1alpha1/scaledobject_webhook.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Container, LimitRange};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use kube::ResourceExt;

use super::Neighbours;
use crate::kinds::scaled_object::ScaledObject;
use crate::problem::{Cause, Problem};
use crate::quantity::Quantity;
use crate::scaled_object::{TRANSFER_HPA_OWNERSHIP, VALIDATE_HPA_OWNERSHIP};
use crate::trigger::{are_resources, is_resource};

/// What is wrong with the object, given the others.
pub(super) fn check(object: &ScaledObject, neighbours: Neighbours<'_>) -> Vec<Problem> {
    let others = neighbours
        .scaled_objects
        .iter()
        .filter(|other| other.name_any() != object.name_any() && other.namespace() == object.namespace());
    let mut problems: Vec<_> = others.flat_map(|other| other_scaled_object(object, other)).collect();
    let hpas = neighbours.hpas.iter().filter(|hpa| hpa.namespace() == object.namespace());
    problems.extend(hpas.filter_map(|hpa| other_hpa(object, hpa)));
    if !neighbours.dry_run && has_pod_template(object) {
        problems.extend(missing_requests(object, neighbours));
        problems.extend(scale_to_zero(object));
    }
    problems
}

fn has_pod_template(object: &ScaledObject) -> bool {
    let target = &object.spec.scale_target_ref;
    target.api_version_or_default() == "apps/v1"
        && matches!(target.kind_or_default(), "Deployment" | "StatefulSet")
}

fn other_scaled_object(object: &ScaledObject, other: &ScaledObject) -> Vec<Problem> {
    let target = &object.spec.scale_target_ref;
    let (workload, kind) = (&target.name, target.group_version_kind());
    let mut problems = Vec::new();
    if other.spec.scale_target_ref.group_version_kind() == kind
        && other.spec.scale_target_ref.name == *workload
    {
        let message = format!(
            "the workload '{workload}' of type '{kind}' is already managed by the ScaledObject '{}'",
            other.name_any()
        );
        problems.push(
            Problem::invalid("spec.scaleTargetRef.name", workload.as_str(), message)
                .cause(Cause::Duplicate)
                .help("put all triggers of a workload into one ScaledObject"),
        );
    }
    if other.hpa_name() == object.hpa_name() {
        let name = object.hpa_name();
        let message =
            format!("the HPA '{name}' is already managed by the ScaledObject '{}'", other.name_any());
        let field = "spec.advanced.horizontalPodAutoscalerConfig.name";
        problems
            .push(Problem::invalid(field, name, message).cause(Cause::Duplicate).help("choose another name"));
    }
    problems
}

/// Two autoscalers of one workload undo each other's work.
fn other_hpa(object: &ScaledObject, hpa: &HorizontalPodAutoscaler) -> Option<Problem> {
    let target = &object.spec.scale_target_ref;
    let (workload, kind, name) = (&target.name, target.group_version_kind(), hpa.name_any());
    let theirs = &hpa.spec.scale_target_ref;
    let their_kind = format!("{}.{}", theirs.api_version.as_deref().unwrap_or_default(), theirs.kind);
    let own = hpa
        .owner_references()
        .iter()
        .any(|owner| owner.kind == "ScaledObject" && owner.name == object.name_any());
    let skipped = hpa.annotations().get(VALIDATE_HPA_OWNERSHIP).is_some_and(|text| text == "false");
    if own || skipped || their_kind != kind || theirs.name != *workload {
        return None;
    }
    if !object.transfers_hpa() {
        let message =
            format!("the workload '{workload}' of type '{kind}' is already managed by the hpa '{name}'");
        return Some(
            Problem::invalid("spec.scaleTargetRef.name", workload.as_str(), message)
                .cause(Cause::Duplicate)
                .help(format!(
                    "delete that HPA, or take it over with the annotation {TRANSFER_HPA_OWNERSHIP}: \"true\""
                )),
        );
    }
    (object.hpa_name() != name).then(|| {
        let message = format!(
            "the existing hpa '{name}' for workload '{workload}' of type '{kind}' must be specified by name in \
             advanced settings to enable ownership transfer"
        );
        let field = "spec.advanced.horizontalPodAutoscalerConfig.name";
        Problem::invalid(field, object.hpa_name(), message).help(format!("write {name}"))
    })
}

fn missing_requests(object: &ScaledObject, neighbours: Neighbours<'_>) -> Vec<Problem> {
    let Some(pod) = neighbours.pod else { return Vec::new() };
    let triggers = object.spec.triggers.iter().enumerate().filter(|(_, trigger)| is_resource(&trigger.kind));
    triggers
        .flat_map(|(index, trigger)| {
            let only =
                trigger.metadata.get("containerName").map(|name| name.trim()).filter(|name| !name.is_empty());
            let considered =
                pod.containers.iter().filter(move |container| only.is_none_or(|name| container.name == name));
            considered
                .filter(|container| !asks_for(container, &trigger.kind, neighbours.limit_ranges))
                .map(move |container| missing_request(index, &trigger.kind, &container.name))
        })
        .collect()
}

fn missing_request(index: usize, resource: &str, container: &str) -> Problem {
    let message = format!(
        "the scaledobject has a {resource} trigger but the container {container} doesn't have the {resource} request \
         defined"
    );
    Problem::invalid(format!("spec.triggers[{index}].type"), resource, message)
        .help(format!("set resources.requests.{resource} of the container"))
}

/// Whether a container asks for a resource, has a limit of it, or is given one.
fn asks_for(container: &Container, resource: &str, limit_ranges: &[LimitRange]) -> bool {
    let has = |list: Option<&BTreeMap<String, Text>>| {
        list.and_then(|list| list.get(resource))
            .and_then(|text| Quantity::try_from(text).ok())
            .is_some_and(|amount| amount.milli_value() > 0)
    };
    let own = container.resources.as_ref();
    let limits = limit_ranges.iter().filter_map(|range| range.spec.as_ref()).flat_map(|spec| &spec.limits);
    has(own.and_then(|resources| resources.requests.as_ref()))
        || has(own.and_then(|resources| resources.limits.as_ref()))
        || limits
            .filter(|limit| limit.type_ == "Container")
            .any(|limit| has(limit.default_request.as_ref()) || has(limit.default.as_ref()))
}

fn scale_to_zero(object: &ScaledObject) -> Option<Problem> {
    let only_resources = are_resources(&object.spec.triggers);
    (only_resources && object.spec.min_replicas() == 0).then(|| {
        let message =
            "scaledobject has only cpu/memory triggers AND minReplica is 0 (scale to zero doesn't work in \
            this case)";
        Problem::invalid("spec.minReplicaCount", 0, message).help("set minReplicaCount to 1, or add \
        another trigger")
    })
}
