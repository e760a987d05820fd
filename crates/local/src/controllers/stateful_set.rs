//! StatefulSets: pods with stable names, made in order and deleted in the opposite order.
//!
//! Follows `pkg/controller/statefulset`: `OrderedReady` waits for each pod to be available before the next is made or deleted,
//! `Parallel` does not; a rolling update replaces one pod at a time from the highest ordinal down to `partition`;
//! `OnDelete` leaves that to the user. Which version a pod is of is its label `controller-revision-hash`. Claims for volumes are not made: there are no
//! persistent volumes on this machine, and a set that asks for them is told so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use tokio::task::JoinSet;

use super::pods::{self, is_active, is_available, is_finished, is_ready};
use crate::cluster::{Cluster, Key, Queue, Severity, controller_key, reference, work};
use crate::hash::{fnv1a, safe};

const COMPONENT: &str = "statefulset-controller";
const REVISION_LABEL: &str = "controller-revision-hash";

pub(super) fn start(cluster: &Cluster, tasks: &mut JoinSet<()>) {
    let queue = Arc::new(Queue::default());
    let sets = Arc::clone(&queue);
    cluster.stateful_sets.on_change(move |_, new| new.into_iter().for_each(|set| sets.add(Key::of(&**set))));
    let owners = Arc::clone(&queue);
    cluster.pods.on_change(move |old, new| {
        old.into_iter()
            .chain(new)
            .filter_map(|p| controller_key::<StatefulSet>(&**p))
            .for_each(|k| owners.add(k));
    });
    let cluster = cluster.clone();
    tasks.spawn(work("statefulset", queue, move |key| reconcile(cluster.clone(), key)));
}

async fn reconcile(cluster: Cluster, key: Key) -> Result<Option<Duration>, kube::Error> {
    let Some(set) = cluster.stateful_sets.get(&key) else { return Ok(None) };
    let spec = &set.spec;
    let mine = pods::claim(&cluster, &*set, &spec.selector).await?;
    let revision = revision(&set, spec)?;
    if set.metadata.deletion_timestamp.is_none() {
        if spec.volume_claim_templates.as_ref().is_some_and(|claims| !claims.is_empty()) {
            let message =
                "volumeClaimTemplates are not supported on this machine: use emptyDir or hostPath volumes";
            cluster.recorder.record(&reference(&*set), COMPONENT, Severity::Warning, "FailedCreate", message);
        } else {
            let by_ordinal: BTreeMap<i32, &Arc<Pod>> =
                mine.iter().filter_map(|pod| Some((ordinal(&set, pod)?, pod))).collect();
            if let Some(step) = next_step(spec, &revision, &by_ordinal, Timestamp::now()) {
                take(&cluster, &set, spec, &revision, &by_ordinal, step).await?;
            }
        }
    }
    report(&cluster, &set, spec, &revision, &mine).await?;
    // the next pod may only wait for this one to have been ready for long enough
    Ok(pods::until_available(&mine, spec.min_ready_seconds.unwrap_or(0), Timestamp::now()))
}

fn revision(set: &StatefulSet, spec: &StatefulSetSpec) -> Result<String, kube::Error> {
    let text = serde_json::to_string(&spec.template).map_err(kube::Error::SerdeError)?;
    Ok(format!("{}-{}", set.name_any(), safe(fnv1a(text.as_bytes()))))
}

fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    pod.name_any().strip_prefix(&format!("{}-", set.name_any()))?.parse().ok()
}

fn first_ordinal(spec: &StatefulSetSpec) -> i32 {
    spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0)
}

/// What to do next.
#[derive(Debug, PartialEq)]
enum Step {
    Create(Vec<i32>),
    Delete(Vec<i32>),
}

