//! Resize in place: what a pod asks for becomes what it is granted, and that what its control groups enforce.
//!
//! The steps, conditions, sentences and events are the kubelet's (`pkg/kubelet/allocation`, `kuberuntime_manager.go`
//! `doPodResizeAction`, KEP-1287). A wish is granted whole or not at all: more than the node has is `Infeasible`, more
//! than it has left is `Deferred` and looked at again when room is made. What was granted is written to the running
//! containers at once, unless a container's `resizePolicy` wants it restarted. A memory limit below what is in use is
//! not written, but tried again until it fits: the kernel would kill for it.

use std::sync::PoisonError;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::Serialize;

use super::machine;
use super::pod::PodContext;
use super::state::{ContainerState, PodState, Resize, Run};
use crate::cluster::Severity;
use crate::container::limits::Limits;
use crate::requests::{Requests, of_pod, together};

/// Between attempts to write what was refused.
const RETRY: Duration = Duration::from_secs(1);

/// The four amounts that can be resized; two resources are the same if these are.
#[derive(Debug, PartialEq)]
struct Amounts {
    limits: Limits,
    memory_request_bytes: u64,
}

impl Amounts {
    fn of(resources: &ResourceRequirements) -> Self {
        let memory_request_bytes = Requests::of(Some(resources)).memory_bytes;
        Amounts { limits: Limits::of(Some(resources)), memory_request_bytes }
    }
}

/// Brings a pod nearer to what it asks for; how long to wait before the next attempt, if one is needed.
pub(super) fn resize(context: &PodContext) -> Option<Duration> {
    grant(context);
    carry_out(context)
}

/// Grants what is asked for, or says why not.
fn grant(context: &PodContext) {
    let pod = context.pod();
    let wanted: Vec<ResourceRequirements> =
        specs(&pod).map(|container| container.resources.clone().unwrap_or_default()).collect();
    let state = context.state();
    let is_granted = all(&state).map(|c| Amounts::of(&c.allocated)).eq(wanted.iter().map(Amounts::of));
    if is_granted {
        if state.pending.is_some() {
            context.update(|state| state.pending = None);
        }
        return;
    }
    let _turn = context.node.allocating.lock().unwrap_or_else(PoisonError::into_inner);
    match room(context, &pod, &state) {
        Ok(()) => {
            context.update(|state| {
                state.pending = None;
                for (container, wanted) in state.init.iter_mut().chain(&mut state.containers).zip(wanted) {
                    container.allocated = wanted;
                }
                if all(state).any(differs) {
                    let generation = pod.metadata.generation;
                    state.in_progress = Some(Resize { reason: None, message: None, generation });
                }
            });
            if context.state().in_progress.is_some() {
                let message = format!("Pod resize started: {}", told(&pod, pod.metadata.generation, None));
                context.pod_event(Severity::Normal, "ResizeStarted", message);
            }
            context.node.room.send_modify(|count| *count += 1);
        }
        Err((reason, why)) => {
            let generation = pod.metadata.generation;
            let pending = Resize { reason: Some(reason), message: Some(why.clone()), generation };
            if state.pending.as_ref() != Some(&pending) {
                let message = format!("Pod resize {reason}: {}", told(&pod, generation, Some(&why)));
                context.pod_event(Severity::Warning, &format!("Resize{reason}"), message);
                context.update(|state| state.pending = Some(pending));
            }
        }
    }
}

/// Whether the node can give the pod what it asks for: reason and sentence if not.
fn room(context: &PodContext, pod: &Pod, state: &PodState) -> Result<(), (&'static str, String)> {
    let of = |container: &Container| Requests::of(container.resources.as_ref());
    let wanted = pod.spec.as_ref().map(|spec| of_pod(spec, of)).unwrap_or_default();
    let capacity = Requests { cpu_milli: machine::cpus() * 1000, memory_bytes: machine::memory_bytes() };
    let others = context.node.contexts().into_iter().filter(|other| other.uid != context.uid);
    let used = others.map(|other| held(&other.state())).fold(Requests::default(), Requests::plus);
    let has = held(state);
    let each = [
        ("memory", wanted.memory_bytes, has.memory_bytes, used.memory_bytes, capacity.memory_bytes),
        ("cpu", wanted.cpu_milli, has.cpu_milli, used.cpu_milli, capacity.cpu_milli),
    ];
    for (name, wanted, _, _, capacity) in each {
        if wanted > capacity {
            let why = format!(
                "Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {capacity}"
            );
            return Err(("Infeasible", why));
        }
    }
    for (name, wanted, has, used, capacity) in each.into_iter().rev() {
        // what does not grow needs no room
        if wanted > has && wanted.saturating_add(used) > capacity {
            let why = format!(
                "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
            );
            return Err(("Deferred", why));
        }
    }
    Ok(())
}

/// What the node holds for a pod; nothing once it has ended.
fn held(state: &PodState) -> Requests {
    let is_over = state.containers.iter().all(|c| matches!(c.run, Run::Ended(_)));
    if is_over && !state.containers.is_empty() {
        return Requests::default();
    }
    let of = |container: &ContainerState| Requests::of(Some(&container.allocated));
    let init = state.init.iter().map(|container| (of(container), container.restart.is_sidecar));
    together(state.containers.iter().map(of), init)
}

/// Writes what was granted to the containers that run.
fn carry_out(context: &PodContext) -> Option<Duration> {
    let state = context.state();
    if !all(&state).any(differs) {
        if let Some(done) = state.in_progress.filter(|_| !all(&context.state()).any(|c| c.restarting)) {
            context.update(|state| state.in_progress = None);
            let message = format!("Pod resize completed: {}", told(&context.pod(), done.generation, None));
            context.pod_event(Severity::Normal, "ResizeCompleted", message);
        }
        return None;
    }
    let problem = match memory_in_use(context, &state) {
        Some(problem) => Some(problem),
        None => write_all(context, &state),
    };
    match problem {
        None => carry_out(context),
        Some(problem) => {
            fail(context, &state, problem);
            Some(RETRY)
        }
    }
}

