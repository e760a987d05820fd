//! The life of one pod on this node: sandbox, volumes, init containers, containers, and its end.
//!
//! The end, in this order: the pod leaves every Service; requests in flight are waited for, up to half the grace period;
//! each container's preStop hook, SIGTERM, and at the end of the grace period SIGKILL; the last status; the object is
//! removed. A stop of the whole world does the same and leaves the object alone, so that the next start brings the pod back.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::network::{PodNetwork, Way};
use super::state::{ContainerState, PodState, Run, status};
use super::volumes::{self, Volumes};
use super::{Node, eviction, resize, resume, run, spawn, unsupported};
use crate::cluster::{Key, Severity, reference};
use crate::container::cgroup::Group;
use crate::container::logs::{self, Log};
use crate::container::process::Process;
use crate::container::sandbox::Sandbox;

/// Kubernetes' default for `terminationGracePeriodSeconds`.
const GRACE_DEFAULT: Duration = Duration::from_secs(30);
/// A stop of the world gives no pod more than this.
const WORLD_STOP_GRACE_MAX: Duration = Duration::from_secs(10);
/// Between attempts to make a sandbox or a volume that something outside of the pod prevents.
const SETUP_RETRY: Duration = Duration::from_secs(2);

/// A pod as the API has it, or the news that it has it no more.
pub(crate) struct View {
    pub(crate) pod: Arc<Pod>,
    pub(crate) gone: bool,
}

/// What a pod's tasks share.
pub(crate) struct PodContext {
    pub(crate) node: Node,
    pub(crate) uid: String,
    pub(crate) key: Key,
    pub(crate) pod: Mutex<Arc<Pod>>,
    state: watch::Sender<PodState>,
    /// Told when the containers have to end.
    pub(crate) stop: CancellationToken,
    /// Told one by one, init containers first: sidecars end after the others.
    stops: Vec<CancellationToken>,
    /// When the grace period ends; may come nearer while it runs.
    pub(crate) deadline: watch::Sender<Option<Instant>>,
    pub(crate) network: OnceLock<Arc<PodNetwork>>,
    pub(crate) volumes: OnceLock<Volumes>,
    /// Told when what a volume shows has changed.
    pub(crate) outdated: Notify,
    /// What of each container exists just now, init containers first.
    pub(crate) live: Mutex<Vec<Live>>,
}

/// The running parts of one container.
#[derive(Clone, Default)]
pub(crate) struct Live {
    /// Goes with the last hold on it.
    pub(crate) group: Option<Arc<Group>>,
    /// Told when a resize wants the container restarted.
    pub(crate) restart: Arc<Notify>,
    pub(crate) process: Weak<Process>,
    pub(crate) log: Weak<Log>,
}

impl PodContext {
    pub(crate) fn new(node: Node, pod: Arc<Pod>) -> Self {
        let mut state = PodState::new(&pod);
        resume::carry_over(&pod, &mut state);
        let count = state.init.len() + state.containers.len();
        let stop = CancellationToken::new();
        let stops = state.init.iter().chain(&state.containers).map(|container| {
            if container.restart.is_sidecar { CancellationToken::new() } else { stop.clone() }
        });
        PodContext {
            stops: stops.collect(),
            stop,
            node,
            uid: pod.uid().unwrap_or_default(),
            key: Key::of(&*pod),
            pod: Mutex::new(pod),
            state: watch::Sender::new(state),
            deadline: watch::Sender::new(None),
            network: OnceLock::new(),
            volumes: OnceLock::new(),
            outdated: Notify::new(),
            live: Mutex::new(vec![Live::default(); count]),
        }
    }

    /// Told when the container with this number has to end.
    pub(crate) fn stop_of(&self, index: usize) -> &CancellationToken {
        self.stops.get(index).unwrap_or(&self.stop)
    }

    pub(crate) fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.pod.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The spec of the container with this number, init containers first, with the resources that it was granted.
    pub(crate) fn container(&self, index: usize) -> Option<Container> {
        let pod = self.pod();
        let spec = pod.spec.as_ref()?;
        let container = spec.init_containers.iter().flatten().chain(&spec.containers).nth(index)?;
        let resources = Some(self.container_state(index)?.allocated);
        Some(Container { resources, ..container.clone() })
    }

    pub(crate) fn state(&self) -> PodState {
        self.state.borrow().clone()
    }

    /// Changes what is known; the status follows.
    pub(crate) fn update(&self, change: impl FnOnce(&mut PodState)) {
        self.state.send_modify(change);
    }

