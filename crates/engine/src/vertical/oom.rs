//! Which containers the kernel or the kubelet killed for want of memory (`pkg/recommender/input/oom/observer.go`).
//!
//! A kill shows in a container's status in one of two ways: it is now terminated and was not, or it has been restarted
//! between two looks. Both need care not to count one kill twice. The request that was too small is the one that was in
//! force: the new status' for the first, the old one's for the second.

use serde::{Deserialize, Serialize};

use super::facts::ContainerFacts;
use super::resources::Resource;

/// What a container is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Nothing is known.
    #[default]
    Unknown,
    /// Waiting, such as for its back-off.
    Waiting,
    /// Running.
    Running,
    /// Over.
    Terminated {
        /// The kernel killed it: `OOMKilled`.
        oom_killed: bool,
    },
}

/// One container's status at one look.
#[derive(Clone, Copy, Debug)]
pub struct ContainerLook<'a> {
    /// What it does.
    pub state: ContainerState,
    /// How often it was restarted.
    pub restarts: u32,
    /// The last one that ended was `OOMKilled`.
    pub last_oom_killed: bool,
    /// Its resources.
    pub facts: &'a ContainerFacts,
}

impl ContainerLook<'_> {
    fn requested(&self) -> i64 {
        self.facts.resources().requests.amount(Resource::Memory)
    }
}

/// The memory request of a container that was killed between two looks; none if it was not. Zero if it had none.
pub fn oom_killed(old: &ContainerLook<'_>, new: &ContainerLook<'_>) -> Option<i64> {
    let restarted = new.restarts > old.restarts;
    let was_terminated = matches!(old.state, ContainerState::Terminated { .. });
    if new.state == (ContainerState::Terminated { oom_killed: true }) && (!was_terminated || restarted) {
        return Some(new.requested());
    }
    // From waiting to running it was counted when it ended.
    let kept_running = old.state == ContainerState::Running && new.state == ContainerState::Running;
    (kept_running && restarted && new.last_oom_killed).then(|| old.requested())
}

/// An event of the kubelet, with its annotations: comma-separated lists of the same length.
#[derive(Clone, Copy, Debug)]
pub struct EvictionEvent<'a> {
    /// Only `Evicted` counts.
    pub reason: &'a str,
    /// `offending_containers`.
    pub containers: &'a str,
    /// `offending_containers_usage`, as quantities.
    pub usages: &'a str,
    /// `starved_resource`.
    pub resources: &'a str,
}

impl<'a> EvictionEvent<'a> {
    /// The containers that were evicted for the memory they used, each with that. What can't be parsed is left out, and
    /// everything if the lists differ in length.
    pub fn memory_used(&self, parse: impl Fn(&str) -> Option<i64>) -> Vec<(&'a str, i64)> {
        let [containers, usages, resources] =
            [self.containers, self.usages, self.resources].map(|list| list.split(',').collect::<Vec<_>>());
        if self.reason != "Evicted" || containers.len() != usages.len() || containers.len() != resources.len()
        {
            return Vec::new();
        }
        let listed = containers.into_iter().zip(usages).zip(resources);
        let starved = listed.filter(|(_, resource)| *resource == Resource::Memory.as_str());
        starved.filter_map(|((container, usage), _)| Some((container, parse(usage)?))).collect()
    }
}
