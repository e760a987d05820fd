//! What the engine needs to know of a pod: whether it counts, and what it asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::milli::Milli;
use crate::name::Name;
use crate::time::{Time, seconds};

/// A pod of the target, as its selector lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// `metadata.name`.
    pub name: Name,
    /// `status.phase`.
    pub phase: Phase,
    /// It has a `deletionTimestamp`.
    pub deleting: bool,
    /// `status.startTime`; none until the node accepted it.
    pub started: Option<Time>,
    /// Its `Ready` condition; none until there is one.
    pub ready: Option<Readiness>,
    /// What it asked for.
    pub requests: PodRequests,
}

/// `status.phase` of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Accepted, not all containers run.
    Pending,
    /// Bound to a node, at least one container runs.
    Running,
    /// All containers ended well and will not be restarted.
    Succeeded,
    /// All containers ended, at least one badly.
    Failed,
    /// The node has not been heard of.
    Unknown,
}

/// The `Ready` condition of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Its status is `True`.
    pub ready: bool,
    /// `lastTransitionTime`.
    pub since: Time,
}

/// The resource requests of a pod, by resource name (`cpu` in cores, `memory` in bytes, both in thousandths).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PodRequests {
    /// Requests of the whole pod (`spec.resources`), which win over the sum of its containers.
    pub pod: BTreeMap<Name, Milli>,
    /// Its containers, and those init containers that keep running beside them (`restartPolicy: Always`).
    pub containers: Vec<ContainerRequests>,
}

/// The resource requests of one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRequests {
    /// The container's name.
    pub name: Name,
    /// By resource name; what is not here was not requested.
    pub requests: BTreeMap<Name, Milli>,
}

/// What one pod's metric read: its usage of a resource, or a metric of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodValue {
    /// The pod's name.
    pub pod: Name,
    /// The value: the sum over its containers, or that of the one container the metric names.
    pub value: Milli,
    /// The end of the window it was measured over.
    pub at: Time,
    /// How long that window was.
    #[serde(with = "seconds")]
    pub window: Duration,
}

impl Pod {
    /// Runs and is ready: the pods that a `Value` target is multiplied by.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running && self.ready.is_some_and(|readiness| readiness.ready)
    }
}