    /// Changes what is known of one container.
    pub(crate) fn update_container(&self, index: usize, change: impl FnOnce(&mut ContainerState)) {
        self.update(|state| {
            if let Some(container) = state.init.iter_mut().chain(&mut state.containers).nth(index) {
                change(container);
            }
        });
    }

    pub(crate) fn container_state(&self, index: usize) -> Option<ContainerState> {
        let state = self.state.borrow();
        state.init.iter().chain(&state.containers).nth(index).cloned()
    }

    pub(crate) fn set_live(&self, index: usize, live: Live) {
        if let Some(place) = self.live.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
            *place = live;
        }
    }

    pub(crate) fn live(&self, index: usize) -> Option<Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).get(index).cloned()
    }

    pub(crate) fn event(&self, about: &ObjectReference, severity: Severity, reason: &str, message: String) {
        self.node.cluster.recorder.record(about, "kubelet", severity, reason, message);
    }

    pub(crate) fn pod_event(&self, severity: Severity, reason: &str, message: String) {
        self.event(&reference(&*self.pod()), severity, reason, message);
    }

    /// The directory of this pod's volumes and scratch space.
    pub(crate) fn dir(&self) -> PathBuf {
        self.node.pod_dir.join(&self.uid)
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        logs::pod_dir(&self.node.log_dir, &self.key.namespace, &self.key.name, &self.uid)
    }
}

/// Runs a pod from its first sight to its end.
pub(crate) async fn live(
    context: Arc<PodContext>,
    mut views: watch::Receiver<View>,
    stopping: CancellationToken,
) {
    let reporter = spawn(report(Arc::clone(&context)));
    let life = spawn(containers(Arc::clone(&context)));
    let goodbye = watch_over(&context, &mut views, &stopping).await;
    if let Goodbye::WorldStops = goodbye {
        reporter.abort(); // the next start has to find what ran
    }
    if let Some(network) = context.network.get() {
        network.start_leaving();
        if let Goodbye::Deleted(grace) = goodbye {
            tokio::select! {
                _ = tokio::time::timeout(grace / 2, network.idle()) => {}
                () = stopping.cancelled() => {}
            }
        }
    }
    let grace = match goodbye {
        Goodbye::Deleted(grace) => grace,
        Goodbye::Gone => Duration::ZERO,
        Goodbye::WorldStops => grace_of(&context.pod()).min(WORLD_STOP_GRACE_MAX),
    };
    context.deadline.send_replace(Some(Instant::now() + grace));
    context.stop.cancel();
    hurry_if_told(&context, &mut views, life, &stopping).await;
    reporter.abort();
    if let Some(network) = context.network.get() {
        context.node.network.leave(network);
    }
    let _ = std::fs::remove_dir_all(context.dir());
    if let Goodbye::Deleted(_) = goodbye {
        let _ = report_once(&context).await;
        remove_object(&context).await;
    }
    if !matches!(goodbye, Goodbye::WorldStops) {
        let _ = std::fs::remove_dir_all(context.log_dir());
    }
}

/// Why a pod's containers are stopped.
#[derive(Clone, Copy)]
enum Goodbye {
    /// Somebody deleted it, with so much time to end.
    Deleted(Duration),
    /// Its object is no more: nobody is left to wait.
    Gone,
    WorldStops,
}

/// Takes in changes of the pod until it has to go.
async fn watch_over(
    context: &PodContext,
    views: &mut watch::Receiver<View>,
    stopping: &CancellationToken,
) -> Goodbye {
    let mut room = context.node.room.subscribe();
    let mut over_limit = std::pin::pin!(eviction::over_limit(context));
    loop {
        let overdue = time_left(context);
        {
            let view = views.borrow_and_update();
            let before = std::mem::replace(
                &mut *context.pod.lock().unwrap_or_else(PoisonError::into_inner),
                Arc::clone(&view.pod),
            );
            // the downward API shows them
            if before.labels() != view.pod.labels() || before.annotations() != view.pod.annotations() {
                context.outdated.notify_one();
            }
            if view.gone {
                return Goodbye::Gone;
            }
            if view.pod.metadata.deletion_timestamp.is_some() {
                return Goodbye::Deleted(grace_of(&view.pod));
            }
        }
        // not while the view is borrowed: who changes it may hold what a resize waits for
        let retry = resize::resize(context);
        let waits_for_room = context.state().pending.is_some();
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return Goodbye::WorldStops },
            Ok(()) = room.changed(), if waits_for_room => {}
            () = tokio::time::sleep(retry.unwrap_or_default()), if retry.is_some() => {}
            () = tokio::time::sleep(overdue.unwrap_or_default()), if overdue.is_some() => {
                let message = "Pod was active on the node longer than the specified deadline";
                end(context, "DeadlineExceeded", message.to_owned());
            }
            () = context.outdated.notified(), if context.volumes.get().is_some() => refresh(context).await,
            (reason, message) = &mut over_limit => {
                end(context, reason, message);
                over_limit.set(eviction::over_limit(context)); // ended once, it is looked at no more
            }
            () = stopping.cancelled() => return Goodbye::WorldStops,
        }
    }
}

