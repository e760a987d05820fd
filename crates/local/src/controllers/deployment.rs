//! Deployments: one ReplicaSet for each version of the template, and the way from the old to the new.
//!
//! Follows `pkg/controller/deployment`: the new set is the one with the Deployment's template; revisions are numbered in the
//! annotation `deployment.kubernetes.io/revision`; the arithmetic is in `rollout`, the status in `rollout_status`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::task::JoinSet;

use super::rollout::{Size, Wishes, grow_new, in_proportion, shrink_old};
use super::{pods, rollout_status};
use crate::cluster::{Cluster, Key, Queue, Severity, controller_key, controls, owned_by, reference, work};
use crate::hash::{fnv1a, safe};

const COMPONENT: &str = "deployment-controller";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const HASH_LABEL: &str = "pod-template-hash";
/// Annotations of a Deployment that are not for its sets (`deployment_util.go`, `annotationsToSkip`).
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
const HISTORY_DEFAULT: i32 = 10;

pub(super) fn start(cluster: &Cluster, tasks: &mut JoinSet<()>) {
    let queue = Arc::new(Queue::default());
    let deployments = Arc::clone(&queue);
    cluster.deployments.on_change(move |_, new| new.into_iter().for_each(|d| deployments.add(Key::of(&**d))));
    let owners = Arc::clone(&queue);
    cluster.replica_sets.on_change(move |old, new| {
        old.into_iter()
            .chain(new)
            .filter_map(|set| controller_key::<Deployment>(&**set))
            .for_each(|k| owners.add(k));
    });
    // Recreate waits for the last old pod to be gone, which no ReplicaSet's status shows
    let (owners, sets) = (Arc::clone(&queue), cluster.replica_sets.clone());
    cluster.pods.on_change(move |old, new| {
        if let (Some(old), None) = (old, new) {
            let set = controller_key::<ReplicaSet>(&**old).and_then(|key| sets.get(&key));
            set.and_then(|set| controller_key::<Deployment>(&*set))
                .into_iter()
                .for_each(|key| owners.add(key));
        }
    });
    let cluster = cluster.clone();
    tasks.spawn(work("deployment", queue, move |key| reconcile(cluster.clone(), key)));
}

/// A Deployment and its ReplicaSets, as one reconciliation sees them.
pub(super) struct Rollout<'a> {
    cluster: &'a Cluster,
    pub(super) deployment: Arc<Deployment>,
    pub(super) spec: DeploymentSpec,
    pub(super) wishes: Wishes,
    pub(super) new: Option<Arc<ReplicaSet>>,
    /// Oldest first.
    pub(super) old: Vec<Arc<ReplicaSet>>,
}

async fn reconcile(cluster: Cluster, key: Key) -> Result<Option<Duration>, kube::Error> {
    let Some(deployment) = cluster.deployments.get(&key) else { return Ok(None) };
    let spec = deployment.spec.clone();
    let mut rollout = Rollout::look(&cluster, deployment, spec);
    if rollout.deployment.metadata.deletion_timestamp.is_none() {
        if rollout.spec.paused == Some(true) {
            if rollout.new.is_some() {
                rollout.provide_new(0).await?;
            }
            rollout.scale_all().await?;
        } else if rollout.was_scaled() {
            rollout.provide_new(0).await?;
            rollout.scale_all().await?;
        } else if is_recreate(&rollout.spec) {
            rollout.recreate().await?;
        } else {
            rollout.roll().await?;
        }
        rollout.clean_up().await?;
    }
    let again =
        rollout_status::report(&cluster, &Rollout::look(&cluster, rollout.deployment, rollout.spec)).await?;
    Ok(again)
}

pub(super) fn is_recreate(spec: &DeploymentSpec) -> bool {
    spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate")
}

pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

fn number<N: std::str::FromStr>(set: &ReplicaSet, annotation: &str) -> Option<N> {
    set.annotations().get(annotation)?.parse().ok()
}

fn revision(set: &ReplicaSet) -> Option<i64> {
    number(set, REVISION)
}

fn size(set: &ReplicaSet) -> Size {
    let available = set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0);
    Size { wanted: replicas(set), available, max_replicas: number(set, MAX) }
}

/// The template as the user wrote it: without the label that tells sets apart.
fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    template
}