fn fail(context: &PodContext, state: &PodState, problem: String) {
    let pod = context.pod();
    let generation = state.in_progress.as_ref().map_or(pod.metadata.generation, |resize| resize.generation);
    let failed = Resize { reason: Some("Error"), message: Some(problem.clone()), generation };
    if state.in_progress.as_ref().is_none_or(|resize| resize.reason.is_none()) {
        let message = format!("Pod resize error: {}", told(&pod, generation, Some(&problem)));
        context.pod_event(Severity::Warning, "ResizeError", message);
    }
    if state.in_progress.as_ref() != Some(&failed) {
        context.update(|state| state.in_progress = Some(failed));
    }
}

/// Writes or has restarted, container by container; what the kernel refused.
fn write_all(context: &PodContext, state: &PodState) -> Option<String> {
    let pod = context.pod();
    for (index, container) in all(state).enumerate().filter(|(_, container)| differs(container)) {
        let Some(live) = context.live(index) else { continue };
        if specs(&pod).nth(index).is_some_and(|spec| wants_restart(spec, container)) {
            context.update_container(index, |container| container.restarting = true);
            live.restart.notify_one();
            continue;
        }
        let granted = container.allocated.clone();
        if let Some(Err(e)) = live.group.map(|group| group.limit(&Limits::of(Some(&granted)))) {
            return Some(format!("failed to resize container \"{}\": {e}", container.name));
        }
        context.update_container(index, |container| container.resources = Some(granted));
    }
    None
}

/// Whether a running container does not have yet what it was granted.
fn differs(container: &ContainerState) -> bool {
    let has = container
        .resources
        .as_ref()
        .map(Amounts::of)
        .unwrap_or_else(|| Amounts::of(&ResourceRequirements::default()));
    matches!(container.run, Run::Running { .. })
        && !container.restarting
        && has != Amounts::of(&container.allocated)
}

/// Whether a container's policy wants it restarted for a change of what its control group enforces.
fn wants_restart(spec: &Container, container: &ContainerState) -> bool {
    let restarts = |resource: &str| {
        let mut policies = spec.resize_policy.iter().flatten();
        policies.any(|policy| policy.resource_name == resource && policy.restart_policy == "RestartContainer")
    };
    let (has, granted) = (Limits::of(container.resources.as_ref()), Limits::of(Some(&container.allocated)));
    let cpu = |limits: &Limits| (limits.cpu_request_milli, limits.cpu_limit_milli);
    (restarts("cpu") && cpu(&has) != cpu(&granted))
        || (restarts("memory") && has.memory_limit_bytes != granted.memory_limit_bytes)
}

/// Why memory limits can't be lowered now: the limit would be below what is in use.
fn memory_in_use(context: &PodContext, state: &PodState) -> Option<String> {
    let pod = context.pod();
    let mut problems = Vec::new();
    let (mut before, mut after, mut in_use) = (Some(0), Some(0), 0);
    for (index, container) in all(state).enumerate().skip(state.init.len()) {
        let limit = |resources: Option<&ResourceRequirements>| Limits::of(resources).memory_limit_bytes;
        let (old, new) = (limit(container.resources.as_ref()), limit(Some(&container.allocated)));
        let used = context.live(index).and_then(|live| live.group?.memory_bytes()).unwrap_or(0);
        let restarts = specs(&pod).nth(index).is_some_and(|spec| wants_restart(spec, container));
        before = before.zip(old).map(|(sum, old)| sum + old);
        after = after.zip(new).map(|(sum, new)| sum + new);
        in_use += if restarts { 0 } else { used };
        if let Some(new) = new.filter(|new| !restarts && old.is_none_or(|old| *new < old) && *new < used) {
            problems.push(format!(
                "attempting to set container \"{}\" memory limit ({new}) below current usage ({used})",
                container.name
            ));
        }
    }
    if let Some(after) = after.filter(|after| before.is_none_or(|before| *after < before) && *after < in_use)
    {
        let problem = format!("attempting to set pod memory limit ({after}) below current usage ({in_use})");
        problems.insert(0, problem);
    }
    match problems.as_slice() {
        [] => None,
        [one] => Some(format!("cannot decrease memory limits: {one}")),
        several => Some(format!("cannot decrease memory limits: [{}]", several.join(", "))),
    }
}

/// What a resize's events tell, in the kubelet's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<ToldContainer<'a>>,
    containers: Vec<ToldContainer<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct ToldContainer<'a> {
    name: &'a str,
    resources: ResourceRequirements,
}

/// The containers with their resources, the generation, and what went wrong, as JSON.
fn told(pod: &Pod, generation: Option<i64>, error: Option<&str>) -> String {
    fn one(container: &Container) -> ToldContainer<'_> {
        ToldContainer { name: &container.name, resources: container.resources.clone().unwrap_or_default() }
    }
    let spec = pod.spec.as_ref();
    let init = spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let told = Told {
        init_containers: init.map(one).collect(),
        containers: spec.into_iter().flat_map(|spec| &spec.containers).map(one).collect(),
        generation: generation.unwrap_or(0),
        error,
    };
    serde_json::to_string(&told).unwrap_or_default()
}

/// The containers of a pod's spec, init containers first.
fn specs(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
}

/// What is known of them, in the same order.
fn all(state: &PodState) -> impl Iterator<Item = &ContainerState> {
    state.init.iter().chain(&state.containers)
}
