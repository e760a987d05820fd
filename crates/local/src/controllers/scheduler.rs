//! The scheduler for a machine that is one node: a pod is bound when its requests fit into what is left.
//!
//! Reasons are kube-scheduler's: `0/1 nodes are available: 1 Insufficient cpu, 1 Too many pods.` Pods are tried oldest first;
//! one that does not fit waits until anything about pods or nodes changes, one with scheduling gates until it has none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::pods::is_finished;
use crate::cluster::{Cluster, Severity, reference};
use crate::quantity::{milli, whole};
use crate::requests::{Requests, scheduled};

const COMPONENT: &str = "default-scheduler";
/// After a write that failed; nothing else may change meanwhile.
const RETRY: Duration = Duration::from_secs(1);

pub(super) fn start(cluster: &Cluster, node_name: &str, tasks: &mut JoinSet<()>) {
    let changed = Arc::new(Notify::new());
    let (pods, nodes) = (Arc::clone(&changed), Arc::clone(&changed));
    cluster.pods.on_change(move |_, _| pods.notify_one());
    cluster.nodes.on_change(move |_, _| nodes.notify_one());
    tasks.spawn(run(cluster.clone(), node_name.to_owned(), changed));
}

async fn run(cluster: Cluster, node_name: String, changed: Arc<Notify>) {
    let mut again = false;
    loop {
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(RETRY), if again => {}
        }
        again = false;
        gate_all(&cluster).await;
        let mut waiting: Vec<Arc<Pod>> =
            cluster.pods.all().into_iter().filter(|pod| is_waiting(pod)).collect();
        waiting.sort_by_cached_key(|pod| (pod.creation_timestamp().map(|t| t.0), pod.name_any()));
        for pod in waiting {
            let node = cluster.nodes.all().into_iter().find(|node| node.name_any() == node_name);
            let Some(node) = node else { break };
            let problems = problems(&pod, &node, &cluster.pods.all());
            let done = if problems.is_empty() {
                bind(&cluster, &pod, &node_name).await
            } else {
                refuse(&cluster, &pod, &problems).await
            };
            if let Err(e) = done {
                tracing::debug!(pod = pod.name_any(), "not scheduled: {e}");
                again = true;
            }
        }
    }
}

/// Says of pods with scheduling gates that these hold them.
async fn gate_all(cluster: &Cluster) {
    let gated = |pod: &Arc<Pod>| {
        let spec = pod.spec.as_ref();
        spec.is_some_and(|s| {
            s.node_name.is_none() && s.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty())
        })
    };
    for pod in cluster.pods.all().into_iter().filter(gated) {
        let message = "Scheduling is blocked due to non-empty scheduling gates".to_owned();
        if let Err(e) = show(cluster, &pod, "SchedulingGated", message).await {
            tracing::debug!(pod = pod.name_any(), "not shown as gated: {e}");
        }
    }
}

fn is_waiting(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    spec.is_some_and(|s| {
        s.node_name.is_none()
            && s.scheduler_name.as_deref().is_none_or(|name| name == COMPONENT)
            && s.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
    }) && pod.metadata.deletion_timestamp.is_none()
        && !is_finished(pod)
}

