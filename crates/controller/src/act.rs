//! Carries decisions out: writes the scale, and tells of it in statuses and events. Nothing here waits: every write is a
//! task beside the loop, so that one that is slow or fails holds up its own target and no other.
//!
//! A target is scaled by one write at a time; what is decided meanwhile rests on replicas that are about to change, and is
//! made again in the next round. What is told of an object is told in order by one task at a time; of what waits for
//! it, only the changes of replicas and the newest decision are kept.
//!
//! A decision that says what the one before said has nothing to tell, and costs a comparison.

mod autoscaler;
mod deleted;
pub(crate) mod events;
mod tasks;
mod tell;
pub(crate) mod write;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use flyball_api::status::Outcome;
use flyball_engine::{Decision, Memory, TargetId, Time};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Client;
use kube::runtime::reflector::ObjectRef;

use crate::decide::scalers::{Broken, Owner, OwnerKey, Scaler};
use crate::gather::cluster::Cluster;
use crate::gather::workload::{Workload, Workloads};
use events::Events;
use tasks::Tasks;
use tell::{Teller, Told};

/// Writes of scales that are under way at once.
const SCALES_AT_ONCE: usize = 32;
/// Objects that are told about at once.
const TOLD_AT_ONCE: usize = 32;
/// What waits to be told about one object, beyond which the oldest is dropped: changes of a minute at the fastest pace.
const WAITING_MAX: usize = 64;

/// Writes to the cluster.
pub(crate) struct Actor {
    cluster: Cluster,
    workloads: Workloads,
    teller: Arc<Teller>,
    scales: Tasks<TargetId, Scaled>,
    tells: Tasks<OwnerKey, Told>,
    deletions: Tasks<OwnerKey, ()>,
    objects: BTreeMap<OwnerKey, Object>,
}

/// A decision about one target, and what it was made from.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) scaler: Arc<Scaler>,
    /// None if it cannot be read.
    pub(crate) workload: Option<Workload>,
    pub(crate) decision: Decision,
    pub(crate) outcome: Outcome,
    /// What the engine remembers of the target.
    pub(crate) memory: Option<Memory>,
}

/// What came of a write of replicas.
#[derive(Debug)]
pub(crate) struct Scaled {
    pub(crate) scaler: Arc<Scaler>,
    pub(crate) decision: Decision,
    pub(crate) outcome: Outcome,
}

/// What is to be told about an object.
#[derive(Debug)]
enum News {
    Decided(Box<Decided>),
    Broken(Broken),
}

/// One object that decisions are told in.
struct Object {
    /// None while a task has it.
    told: Option<Told>,
    waiting: VecDeque<News>,
    last: Option<Last>,
}

/// What was handed over last to be told.
enum Last {
    Decided { scaler: Arc<Scaler>, autoscaler: Option<Arc<HorizontalPodAutoscaler>>, decision: Decision },
    Broken(Broken),
}

impl Actor {
    pub(crate) fn new(client: Client, cluster: Cluster, workloads: Workloads, events: Events) -> Actor {
        Actor {
            teller: Arc::new(Teller::new(client, cluster.clone(), workloads.clone(), events)),
            scales: Tasks::new(SCALES_AT_ONCE),
            tells: Tasks::new(TOLD_AT_ONCE),
            deletions: Tasks::new(TOLD_AT_ONCE),
            objects: BTreeMap::new(),
            cluster,
            workloads,
        }
    }

    /// Whether the replicas of a target are being written.
    pub(crate) fn is_scaling(&self, target: &TargetId) -> bool {
        self.scales.has(target)
    }

    /// Sets the replicas that were decided; [`next`](Self::next) tells what came of it.
    pub(crate) fn rescale(&mut self, scaler: Arc<Scaler>, decision: Decision) {
        let (workloads, target) = (self.workloads.clone(), decision.target.clone());
        self.scales.start(target, async move {
            let replicas = i32::try_from(decision.desired).unwrap_or(i32::MAX);
            let outcome = match workloads.write(&scaler.workload, replicas).await {
                Ok(_) => Outcome::Rescaled,
                Err(error) => Outcome::Failed { error },
            };
            Scaled { scaler, decision, outcome }
        });
    }

    /// Waits until something has been written, and goes on with what waits for it; for ever while nothing is. Tells
    /// what came of it if it was replicas.
    pub(crate) async fn next(&mut self) -> Option<Scaled> {
        tokio::select! {
            (_, scaled) = self.scales.next() => scaled,
            (key, told) = self.tells.next() => {
                self.take_back(&key, told.unwrap_or_default());
                None
            }
            _ = self.deletions.next() => None,
        }
    }

    /// What has been written since the last look; what waits for it goes on.
    pub(crate) fn written(&mut self) -> Vec<Scaled> {
        while let Some((key, told)) = self.tells.ended() {
            self.take_back(&key, told.unwrap_or_default());
        }
        while self.deletions.ended().is_some() {}
        std::iter::from_fn(|| self.scales.ended()).filter_map(|(_, scaled)| scaled).collect()
    }

    fn take_back(&mut self, key: &OwnerKey, mut told: Told) {
        let Some(object) = self.objects.get_mut(key) else { return };
        if std::mem::take(&mut told.failed) {
            object.last = None;
        }
        object.told.get_or_insert(told);
        self.start_telling(key);
    }

