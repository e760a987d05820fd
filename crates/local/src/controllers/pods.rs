//! What several controllers ask of pods: whose they are, how far they are, which goes first; and how they are made and deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Selector;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use crate::cluster::{Cluster, Severity, controller_of, controls, owned_by, reference};

/// Lower goes first in a scale-down; the ReplicaSet controller's annotation.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Neither finished nor being deleted.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some_and(|c| c.status == "True")
}

fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready")
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    ready_condition(pod).filter(|c| c.status == "True")?.last_transition_time.as_ref().map(|Time(t)| *t)
}

/// When a pod will have been ready for `minReadySeconds`; `None` if it is not ready.
pub(crate) fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    let ready = is_ready(pod).then(|| ready_since(pod).unwrap_or(Timestamp::MIN))?;
    ready.checked_add(SignedDuration::from_secs(min_ready_seconds.into())).ok()
}

pub(crate) fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    available_at(pod, min_ready_seconds).is_some_and(|at| at <= now)
}

/// How long until the next of these pods becomes available merely by time passing.
pub(crate) fn until_available(pods: &[Arc<Pod>], min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let next =
        pods.iter().filter_map(|pod| available_at(pod, min_ready_seconds)).filter(|at| *at > now).min()?;
    Some(Duration::try_from(next.duration_since(now)).unwrap_or_default())
}

/// In which order pods are deleted, the first first: the order of Kubernetes' `ActivePodsWithRanks` for one node.
pub(crate) fn deletion_order(pods: &mut [Arc<Pod>]) {
    pods.sort_by_cached_key(|pod| {
        let phase = match phase(pod) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        let cost: i32 = pod.annotations().get(DELETION_COST).and_then(|c| c.parse().ok()).unwrap_or(0);
        let newest = |time: Option<Timestamp>| time.map_or(i64::MIN, |t| -t.as_millisecond());
        let restarts = pod
            .status
            .as_ref()
            .and_then(|s| s.container_statuses.as_ref())
            .map_or(0, |list| list.iter().map(|c| c.restart_count).max().unwrap_or(0));
        (
            pod.spec.as_ref().is_some_and(|s| s.node_name.is_some()),
            phase,
            is_ready(pod),
            cost,
            newest(ready_since(pod)),
            -restarts,
            newest(pod.creation_timestamp().map(|t| t.0)),
            pod.name_any(),
        )
    });
}

/// A selector ready to be asked; one that cannot be understood matches nothing.
pub(crate) fn selector(selector: &LabelSelector) -> Option<Selector> {
    Selector::try_from(selector.clone()).ok()
}

/// The pods an owner controls. A pod without an owner that matches is adopted, one that matches no more is let go.
pub(crate) async fn claim<K: Resource<DynamicType = ()>>(
    cluster: &Cluster,
    owner: &K,
    matches: &LabelSelector,
) -> Result<Vec<Arc<Pod>>, kube::Error> {
    let Some(selector) = selector(matches) else { return Ok(Vec::new()) };
    let namespace = owner.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
    let mut mine = Vec::new();
    for pod in cluster.pods.in_namespace(&namespace) {
        let matched = kube::core::SelectorExt::matches(&selector, pod.labels());
        let owners = if controls(owner, &*pod) {
            if matched {
                mine.push(pod);
                continue;
            }
            json!([])
        } else if matched && controller_of(&*pod).is_none() && is_active(&pod) {
            json!(owned_by(owner))
        } else {
            continue;
        };
        let patch = json!({"metadata": {"uid": pod.uid(), "ownerReferences": owners}});
        let changed = api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        if matched {
            mine.push(Arc::new(changed.clone()));
        }
        cluster.pods.absorb(changed);
    }
    Ok(mine)
}

/// A pod from a template, controlled by `owner`.
pub(crate) fn from_template<K: Resource<DynamicType = ()>>(owner: &K, template: &PodTemplateSpec) -> Pod {
    let given = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name_any())),
            namespace: owner.namespace(),
            labels: given.labels,
            annotations: given.annotations,
            finalizers: given.finalizers,
            owner_references: Some(owned_by(owner)),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Creates a pod and notes it at its owner.