/// Why a pod can't run on a node; empty if it can.
fn problems(pod: &Pod, node: &Node, all: &[Arc<Pod>]) -> Vec<String> {
    let mut problems: Vec<String> = Vec::new();
    let spec = pod.spec.as_ref();
    let tolerated = spec.is_some_and(|s| {
        s.tolerations.iter().flatten().any(|t| t.key.as_deref() == Some("node.kubernetes.io/unschedulable"))
    });
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) && !tolerated {
        problems.push("node(s) were unschedulable".to_owned());
    }
    let labels = node.labels();
    let wanted = spec.and_then(|s| s.node_selector.clone()).unwrap_or_default();
    if wanted.iter().any(|(key, value)| labels.get(key) != Some(value)) {
        problems.push("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    let here: Vec<&Arc<Pod>> = all
        .iter()
        .filter(|p| {
            p.spec.as_ref().and_then(|s| s.node_name.as_ref()) == Some(&node.name_any()) && !is_finished(p)
        })
        .collect();
    let allocatable = node.status.as_ref().and_then(|s| s.allocatable.clone()).unwrap_or_default();
    let room = |name: &str| allocatable.get(name).cloned();
    let used = here.iter().map(|p| scheduled(p)).fold(Requests::default(), Requests::plus);
    let asks = scheduled(pod);
    let all = used.plus(asks);
    if room("pods").and_then(|q| whole(&q)).is_some_and(|max| here.len() as u64 >= max) {
        problems.push("Too many pods".to_owned());
    }
    if asks.cpu_milli > 0 && room("cpu").and_then(|q| milli(&q)).is_some_and(|max| all.cpu_milli > max) {
        problems.push("Insufficient cpu".to_owned());
    }
    if asks.memory_bytes > 0
        && room("memory").and_then(|q| whole(&q)).is_some_and(|max| all.memory_bytes > max)
    {
        problems.push("Insufficient memory".to_owned());
    }
    let missing = extended(pod).into_iter().filter(|name| room(name).is_none());
    problems.extend(missing.map(|name| format!("Insufficient {name}")));
    problems
}

/// What a pod asks for beside CPU, memory and disk, like `nvidia.com/gpu`: this node has none of it.
fn extended(pod: &Pod) -> BTreeSet<String> {
    let containers = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
    let resources = containers.filter_map(|c| c.resources.as_ref());
    let lists = resources.flat_map(|r| r.requests.iter().chain(&r.limits));
    let asked = lists.flatten().filter(|(_, amount)| whole(amount).is_some_and(|n| n > 0));
    let known = ["cpu", "memory", "ephemeral-storage"];
    asked.map(|(name, _)| name.clone()).filter(|name| !known.contains(&name.as_str())).collect()
}

async fn bind(cluster: &Cluster, pod: &Pod, node: &str) -> Result<(), kube::Error> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
    let target =
        ObjectReference { kind: Some("Node".to_owned()), name: Some(node.to_owned()), ..Default::default() };
    let metadata = ObjectMeta { name: Some(name.clone()), uid: pod.uid(), ..ObjectMeta::default() };
    let binding = Binding { metadata, target };
    let _: serde_json::Value =
        api.create_subresource("binding", &name, &PostParams::default(), &binding).await?;
    cluster.pods.absorb(api.get(&name).await?);
    let message = format!("Successfully assigned {namespace}/{name} to {node}");
    cluster.recorder.record(&reference(pod), COMPONENT, Severity::Normal, "Scheduled", message);
    Ok(())
}

async fn refuse(cluster: &Cluster, pod: &Pod, problems: &[String]) -> Result<(), kube::Error> {
    let counted: Vec<String> = problems.iter().map(|problem| format!("1 {problem}")).collect();
    let message = format!("0/1 nodes are available: {}.", counted.join(", "));
    if show(cluster, pod, "Unschedulable", message.clone()).await? {
        let about = reference(pod);
        cluster.recorder.record(&about, COMPONENT, Severity::Warning, "FailedScheduling", message);
    }
    Ok(())
}

/// Shows why a pod is not scheduled; whether that is news.
async fn show(cluster: &Cluster, pod: &Pod, reason: &str, message: String) -> Result<bool, kube::Error> {
    let mut conditions = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let shown = conditions.iter().find(|c| c.type_ == "PodScheduled");
    if shown.is_some_and(|c| c.status == "False" && c.message.as_ref() == Some(&message)) {
        return Ok(false);
    }
    conditions.retain(|c| c.type_ != "PodScheduled");
    conditions.push(PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(Time(Timestamp::now())),
        ..PodCondition::default()
    });
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &pod.namespace().unwrap_or_default());
    let patch =
        json!({"metadata": {"uid": pod.uid()}, "status": {"phase": "Pending", "conditions": conditions}});
    let changed = api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
    cluster.pods.absorb(changed);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pod: serde_json::Value, others: &[serde_json::Value], expected: &[&str]) {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"disk": "ssd"}},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}}}))
        .unwrap();
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": pod})).unwrap();
        let others: Vec<Arc<Pod>> = others
            .iter()
            .map(|spec| {
                let mut spec = spec.clone();
                spec["nodeName"] = json!("n");
                Arc::new(serde_json::from_value(json!({"metadata": {"name": "o"}, "spec": spec})).unwrap())
            })
            .collect();
        assert_eq!(problems(&pod, &node, &others), expected, "{pod:?}");
    }

    #[test]
    fn requests_must_fit() {
        let asks = |cpu: &str, memory: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]});
        let none = json!({"containers": [{"name": "c"}]});
        check(asks("2", "1Gi"), &[], &[]);
        check(asks("2001m", "1Gi"), &[], &["Insufficient cpu"]);
        check(asks("1", "600Mi"), &[asks("1500m", "500Mi")], &["Insufficient cpu", "Insufficient memory"]);
        check(none.clone(), &[asks("5", "5Gi")], &[]);
        check(none.clone(), &[none.clone(), none.clone(), none.clone()], &["Too many pods"]);
        check(json!({"containers": [], "nodeSelector": {"disk": "ssd"}}), &[], &[]);
        check(
            json!({"containers": [], "nodeSelector": {"disk": "hdd"}}),
            &[],
            &["node(s) didn't match Pod's node affinity/selector"],
        );
        let init = json!({"containers": [], "initContainers": [
            {"name": "i", "resources": {"limits": {"cpu": "3"}}}]});
        check(init, &[], &["Insufficient cpu"]);
        let gpu = json!({"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": 1}}}]});
        check(gpu, &[], &["Insufficient nvidia.com/gpu"]);
    }
}
