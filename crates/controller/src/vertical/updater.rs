//! The updater: brings running pods to what is recommended, in place first.
//!
//! Who is changed, how and when is the engine's plan; here it is carried out. A resize that the API server refuses for
//! good is an eviction where the mode allows one, within the same budget. PodDisruptionBudgets act in the eviction API:
//! what it refuses is tried again in the next round.

use std::collections::BTreeMap;
use std::sync::Arc;

use flyball_api::vertical::limit_ranges::limit_ranges;
use flyball_api::vertical::pod::facts;
use flyball_api::vertical::policy::policy;
use flyball_api::vertical::status::recommended;
use flyball_engine::vertical::{
    Action, Configured, ContainerResources, Group, IN_PLACE_UPDATED_ANNOTATION, PodFacts, PodUpdate,
    Resources, Round, STARTUP_BOOST_ANNOTATION_PREFIX, UpdateMode, UpdateReason, VerticalPolicy,
    VerticalRules, resize_patch,
};
use flyball_engine::{Name, Time};
use k8s_openapi::api::core::v1::{LimitRange, Pod};
use kube::api::{EvictParams, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::targets::{Target, Targets};
use crate::act::events::{Events, Note, about};
use crate::cluster::Cluster;
use crate::workload::FIELD_MANAGER;

const COMPONENT: &str = "vpa-updater";

/// Changes pods.
pub(super) struct Updater {
    client: Client,
    cluster: Cluster,
    events: Events,
    rules: VerticalRules,
    /// Targets that a node refused for good, by pod.
    infeasible: BTreeMap<Name, Vec<(Name, Resources)>>,
}

impl Updater {
    pub(super) fn new(client: Client, cluster: Cluster, events: Events) -> Self {
        Updater { client, cluster, events, rules: VerticalRules::default(), infeasible: BTreeMap::new() }
    }

    /// One round.
    pub(super) async fn update(&mut self, targets: &Targets, now: Time) {
        let living: Vec<Name> =
            targets.0.iter().flat_map(|target| &target.pods).map(|pod| pod.name_any().into()).collect();
        self.infeasible.retain(|pod, _| living.contains(pod));
        for target in targets.0.iter().filter(|target| target.in_charge && target.unsupported.is_none()) {
            self.update_target(target, now).await;
        }
    }

    async fn update_target(&mut self, target: &Target, now: Time) {
        let policy = policy(&target.object);
        let ranges = limit_ranges(&self.limit_ranges(target));
        let recommended = recommended(target.object.status.as_ref());
        let groups = self.groups(&target.pods);
        let plan = Round {
            policy: &policy,
            recommended: &recommended,
            ranges: &ranges,
            rules: &self.rules,
            groups: &groups,
            infeasible: &self.infeasible,
        }
        .plan(now);
        for update in plan {
            let Some(pod) = target.pods.iter().find(|pod| pod.name_any() == update.pod.as_str()) else {
                continue;
            };
            self.carry_out(target, pod, &update, &policy, &groups, now).await;
        }
    }

    async fn carry_out(
        &mut self,
        target: &Target,
        pod: &Pod,
        update: &PodUpdate,
        policy: &VerticalPolicy,
        groups: &[(Configured, Vec<PodFacts>)],
        now: Time,
    ) {
        match &update.action {
            Action::Keep => {}
            Action::Wait => {
                tracing::debug!(pod = pod.name_any(), reason = %update.reason, held_by = ?update.held_by, "waits");
            }
            Action::RememberInfeasible(targets) => {
                self.infeasible.insert(update.pod.clone(), targets.clone());
            }
            Action::Evict => self.evict(target, pod, &update.reason).await,
            Action::Resize(new) => match self.resize(pod, new).await {
                Ok(is_change) => {
                    if is_change {
                        let text =
                            format!("Pod was resized in place by VPA Updater. {}", sentence(&update.reason));
                        self.tell(about(pod), "InPlaceResizedByVPA", text).await;
                    }
                    self.annotate(pod, &update.reason).await;
                }
                Err(error) => {
                    tracing::warn!(pod = pod.name_any(), %error, "cannot resize a pod in place");
                    if policy.mode == UpdateMode::InPlaceOrRecreate
                        && is_refused(&error)
                        && may_evict(groups, &update.pod, policy, &self.rules, now)
                    {
                        self.evict(target, pod, &update.reason).await;
                    }
                }
            },
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

    async fn evict(&mut self, target: &Target, pod: &Pod, reason: &UpdateReason) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        match api.evict(&pod.name_any(), &EvictParams::default()).await {
            Ok(_) => {
                let why = sentence(reason);
                let text = format!("Pod was evicted by VPA Updater to apply resource recommendation. {why}");
                self.tell(about(pod), "EvictedByVPA", text).await;
                let name = pod.name_any();
                let text = format!("VPA Updater evicted Pod {name} to apply resource recommendation. {why}");
                self.tell(about(&*target.object), "EvictedPod", text).await;
            }
            Err(error) => tracing::info!(pod = pod.name_any(), %error, "an eviction is refused"),
        }
    }

    async fn tell(
        &mut self,
        about: k8s_openapi::api::core::v1::ObjectReference,
        reason: &str,
        message: String,
    ) {
        let reason = reason.to_owned();
        self.events.publish(&Note { about, component: COMPONENT, warning: false, reason, message }).await;
    }

    fn limit_ranges(&self, target: &Target) -> Vec<LimitRange> {
        let all = self.cluster.limit_ranges.state();
        let own = all.iter().filter(|range| range.namespace() == target.object.namespace());
        own.map(|range| LimitRange::clone(range)).collect()
    }

    /// Pods by the controller that would replace them, with the replicas that it wants.
    fn groups(&self, pods: &[Arc<Pod>]) -> Vec<(Configured, Vec<PodFacts>)> {
        let mut groups: BTreeMap<String, (Configured, Vec<PodFacts>)> = BTreeMap::new();
        for pod in pods {
            let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
            let uid = owner.map(|owner| owner.uid.clone()).unwrap_or_default();
            let group = groups.entry(uid).or_insert_with(|| {
                let namespace = pod.namespace().unwrap_or_default();
                let configured = owner.map(|owner| self.configured(&namespace, &owner.kind, &owner.name));
                (configured.unwrap_or(Configured::Unknown), Vec::new())
            });
            group.1.push(facts(pod));
        }
        groups.into_values().collect()
    }

    fn configured(&self, namespace: &str, kind: &str, name: &str) -> Configured {
        let replicas = match kind {
            "ReplicaSet" => {
                let found = self.cluster.replica_sets.get(&ObjectRef::new(name).within(namespace));
                found.and_then(|set| set.spec.replicas)
            }
            "StatefulSet" => {
                let found = self.cluster.stateful_sets.get(&ObjectRef::new(name).within(namespace));
                found.and_then(|set| set.spec.replicas)
            }
            "Job" => return Configured::Live,
            _ => None,
        };
        let replicas = replicas.and_then(|replicas| u32::try_from(replicas).ok());
        replicas.map_or(Configured::Unknown, Configured::Replicas)
    }
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// An error that will not go away by itself.
fn is_refused(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 403 | 405 | 422))
}

fn may_evict(
    groups: &[(Configured, Vec<PodFacts>)],
    pod: &Name,
    policy: &VerticalPolicy,
    rules: &VerticalRules,
    now: Time,
) -> bool {
    groups.iter().any(|(configured, pods)| {
        let Some(own) = pods.iter().find(|one| one.name == *pod) else { return false };
        let group = Group::new(*configured, &pods.iter().collect::<Vec<_>>(), policy, rules);
        group.is_ok_and(|group| group.may_evict(now, own, policy).is_ok())
    })
}

/// The reason as a sentence of its own.
fn sentence(reason: &UpdateReason) -> String {
    let text = reason.to_string();
    let mut letters = text.chars();
    let first: String = letters.next().map(|letter| letter.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
