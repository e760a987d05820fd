//! Pods and PodTemplates.

mod cells;
pub(crate) mod defaults;
mod resize;
pub(crate) mod validate;

use k8s_openapi::api::core::v1;
use serde_json::{Value, json};

use super::row::{Row, Sub, namespaced};
use crate::cells::{AGE, NAME, column, wide};
use crate::object::{at, ensure, text};

const CORE: [&str; 2] = ["", "v1"];

pub(crate) const POD: Row = Row {
    short_names: &["po"],
    in_all: true,
    subresources: &[Sub::Binding, Sub::Eviction, Sub::Log, Sub::Resize, Sub::Status],
    columns: const {
        &[
            NAME,
            column("Ready"),
            column("Status"),
            column("Restarts"),
            AGE,
            wide("IP"),
            wide("Node"),
            wide("Nominated Node"),
            wide("Readiness Gates"),
        ]
    },
    cells: cells::cells,
    row_conditions: completed,
    field_selectors: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ],
    defaults: defaults::pod,
    on_create: |pod, _| {
        let class = defaults::qos_class(pod);
        pod["status"] = json!({"phase": "Pending", "qosClass": class});
    },
    on_update: |current, pod, sub| {
        if sub == Some(Sub::Resize) {
            defaults::only_resources(current, pod);
        }
    },
    validate: |pod, problems| validate::spec(at(pod, "spec").unwrap_or(&Value::Null), "spec", problems),
    validate_update: |current, pod, sub, problems| match sub {
        Some(Sub::Binding) => {}
        Some(Sub::Resize) => resize::transition(current, pod, problems),
        _ => validate::transition(current, pod, problems),
    },
    status_has_metadata: true,
    ..namespaced::<v1::Pod>(CORE, "Pod", "pods")
};

pub(crate) const POD_TEMPLATE: Row =
    Row { defaults: template_defaults, ..namespaced::<v1::PodTemplate>(CORE, "PodTemplate", "podtemplates") };

/// Returns the condition that marks a finished pod, so that kubectl can filter it out.
fn completed(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(pod, "status.phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

/// Applies pod defaults to the spec under `template`, if there is one.
pub(super) fn template_defaults(parent: &mut Value) {
    if at(parent, "template").is_some() {
        defaults::spec(ensure(&mut parent["template"], "spec"));
    }
}
