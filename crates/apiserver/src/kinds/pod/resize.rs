//! What `/resize` may change on a running pod (`ValidatePodResize` in `pkg/apis/core/validation/validation.go`).
//!
//! CPU and memory of containers may go up and down, but no request or limit may be removed and the pod's QoS class
//! must stay. Whether the node has room is not checked here; the kubelet reports it in conditions.

use serde_json::Value;

use super::defaults::qos_class;
use crate::object::{at, ensure, list, map, remove, text};
use crate::problems::Problems;
use crate::quantity::Quantity;
use crate::status::FieldError;

/// Validates the change that a `/resize` makes to a pod.
pub(super) fn transition(current: &Value, object: &Value, problems: &mut Problems) {
    if at(current, "metadata.annotations").is_some_and(|all| all.get("kubernetes.io/config.mirror").is_some())
    {
        return problems.push(FieldError::forbidden("", "static pods cannot be resized"));
    }
    if text(current, "spec.os.name") == "windows" {
        return problems.push(FieldError::forbidden("", "windows pods cannot be resized"));
    }
    let class = Some(text(current, "status.qosClass")).filter(|class| !class.is_empty());
    let class = class.unwrap_or_else(|| qos_class(current));
    if class != qos_class(object) {
        problems.invalid("spec", &class.into(), "Pod QOS Class may not change as a result of resizing");
    }
    if !node_resizes(current) {
        let why = "Pod running on node without support for resize";
        problems.push(FieldError::forbidden("spec", why));
    }
    let before = problems.len();
    for key in ["containers", "initContainers"] {
        same_containers(current, object, key, problems);
    }
    if problems.len() > before {
        return;
    }
    for key in ["initContainers", "containers"] {
        let path = format!("spec.{key}");
        let pairs = list(current, &path).iter().zip(list(object, &path));
        for (index, (old, new)) in pairs.enumerate() {
            container(old, new, &format!("{path}[{index}]"), key == "initContainers", problems);
        }
    }
}

/// Returns whether the node supports resizing: it then reports the resources of running containers.
fn node_resizes(pod: &Value) -> bool {
    let running = list(pod, "status.containerStatuses").iter().find(|one| at(one, "state.running").is_some());
    running.is_none_or(|status| at(status, "resources").is_some())
}

fn same_containers(current: &Value, object: &Value, key: &str, problems: &mut Problems) {
    let path = format!("spec.{key}");
    let (old, new) = (list(current, &path), list(object, &path));
    if old.len() != new.len() {
        let why = format!("{key} may not be added or removed on resize");
        return problems.push(FieldError::forbidden(path, &why));
    }
    for (index, (old, new)) in old.iter().zip(new).enumerate() {
        if text(old, "name") != text(new, "name") {
            let why = format!("{key} may not be renamed or reordered on resize");
            problems.push(FieldError::forbidden(format!("{path}[{index}].name"), &why));
        }
    }
}

fn container(old: &Value, new: &Value, path: &str, init: bool, problems: &mut Problems) {
    for (key, word) in [("requests", "requests"), ("limits", "limits")] {
        let amounts = |container| map(container, &format!("resources.{key}")).cloned().unwrap_or_default();
        let (before, after) = (amounts(old), amounts(new));
        if before.keys().any(|resource| !after.contains_key(resource)) {
            let why = format!("resource {word} cannot be removed");
            problems.push(FieldError::forbidden(format!("{path}.resources.{key}"), &why));
        }
    }
    let (fixed_before, fixed_after) = (without_cpu_and_memory(old), without_cpu_and_memory(new));
    if fixed_before == fixed_after {
        let restarts = |policy: &Value| text(policy, "restartPolicy") == "RestartContainer";
        if init
            && text(old, "restartPolicy") != "Always"
            && !same_amounts(&old["resources"], &new["resources"])
            && list(new, "resizePolicy").iter().any(restarts)
        {
            let why =
                "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            problems.push(FieldError::forbidden(path, why));
        }
    } else if init {
        let why = "only cpu and memory resources for init or sidecar containers are mutable";
        problems.push(FieldError::forbidden(path, why));
    } else {
        problems.push(FieldError::forbidden("spec", "only cpu and memory resources are mutable"));
    }
}

fn without_cpu_and_memory(container: &Value) -> Value {
    let mut fixed = container.clone();
    for key in ["requests", "limits"] {
        for resource in ["cpu", "memory"] {
            remove(&mut fixed, &format!("resources.{key}.{resource}"));
        }
        let resources = ensure(&mut fixed, "resources");
        if map(resources, key).is_some_and(serde_json::Map::is_empty) {
            remove(resources, key);
        }
    }
    fixed
}

/// Returns whether requests and limits are equal amounts, however they are written.
fn same_amounts(one: &Value, other: &Value) -> bool {
    ["requests", "limits"].iter().all(|key| {
        ["cpu", "memory"].iter().all(|resource| {
            let amount =
                |resources: &Value| Quantity::parse(at(resources, key)?.get(resource)?.as_str()?).ok();
            amount(one) == amount(other)
        })
    })
}