/// The next step, from what each ordinal has; `None` when there is nothing to do, or something to wait for.
fn next_step(
    spec: &StatefulSetSpec,
    revision: &str,
    pods: &BTreeMap<i32, &Arc<Pod>>,
    now: Timestamp,
) -> Option<Step> {
    let start = first_ordinal(spec);
    let wanted = start..start + spec.replicas.unwrap_or(1);
    let parallel = spec.pod_management_policy.as_deref() == Some("Parallel");
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let settled = |pod: &Pod| is_active(pod) && is_available(pod, min_ready, now);
    // a pod that ended makes room for its successor
    let over: Vec<i32> = pods
        .iter()
        .filter(|(_, pod)| is_finished(pod) && pod.metadata.deletion_timestamp.is_none())
        .map(|(at, _)| *at)
        .collect();
    if !over.is_empty() {
        return Some(Step::Delete(over));
    }
    let missing = wanted.clone().filter(|at| !pods.contains_key(at));
    if parallel {
        let missing: Vec<i32> = missing.collect();
        if !missing.is_empty() {
            return Some(Step::Create(missing));
        }
    } else {
        for at in wanted.clone() {
            match pods.get(&at) {
                None => return Some(Step::Create(vec![at])),
                Some(pod) if !settled(pod) && pod.metadata.deletion_timestamp.is_some() => return None,
                Some(pod) if !settled(pod) => {
                    // a broken pod may be replaced by the update that mends it
                    return outdated(spec, revision, pods, at..at + 1);
                }
                Some(_) => {}
            }
        }
    }
    let surplus: Vec<i32> = pods.keys().rev().filter(|at| !wanted.contains(at)).copied().collect();
    let leaving = pods.values().any(|pod| pod.metadata.deletion_timestamp.is_some());
    if !surplus.is_empty() {
        let still: Vec<i32> =
            surplus.into_iter().filter(|at| pods[at].metadata.deletion_timestamp.is_none()).collect();
        return match (parallel, leaving) {
            (true, _) => (!still.is_empty()).then_some(Step::Delete(still)),
            (false, false) => still.first().map(|at| Step::Delete(vec![*at])),
            (false, true) => None,
        };
    }
    let unsettled =
        pods.iter().any(|(at, pod)| wanted.contains(at) && !settled(pod) && is_current(revision, pod));
    if leaving || unsettled { None } else { outdated(spec, revision, pods, wanted) }
}

fn is_current(revision: &str, pod: &Pod) -> bool {
    pod.labels().get(REVISION_LABEL).is_some_and(|label| label == revision)
}

/// The next pod of a rolling update: the highest ordinal of an older version.
fn outdated(
    spec: &StatefulSetSpec,
    revision: &str,
    pods: &BTreeMap<i32, &Arc<Pod>>,
    among: std::ops::Range<i32>,
) -> Option<Step> {
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete") {
        return None;
    }
    let partition = strategy.and_then(|s| s.rolling_update.as_ref()?.partition).unwrap_or(0);
    let old = |at: &i32| *at >= partition && pods.get(at).is_some_and(|pod| !is_current(revision, pod));
    among.rev().find(old).map(|at| Step::Delete(vec![at]))
}

async fn take(
    cluster: &Cluster,
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    revision: &str,
    pods: &BTreeMap<i32, &Arc<Pod>>,
    step: Step,
) -> Result<(), kube::Error> {
    match step {
        Step::Create(ordinals) => {
            for at in ordinals {
                pods::create(cluster, set, COMPONENT, &pod(set, spec, revision, at)).await?;
            }
        }
        Step::Delete(ordinals) => {
            for pod in ordinals.iter().filter_map(|at| pods.get(at)) {
                pods::delete(cluster, set, COMPONENT, pod).await?;
            }
        }
    }
    Ok(())
}

fn pod(set: &StatefulSet, spec: &StatefulSetSpec, revision: &str, ordinal: i32) -> Pod {
    let name = format!("{}-{ordinal}", set.name_any());
    let mut pod = pods::from_template(set, &spec.template);
    pod.metadata.generate_name = Some(format!("{}-", set.name_any()));
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    labels.insert("statefulset.kubernetes.io/pod-name".to_owned(), name.clone());
    labels.insert("apps.kubernetes.io/pod-index".to_owned(), ordinal.to_string());
    if let Some(pod_spec) = &mut pod.spec {
        pod_spec.hostname = Some(name);
        pod_spec.subdomain = spec.service_name.clone();
    }
    pod
}