/// Brings volumes that show objects of the API up to date; one that cannot be stays as it was.
async fn refresh(context: &PodContext) {
    let client = &context.node.cluster.client;
    if let Err(e) = volumes::make(client, &context.pod(), &context.dir().join("volumes")).await {
        context.pod_event(Severity::Warning, "FailedMount", e);
    }
}

/// How long a pod with `activeDeadlineSeconds` may still run; `None` without one, and once it has been ended.
fn time_left(context: &PodContext) -> Option<Duration> {
    let seconds = context.pod().spec.as_ref()?.active_deadline_seconds?;
    let state = context.state.borrow();
    let started_at = state.started_at.filter(|_| state.failed.is_none() && !state.is_over())?;
    let at = started_at.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()?;
    Some(Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default())
}

/// Ends a pod for a reason of the node's own: it fails, and its object stays.
fn end(context: &PodContext, reason: &'static str, message: String) {
    if context.state.borrow().is_over() {
        return;
    }
    context.pod_event(Severity::Warning, reason, message.clone());
    context.update(|state| state.failed = Some((reason, message)));
    if let Some(network) = context.network.get() {
        network.start_leaving();
    }
    context.deadline.send_replace(Some(Instant::now() + grace_of(&context.pod())));
    context.stop.cancel();
}

/// Waits for the containers to end, sooner if the pod is deleted again with less time, or if the world stops meanwhile.
async fn hurry_if_told(
    context: &PodContext,
    views: &mut watch::Receiver<View>,
    mut life: AbortOnDropHandle<()>,
    stopping: &CancellationToken,
) {
    let mut is_stopping = false;
    loop {
        let grace = tokio::select! {
            _ = &mut life => return,
            () = stopping.cancelled(), if !is_stopping => {
                is_stopping = true;
                WORLD_STOP_GRACE_MAX
            }
            // a node that stops tells of no more changes
            Ok(()) = views.changed(), if !is_stopping => {
                let view = views.borrow_and_update();
                if view.gone { Duration::ZERO } else { grace_of(&view.pod) }
            }
        };
        let deadline = Instant::now() + grace;
        context.deadline.send_modify(|at| *at = Some(at.map_or(deadline, |at| at.min(deadline))));
    }
}

fn grace_of(pod: &Pod) -> Duration {
    let seconds = pod
        .metadata
        .deletion_grace_period_seconds
        .or_else(|| pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds));
    seconds.map_or(GRACE_DEFAULT, |s| Duration::from_secs(s.max(0) as u64))
}

/// Makes the pod's surroundings, then runs init containers one by one and containers side by side.
async fn containers(context: Arc<PodContext>) {
    if context.pod().metadata.deletion_timestamp.is_some() {
        return;
    }
    context.update(|state| state.started_at = state.started_at.or(Some(Timestamp::now())));
    while let Err((reason, problem)) = set_up(&context).await {
        context.pod_event(Severity::Warning, reason, problem);
        tokio::select! {
            () = tokio::time::sleep(SETUP_RETRY) => {}
            () = context.stop.cancelled() => return,
        }
    }
    let mut sidecars = Vec::new();
    if initialize(&context, &mut sidecars).await {
        context.update(|state| {
            for container in &mut state.containers {
                if matches!(&container.run, Run::Waiting { reason, .. } if reason == "PodInitializing") {
                    container.run = Run::Waiting { reason: "ContainerCreating".to_owned(), message: None };
                }
            }
        });
        let state = context.state();
        let mains = state.init.len()..state.init.len() + state.containers.len();
        futures::future::join_all(mains.map(|index| run::until_done(&context, index))).await;
    }
    // the last to start is the first to go, with what is left of the grace period
    let grace = Instant::now() + grace_of(&context.pod());
    context.deadline.send_if_modified(|at| at.is_none() && at.replace(grace).is_none());
    for (index, sidecar) in sidecars.into_iter().rev() {
        context.stop_of(index).cancel();
        let _ = sidecar.await;
    }
    // a pod that has ended needs no network while it waits to be deleted
    if let Some(network) = context.network.get() {
        context.node.network.leave(network);
    }
}