pub(crate) async fn create<K: Resource<DynamicType = ()>>(
    cluster: &Cluster,
    owner: &K,
    component: &'static str,
    pod: &Pod,
) -> Result<(), kube::Error> {
    let namespace = owner.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
    let record = |severity, reason: &str, message: String| {
        cluster.recorder.record(&reference(owner), component, severity, reason, message);
    };
    match api.create(&PostParams::default(), pod).await {
        Ok(pod) => {
            record(Severity::Normal, "SuccessfulCreate", format!("Created pod: {}", pod.name_any()));
            cluster.pods.absorb(pod);
            Ok(())
        }
        Err(e) => {
            record(Severity::Warning, "FailedCreate", format!("Error creating: {}", message(&e)));
            Err(e)
        }
    }
}

/// Deletes a pod, with its grace period, and notes it at its owner.
pub(crate) async fn delete<K: Resource<DynamicType = ()>>(
    cluster: &Cluster,
    owner: &K,
    component: &'static str,
    pod: &Pod,
) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &pod.namespace().unwrap_or_default());
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(&pod.name_any(), &params).await {
        Ok(answer) => {
            // a pod with a grace period comes back marked; one without is gone
            match answer.left() {
                Some(marked) if marked.metadata.deletion_timestamp.is_some() => cluster.pods.absorb(marked),
                _ => cluster.pods.forget(pod),
            }
            let message = format!("Deleted pod: {}", pod.name_any());
            cluster.recorder.record(
                &reference(owner),
                component,
                Severity::Normal,
                "SuccessfulDelete",
                message,
            );
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            cluster.pods.forget(pod);
            Ok(())
        }
        Err(e) => Err(e),
    }
}

/// The API server's own words where there are any.
pub(crate) fn message(e: &kube::Error) -> String {
    match e {
        kube::Error::Api(status) => status.message.clone(),
        e => e.to_string(),
    }
}

/// The labels of a template.
pub(crate) fn labels(template: &PodTemplateSpec) -> BTreeMap<String, String> {
    template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, more: Value) -> Arc<Pod> {
        let mut pod = json!({"metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [], "nodeName": "n"},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z"}]}});
        json_patch::merge(&mut pod, &more);
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn the_least_useful_pod_goes_first() {
        let ready = |since: &str| json!([{"type": "Ready", "status": "True", "lastTransitionTime": since}]);
        let mut pods = vec![
            pod("old", json!({})),
            pod("costly", json!({"metadata": {"annotations": {DELETION_COST: "10"}}})),
            pod("cheap", json!({"metadata": {"annotations": {DELETION_COST: "-10"}}})),
            pod("newly-ready", json!({"status": {"conditions": ready("2026-01-01T00:01:00Z")}})),
            pod("newer", json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:05Z"}})),
            pod(
                "restarted",
                json!({"status": {"containerStatuses": [
                {"name": "c", "restartCount": 3, "ready": true, "image": "", "imageID": ""}]}}),
            ),
            pod("unready", json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})),
            pod("pending", json!({"status": {"phase": "Pending", "conditions": []}})),
            pod(
                "unscheduled",
                json!({"spec": {"nodeName": null}, "status": {"phase": "Pending", "conditions": []}}),
            ),
        ];
        deletion_order(&mut pods);
        let names: Vec<_> = pods.iter().map(|p| p.name_any()).collect();
        assert_eq!(
            names,
            [
                "unscheduled",
                "pending",
                "unready",
                "cheap",
                "newly-ready",
                "restarted",
                "newer",
                "old",
                "costly"
            ]
        );
    }

    #[test]
    fn a_pod_is_available_when_it_was_ready_long_enough() {
        let pod = pod("p", json!({}));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (min_ready, now, expected) in [
            (0, "2026-01-01T00:00:10Z", true),
            (5, "2026-01-01T00:00:14Z", false),
            (5, "2026-01-01T00:00:15Z", true),
        ] {
            assert_eq!(is_available(&pod, min_ready, at(now)), expected, "{min_ready} {now}");
        }
    }
}
