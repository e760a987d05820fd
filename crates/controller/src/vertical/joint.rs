//! Where both axes of a target meet: what its recommender says goes to the horizontal loop, what is decided for both comes
//! back.
//!
//! A target with a horizontal scaler and a VerticalPodAutoscaler that changes running pods is sized by one decision
//! ([`flyball_engine::vertical::Sizing`]). Its sizes then stand in the VerticalPodAutoscaler's status in place of the
//! recommender's own numbers, so that updater, admission and users all see what acts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flyball_api::vertical::admission::Controller;
use flyball_api::vertical::pod::facts;
use flyball_engine::Time;
use flyball_engine::vertical::{
    ContainerRecommendation, ContainerSize, ContainerSizing, Resources, Sizing, VerticalPolicy,
};
use k8s_openapi::api::core::v1::Pod;

use super::room::Room;
use crate::lock;
use crate::workload::WorkloadRef;

/// A decision that is older than this says nothing any more: its scaler is gone, or cannot decide.
const DECIDED_MAX: Duration = Duration::from_secs(15);

/// Namespace and controller.
type Key = (String, Controller);

/// What both loops tell each other; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Joint(Arc<Mutex<BTreeMap<Key, Entry>>>);

#[derive(Default)]
struct Entry {
    recommended: Vec<ContainerRecommendation>,
    policy: VerticalPolicy,
    decided: Option<(Time, Vec<ContainerSize>)>,
}

/// The target of a scaler, as a VerticalPodAutoscaler would name it.
pub(crate) fn key(workload: &WorkloadRef) -> Key {
    let group = workload.api_version.split_once('/').map_or("", |(group, _)| group);
    let (kind, name) = (workload.kind.clone(), workload.name.clone());
    (workload.namespace.clone(), Controller { group: group.to_owned(), kind, name })
}

impl Joint {
    /// What is recommended for a target. Nothing, if nobody changes its pods.
    pub(super) fn offer(&self, key: Key, recommended: &[ContainerRecommendation], policy: &VerticalPolicy) {
        if recommended.is_empty() || !policy.mode.changes_running() {
            lock(&self.0).remove(&key);
            return;
        }
        let mut entries = lock(&self.0);
        let entry = entries.entry(key).or_default();
        entry.recommended = recommended.to_vec();
        entry.policy = policy.clone();
    }

    /// Forgets all other targets.
    pub(super) fn keep_only(&self, keys: &[Key]) {
        lock(&self.0).retain(|key, _| keys.contains(key));
    }

    /// What was decided for a target, if a horizontal scaler decides for it too.
    pub(super) fn desired(&self, key: &Key, now: Time) -> Option<Vec<ContainerRecommendation>> {
        let entries = lock(&self.0);
        let (at, sizes) = entries.get(key)?.decided.as_ref()?;
        let fresh = now.since(*at) <= DECIDED_MAX && !sizes.is_empty();
        let desired = sizes.iter().map(|size| size.desired.clone());
        fresh.then(|| desired.filter(|one| !one.target.is_empty()).collect())
    }

    /// What the horizontal loop has to be told of a target's size; none if nobody sizes it.
    pub(crate) fn sizing(&self, key: &Key, pods: &[Arc<Pod>], room: &Room) -> Option<Sizing> {
        let entries = lock(&self.0);
        let entry = entries.get(key)?;
        let first = pods.first()?.spec.as_ref()?;
        let sizing = |name: &str| {
            let own = entry.policy.container(&name.into());
            let known = entry.recommended.iter().find(|one| one.container == *name);
            ContainerSizing {
                requests: requests(pods, name),
                recommended: known.cloned().unwrap_or_else(|| ContainerRecommendation::new(name)),
                min_allowed: own.min_allowed,
                max_allowed: own.max_allowed,
            }
        };
        let containers = first.containers.iter().map(|container| sizing(&container.name)).collect();
        Some(Sizing { containers, room_cpu_millis: room.of_each(pods) })
    }

    /// Whether nothing is sized.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Takes in what was decided.
    pub(crate) fn decided(&self, key: &Key, at: Time, sizes: &[ContainerSize]) {
        if let Some(entry) = lock(&self.0).get_mut(key) {
            entry.decided = Some((at, sizes.to_vec()));
        }
    }
}

/// What a container of these pods requests: the most of what is in force, while some of them are still being changed.
fn requests(pods: &[Arc<Pod>], container: &str) -> Resources {
    let each = pods.iter().flat_map(|pod| facts(pod).containers).filter(|one| one.name == *container);
    each.map(|one| one.resources().requests).fold(Resources::default(), |most, one| {
        Resources::new(most.cpu_millis.max(one.cpu_millis), most.memory_bytes.max(one.memory_bytes))
    })
}
