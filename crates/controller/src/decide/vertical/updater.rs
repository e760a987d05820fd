//! The updater: brings running pods to what is recommended, in place first.
//!
//! Who is changed, how and when is the engine's plan; here it is carried out, for some VerticalPodAutoscalers at once. A
//! resize that the API server refuses for good is an eviction where the mode allows one, within the same budget.
//! PodDisruptionBudgets act in the eviction API: what it refuses is tried again in the next round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flyball_api::vertical::limit_ranges::limit_ranges;
use flyball_api::vertical::pod::facts;
use flyball_api::vertical::policy::{mode_name, policy};
use flyball_api::vertical::status::recommended;
use flyball_engine::vertical::{
    Action, Configured, ContainerResources, Group, IN_PLACE_UPDATED_ANNOTATION, LimitRanges, PodFacts,
    PodUpdate, Resources, Round, STARTUP_BOOST_ANNOTATION_PREFIX, UpdateMode, UpdateReason, VerticalPolicy,
    VerticalRules, resize_patch,
};
use flyball_engine::{Name, Time};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{LimitRange, ObjectReference, Pod};
use kube::api::{EvictParams, Patch, PatchParams};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::WORKERS;
use super::targets::{Targets, VpaTarget};
use crate::act::events::{Events, Note, about};
use crate::gather::cluster::Cluster;
use crate::gather::workload::FIELD_MANAGER;
use crate::tell::telemetry::{Evictions, InPlaceUpdates, UpdaterRound, VpaMetrics, VpaSize};

const COMPONENT: &str = "vpa-updater";

/// Changes pods.
pub(super) struct Updater {
    client: Client,
    cluster: Cluster,
    events: Events,
    metrics: VpaMetrics,
    rules: VerticalRules,
    /// Resizes that a node refused for good, by the uid of their pod.
    infeasible: BTreeMap<String, Infeasible>,
}

/// A resize that a node refused for good.
struct Infeasible {
    targets: Vec<(Name, Resources)>,
    /// Whether the event that no larger size is tried was written.
    told: bool,
}

/// What is to be done under one VerticalPodAutoscaler.
struct Plan<'a> {
    target: &'a VpaTarget,
    policy: VerticalPolicy,
    groups: Vec<(Configured, Vec<PodFacts>)>,
    updates: Vec<PodUpdate>,
}

/// The numbers of evictions and in-place updates of a round.
#[derive(Default)]
struct UpdateCounts {
    evictions: Evictions,
    in_place: InPlaceUpdates,
}

impl Updater {
    pub(super) fn new(client: Client, cluster: Cluster, events: Events, metrics: VpaMetrics) -> Self {
        let (rules, infeasible) = (VerticalRules::default(), BTreeMap::new());
        Updater { client, cluster, events, metrics, rules, infeasible }
    }

    /// Waits for the events that are still to be written.
    pub(super) async fn finish(self) {
        self.events.finish().await;
    }

    /// One round.
    pub(super) async fn update(&mut self, targets: &Targets, now: Time) {
        let mut timer = self.metrics.updater.timer();
        self.forget_gone(targets);
        let mut ranges = BTreeMap::new();
        let mut plans = Vec::new();
        for target in targets.0.iter().filter(|target| target.in_charge && target.unsupported.is_none()) {
            let namespace = target.key().0;
            let ranges = ranges.entry(namespace).or_insert_with_key(|namespace| self.limit_ranges(namespace));
            plans.push(self.plan(target, ranges, now));
        }
        for plan in &plans {
            self.remember_infeasible(plan);
        }
        timer.step("FilterPods");
        let mut round = UpdaterRound::default();
        let carried_out: Vec<_> = plans.iter().map(|plan| self.carry_out(plan, now)).collect();
        let outcomes: Vec<UpdateCounts> = stream::iter(carried_out).buffered(WORKERS).collect().await;
        for (plan, outcome) in plans.iter().zip(&outcomes) {
            self.record(&mut round, plan, outcome);
        }
        timer.step("EvictPods");
        timer.total();
        self.metrics.updater.show(&round);
    }

