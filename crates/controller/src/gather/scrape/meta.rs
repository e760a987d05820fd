//! The `__meta_kubernetes_…` labels of discovered objects, for relabelings to read. Pure.
//!
//! Names and values are those of Prometheus' discovery (`discovery/kubernetes`), roles `pod`, `endpoints` and `endpointslice`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint as Address, EndpointPort, EndpointSlice};
use kube::ResourceExt;

use super::target::LabelMap;

const PREFIX: &str = "__meta_kubernetes_";

/// What is no letter, digit or underscore in a label's name becomes `_`, as in Prometheus.
pub(crate) fn label_name(name: &str) -> String {
    name.replace(|c: char| !(c.is_ascii_alphanumeric() || c == '_'), "_")
}

fn set(labels: &mut LabelMap, name: &str, value: impl Into<String>) {
    labels.insert(format!("{PREFIX}{name}"), value.into());
}

fn set_all(labels: &mut LabelMap, kind: &str, of: &BTreeMap<String, String>) {
    for (name, value) in of {
        let name = label_name(name);
        set(labels, &format!("{kind}_{name}"), value.as_str());
        set(labels, &format!("{kind}present_{name}"), "true");
    }
}

pub(crate) fn pod(pod: &Pod, labels: &mut LabelMap) {
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    let mut conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let ready = conditions.find(|condition| condition.type_ == "Ready");
    let ready = ready.map(|condition| condition.status.to_ascii_lowercase());
    let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    set(labels, "namespace", pod.namespace().unwrap_or_default());
    set(labels, "pod_name", pod.name_any());
    set(labels, "pod_uid", pod.uid().unwrap_or_default());
    set(labels, "pod_ip", text(status.and_then(|status| status.pod_ip.as_ref())));
    set(labels, "pod_host_ip", text(status.and_then(|status| status.host_ip.as_ref())));
    set(labels, "pod_phase", text(status.and_then(|status| status.phase.as_ref())));
    set(labels, "pod_node_name", text(spec.and_then(|spec| spec.node_name.as_ref())));
    set(labels, "pod_ready", ready.unwrap_or_else(|| "unknown".into()));
    if let Some(controller) = controller {
        set(labels, "pod_controller_kind", controller.kind.as_str());
        set(labels, "pod_controller_name", controller.name.as_str());
    }
    set_all(labels, "pod_label", pod.labels());
    set_all(labels, "pod_annotation", pod.annotations());
}

pub(crate) fn container(container: &Container, port: &ContainerPort, labels: &mut LabelMap) {
    set(labels, "pod_container_name", container.name.as_str());
    set(labels, "pod_container_image", container.image.clone().unwrap_or_default());
    set(labels, "pod_container_init", "false");
    set(labels, "pod_container_port_name", port.name.clone().unwrap_or_default());
    set(labels, "pod_container_port_number", port.container_port.to_string());
    set(labels, "pod_container_port_protocol", port.protocol.clone().unwrap_or_else(|| "TCP".into()));
}

pub(crate) fn service(service: &Service, labels: &mut LabelMap) {
    set(labels, "namespace", service.namespace().unwrap_or_default());
    set(labels, "service_name", service.name_any());
    set_all(labels, "service_label", service.labels());
    set_all(labels, "service_annotation", service.annotations());
}

/// Under the names of both roles: a Service's endpoints and its slices say the same here.
pub(crate) fn endpoint(
    slice: &EndpointSlice,
    address: &Address,
    port: Option<&EndpointPort>,
    labels: &mut LabelMap,
) {
    let ready = address.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
    let service = slice.labels().get("kubernetes.io/service-name").cloned().unwrap_or_default();
    set(labels, "endpoints_name", service);
    set(labels, "endpointslice_name", slice.name_any());
    set(labels, "endpointslice_address_type", slice.address_type.as_str());
    set(labels, "endpoint_ready", ready.to_string());
    set(labels, "endpointslice_endpoint_conditions_ready", ready.to_string());
    let node = address.node_name.clone().unwrap_or_default();
    set(labels, "endpoint_node_name", node.as_str());
    set(labels, "endpointslice_endpoint_node_name", node);
    if let Some(target) = &address.target_ref {
        for prefix in ["endpoint", "endpointslice"] {
            set(labels, &format!("{prefix}_address_target_kind"), target.kind.clone().unwrap_or_default());
            set(labels, &format!("{prefix}_address_target_name"), target.name.clone().unwrap_or_default());
        }
    }
    if let Some(port) = port {
        for prefix in ["endpoint", "endpointslice"] {
            set(labels, &format!("{prefix}_port_name"), port.name.clone().unwrap_or_default());
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            set(labels, &format!("{prefix}_port_protocol"), protocol);
        }
        set(labels, "endpointslice_port", port.port.unwrap_or_default().to_string());
    }
}
