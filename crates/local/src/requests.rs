//! What pods ask for: one pod by its spec, or by what its node still holds for it while a resize is under way.
//!
//! The rules are Kubernetes' (`k8s.io/component-helpers/resource`, `PodRequests`): containers and sidecars together, or one
//! init container and the sidecars before it where these ask for more; what the pod itself asks for comes before both. While a pod is resized it counts with the most that it asks for, has been
//! granted or still has; a resize that its node has refused for good does not count.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::node::is_sidecar;
use crate::quantity::{milli, whole};

/// CPU and memory that are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) cpu_milli: u64,
    pub(crate) memory_bytes: u64,
}

impl Requests {
    /// Of one container; a limit without a request is one.
    pub(crate) fn of(resources: Option<&ResourceRequirements>) -> Requests {
        let get = |name: &str| {
            let list = |list: Option<&BTreeMap<String, Quantity>>| list.and_then(|l| l.get(name)).cloned();
            list(resources.and_then(|r| r.requests.as_ref()))
                .or_else(|| list(resources.and_then(|r| r.limits.as_ref())))
        };
        Requests {
            cpu_milli: get("cpu").and_then(|q| milli(&q)).unwrap_or(0),
            memory_bytes: get("memory").and_then(|q| whole(&q)).unwrap_or(0),
        }
    }

    /// Both together.
    pub(crate) fn plus(self, other: Requests) -> Requests {
        Requests {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// The larger of each.
    pub(crate) fn max(self, other: Requests) -> Requests {
        Requests {
            cpu_milli: self.cpu_milli.max(other.cpu_milli),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
        }
    }
}

/// Of a pod with these containers; of init containers, with whether each is a sidecar. The others run one at a time.
pub(crate) fn together(
    containers: impl Iterator<Item = Requests>,
    init: impl Iterator<Item = (Requests, bool)>,
) -> Requests {
    let (mut sidecars, mut peak) = (Requests::default(), Requests::default());
    for (asks, is_sidecar) in init {
        peak = peak.max(sidecars.plus(asks));
        if is_sidecar {
            sidecars = sidecars.plus(asks);
        }
    }
    containers.fold(sidecars, Requests::plus).max(peak)
}

/// Of a pod's spec.
pub(crate) fn of_pod(spec: &PodSpec, of: impl Fn(&Container) -> Requests) -> Requests {
    let init = spec.init_containers.iter().flatten().map(|one| (of(one), is_sidecar(one)));
    let together = together(spec.containers.iter().map(&of), init);
    let own = Requests::of(spec.resources.as_ref());
    Requests {
        cpu_milli: Some(own.cpu_milli).filter(|n| *n > 0).unwrap_or(together.cpu_milli),
        memory_bytes: Some(own.memory_bytes).filter(|n| *n > 0).unwrap_or(together.memory_bytes),
    }
}

/// What a scheduler has to count for a pod.
pub(crate) fn scheduled(pod: &Pod) -> Requests {
    let Some(spec) = &pod.spec else { return Requests::default() };
    let status = pod.status.as_ref();
    let refused = status.is_some_and(|status| {
        let conditions = status.conditions.iter().flatten();
        conditions
            .filter(|c| c.type_ == "PodResizePending" && c.status == "True")
            .any(|c| c.reason.as_deref() == Some("Infeasible"))
    });
    let held = |container: &Container| -> Option<Requests> {
        let status = status?;
        let sidecars = status.init_container_statuses.iter().flatten().filter(|_| is_sidecar(container));
        let statuses = status.container_statuses.iter().flatten().chain(sidecars);
        statuses.into_iter().find(|one| one.name == container.name).and_then(held)
    };
    let of = |container: &Container| {
        let wanted = Requests::of(container.resources.as_ref());
        match held(container) {
            Some(held) if refused => held,
            Some(held) => wanted.max(held),
            None => wanted,
        }
    };
    of_pod(spec, of)
}

/// What the node has granted a container, or still gives it.
fn held(status: &ContainerStatus) -> Option<Requests> {
    let granted = status.allocated_resources.clone()?;
    let granted = ResourceRequirements { requests: Some(granted), ..ResourceRequirements::default() };
    Some(Requests::of(Some(&granted)).max(Requests::of(status.resources.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: &str, granted: &str, still: &str, reason: Option<&str>, expected: u64) {
        let conditions: Vec<Value> = reason
            .map(|reason| json!({"type": "PodResizePending", "status": "True", "reason": reason}))
            .into_iter()
            .collect();
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": spec}}}]},
            "status": {"conditions": conditions, "containerStatuses": [{"name": "c", "ready": true, "image": "",
                "imageID": "", "restartCount": 0, "allocatedResources": {"cpu": granted},
                "resources": {"requests": {"cpu": still}}}]}}))
        .expect("it is a pod");
        assert_eq!(scheduled(&pod).cpu_milli, expected, "{spec} {granted} {still} {reason:?}");
    }

    #[test]
    fn a_pod_that_is_resized_counts_with_the_most_of_it() {
        check("100m", "100m", "100m", None, 100);
        check("300m", "100m", "100m", Some("Deferred"), 300);
        check("100m", "100m", "300m", None, 300);
        check("9000", "100m", "100m", Some("Infeasible"), 100);
    }

    #[test]
    fn sidecars_add_up_and_other_init_containers_do_not() {
        let check = |init: &[(u64, bool)], expected: u64| {
            let one = |cpu: &u64| json!({"requests": {"cpu": format!("{cpu}m")}});
            let init: Vec<Value> = init
                .iter()
                .map(|(cpu, sidecar)| {
                    json!({"name": "i", "resources": one(cpu), "restartPolicy": sidecar.then_some("Always")})
                })
                .collect();
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
                "initContainers": init, "containers": [{"name": "c", "resources": one(&100)}]}}))
            .expect("it is a pod");
            assert_eq!(scheduled(&pod).cpu_milli, expected, "{init:?}");
        };
        check(&[], 100);
        check(&[(50, true)], 150);
        check(&[(50, false)], 100);
        check(&[(500, false), (50, true)], 500);
        check(&[(50, true), (500, false)], 550);
        check(&[(50, true), (70, true), (20, false)], 220);
    }
}