    fn forget_gone(&mut self, targets: &Targets) {
        if self.infeasible.is_empty() {
            return;
        }
        let pods = targets.0.iter().flat_map(|target| &target.pods);
        let living: BTreeSet<String> = pods.filter_map(|pod| pod.uid()).collect();
        self.infeasible.retain(|uid, _| living.contains(uid));
    }

    fn plan<'a>(&self, target: &'a VpaTarget, ranges: &LimitRanges, now: Time) -> Plan<'a> {
        let policy = policy(&target.object);
        let recommended = recommended(target.object.status.as_ref());
        let groups = self.groups(&target.pods);
        let attempt = |pod: &Arc<Pod>| {
            let attempt = self.infeasible.get(&pod.uid()?)?;
            Some((Name::from(pod.name_any()), attempt.targets.clone()))
        };
        let infeasible = target.pods.iter().filter_map(attempt).collect();
        let updates = Round {
            policy: &policy,
            recommended: &recommended,
            ranges,
            rules: &self.rules,
            groups: &groups,
            infeasible: &infeasible,
        }
        .plan(now);
        Plan { target, policy, groups, updates }
    }

    /// Keeps what nodes refused for good, and tells once of each pod that is left as it is for that.
    fn remember_infeasible(&mut self, plan: &Plan<'_>) {
        for update in &plan.updates {
            let Some((pod, uid)) = plan.pod(&update.pod).and_then(|pod| Some((pod, pod.uid()?))) else {
                continue;
            };
            if let Action::RememberInfeasible(targets) = &update.action {
                self.infeasible.insert(uid, Infeasible { targets: targets.clone(), told: false });
            } else if update.held_by == Some(UpdateReason::ResizeInfeasible)
                && let Some(attempt) = self.infeasible.get_mut(&uid).filter(|attempt| !attempt.told)
            {
                attempt.told = true;
                let text = "Pod was not resized in place by VPA Updater. Its last resize was infeasible, and what is \
                            recommended now is not lower.";
                self.tell(about(&**pod), "InPlaceResizeSkipped", text.to_owned());
            }
        }
    }

    async fn carry_out(&self, plan: &Plan<'_>, now: Time) -> UpdateCounts {
        let (mut outcome, mut budget) = (UpdateCounts::default(), plan.budget(&self.rules));
        for update in plan.updates.iter().filter(|update| update.action == Action::Evict) {
            budget.spend(&update.pod);
        }
        for update in &plan.updates {
            let Some(pod) = plan.pod(&update.pod) else { continue };
            match &update.action {
                Action::Keep => {}
                Action::Wait => {
                    tracing::debug!(pod = pod.name_any(), reason = %update.reason, held_by = ?update.held_by, "waits");
                }
                Action::RememberInfeasible(_) => outcome.in_place.infeasible += 1,
                Action::Evict => self.evict(plan, pod, &update.reason, &mut outcome).await,
                Action::Resize(new) => {
                    self.resize_or_evict(plan, pod, (update, new), (&mut budget, now), &mut outcome).await
                }
            }
            outcome.count_wanted(update, plan.policy.mode);
        }
        outcome
    }

    async fn resize_or_evict(
        &self,
        plan: &Plan<'_>,
        pod: &Pod,
        (update, new): (&PodUpdate, &[(Name, ContainerResources)]),
        (budget, now): (&mut Budget<'_>, Time),
        outcome: &mut UpdateCounts,
    ) {
        match self.resize(pod, new).await {
            Ok(is_change) => {
                if is_change {
                    budget.spend(&update.pod);
                    outcome.in_place.updated += 1;
                    let text =
                        format!("Pod was resized in place by VPA Updater. {}", sentence(&update.reason));
                    self.tell(about(pod), "InPlaceResizedByVPA", text);
                }
                self.annotate(pod, &update.reason).await;
            }
            Err(error) => {
                tracing::warn!(pod = pod.name_any(), %error, "cannot resize a pod in place");
                match update.reason {
                    UpdateReason::BoostOver { .. } => outcome.in_place.failed_unboosts += 1,
                    _ => outcome.in_place.failed += 1,
                }
                if is_refused(&error) && budget.may_evict(&update.pod, now) {
                    budget.spend(&update.pod);
                    outcome.evictions.evictable += 1;
                    self.evict(plan, pod, &update.reason, outcome).await;
                }
            }
        }
    }

    /// Asks for new resources; whether that changed anything.
    async fn resize(&self, pod: &Pod, new: &[(Name, ContainerResources)]) -> kube::Result<bool> {
        let operations = resize_patch(&facts(pod).containers, new);
        if operations.is_empty() {
            return Ok(false);
        }
        let operations = serde_json::to_value(operations).map_err(kube::Error::SerdeError)?;
        let patch: json_patch::Patch = serde_json::from_value(operations).map_err(kube::Error::SerdeError)?;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let resized = api.patch_resize(&pod.name_any(), &parameters(), &Patch::Json::<()>(patch)).await?;
        Ok(resized.metadata.generation != pod.metadata.generation)
    }

    /// Notes on the pod that it was resized, and takes off what was noted for a boost that is over. VPA only logs a
    /// failure here too: the resize itself stands.
    async fn annotate(&self, pod: &Pod, reason: &UpdateReason) {
        let mut annotations = json!({});
        if pod.annotations().get(IN_PLACE_UPDATED_ANNOTATION).map(String::as_str) != Some("true") {
            annotations[IN_PLACE_UPDATED_ANNOTATION] = "true".into();
        }
        if let UpdateReason::BoostOver { container } = reason {
            annotations[format!("{STARTUP_BOOST_ANNOTATION_PREFIX}{container}")] = serde_json::Value::Null;
        }
        if annotations == json!({}) {
            return;
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        if let Err(error) = api.patch(&pod.name_any(), &parameters(), &patch).await {
            tracing::warn!(pod = pod.name_any(), %error, "cannot annotate a pod that was resized");
        }
    }

    async fn evict(&self, plan: &Plan<'_>, pod: &Pod, reason: &UpdateReason, outcome: &mut UpdateCounts) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        match api.evict(&pod.name_any(), &EvictParams::default()).await {
            Ok(_) => {
                outcome.evictions.evicted += 1;
                let why = sentence(reason);
                let text = format!("Pod was evicted by VPA Updater to apply resource recommendation. {why}");
                self.tell(about(pod), "EvictedByVPA", text);
                let name = pod.name_any();
                let text = format!("VPA Updater evicted Pod {name} to apply resource recommendation. {why}");
                self.tell(about(&*plan.target.object), "EvictedPod", text);
            }
            Err(error) => {
                outcome.evictions.failed += 1;
                tracing::info!(pod = pod.name_any(), %error, "an eviction is refused");
            }
        }
    }

    fn tell(&self, about: ObjectReference, reason: &str, message: String) {
        let reason = reason.to_owned();
        self.events.publish(Note { about, component: COMPONENT, warning: false, reason, message });
    }

    fn record(&self, round: &mut UpdaterRound, plan: &Plan<'_>, outcome: &UpdateCounts) {
        if !plan.policy.mode.changes_running() || plan.target.pods.is_empty() {
            return;
        }
        let (namespace, name) = plan.target.key();
        let (update_mode, pods) = (mode_name(&plan.target.object), plan.target.pods.len());
        let size = VpaSize { namespace: &namespace, name: &name, update_mode, pods };
        self.metrics.updater.record(round, size, outcome.evictions, outcome.in_place);
    }

    fn limit_ranges(&self, namespace: &str) -> LimitRanges {
        let all = self.cluster.limit_ranges.state();
        let own = all.iter().filter(|range| range.namespace().as_deref() == Some(namespace));
        limit_ranges(&own.map(|range| LimitRange::clone(range)).collect::<Vec<_>>())
    }

    /// Pods by the controller that would replace them, with the replicas that it wants.
    fn groups(&self, pods: &[Arc<Pod>]) -> Vec<(Configured, Vec<PodFacts>)> {
        let mut groups: BTreeMap<&str, (Configured, Vec<PodFacts>)> = BTreeMap::new();
        for pod in pods {
            let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
            let group = groups.entry(owner.map_or("", |owner| owner.uid.as_str())).or_insert_with(|| {
                let namespace = pod.namespace().unwrap_or_default();
                let configured = owner.map(|owner| self.configured(&namespace, &owner.kind, &owner.name));
                (configured.unwrap_or(Configured::Unknown), Vec::new())
            });
            let facts = facts(pod);
            self.metrics.read_resources(&facts);
            group.1.push(facts);
        }
        groups.into_values().collect()
    }

    fn configured(&self, namespace: &str, kind: &str, name: &str) -> Configured {
        let cluster = &self.cluster;
        let replicas = match kind {
            "ReplicaSet" => get(&cluster.replica_sets, namespace, name).and_then(|found| found.spec.replicas),
            "StatefulSet" => {
                get(&cluster.stateful_sets, namespace, name).and_then(|found| found.spec.replicas)
            }
            "ReplicationController" => get(&cluster.replication_controllers, namespace, name)
                .and_then(|found| found.spec.as_ref()?.replicas),
            "DaemonSet" => get(&cluster.daemon_sets, namespace, name)
                .and_then(|found| Some(found.status.as_ref()?.number_ready)),
            "Job" => return Configured::Live,
            _ => None,
        };
        let replicas = replicas.and_then(|replicas| u32::try_from(replicas).ok());
        replicas.map_or(Configured::Unknown, Configured::Replicas)
    }
}