/// Runs the init containers one by one; sidecars go on running. Whether the pod may start.
async fn initialize(context: &Arc<PodContext>, sidecars: &mut Vec<(usize, AbortOnDropHandle<bool>)>) -> bool {
    for (index, container) in context.state().init.iter().enumerate() {
        if !container.restart.is_sidecar {
            if !run::until_done(context, index).await {
                return false;
            }
            continue;
        }
        let here = Arc::clone(context);
        sidecars.push((index, spawn(async move { run::until_done(&here, index).await })));
        let mut changes = context.state.subscribe();
        tokio::select! {
            _ = changes.wait_for(|state| state.init.get(index).is_some_and(|c| c.has_started)) => {}
            () = context.stop.cancelled() => return false,
        }
    }
    !context.stop.is_cancelled()
}

async fn set_up(context: &PodContext) -> Result<(), (&'static str, String)> {
    let pod = context.pod();
    if context.volumes.get().is_none() {
        let dir = context.dir().join("volumes");
        let client = &context.node.cluster.client;
        let made = volumes::make(client, &pod, &dir).await.map_err(|e| ("FailedMount", e))?;
        for problem in unsupported::of(&pod, context.node.isolated) {
            context.pod_event(Severity::Warning, "NotSupported", problem);
        }
        let _ = context.volumes.set(made);
    }
    if context.network.get().is_none() {
        let failed = |e: String| ("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {e}"));
        let way = way_in(context, &pod).await.map_err(failed)?;
        let network = context.node.network.join(&context.uid, way).map_err(|e| failed(e.to_string()))?;
        let ip = network.ip().to_string();
        for port in declared_ports(&pod) {
            if let Err(e) = network.listen(port) {
                context.pod_event(Severity::Warning, "FailedToListen", format!("{ip}:{port}: {e}"));
            }
        }
        let _ = context.network.set(network);
        context.update(|state| state.ip = Some(ip));
    }
    Ok(())
}

async fn way_in(context: &PodContext, pod: &Pod) -> Result<Way, String> {
    if context.node.isolated {
        let sandbox = Sandbox::start(&context.node.launcher).await.map_err(|e| e.to_string())??;
        return Ok(Way::Sandbox(sandbox));
    }
    let mut ports = std::collections::BTreeMap::new();
    for declared in declared_ports(pod) {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        ports.insert(declared, free.map_err(|e| e.to_string())?.port());
    }
    Ok(Way::Host(ports))
}

/// The ports a pod names: its containers', and the one Prometheus is told of.
pub(crate) fn declared_ports(pod: &Pod) -> Vec<u16> {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let declared = containers
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| u16::try_from(p.container_port).ok());
    let scraped = pod.annotations().get("prometheus.io/port").and_then(|port| port.parse().ok());
    declared.chain(scraped).collect()
}

/// Writes the status whenever what is known changes.
async fn report(context: Arc<PodContext>) {
    let mut changes = context.state.subscribe();
    loop {
        changes.borrow_and_update();
        while let Err(e) = report_once(&context).await {
            if matches!(&e, kube::Error::Api(status) if status.code == 404) {
                return;
            }
            tracing::warn!(pod = %context.key, "status not written: {e}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn report_once(context: &PodContext) -> Result<(), kube::Error> {
    const CONFLICTS_MAX: usize = 10;
    let pods = &context.node.cluster.pods;
    let api: Api<Pod> = Api::namespaced(context.node.cluster.client.clone(), &context.key.namespace);
    for _ in 0..CONFLICTS_MAX {
        let Some(pod) = pods.get(&context.key).filter(|pod| pod.uid().as_ref() == Some(&context.uid)) else {
            return Ok(());
        };
        let new = status(&pod, &context.state(), Timestamp::now());
        if pod.status.as_ref() == Some(&new) {
            return Ok(());
        }
        let mut changed = Pod::clone(&pod);
        changed.status = Some(new);
        match api.replace_status(&context.key.name, &PostParams::default(), &changed).await {
            Ok(pod) => {
                pods.absorb(pod);
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                pods.absorb(api.get(&context.key.name).await?)
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

async fn remove_object(context: &PodContext) {
    let api: Api<Pod> = Api::namespaced(context.node.cluster.client.clone(), &context.key.namespace);
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(context.uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(&context.key.name, &params).await {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
        Err(e) => tracing::warn!(pod = %context.key, "not removed: {e}"),
        Ok(_) => {}
    }
}

/// Waits until a time that may come nearer.
pub(crate) async fn grace_over(deadline: &watch::Sender<Option<Instant>>) {
    let mut changes = deadline.subscribe();
    loop {
        let at = *changes.borrow_and_update();
        let Some(at) = at else {
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        };
        if timeout_at(at, changes.changed()).await.is_err() {
            return;
        }
    }
}
