//! The headroom of pods where they run: the allocatable resources of their nodes that no pod requests.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use flyball_api::quantity::Quantity;
use flyball_api::vertical::pod::facts;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::gather::cluster::Cluster;

/// The CPU that is free on each node in this round, in millicores; added up for all nodes at once, when first asked for.
pub(crate) struct NodeHeadroom {
    cluster: Cluster,
    free: OnceLock<BTreeMap<String, i64>>,
}

impl NodeHeadroom {
    pub(crate) fn new(cluster: Cluster) -> NodeHeadroom {
        NodeHeadroom { cluster, free: OnceLock::new() }
    }

    /// How much more CPU each of these pods could request where it runs, if all get the same; none where that is not known.
    pub(super) fn of_each(&self, pods: &[Arc<Pod>]) -> Option<i64> {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        for node in pods.iter().filter_map(|pod| node_of(pod)) {
            *counts.entry(node).or_default() += 1;
        }
        let free = self.free.get_or_init(|| free(&self.cluster));
        let each = counts.iter().map(|(node, count)| Some((*free.get(*node)?).max(0) / count));
        each.collect::<Option<Vec<i64>>>()?.into_iter().min()
    }
}

/// What every node has that no pod on it requests. A node that does not say what it has is left out.
fn free(cluster: &Cluster) -> BTreeMap<String, i64> {
    let mut requested: BTreeMap<String, i64> = BTreeMap::new();
    for pod in cluster.pods.state().iter().filter(|pod| !is_over(pod)) {
        if let Some(node) = node_of(pod) {
            *requested.entry(node.to_owned()).or_default() += cpu_requests(pod);
        }
    }
    let nodes = cluster.nodes.state();
    let free = nodes.iter().filter_map(|node| {
        let allocatable = node.status.as_ref()?.allocatable.as_ref()?.get("cpu")?;
        let has = Quantity::try_from(allocatable).ok()?.milli_value();
        let name = node.name_any();
        let used = requested.get(&name).copied().unwrap_or(0);
        Some((name, has - used))
    });
    free.collect()
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn cpu_requests(pod: &Pod) -> i64 {
    facts(pod).containers.iter().filter_map(|one| one.spec.requests.cpu_millis).sum()
}
