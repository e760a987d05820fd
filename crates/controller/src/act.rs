//! Carries decisions out: writes the scale, and reports decisions in statuses and events. Nothing here waits. Every write is
//! a task beside the loop, so a slow or failing write delays its own target only.
//!
//! Each target has at most one scale write under way. Decisions made meanwhile rest on replicas that are about to change,
//! and are made again in the next round. Each object has at most one reporting task, which reports in order. Of the
//! reports that wait for it, only changes of replicas and the newest decision are kept.
//!
//! A decision that repeats the last report costs a comparison and no write.

mod autoscaler;
mod deleted;
pub(crate) mod events;
mod status;
mod tasks;
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
use status::{LastWritten, StatusWriter};
use tasks::Tasks;

/// The most scale writes under way at once.
const SCALES_AT_ONCE: usize = 32;
/// The most objects whose status and events are written at once.
const REPORTS_AT_ONCE: usize = 32;
/// The most reports that wait for one object; then the oldest is dropped. A minute of changes at the fastest pace.
const WAITING_MAX: usize = 64;

/// Writes scales, statuses and events to the cluster.
pub(crate) struct Actor {
    cluster: Cluster,
    workloads: Workloads,
    writer: Arc<StatusWriter>,
    scales: Tasks<TargetId, ScaleResult>,
    reports: Tasks<OwnerKey, LastWritten>,
    deletions: Tasks<OwnerKey, ()>,
    objects: BTreeMap<OwnerKey, Object>,
}

/// A decision about one target with everything that its status and events show.
#[derive(Clone, Debug)]
pub(crate) struct DecisionReport {
    pub(crate) scaler: Arc<Scaler>,
    /// `None` if the workload cannot be read.
    pub(crate) workload: Option<Workload>,
    pub(crate) decision: Decision,
    pub(crate) outcome: Outcome,
    /// What the engine remembers of the target.
    pub(crate) memory: Option<Memory>,
}

/// The outcome of a scale write.
#[derive(Debug)]
pub(crate) struct ScaleResult {
    pub(crate) scaler: Arc<Scaler>,
    pub(crate) decision: Decision,
    pub(crate) outcome: Outcome,
}

/// A report that waits to be written to an object.
#[derive(Debug)]
enum PendingReport {
    Decision(Box<DecisionReport>),
    Broken(Broken),
}

/// The reporting state of one ScaledObject or HorizontalPodAutoscaler.
struct Object {
    /// What was written last; `None` while a task owns it.
    written: Option<LastWritten>,
    waiting: VecDeque<PendingReport>,
    last: Option<LastReport>,
}

/// The report that was queued last, to recognize repetitions.
enum LastReport {
    Decision { scaler: Arc<Scaler>, autoscaler: Option<Arc<HorizontalPodAutoscaler>>, decision: Decision },
    Broken(Broken),
}

impl Actor {
    pub(crate) fn new(client: Client, cluster: Cluster, workloads: Workloads, events: Events) -> Actor {
        Actor {
            writer: Arc::new(StatusWriter::new(client, cluster.clone(), workloads.clone(), events)),
            scales: Tasks::new(SCALES_AT_ONCE),
            reports: Tasks::new(REPORTS_AT_ONCE),
            deletions: Tasks::new(REPORTS_AT_ONCE),
            objects: BTreeMap::new(),
            cluster,
            workloads,
        }
    }

    /// Whether the replicas of a target are being written.
    pub(crate) fn is_scaling(&self, target: &TargetId) -> bool {
        self.scales.has(target)
    }

    /// Starts writing the decided replicas; [`next`](Self::next) returns the outcome.
    pub(crate) fn rescale(&mut self, scaler: Arc<Scaler>, decision: Decision) {
        let (workloads, target) = (self.workloads.clone(), decision.target.clone());
        self.scales.start(target, async move {
            let replicas = i32::try_from(decision.desired).unwrap_or(i32::MAX);
            let outcome = match workloads.write(&scaler.workload, replicas).await {
                Ok(_) => Outcome::Rescaled,
                Err(error) => Outcome::Failed { error },
            };
            ScaleResult { scaler, decision, outcome }
        });
    }

    /// Waits for the next write to end, and starts what waited for it. Returns the outcome if it was a scale write; never
    /// returns while nothing is being written.
    pub(crate) async fn next(&mut self) -> Option<ScaleResult> {
        tokio::select! {
            (_, scaled) = self.scales.next() => scaled,
            (key, written) = self.reports.next() => {
                self.take_back(&key, written.unwrap_or_default());
                None
            }
            _ = self.deletions.next() => None,
        }
    }

    /// Returns the scale writes that have ended since the last call, and starts what waited for any write.
    pub(crate) fn written(&mut self) -> Vec<ScaleResult> {
        while let Some((key, written)) = self.reports.ended() {
            self.take_back(&key, written.unwrap_or_default());
        }
        while self.deletions.ended().is_some() {}
        std::iter::from_fn(|| self.scales.ended()).filter_map(|(_, scaled)| scaled).collect()
    }