    /// Whether a decision says anything that was not told of this object.
    pub(crate) fn is_news(&self, scaler: &Arc<Scaler>, decision: &Decision) -> bool {
        let object = self.objects.get(&scaler.owner.key());
        let Some(Last::Decided { scaler: told_of, autoscaler, decision: last }) =
            object.and_then(|object| object.last.as_ref())
        else {
            return true;
        };
        let same_autoscaler = || match (self.autoscaler(scaler), autoscaler) {
            (Some(now), Some(told)) => Arc::ptr_eq(&now, told),
            (None, None) => true,
            _ => false,
        };
        !(Arc::ptr_eq(scaler, told_of) && repeats(scaler, last, decision) && same_autoscaler())
    }

    /// Tells of a decision.
    pub(crate) fn tell(&mut self, decided: Decided) {
        let key = decided.scaler.owner.key();
        let last = Last::Decided {
            scaler: Arc::clone(&decided.scaler),
            autoscaler: self.autoscaler(&decided.scaler),
            decision: decided.decision.clone(),
        };
        self.hand_over(key, last, News::Decided(Box::new(decided)));
    }

    /// Tells of an object that could not be planned.
    pub(crate) fn tell_broken(&mut self, broken: &Broken) {
        let key = broken.owner.key();
        let told = self.objects.get(&key).and_then(|object| object.last.as_ref());
        if !matches!(told, Some(Last::Broken(last)) if last.is_same(broken)) {
            self.hand_over(key, Last::Broken(broken.clone()), News::Broken(broken.clone()));
        }
    }

    /// Forgets what is not among `owners`.
    pub(crate) fn keep_only(&mut self, owners: &BTreeSet<OwnerKey>) {
        self.objects.retain(|key, _| owners.contains(key));
    }

    /// Finishes the ScaledObjects that are being deleted and wait for it.
    pub(crate) fn finish_deleted(&mut self) {
        for object in self.cluster.scaled_objects.state() {
            let key = Owner::ScaledObject(Arc::clone(&object)).key();
            if deleted::waits(&object) && !self.deletions.has(&key) {
                let teller = Arc::clone(&self.teller);
                self.deletions.start(key, async move { teller.finish_deleted(&object).await });
            }
        }
    }

    /// Whether anything is being written.
    pub(crate) fn is_busy(&self) -> bool {
        !(self.scales.is_empty() && self.tells.is_empty() && self.deletions.is_empty())
    }

    /// Waits until the events so far are written.
    pub(crate) async fn finish(&self) {
        self.teller.finish().await;
    }

    fn hand_over(&mut self, key: OwnerKey, last: Last, news: News) {
        let object = self.objects.entry(key.clone()).or_default();
        object.last = Some(last);
        if object.waiting.back().is_some_and(News::may_be_left_out) {
            object.waiting.pop_back();
        }
        object.waiting.push_back(news);
        if object.waiting.len() > WAITING_MAX {
            object.waiting.pop_front();
        }
        self.start_telling(&key);
    }

    fn start_telling(&mut self, key: &OwnerKey) {
        let Some(object) = self.objects.get_mut(key) else { return };
        // A task of an object that came back under the same name may still be under way.
        if object.waiting.is_empty() || self.tells.has(key) {
            return;
        }
        let Some(mut told) = object.told.take() else { return };
        let (teller, key, news) =
            (Arc::clone(&self.teller), key.clone(), std::mem::take(&mut object.waiting));
        self.tells.start(key.clone(), async move {
            for one in news {
                match one {
                    News::Decided(decided) => teller.tell(&key, &decided, &mut told).await,
                    News::Broken(broken) => teller.tell_broken(&key, &broken, &mut told).await,
                }
            }
            told
        });
    }

    /// The HorizontalPodAutoscaler of a ScaledObject, as the watch shows it.
    fn autoscaler(&self, scaler: &Scaler) -> Option<Arc<HorizontalPodAutoscaler>> {
        let Owner::ScaledObject(_) = &scaler.owner else { return None };
        let metadata = &scaler.autoscaler.metadata;
        let (name, namespace) = (metadata.name.as_deref()?, metadata.namespace.as_deref()?);
        self.cluster.autoscalers.get(&ObjectRef::new(name).within(namespace))
    }
}

impl Default for Object {
    fn default() -> Object {
        Object { told: Some(Told::default()), waiting: VecDeque::new(), last: None }
    }
}

impl News {
    /// What later news says better. A change of replicas is always told.
    fn may_be_left_out(&self) -> bool {
        match self {
            News::Decided(decided) => decided.outcome == Outcome::Kept,
            News::Broken(_) => true,
        }
    }
}

/// Whether telling of `next` after `last` would change nothing: the same numbers for the same reasons. The time of the
/// last activity moves all the while a target is in use; it is told once in a polling interval.
fn repeats(scaler: &Scaler, last: &Decision, next: &Decision) -> bool {
    let activity = |decision: &Decision| {
        decision.activity.map(|activity| (activity.state, activity.failing, activity.fallback))
    };
    let last_active = |decision: &Decision| decision.activity.and_then(|activity| activity.last_active);
    let polling = scaler.plan.policy.activation.as_ref().map(|activation| activation.polling_interval);
    let is_recent = |earlier: Time| polling.is_some_and(|polling| next.at.since(earlier) < polling);
    let active_alike = last_active(last) == last_active(next)
        || next.activity.is_some_and(|activity| activity.is_active()) && is_recent(last.at);
    !last.rescales()
        && !next.rescales()
        && last.current == next.current
        && last.steps == next.steps
        && last.proposals == next.proposals
        && last.sizes == next.sizes
        && activity(last) == activity(next)
        && active_alike
}