impl Plan<'_> {
    fn pod(&self, name: &Name) -> Option<&Arc<Pod>> {
        self.target.pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(name.as_str()))
    }

    fn budget(&self, rules: &VerticalRules) -> Budget<'_> {
        let group = |(configured, pods): &(Configured, Vec<PodFacts>)| {
            Group::new(*configured, &pods.iter().collect::<Vec<_>>(), &self.policy, rules).ok()
        };
        Budget { groups: self.groups.iter().map(group).collect(), plan: self }
    }
}

/// How many pods of each group may still be taken away in this round.
struct Budget<'a> {
    groups: Vec<Option<Group>>,
    plan: &'a Plan<'a>,
}

impl Budget<'_> {
    /// A pod was changed, or will be.
    fn spend(&mut self, pod: &Name) {
        if let Some((Some(group), facts)) = self.of(pod) {
            group.disrupt(facts);
        }
    }

    /// Whether a pod that could not be resized may be evicted instead.
    fn may_evict(&mut self, pod: &Name, now: Time) -> bool {
        let policy = &self.plan.policy;
        policy.mode == UpdateMode::InPlaceOrRecreate
            && self.of(pod).is_some_and(|(group, facts)| {
                group.as_ref().is_some_and(|group| group.may_evict(now, facts, policy).is_ok())
            })
    }

    fn of(&mut self, pod: &Name) -> Option<(&mut Option<Group>, &PodFacts)> {
        let groups = self.groups.iter_mut().zip(&self.plan.groups);
        groups
            .into_iter()
            .find_map(|(group, (_, pods))| Some((group, pods.iter().find(|one| one.name == *pod)?)))
    }
}

impl UpdateCounts {
    /// Counts a pod that is to be changed, whether it is or has to wait.
    fn count_wanted(&mut self, update: &PodUpdate, mode: UpdateMode) {
        match update.action {
            Action::Keep => {}
            Action::Evict => self.evictions.evictable += 1,
            Action::Wait if update.held_by == Some(UpdateReason::ResizeInfeasible) => {
                self.in_place.skipped += 1
            }
            _ if mode.resizes() => self.in_place.updatable += 1,
            _ => self.evictions.evictable += 1,
        }
    }
}

fn get<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::new(name).within(namespace))
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// An error that will not go away by itself.
fn is_refused(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 403 | 405 | 422))
}

/// The reason as a whole sentence.
fn sentence(reason: &UpdateReason) -> String {
    let text = reason.to_string();
    let mut letters = text.chars();
    let first: String = letters.next().map(|letter| letter.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