    fn take_back(&mut self, key: &OwnerKey, mut written: LastWritten) {
        let Some(object) = self.objects.get_mut(key) else { return };
        if std::mem::take(&mut written.failed) {
            object.last = None;
        }
        object.written.get_or_insert(written);
        self.start_reporting(key);
    }

    /// Whether a decision says anything that the last report of the object did not.
    pub(crate) fn has_news(&self, scaler: &Arc<Scaler>, decision: &Decision) -> bool {
        let object = self.objects.get(&scaler.owner.key());
        let Some(LastReport::Decision { scaler: reported, autoscaler, decision: last }) =
            object.and_then(|object| object.last.as_ref())
        else {
            return true;
        };
        let same_autoscaler = || match (self.autoscaler(scaler), autoscaler) {
            (Some(now), Some(reported)) => Arc::ptr_eq(&now, reported),
            (None, None) => true,
            _ => false,
        };
        !(Arc::ptr_eq(scaler, reported) && repeats(scaler, last, decision) && same_autoscaler())
    }

    /// Queues the report of a decision.
    pub(crate) fn report(&mut self, decided: DecisionReport) {
        let key = decided.scaler.owner.key();
        let last = LastReport::Decision {
            scaler: Arc::clone(&decided.scaler),
            autoscaler: self.autoscaler(&decided.scaler),
            decision: decided.decision.clone(),
        };
        self.queue(key, last, PendingReport::Decision(Box::new(decided)));
    }

    /// Queues the report of an object that could not be planned, unless it repeats the last one.
    pub(crate) fn report_broken(&mut self, broken: &Broken) {
        let key = broken.owner.key();
        let last = self.objects.get(&key).and_then(|object| object.last.as_ref());
        if !matches!(last, Some(LastReport::Broken(last)) if last.is_same(broken)) {
            self.queue(key, LastReport::Broken(broken.clone()), PendingReport::Broken(broken.clone()));
        }
    }

    /// Forgets all objects but `owners`.
    pub(crate) fn keep_only(&mut self, owners: &BTreeSet<OwnerKey>) {
        self.objects.retain(|key, _| owners.contains(key));
    }

    /// Finishes the ScaledObjects that are being deleted and carry our finalizer.
    pub(crate) fn finish_deleted(&mut self) {
        for object in self.cluster.scaled_objects.state() {
            let key = Owner::ScaledObject(Arc::clone(&object)).key();
            if deleted::waits(&object) && !self.deletions.has(&key) {
                let writer = Arc::clone(&self.writer);
                self.deletions.start(key, async move { writer.finish_deleted(&object).await });
            }
        }
    }

    /// Whether anything is being written.
    pub(crate) fn is_busy(&self) -> bool {
        !(self.scales.is_empty() && self.reports.is_empty() && self.deletions.is_empty())
    }

    /// Waits until the events so far are written.
    pub(crate) async fn finish(&self) {
        self.writer.finish().await;
    }

    fn queue(&mut self, key: OwnerKey, last: LastReport, news: PendingReport) {
        let object = self.objects.entry(key.clone()).or_default();
        object.last = Some(last);
        if object.waiting.back().is_some_and(PendingReport::is_superseded_by_newer) {
            object.waiting.pop_back();
        }
        object.waiting.push_back(news);
        if object.waiting.len() > WAITING_MAX {
            object.waiting.pop_front();
        }
        self.start_reporting(&key);
    }

    fn start_reporting(&mut self, key: &OwnerKey) {
        let Some(object) = self.objects.get_mut(key) else { return };
        // A task of an object that came back under the same name may still be under way.
        if object.waiting.is_empty() || self.reports.has(key) {
            return;
        }
        let Some(mut written) = object.written.take() else { return };
        let (writer, key, news) =
            (Arc::clone(&self.writer), key.clone(), std::mem::take(&mut object.waiting));
        self.reports.start(key.clone(), async move {
            for one in news {
                match one {
                    PendingReport::Decision(decided) => writer.report(&key, &decided, &mut written).await,
                    PendingReport::Broken(broken) => writer.report_broken(&key, &broken, &mut written).await,
                }
            }
            written
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
        Object { written: Some(LastWritten::default()), waiting: VecDeque::new(), last: None }
    }
}

impl PendingReport {
    /// Whether a newer report makes this one obsolete. A change of replicas is always reported.
    fn is_superseded_by_newer(&self) -> bool {
        match self {
            PendingReport::Decision(decided) => decided.outcome == Outcome::Kept,
            PendingReport::Broken(_) => true,
        }
    }
}

/// Whether `next` has the same numbers for the same reasons as `last`. The time of the last activity moves all the while a
/// target is in use; it is reported once in a polling interval.
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
