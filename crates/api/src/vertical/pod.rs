//! What the vertical rules need to know of a pod.

use std::collections::BTreeMap;

use flyball_engine::Time;
use flyball_engine::vertical::{
    Boosted, ContainerFacts, ContainerLook, ContainerResources, ContainerState,
    OBSERVED_CONTAINERS_ANNOTATION, PodFacts, Resize, Resizing, STARTUP_BOOST_ANNOTATION_PREFIX, Termination,
    observed_containers,
};
use k8s_openapi::api::core::v1::{
    Container, ContainerStateTerminated, ContainerStatus, Pod, PodCondition, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as MetaTime;
use kube::ResourceExt;
use serde::Deserialize;

/// A pod as the updater and the admission see it.
pub fn facts(pod: &Pod) -> PodFacts {
    let status = pod.status.as_ref();
    let annotations = pod.annotations();
    PodFacts {
        name: pod.name_any().into(),
        pending: status.and_then(|status| status.phase.as_deref()) == Some("Pending"),
        started: status.and_then(|status| status.start_time.as_ref()).map(time),
        ready_since: condition(pod, "Ready").map(since),
        containers: containers(pod).iter().map(|one| container(one, status_of(pod, &one.name))).collect(),
        observed: annotations.get(OBSERVED_CONTAINERS_ANNOTATION).and_then(|text| observed_containers(text)),
        resize: resize(pod),
        boosted: annotations.iter().filter_map(|(name, value)| boosted(name, value)).collect(),
    }
}

/// What a container is doing, for telling whether it was killed since the last look.
///
/// A container that was killed and waits by now was terminated in between, so that is what it counts as: a node need
/// not show the moment itself.
pub fn look<'a>(
    status: &ContainerStatus,
    last_restarts: u32,
    facts: &'a ContainerFacts,
) -> ContainerLook<'a> {
    let restarts = u32::try_from(status.restart_count).unwrap_or(0);
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last_oom_killed = last.is_some_and(is_oom);
    let state = status.state.as_ref();
    let state = match state {
        Some(state) if state.terminated.is_some() => {
            ContainerState::Terminated { oom_killed: state.terminated.as_ref().is_some_and(is_oom) }
        }
        Some(state) if state.running.is_some() => ContainerState::Running,
        Some(state) if state.waiting.is_some() && last_oom_killed && restarts > last_restarts => {
            ContainerState::Terminated { oom_killed: true }
        }
        Some(state) if state.waiting.is_some() => ContainerState::Waiting,
        _ => ContainerState::Unknown,
    };
    ContainerLook { state, restarts, last_oom_killed, facts }
}

/// Requests and limits of a container.
pub fn container_resources(resources: &ResourceRequirements) -> ContainerResources {
    let list =
        |list: &Option<BTreeMap<String, Quantity>>| list.as_ref().map(super::resources).unwrap_or_default();
    ContainerResources { requests: list(&resources.requests), limits: list(&resources.limits) }
}

fn containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default()
}

/// The status of a container that is not an init container.
pub fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|status| status.name == name)
}

fn container(container: &Container, status: Option<&ContainerStatus>) -> ContainerFacts {
    let spec = container.resources.as_ref().map(container_resources).unwrap_or_default();
    let restarts = container.resize_policy.iter().flatten();
    ContainerFacts {
        status: status.and_then(|status| status.resources.as_ref()).map(container_resources),
        last_termination: status
            .and_then(|status| termination(status.last_state.as_ref()?.terminated.as_ref()?)),
        restarts_on_resize: restarts.into_iter().any(|policy| policy.restart_policy == "RestartContainer"),
        ..ContainerFacts::new(container.name.as_str(), spec)
    }
}

fn is_oom(end: &ContainerStateTerminated) -> bool {
    end.reason.as_deref() == Some("OOMKilled")
}

fn termination(end: &ContainerStateTerminated) -> Option<Termination> {
    let (started, finished) = (time(end.started_at.as_ref()?), time(end.finished_at.as_ref()?));
    Some(Termination { oom_killed: is_oom(end), ran_for: finished.since(started) })
}

/// A condition that is true.
fn condition<'a>(pod: &'a Pod, name: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == name && condition.status == "True")
}

fn since(condition: &PodCondition) -> Time {
    condition.last_transition_time.as_ref().map(time).unwrap_or_default()
}

fn resize(pod: &Pod) -> Option<Resize> {
    if let Some(pending) = condition(pod, "PodResizePending") {
        let state = match pending.reason.as_deref() {
            Some("Deferred") => Resizing::Deferred,
            Some("Infeasible") => Resizing::Infeasible,
            _ => Resizing::Unknown,
        };
        return Some(Resize { state, since: since(pending) });
    }
    let progress = condition(pod, "PodResizeInProgress")?;
    let state = match progress.reason.as_deref().unwrap_or_default() {
        "" => Resizing::InProgress,
        "Error" => Resizing::Error,
        _ => Resizing::Unknown,
    };
    Some(Resize { state, since: since(progress) })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Original {
    requests: BTreeMap<String, Quantity>,
    limits: BTreeMap<String, Quantity>,
}

/// What a container had before its startup boost, from the annotation that admission wrote.
fn boosted(name: &str, value: &str) -> Option<Boosted> {
    let container = name.strip_prefix(STARTUP_BOOST_ANNOTATION_PREFIX)?.into();
    let original: Original = serde_json::from_str(value).ok()?;
    let original = ContainerResources {
        requests: super::resources(&original.requests),
        limits: super::resources(&original.limits),
    };
    Some(Boosted { container, original })
}

/// A Kubernetes time; what lies before the epoch is the epoch.
fn time(time: &MetaTime) -> Time {
    Time::from_millis(u64::try_from(time.0.as_millisecond()).unwrap_or(0))
}
