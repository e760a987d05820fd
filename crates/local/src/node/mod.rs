//! The node: runs the pods that are bound to it and reports on them. A kubelet for one machine.
//!
//! Each pod has a task of its own (`pod`), fed with every change of its object; each container in it another (`run`).
//! What they know is in one `PodState`, from which a third task writes the status. Nothing polls the API.

mod backoff;
mod env;
mod eviction;
mod grpc;
mod heartbeat;
pub(crate) mod machine;
pub(crate) mod network;
mod payload;
mod pod;
mod probe;
mod resize;
mod restart;
mod resume;
mod run;
mod security;
mod server;
mod state;
mod unsupported;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::{Cluster, Key, Kind};
use crate::container::cgroup::Cgroups;
use crate::container::process::Launcher;
use crate::image::ImageMap;
use network::Network;
use pod::{PodContext, View};
pub(crate) use restart::is_sidecar;

/// The address the machine is known by: nothing is reachable from elsewhere.
pub(crate) const HOST_IP: &str = "127.0.0.1";
/// Pods a node takes, as the kubelet's default.
pub(crate) const PODS_MAX: u64 = 110;

/// The node; clones share it.
#[derive(Clone)]
pub(crate) struct Node(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) cluster: Cluster,
    pub(crate) images: ImageMap,
    pub(crate) log_dir: PathBuf,
    pub(crate) pod_dir: PathBuf,
    /// Folders and files that no container may see.
    pub(crate) private: Vec<PathBuf>,
    pub(crate) launcher: Launcher,
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) network: Network,
    /// Whether pods get network, PID and mount namespaces of their own.
    pub(crate) isolated: bool,
    /// What this machine refuses, for users to read.
    pub(crate) notices: Vec<String>,
    /// Held while resources are granted to a pod.
    allocating: Mutex<()>,
    /// Counts up when there may be more room for pods that wait for it.
    room: watch::Sender<u64>,
    workers: Mutex<BTreeMap<String, Worker>>,
    stopping: CancellationToken,
}

struct Worker {
    view: watch::Sender<View>,
    context: Arc<PodContext>,
    /// Ends the pod's containers when it is dropped, and with them what they run.
    task: AbortOnDropHandle<()>,
}

impl std::ops::Deref for Node {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// What a node is made from; see the crate's `Options`.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) cluster: Cluster,
    pub(crate) images: ImageMap,
    pub(crate) log_dir: PathBuf,
    pub(crate) pod_dir: PathBuf,
    /// Folders and files that no container may see.
    pub(crate) private: Vec<PathBuf>,
    pub(crate) launcher: Launcher,
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) isolated: bool,
    pub(crate) notices: Vec<String>,
}

impl Node {
    /// Registers the node and begins to run its pods.
    pub(crate) async fn start(parts: Parts, tasks: &mut JoinSet<()>) -> Self {
        let node = Node(Arc::new(Inner {
            name: parts.name,
            cluster: parts.cluster,
            images: parts.images,
            log_dir: parts.log_dir,
            pod_dir: parts.pod_dir,
            private: parts.private,
            launcher: parts.launcher,
            cgroups: parts.cgroups,
            network: Network::default(),
            isolated: parts.isolated,
            notices: parts.notices,
            allocating: Mutex::default(),
            room: watch::Sender::new(0),
            workers: Mutex::default(),
            stopping: CancellationToken::new(),
        }));
        heartbeat::register(&node).await;
        tasks.spawn(heartbeat::beat(node.clone()));
        let here = Arc::downgrade(&node.0);
        node.cluster.pods.on_change(move |old, new| {
            if let Some(node) = here.upgrade() {
                Node(node).take(old, new);
            }
        });
        let (maps, secrets) = (Arc::downgrade(&node.0), Arc::downgrade(&node.0));
        node.cluster.config_maps.on_change(move |old, new| changed(&maps, "ConfigMap", old, new));
        node.cluster.secrets.on_change(move |old, new| changed(&secrets, "Secret", old, new));
        node
    }

    /// Passes a change of a pod on to its task, which it starts if need be.
    fn take(&self, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) {
        let gone = old.filter(|old| new.is_none_or(|new| new.uid() != old.uid()));
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = gone.and_then(|pod| workers.get(&pod.uid()?)) {
            worker.view.send_modify(|view| view.gone = true);
        }
        let Some(pod) = new.filter(|pod| self.is_mine(pod)) else { return };
        let Some(uid) = pod.uid() else { return };
        if is_over(pod) {
            self.room.send_modify(|count| *count += 1);
        }
        match workers.get(&uid) {
            Some(worker) => worker.view.send_modify(|view| view.pod = Arc::clone(pod)),
            None if self.stopping.is_cancelled() || is_over(pod) => {}
            None => {
                let (view, views) = watch::channel(View { pod: Arc::clone(pod), gone: false });
                let context = Arc::new(PodContext::new(self.clone(), Arc::clone(pod)));
                let task = spawn(self.clone().look_after(Arc::clone(&context), views));
                workers.insert(uid, Worker { view, context, task });
            }
        }
    }

    async fn look_after(self, context: Arc<PodContext>, views: watch::Receiver<View>) {
        let uid = context.uid.clone();
        pod::live(context, views, self.stopping.clone()).await;
        if !self.stopping.is_cancelled() {
            self.workers.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        }
        self.room.send_modify(|count| *count += 1);
    }

    fn is_mine(&self, pod: &Pod) -> bool {
        pod.spec.as_ref().and_then(|s| s.node_name.as_ref()) == Some(&self.name)
    }

    /// All pods that run here.
    fn contexts(&self) -> Vec<Arc<PodContext>> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.values().map(|worker| Arc::clone(&worker.context)).collect()
    }

    /// Stops every container, SIGTERM first, and leaves the objects as they are.
    pub(crate) async fn stop(&self) {
        self.stopping.cancel();
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        futures::future::join_all(workers.into_values().map(|worker| worker.task)).await;
    }

    /// Kills every container at once.
    pub(crate) fn abandon(&self) {
        self.stopping.cancel();
        drop(std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner)));
    }

    /// What kubectl and metrics-server ask a kubelet.
    pub(crate) fn router(&self) -> axum::Router {
        server::router(self.clone())
    }
}

/// Starts a task that ends when its handle is dropped: whoever holds it answers for it.
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// Has the volumes that show a changed object brought up to date.
fn changed<K: Kind>(node: &Weak<Inner>, kind: &str, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
    let (Some(node), Some(_), Some(new)) = (node.upgrade(), old, new) else { return };
    let key = Key::of(&**new);
    for context in Node(node).contexts() {
        if context.key.namespace == key.namespace && volumes::shows(&context.pod(), kind, &key.name) {
            context.outdated.notify_one();
        }
    }
}

/// A pod that has ended and only waits to be deleted; one being deleted still needs its object removed.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed")) && pod.metadata.deletion_timestamp.is_none()
}
