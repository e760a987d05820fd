//! ReplicaSets: as many active pods as asked for.
//!
//! Follows `pkg/controller/replicaset`: at most [`BURST`] pods made or deleted at once; deletion in the order of
//! `pods::deletion_order`; a failed creation shows as condition `ReplicaFailure`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use tokio::task::JoinSet;

use super::pods::{self, is_active, is_available, is_ready};
use crate::cluster::{Cluster, Key, Queue, controller_key, work};

const COMPONENT: &str = "replicaset-controller";
/// Kubernetes' `BurstReplicas`.
const BURST: usize = 500;
/// The condition of a set that cannot create its pods.
const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(super) fn start(cluster: &Cluster, tasks: &mut JoinSet<()>) {
    let queue = Arc::new(Queue::default());
    let sets = Arc::clone(&queue);
    cluster.replica_sets.on_change(move |_, new| new.into_iter().for_each(|set| sets.add(Key::of(&**set))));
    let (owners, all) = (Arc::clone(&queue), cluster.replica_sets.clone());
    cluster.pods.on_change(move |old, new| {
        for pod in old.into_iter().chain(new) {
            match controller_key::<ReplicaSet>(&**pod) {
                Some(key) => owners.add(key),
                // an orphan may belong to anyone in its namespace
                None if pod.owner_references().is_empty() => {
                    let namespace = pod.namespace().unwrap_or_default();
                    all.in_namespace(&namespace).iter().for_each(|set| owners.add(Key::of(&**set)));
                }
                None => {}
            }
        }
    });
    let cluster = cluster.clone();
    tasks.spawn(work("replicaset", queue, move |key| reconcile(cluster.clone(), key)));
}

async fn reconcile(cluster: Cluster, key: Key) -> Result<Option<Duration>, kube::Error> {
    let Some(set) = cluster.replica_sets.get(&key) else { return Ok(None) };
    let mine = pods::claim(&cluster, &*set, &set.spec.selector).await?;
    let active: Vec<Arc<Pod>> = mine.into_iter().filter(|pod| is_active(pod)).collect();
    let failure = if set.metadata.deletion_timestamp.is_none() {
        manage(&cluster, &set, &active).await.err()
    } else {
        None
    };
    let again = report(&cluster, &key, failure.as_ref()).await?;
    failure.map_or(Ok(again), Err)
}

async fn manage(cluster: &Cluster, set: &ReplicaSet, active: &[Arc<Pod>]) -> Result<(), kube::Error> {
    let wanted = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(0);
    if let Some(template) = set.spec.template.as_ref().filter(|_| active.len() < wanted) {
        let pod = pods::from_template(set, template);
        for _ in 0..(wanted - active.len()).min(BURST) {
            pods::create(cluster, set, COMPONENT, &pod).await?;
        }
    }
    if active.len() > wanted {
        let mut candidates = active.to_vec();
        pods::deletion_order(&mut candidates);
        for pod in candidates.iter().take((active.len() - wanted).min(BURST)) {
            pods::delete(cluster, set, COMPONENT, pod).await?;
        }
    }
    Ok(())
}

/// Writes the status; answers when a pod will become available merely by time passing.
async fn report(
    cluster: &Cluster,
    key: &Key,
    failure: Option<&kube::Error>,
) -> Result<Option<Duration>, kube::Error> {
    let Some(set) = cluster.replica_sets.get(key) else { return Ok(None) };
    let now = Timestamp::now();
    let pods: Vec<_> = cluster
        .pods
        .in_namespace(&key.namespace)
        .into_iter()
        .filter(|pod| crate::cluster::controls(&*set, &**pod) && is_active(pod))
        .collect();
    let new = status(&set, &pods, failure, now);
    if set.status.as_ref() != Some(&new) {
        let mut changed = ReplicaSet::clone(&set);
        changed.status = Some(new);
        let api: Api<ReplicaSet> = Api::namespaced(cluster.client.clone(), &key.namespace);
        cluster.replica_sets.absorb(api.replace_status(&key.name, &PostParams::default(), &changed).await?);
    }
    Ok(pods::until_available(&pods, min_ready_seconds(&set), now))
}

fn min_ready_seconds(set: &ReplicaSet) -> i32 {
    set.spec.min_ready_seconds.unwrap_or(0)
}

/// Whether a condition says that pods could not be created.
pub(super) fn is_failure(condition: &ReplicaSetCondition) -> bool {
    condition.type_.as_deref() == Some(REPLICA_FAILURE)
}

fn status(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    failure: Option<&kube::Error>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let template = set.spec.template.as_ref().map(pods::labels).unwrap_or_default();
    let count = |wanted: &dyn Fn(&Pod) -> bool| pods.iter().filter(|pod| wanted(pod)).count() as i32;
    let min_ready = min_ready_seconds(set);
    let failed = failure.map(|e| {
        let before = set.status.iter().flat_map(|s| s.conditions.iter().flatten()).find(|c| is_failure(c));
        ReplicaSetCondition {
            type_: Some(REPLICA_FAILURE.to_owned()),
            status: Some("True".to_owned()),
            reason: Some("FailedCreate".to_owned()),
            message: Some(pods::message(e)),
            last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
        }
    });
    ReplicaSetStatus {
        replicas: pods.len() as i32,
        fully_labeled_replicas: Some(count(&|pod| {
            template.iter().all(|(k, v)| pod.labels().get(k) == Some(v))
        })),
        ready_replicas: Some(count(&is_ready)),
        available_replicas: Some(count(&|pod| is_available(pod, min_ready, now))),
        observed_generation: set.metadata.generation,
        conditions: failed.map(|condition| vec![condition]),
        ..ReplicaSetStatus::default()
    }
}
