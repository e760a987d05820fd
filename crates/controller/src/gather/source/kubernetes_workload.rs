//! The reading of a kubernetes-workload trigger: the watched pods that its selector matches.

use flyball_api::trigger::kubernetes_workload::KubernetesWorkload;
use flyball_engine::{Reading, Time};
use kube::ResourceExt;
use kube::core::SelectorExt;

use crate::gather::cluster::Cluster;

/// Counts the pods that have not ended, or the nodes that they are on.
pub(super) fn read(cluster: &Cluster, workload: &KubernetesWorkload, namespace: &str, now: Time) -> Reading {
    Reading::Value { value: count(cluster, workload, namespace) as f64, at: now }
}

fn count(cluster: &Cluster, workload: &KubernetesWorkload, namespace: &str) -> usize {
    let pods = cluster.pods.state();
    let counted = pods.iter().filter(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        pod.namespace().as_deref() == Some(namespace)
            && !matches!(phase, Some("Succeeded" | "Failed"))
            && workload.pod_selector.matches(pod.labels())
    });
    if !workload.group_by_node {
        return counted.count();
    }
    let mut nodes: Vec<&str> = counted.filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.len()
}
