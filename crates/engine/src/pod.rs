//! What the engine needs to know of a pod: whether it counts, and what it asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::milli::Milli;
use crate::name::Name;
use crate::rules::Rules;
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
    /// It is CPU that has not fallen since the pod started, and no probe says when its start is over.
    #[serde(default)]
    pub starting: bool,
}

/// When a pod's value was measured.
#[derive(Clone, Copy, Debug)]
pub struct Sampled {
    /// The end of the window.
    pub at: Time,
    /// How long it was.
    pub window: Duration,
    /// As [`PodValue::starting`].
    pub starting: bool,
}

/// How a pod counts for a metric (`groupPods` of the HorizontalPodAutoscaler).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodGroup {
    /// On its way out, or done (Kubernetes after v1.37): neither it nor its value counts.
    Ignored,
    /// Not taking its share yet: its value does not count.
    Unready,
    /// Ready, as far as anybody knows, and what it uses is its start: as [`Self::Unready`].
    Starting,
    /// It has no value.
    Missing,
    /// It counts.
    Ready,
}

impl Pod {
    /// Runs and is ready: the pods that a `Value` target is multiplied by.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running && self.ready.is_some_and(|readiness| readiness.ready)
    }

    /// How it counts at `now` for a metric whose value for it, if any, was `sampled`.
    ///
    /// Only cpu asks whether the pod is ready: a starting pod uses much more or much less of it than a serving one.
    /// Within the initialization period a pod is unready while it is not ready, or while its sample reaches back to
    /// when it was not; after it only if it has never been ready.
    ///
    /// Without a probe a pod is ready as soon as it runs, and with windows of seconds its start would count. So it does
    /// not count before its use has fallen once, for [`Rules::cpu_start_max`] at most: under load it may not fall.
    pub fn group(&self, now: Time, is_cpu: bool, sampled: Option<Sampled>, rules: &Rules) -> PodGroup {
        if self.deleting || matches!(self.phase, Phase::Failed | Phase::Succeeded) {
            return PodGroup::Ignored;
        }
        if self.phase == Phase::Pending {
            return PodGroup::Unready;
        }
        let Some(Sampled { at, window, starting }) = sampled else {
            return PodGroup::Missing;
        };
        if !is_cpu {
            return PodGroup::Ready;
        }
        let (Some(readiness), Some(started)) = (self.ready, self.started) else {
            return PodGroup::Unready;
        };
        let unready = if started + rules.cpu_initialization > now {
            !readiness.ready || at < readiness.since + window
        } else {
            !readiness.ready && started + rules.initial_readiness_delay > readiness.since
        };
        match unready {
            true => PodGroup::Unready,
            false if starting && readiness.since + rules.cpu_start_max > now => PodGroup::Starting,
            false => PodGroup::Ready,
        }
    }

    /// What it requested of a resource: its own request for the whole pod, or the sum of its containers', or that of
    /// the one `container` named.
    ///
    /// # Errors
    ///
    /// One container without a request is enough to make the utilization of the pod unknown.
    pub fn request(&self, resource: &Name, container: Option<&Name>) -> Result<Milli, String> {
        let of_container = |own: &ContainerRequests| {
            own.requests.get(resource).copied().ok_or_else(|| {
                format!("missing request for {resource} in container {} of Pod {}", own.name, self.name)
            })
        };
        match container {
            Some(name) => match self.requests.containers.iter().find(|own| own.name == *name) {
                Some(own) => of_container(own),
                None => Err(format!("container {name} not found in Pod {}", self.name)),
            },
            None => match self.requests.pod.get(resource) {
                Some(request) => Ok(*request),
                None => self.requests.containers.iter().map(of_container).sum(),
            },
        }
    }
}