impl<'a> Rollout<'a> {
    fn look(cluster: &'a Cluster, deployment: Arc<Deployment>, spec: DeploymentSpec) -> Self {
        let key = Key::of(&*deployment);
        // the answer of a write may be newer than what was read first
        let deployment = cluster.deployments.get(&key).unwrap_or(deployment);
        let rolling = spec.strategy.as_ref().and_then(|s| s.rolling_update.clone()).unwrap_or_default();
        let replicas = spec.replicas.unwrap_or(1);
        let wishes = if is_recreate(&spec) {
            Wishes { replicas, max_surge: 0, max_unavailable: 0 }
        } else {
            Wishes::new(replicas, rolling.max_surge.as_ref(), rolling.max_unavailable.as_ref())
        };
        let mut sets: Vec<Arc<ReplicaSet>> = cluster
            .replica_sets
            .in_namespace(&key.namespace)
            .into_iter()
            .filter(|set| controls(&*deployment, &**set))
            .collect();
        sets.sort_by_cached_key(|set| (set.creation_timestamp().map(|t| t.0), set.name_any()));
        let is_new = |set: &Arc<ReplicaSet>| {
            set.spec.template.as_ref().map(without_hash).as_ref() == Some(&spec.template)
        };
        let new = sets.iter().position(is_new).map(|at| sets.remove(at));
        Rollout { cluster, deployment, spec, wishes, new, old: sets }
    }

    fn api(&self) -> Api<ReplicaSet> {
        Api::namespaced(self.cluster.client.clone(), &self.deployment.namespace().unwrap_or_default())
    }

    fn old_sizes(&self) -> Vec<Size> {
        self.old.iter().map(|set| size(set)).collect()
    }

    /// Whether `spec.replicas` is not what the running sets were scaled for.
    fn was_scaled(&self) -> bool {
        let mut running = self.new.iter().chain(&self.old).filter(|set| replicas(set) > 0);
        running.any(|set| number(set, DESIRED).is_some_and(|desired: i32| desired != self.wishes.replicas))
    }

    /// A rolling update's next step: first grow the new set, then shrink the old ones.
    async fn roll(&mut self) -> Result<(), kube::Error> {
        let first = grow_new(self.wishes, Size::default(), &self.old_sizes());
        let new = self.provide_new(first).await?;
        let next = grow_new(self.wishes, size(&new), &self.old_sizes());
        let new = self.scale(&new, next).await?;
        let sizes = shrink_old(self.wishes, size(&new), &self.old_sizes());
        for (set, size) in self.old.clone().iter().zip(sizes) {
            self.scale(set, size).await?;
        }
        Ok(())
    }

    /// All old pods go, then all new ones come.
    async fn recreate(&mut self) -> Result<(), kube::Error> {
        for set in self.old.clone() {
            self.scale(&set, 0).await?;
        }
        let pods = self.cluster.pods.in_namespace(&self.deployment.namespace().unwrap_or_default());
        let left = pods
            .iter()
            .any(|pod| !pods::is_finished(pod) && self.old.iter().any(|set| controls(&**set, &**pod)));
        if !left {
            let new = self.provide_new(self.wishes.replicas).await?;
            self.scale(&new, self.wishes.replicas).await?;
        }
        Ok(())
    }

