//! Where both axes of a target meet: what its recommender says goes to the horizontal loop, what is decided for both comes
//! back.
//!
//! A target with a horizontal scaler and a VerticalPodAutoscaler that changes running pods is sized by one decision
//! ([`flyball_engine::vertical::Sizing`]). Its sizes then stand in the VerticalPodAutoscaler's status in place of the
//! recommender's own numbers, so that updater, admission and users all see what acts.
//!
//! # Expected flow
//!
//! 1. The vertical loop recommends to a VerticalPodAutoscaler that is in charge of its pods, and **offers** that
//!    ([`Joint::offer`]).
//! 2. In its next round the horizontal loop, if a scaler has the same target, takes it for a fact
//!    ([`Joint::sizing`]) and decides over both axes; what it **decided** comes back ([`Joint::decided`]).
//! 3. The vertical loop sees that another size is **desired** than its status shows ([`Joint::desired`]), makes its
//!    round at once, and writes that size instead of its own. The updater resizes the pods to it.
//! 4. Each later round of either loop does the same with newer numbers.
//! 5. The VerticalPodAutoscaler is deleted, is set to a mode that changes no running pods, or gets a recommender that is
//!    not ours: at its next look the vertical loop **withdraws** the offer, and the decision goes with it. The next
//!    horizontal decision has no sizes. What the pods have, they keep.
//! 6. The scaler goes, or cannot decide: the last decision grows old, and the recommender's own numbers stand again.
//!
//! # Guarantees
//!
//! - There is one entry for a target, and it lives as long as a VerticalPodAutoscaler that is in charge, is ours, and
//!   changes running pods. A size is in force no longer than its entry.
//! - A decision counts for [`DECIDED_MAX`]; then the vertical loop is alone again.
//! - Neither loop waits for the other: what is not here yet is as good as not said.
//! - An offer and a decision are replaced whole. A loop never sees half of one.
//!
//! # What each side may assume
//!
//! - The vertical loop: a desired size is within its own policy, since that was offered with the recommendation; it rests
//!   on an offer of the recent past, perhaps not on the newest one.
//! - The horizontal loop: an offer may be gone in the next round, and then its decisions have no sizes; one that is
//!   there says what *should* be, and the pods say what is.
//! - Neither may assume that the other is alive, nor how often it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use flyball_api::vertical::admission::Controller;
use flyball_api::vertical::pod::facts;
use flyball_engine::Time;
use flyball_engine::vertical::{
    ContainerRecommendation, ContainerSize, ContainerSizing, Resources, Sizing, VerticalPolicy,
};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use super::headroom::NodeHeadroom;
use crate::gather::workload::WorkloadRef;

/// A decision that is older than this says nothing any more: its scaler is gone, or cannot decide.
const DECIDED_MAX: Duration = Duration::from_secs(15);

/// Namespace and controller.
pub(super) type Key = (String, Controller);

/// What both loops tell each other; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Joint(Arc<Mutex<BTreeMap<Key, Entry>>>);

#[derive(Default)]
struct Entry {
    /// The uid of the VerticalPodAutoscaler that it comes from.
    offered_by: String,
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
    /// What a VerticalPodAutoscaler recommends for a target. Nothing, if it changes no pods.
    pub(super) fn offer(
        &self,
        key: Key,
        offered_by: &str,
        recommended: &[ContainerRecommendation],
        policy: &VerticalPolicy,
    ) {
        let mut entries = self.0.lock();
        if recommended.is_empty() || !policy.mode.changes_running() {
            entries.remove(&key);
            return;
        }
        let entry = entries.entry(key).or_default();
        if entry.offered_by != offered_by {
            *entry = Entry { offered_by: offered_by.to_owned(), ..Entry::default() };
        }
        entry.recommended = recommended.to_vec();
        entry.policy = policy.clone();
    }

    /// Withdraws the offers of all VerticalPodAutoscalers but these: by target, and their uids.
    pub(super) fn keep_only(&self, offering: impl FnOnce() -> BTreeSet<(Key, String)>) {
        let mut entries = self.0.lock();
        if !entries.is_empty() {
            let offering = offering();
            entries.retain(|key, entry| offering.contains(&(key.clone(), entry.offered_by.clone())));
        }
    }

    /// What was decided for a target, if a horizontal scaler decides for it too.
    pub(super) fn desired(&self, key: &Key, now: Time) -> Option<Vec<ContainerRecommendation>> {
        let entries = self.0.lock();
        let (at, sizes) = entries.get(key)?.decided.as_ref()?;
        let fresh = now.since(*at) <= DECIDED_MAX && !sizes.is_empty();
        let desired = sizes.iter().map(|size| size.desired.clone());
        fresh.then(|| desired.filter(|one| !one.target.is_empty()).collect())
    }

    /// The recommended size of a target for the horizontal loop; `None` without a recommender.
    pub(crate) fn sizing(&self, key: &Key, pods: &[Arc<Pod>], room: &NodeHeadroom) -> Option<Sizing> {
        let entries = self.0.lock();
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
        self.0.lock().is_empty()
    }

    /// Takes in what was decided.
    pub(crate) fn decided(&self, key: &Key, at: Time, sizes: &[ContainerSize]) {
        if let Some(entry) = self.0.lock().get_mut(key) {
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

#[cfg(test)]
mod tests {
    use flyball_engine::vertical::UpdateMode;

    use super::*;

    fn key_of(name: &str) -> Key {
        let (kind, group) = ("Deployment".to_owned(), "apps".to_owned());
        ("default".to_owned(), Controller { group, kind, name: name.to_owned() })
    }

    fn desired(cpu_millis: i64) -> ContainerRecommendation {
        let target = Resources::new(Some(cpu_millis), None);
        ContainerRecommendation { target, ..ContainerRecommendation::new("main") }
    }

    #[test]
    fn a_size_goes_with_the_object_that_offered_it() {
        let (joint, now) = (Joint::default(), Time::from_seconds(100));
        let running = VerticalPolicy { mode: UpdateMode::InPlaceOrRecreate, ..VerticalPolicy::default() };
        let in_force = |key: &Key| joint.desired(key, now).is_some();
        let decide = |key: &Key| {
            let size = ContainerSize { current: Resources::default(), desired: desired(200) };
            joint.decided(key, now, &[size]);
        };
        for name in ["a", "b"] {
            joint.offer(key_of(name), "first", &[desired(100)], &running);
            decide(&key_of(name));
        }
        let (a, b) = (key_of("a"), key_of("b"));
        joint.keep_only(|| [(a.clone(), "first".to_owned())].into());
        assert_eq!((in_force(&a), in_force(&b)), (true, false), "one is gone, its target stays");
        joint.offer(a.clone(), "second", &[desired(100)], &running);
        assert!(!in_force(&a), "it was decided on what another one offered");
        decide(&a);
        assert!(in_force(&a));
        let off = VerticalPolicy { mode: UpdateMode::Off, ..running.clone() };
        joint.offer(a.clone(), "second", &[desired(100)], &off);
        assert!(joint.is_empty(), "it changes no pods any more");
        joint.offer(a.clone(), "second", &[desired(100)], &running);
        decide(&a);
        assert!(
            joint.desired(&a, now + DECIDED_MAX + Duration::from_millis(1)).is_none(),
            "its scaler is gone"
        );
        joint.keep_only(BTreeSet::new);
        assert!(joint.is_empty(), "the last one is gone");
    }
}