async fn report(
    cluster: &Cluster,
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    revision: &str,
    mine: &[Arc<Pod>],
) -> Result<(), kube::Error> {
    let now = Timestamp::now();
    let fresh: Vec<Arc<Pod>> = mine.iter().filter_map(|pod| cluster.pods.get(&Key::of(&**pod))).collect();
    let count = |wanted: &dyn Fn(&Pod) -> bool| fresh.iter().filter(|pod| wanted(pod)).count() as i32;
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let updated = count(&|pod| is_active(pod) && is_current(revision, pod));
    let total = count(&|pod| !is_finished(pod));
    let shown = set.status.clone().unwrap_or_default();
    let done = updated == spec.replicas.unwrap_or(1) && total == updated;
    let current = if done {
        revision.to_owned()
    } else {
        shown.current_revision.clone().unwrap_or(revision.to_owned())
    };
    let status = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: total,
        ready_replicas: Some(count(&|pod| is_active(pod) && is_ready(pod))),
        available_replicas: Some(count(&|pod| is_active(pod) && is_available(pod, min_ready, now))),
        current_replicas: Some(count(&|pod| is_active(pod) && is_current(&current, pod))),
        updated_replicas: Some(updated),
        current_revision: Some(current.clone()),
        update_revision: Some(revision.to_owned()),
        collision_count: Some(0),
        conditions: shown.conditions.clone(),
    };
    if shown == status {
        return Ok(());
    }
    let changed = StatefulSet { status: Some(status), ..set.clone() };
    let api: Api<StatefulSet> = Api::namespaced(cluster.client.clone(), &set.namespace().unwrap_or_default());
    cluster
        .stateful_sets
        .absorb(api.replace_status(&set.name_any(), &PostParams::default(), &changed).await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Pods as text: `R` ready, `p` not ready, `T` terminating, `F` failed, each at the ordinal of its place; lower-case `r` is
    /// ready of an old revision; `.` is none.
    fn check(spec: Value, pods: &str, expected: Option<Step>) {
        let mut whole = json!({"serviceName": "s", "selector": {}, "template": {}});
        json_patch::merge(&mut whole, &spec);
        let spec: StatefulSetSpec = serde_json::from_value(whole).unwrap();
        let pods: BTreeMap<i32, Arc<Pod>> = pods
            .chars()
            .enumerate()
            .filter(|(_, c)| *c != '.')
            .map(|(at, c)| (at as i32, Arc::new(pod_of(c))))
            .collect();
        let by_ordinal = pods.iter().map(|(at, pod)| (*at, pod)).collect();
        assert_eq!(next_step(&spec, "new", &by_ordinal, Timestamp::now()), expected, "{spec:?}");
    }

    fn pod_of(c: char) -> Pod {
        let ready = if c == 'p' { "False" } else { "True" };
        let mut pod = json!({
            "metadata": {"name": "x", "labels": {REVISION_LABEL: if c == 'r' { "old" } else { "new" }}},
            "status": {"phase": if c == 'F' { "Failed" } else { "Running" }, "conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        if c == 'T' {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn pods_come_and_go_in_order() {
        let ordered = |replicas: i32| json!({"replicas": replicas});
        let parallel = |replicas: i32| json!({"replicas": replicas, "podManagementPolicy": "Parallel"});
        check(ordered(3), "", Some(Step::Create(vec![0])));
        check(ordered(3), "p", None);
        check(ordered(3), "R", Some(Step::Create(vec![1])));
        check(ordered(3), "R.R", Some(Step::Create(vec![1])));
        check(ordered(3), "RRR", None);
        check(ordered(1), "RRR", Some(Step::Delete(vec![2])));
        check(ordered(1), "RRT", None);
        check(ordered(2), "RF", Some(Step::Delete(vec![1])));
        check(parallel(3), "p", Some(Step::Create(vec![1, 2])));
        check(parallel(1), "RRR", Some(Step::Delete(vec![2, 1])));
    }

    #[test]
    fn an_update_replaces_from_the_top() {
        let strategy = |strategy: Value| json!({"replicas": 3, "updateStrategy": strategy});
        check(strategy(json!({"type": "RollingUpdate"})), "rrr", Some(Step::Delete(vec![2])));
        check(strategy(json!({"type": "RollingUpdate"})), "rrT", None);
        check(strategy(json!({"type": "RollingUpdate"})), "rrp", None);
        check(strategy(json!({"type": "RollingUpdate"})), "rrR", Some(Step::Delete(vec![1])));
        check(strategy(json!({"rollingUpdate": {"partition": 2}})), "rrR", None);
        check(strategy(json!({"type": "OnDelete"})), "rrr", None);
    }
}