    /// Brings the sets to the Deployment's size without getting on with the rollout.
    async fn scale_all(&mut self) -> Result<(), kube::Error> {
        let running: Vec<Arc<ReplicaSet>> =
            self.new.iter().chain(&self.old).filter(|set| replicas(set) > 0).cloned().collect();
        let latest = || self.new.clone().or_else(|| self.old.last().cloned());
        match running.as_slice() {
            [] => {
                if let Some(set) = latest() {
                    self.scale(&set, self.wishes.replicas).await?;
                }
            }
            [one] => {
                self.scale(&one.clone(), self.wishes.replicas).await?;
            }
            several if !is_recreate(&self.spec) => {
                let sizes: Vec<Size> = several.iter().map(|set| size(set)).collect();
                for (set, size) in several.to_vec().iter().zip(in_proportion(self.wishes, &sizes)) {
                    self.scale(set, size).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The set of the present template: found, brought up to date, or created with so many pods.
    async fn provide_new(&mut self, first: i32) -> Result<Arc<ReplicaSet>, kube::Error> {
        let next = self.old.iter().filter_map(|set| revision(set)).max().unwrap_or(0) + 1;
        let set = match self.new.clone() {
            Some(set) => self.annotate(&set, next).await?,
            None => self.create(next, first).await?,
        };
        self.new = Some(Arc::clone(&set));
        let shown = set.annotations().get(REVISION).cloned().unwrap_or_default();
        if self.deployment.annotations().get(REVISION) != Some(&shown) {
            let api: Api<Deployment> = Api::namespaced(
                self.cluster.client.clone(),
                &self.deployment.namespace().unwrap_or_default(),
            );
            let patch = Patch::Merge(json!({"metadata": {"annotations": {REVISION: shown}}}));
            let changed = api.patch(&self.deployment.name_any(), &PatchParams::default(), &patch).await?;
            self.deployment = Arc::new(changed.clone());
            self.cluster.deployments.absorb(changed);
        }
        Ok(set)
    }

    /// Gives the new set its revision, at least `next`, and the Deployment's annotations, which `kubectl rollout
    /// history` shows and `rollout undo` brings back.
    async fn annotate(&self, set: &Arc<ReplicaSet>, next: i64) -> Result<Arc<ReplicaSet>, kube::Error> {
        let mut wanted = self.copied_annotations();
        wanted.insert(REVISION.to_owned(), revision(set).unwrap_or(0).max(next).to_string());
        wanted.retain(|key, value| set.annotations().get(key) != Some(value));
        if wanted.is_empty() {
            return Ok(Arc::clone(set));
        }
        self.patch(set, json!({"metadata": {"annotations": wanted}})).await
    }

    fn copied_annotations(&self) -> BTreeMap<String, String> {
        let mut annotations = self.deployment.annotations().clone();
        annotations.retain(|key, _| !NOT_COPIED.contains(&key.as_str()));
        annotations
    }

    async fn create(&self, revision: i64, size: i32) -> Result<Arc<ReplicaSet>, kube::Error> {
        let set = self.new_set(revision, size)?;
        match self.api().create(&PostParams::default(), &set).await {
            Ok(set) => {
                self.cluster.replica_sets.absorb(set.clone());
                if size > 0 {
                    self.event_scaled(&set, 0, size);
                }
                Ok(Arc::new(set))
            }
            Err(e) => Err(e),
        }
    }

    fn new_set(&self, revision: i64, size: i32) -> Result<ReplicaSet, kube::Error> {
        let collisions = self.deployment.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
        let text = serde_json::to_string(&self.spec.template).map_err(kube::Error::SerdeError)?;
        let hash = safe(fnv1a(format!("{text}{collisions}").as_bytes()));
        let mut template = self.spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector: LabelSelector = self.spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
        let mut annotations = self.copied_annotations();
        annotations.insert(REVISION.to_owned(), revision.to_string());
        annotations.extend(self.size_annotations());
        Ok(ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", self.deployment.name_any())),
                namespace: self.deployment.namespace(),
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: Some(owned_by(&*self.deployment)),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(size),
                selector,
                template: Some(template),
                min_ready_seconds: self.spec.min_ready_seconds,
            },
            status: None,
        })
    }

    fn size_annotations(&self) -> [(String, String); 2] {
        let max = self.wishes.replicas + self.wishes.max_surge;
        [(DESIRED.to_owned(), self.wishes.replicas.to_string()), (MAX.to_owned(), max.to_string())]
    }

    /// Gives a set its size; keeps the annotations that tell a scaled Deployment from a rolling one.
    async fn scale(&mut self, set: &Arc<ReplicaSet>, to: i32) -> Result<Arc<ReplicaSet>, kube::Error> {
        let from = replicas(set);
        let noted =
            self.size_annotations().iter().all(|(key, value)| set.annotations().get(key) == Some(value));
        if from == to && (noted || to == 0) {
            return Ok(Arc::clone(set));
        }
        let annotations: BTreeMap<_, _> = self.size_annotations().into_iter().collect();
        let patch = json!({"metadata": {"annotations": annotations}, "spec": {"replicas": to}});
        let changed = self.patch(set, patch).await?;
        if from != to {
            self.event_scaled(&changed, from, to);
        }
        for known in self.new.iter_mut().chain(&mut self.old).filter(|known| known.uid() == changed.uid()) {
            *known = Arc::clone(&changed);
        }
        Ok(changed)
    }

    async fn patch(
        &self,
        set: &ReplicaSet,
        patch: serde_json::Value,
    ) -> Result<Arc<ReplicaSet>, kube::Error> {
        let changed =
            self.api().patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        self.cluster.replica_sets.absorb(changed.clone());
        Ok(Arc::new(changed))
    }

    fn event_scaled(&self, set: &ReplicaSet, from: i32, to: i32) {
        let way = if to > from { "up" } else { "down" };
        let message = format!("Scaled {way} replica set {} from {from} to {to}", set.name_any());
        let about = reference(&*self.deployment);
        self.cluster.recorder.record(&about, COMPONENT, Severity::Normal, "ScalingReplicaSet", message);
    }

    /// Removes the oldest empty sets beyond the history limit.
    async fn clean_up(&self) -> Result<(), kube::Error> {
        let limit = self.spec.revision_history_limit.unwrap_or(HISTORY_DEFAULT).max(0) as usize;
        let empty = |set: &&Arc<ReplicaSet>| {
            replicas(set) == 0
                && set.status.as_ref().is_none_or(|s| s.replicas == 0)
                && set.metadata.deletion_timestamp.is_none()
        };
        let mut removable: Vec<&Arc<ReplicaSet>> = self.old.iter().filter(empty).collect();
        removable.sort_by_key(|set| revision(set));
        let surplus = self.old.len().saturating_sub(limit);
        for set in removable.into_iter().take(surplus) {
            match self.api().delete(&set.name_any(), &DeleteParams::background()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(e) => return Err(e),
                Ok(_) => self.cluster.replica_sets.forget(set),
            }
        }
        Ok(())
    }

    pub(super) fn revision_created_at(&self) -> Option<Timestamp> {
        self.new.as_ref()?.creation_timestamp().map(|t| t.0)
    }
}
