//! The workload controllers: what Kubernetes' controller manager and scheduler do for Deployments, ReplicaSets, StatefulSets,
//! Jobs and Services, each level-triggered: it looks at the caches, writes what is missing, and is asked again after every change.

mod deployment;
mod endpoints;
mod garbage;

mod job;
mod pods;
mod replica_set;
mod rollout;
mod rollout_status;
mod scheduler;
mod stateful_set;

use tokio::task::JoinSet;

pub(crate) use endpoints::service_of;

use crate::cluster::Cluster;

/// Starts them all.
pub(crate) fn start(cluster: &Cluster, node_name: &str, tasks: &mut JoinSet<()>) {
    scheduler::start(&cluster.acting_as("kube-scheduler"), node_name, tasks);
    let cluster = &cluster.acting_as("kube-controller-manager");
    replica_set::start(cluster, tasks);
    deployment::start(cluster, tasks);
    stateful_set::start(cluster, tasks);
    job::start(cluster, tasks);
    endpoints::start(cluster, tasks);
    garbage::start(cluster, tasks);
}
