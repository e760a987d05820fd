//! What the updater and the admission know of a pod.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::resources::ContainerResources;
use crate::name::Name;
use crate::time::{Time, seconds};

/// A pod that runs or is about to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodFacts {
    /// Its name.
    pub name: Name,
    /// `status.phase` is `Pending`.
    pub pending: bool,
    /// `status.startTime`.
    pub started: Option<Time>,
    /// Since when it is ready; none while it is not.
    pub ready_since: Option<Time>,
    /// In the order of its spec.
    pub containers: Vec<ContainerFacts>,
    /// The containers that admission sized, from the annotation `vpaObservedContainers`; none counts as all.
    pub observed: Option<Vec<Name>>,
    /// A resize under way.
    pub resize: Option<Resize>,
    /// What its containers with a startup boost had before, from their annotations.
    pub boosted: Vec<Boosted>,
}

/// A container that has more CPU while it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boosted {
    /// The container.
    pub container: Name,
    /// What it had before.
    pub original: ContainerResources,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerFacts {
    /// Its name.
    pub name: Name,
    /// In the pod's spec.
    pub spec: ContainerResources,
    /// In the container's status: what is really in force, once a pod can be resized.
    pub status: Option<ContainerResources>,
    /// How it last ended: `lastState.terminated`.
    pub last_termination: Option<Termination>,
    /// A `resizePolicy` of `RestartContainer`, for either resource.
    pub restarts_on_resize: bool,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Termination {
    /// By `OOMKilled`.
    pub oom_killed: bool,
    /// From `startedAt` to `finishedAt`.
    #[serde(with = "seconds")]
    pub ran_for: Duration,
}

impl ContainerFacts {
    /// One with these resources, of which nothing else is known.
    pub fn new(name: impl Into<Name>, spec: ContainerResources) -> Self {
        Self { name: name.into(), spec, status: None, last_termination: None, restarts_on_resize: false }
    }

    /// What is in force: the status where it says something, or else the spec.
    pub fn resources(&self) -> ContainerResources {
        self.status.unwrap_or(self.spec)
    }
}

impl PodFacts {
    /// A running pod of which nothing else is known.
    pub fn new(name: impl Into<Name>, containers: Vec<ContainerFacts>) -> Self {
        Self {
            name: name.into(),
            pending: false,
            started: None,
            ready_since: None,
            containers,
            observed: None,
            resize: None,
            boosted: Vec::new(),
        }
    }

    /// Whether admission sized this container, so that it counts.
    pub fn observes(&self, container: &Name) -> bool {
        self.observed.as_ref().is_none_or(|observed| observed.contains(container))
    }

    /// The containers that count.
    pub(crate) fn observed_containers(&self) -> impl Iterator<Item = &ContainerFacts> {
        self.containers.iter().filter(|container| self.observes(&container.name))
    }

    /// A resize would restart one of its containers.
    pub(crate) fn restarts_on_resize(&self) -> bool {
        self.containers.iter().any(|container| container.restarts_on_resize)
    }
}

/// The annotation `vpaObservedContainers`: `a, b`. None if a name is not one, which counts as no annotation.
pub fn observed_containers(annotation: &str) -> Option<Vec<Name>> {
    if annotation.is_empty() {
        return Some(Vec::new());
    }
    annotation.split(", ").map(|name| is_dns_label(name).then(|| name.into())).collect()
}

fn is_dns_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// A resize under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// How it goes.
    pub state: Resizing,
    /// Since when: the condition's `lastTransitionTime`, or when it was first seen.
    pub since: Time,
}

/// The pod conditions `PodResizePending` and `PodResizeInProgress`, with their reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resizing {
    /// Pending, `Deferred`: no room now.
    Deferred,
    /// Pending, `Infeasible`: never room.
    Infeasible,
    /// In progress, without a reason.
    InProgress,
    /// In progress, `Error`.
    Error,
    /// Another reason.
    Unknown,
}

impl fmt::Display for Resizing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deferred => "is deferred: the node has no room now",
            Self::Infeasible => "is infeasible: the node will never have room",
            Self::InProgress => "is in progress",
            Self::Error => "failed",
            Self::Unknown => "is in a state that is not known",
        })
    }
}
