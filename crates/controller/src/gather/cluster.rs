//! What the autoscaler sees of the cluster: watched objects, kept in memory.
//!
//! Every kind has one watch. A change wakes the loop, so a new ScaledObject is acted on at once and not at the next
//! tick; but not a change of a status, since the loop itself writes those. Managed fields are dropped on arrival:
//! nobody here reads them, and they are half of an object's size. Changes are counted, so that who works on all objects
//! of a kind can tell at one look that none has changed.
//!
//! A kind may be absent, because its definition is not installed or the API server does not let us see it. Then there
//! are no objects of it, which holds nobody up; it is looked for again whenever a definition changes. A kind that goes
//! takes its objects with it. Any other failure is no absence: the start waits until such a kind could be listed, since
//! a cluster without pods would look idle.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flyball_api::kinds::monitor::{PodMonitor, ServiceMonitor};
use flyball_api::kinds::scaled_job::ScaledJob;
use flyball_api::kinds::scaled_object::ScaledObject;
use flyball_api::kinds::scrape_config::ScrapeConfig;
use flyball_api::kinds::trigger_authentication::{ClusterTriggerAuthentication, TriggerAuthentication};
use flyball_api::kinds::vertical_pod_autoscaler::VerticalPodAutoscaler;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Node, Pod, ReplicationController, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The period of looking for absent kinds where definitions cannot be watched.
const ABSENT_RETRY: Duration = Duration::from_secs(30);
/// After a watch has failed, doubled each time.
const FAILED_RETRY: Duration = Duration::from_millis(500);
const FAILED_RETRY_MAX: Duration = Duration::from_secs(30);

/// The watched objects. Reading one never waits.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) scaled_objects: Store<ScaledObject>,
    pub(crate) scaled_jobs: Store<ScaledJob>,
    pub(crate) jobs: Store<Job>,
    pub(crate) trigger_authentications: Store<TriggerAuthentication>,
    pub(crate) cluster_trigger_authentications: Store<ClusterTriggerAuthentication>,
    pub(crate) secrets: Store<Secret>,
    pub(crate) config_maps: Store<ConfigMap>,
    pub(crate) autoscalers: Store<HorizontalPodAutoscaler>,
    pub(crate) vertical_autoscalers: Store<VerticalPodAutoscaler>,
    pub(crate) limit_ranges: Store<LimitRange>,
    pub(crate) deployments: Store<Deployment>,
    pub(crate) replica_sets: Store<ReplicaSet>,
    pub(crate) stateful_sets: Store<StatefulSet>,
    pub(crate) daemon_sets: Store<DaemonSet>,
    pub(crate) replication_controllers: Store<ReplicationController>,
    pub(crate) cron_jobs: Store<CronJob>,
    pub(crate) pods: Store<Pod>,
    pub(crate) nodes: Store<Node>,
    pub(crate) services: Store<Service>,
    pub(crate) slices: Store<EndpointSlice>,
    pub(crate) service_monitors: Store<ServiceMonitor>,
    pub(crate) pod_monitors: Store<PodMonitor>,
    pub(crate) scrape_configs: Store<ScrapeConfig>,
    pub(crate) revisions: Revisions,
}

/// Counts the changes of the objects of some kinds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revision(Arc<AtomicU64>);

impl Revision {
    /// The number of changes so far. What is read after it is at least as new.
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn advance(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// The changes of what the loop works on as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revisions {
    /// Objects that ask for something to be scaled, and what their triggers are read with.
    pub(crate) scalers: Revision,
    /// HorizontalPodAutoscalers.
    pub(crate) autoscalers: Revision,
    /// Workloads whose pods' environment triggers may read.
    pub(crate) workloads: Revision,
    /// Secrets and what points to them.
    pub(crate) credentials: Revision,
    /// Pods.
    pub(crate) pods: Revision,
    /// What says which pages are scraped, pods included.
    pub(crate) pages: Revision,
}

/// Wakes the loops; each has its own, or one would take the other's wake-up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed {
    pub(crate) horizontal: Arc<Notify>,
    pub(crate) vertical: Arc<Notify>,
}

impl Changed {
    fn tell(&self) {
        self.horizontal.notify_one();
        self.vertical.notify_one();
    }
}

impl Cluster {
    /// Starts the watches on `tasks`, and returns when each has seen all there is, or that there is no such kind.
    pub(crate) async fn watch(client: &Client, changed: &Changed, tasks: &mut JoinSet<()>) -> Cluster {
        let revisions = Revisions::default();
        let Revisions { scalers, autoscalers, workloads, credentials, pods, pages } = &revisions;
        let definitions = watch_definitions(client.clone(), tasks);
        let mut kinds = Kinds { client, changed, definitions, tasks, ready: Vec::new() };
        let cluster = Cluster {
            scaled_objects: kinds.watch(&[scalers]),
            scaled_jobs: kinds.watch(&[scalers]),
            jobs: kinds.watch(&[]),
            trigger_authentications: kinds.watch(&[scalers, credentials]),
            cluster_trigger_authentications: kinds.watch(&[scalers, credentials]),
            secrets: kinds.watch(&[scalers, credentials]),
            config_maps: kinds.watch(&[scalers, credentials]),
            autoscalers: kinds.watch(&[scalers, autoscalers]),
            vertical_autoscalers: kinds.watch(&[]),
            limit_ranges: kinds.watch(&[]),
            deployments: kinds.watch(&[workloads]),
            replica_sets: kinds.watch(&[workloads]),
            stateful_sets: kinds.watch(&[workloads]),
            daemon_sets: kinds.watch(&[]),
            replication_controllers: kinds.watch(&[]),
            cron_jobs: kinds.watch(&[]),
            pods: kinds.watch(&[pods, pages]),
            nodes: kinds.watch(&[]),
            services: kinds.watch(&[pages]),
            slices: kinds.watch(&[pages]),
            service_monitors: kinds.watch(&[pages]),
            pod_monitors: kinds.watch(&[pages]),
            scrape_configs: kinds.watch(&[pages]),
            revisions: revisions.clone(),
        };
        for ready in kinds.ready {
            // An error means that the watch has ended, and with it the program.
            let _ = ready.await;
        }
        cluster
    }
}

/// Starts watches, and gathers what is to be waited for.
struct Kinds<'a> {
    client: &'a Client,
    changed: &'a Changed,
    definitions: watch::Receiver<()>,
    tasks: &'a mut JoinSet<()>,
    ready: Vec<oneshot::Receiver<()>>,
}

impl Kinds<'_> {
    fn watch<K>(&mut self, revisions: &[&Revision]) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (store, writer) = reflector::store();
        let (is_ready, ready) = oneshot::channel();
        self.ready.push(ready);
        let follower = Follower {
            writer,
            seen: SpecVersions::default(),
            revisions: revisions.iter().map(|own| (*own).clone()).collect(),
            changed: self.changed.clone(),
            is_ready: Some(is_ready),
        };
        self.tasks.spawn(follower.follow(Api::all(self.client.clone()), self.definitions.clone()));
        store
    }
}

/// Takes in what one watch says.
struct Follower<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    writer: Writer<K>,
    seen: SpecVersions,
    revisions: Vec<Revision>,
    changed: Changed,
    is_ready: Option<oneshot::Sender<()>>,
}

impl<K> Follower<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    async fn follow(mut self, api: Api<K>, mut definitions: watch::Receiver<()>) {
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
        let (mut retry, mut absent) = (FAILED_RETRY, false);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    (retry, absent) = (FAILED_RETRY, false);
                    self.take(event.modify(|object| object.managed_fields_mut().clear()));
                }
                Err(error) if is_absent(&error) => {
                    if !std::mem::replace(&mut absent, true) {
                        tracing::info!(kind = %K::kind(&()), "there is no such kind");
                        self.take(watcher::Event::Init);
                        self.take(watcher::Event::InitDone);
                        self.changed.tell();
                    }
                    tokio::select! {
                        Ok(()) = definitions.changed() => {}
                        () = sleep(ABSENT_RETRY) => {}
                    }
                }
                Err(error) => {
                    let error = watch_error(error);
                    tracing::warn!(kind = %K::kind(&()), error, "watch failed, trying again");
                    sleep(retry).await;
                    retry = (retry * 2).min(FAILED_RETRY_MAX);
                }
            }
        }
    }

    fn take(&mut self, event: watcher::Event<K>) {
        let is_news = self.seen.is_news(&event);
        self.writer.apply_watcher_event(&event);
        if !matches!(event, watcher::Event::Init | watcher::Event::InitApply(_)) {
            self.revisions.iter().for_each(Revision::advance);
        }
        if is_news {
            self.changed.tell();
        }
        if matches!(event, watcher::Event::InitDone) {
            self.is_ready.take().map(|ready| ready.send(()));
        }
    }
}

/// Whether the API server does not serve the kind, or does not let us see it.
fn is_absent(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => [403, 404].contains(&status.code),
        _ => false,
    }
}

fn watch_error(error: watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => {
            crate::api_error::message(&error)
        }
        other => other.to_string(),
    }
}

/// Says whenever a definition of a kind comes, changes or goes. Says nothing where they cannot be watched.
fn watch_definitions(client: Client, tasks: &mut JoinSet<()>) -> watch::Receiver<()> {
    let (sender, receiver) = watch::channel(());
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client);
    tasks.spawn(async move {
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
        while let Some(event) = events.next().await {
            if event.is_ok() {
                sender.send_replace(());
            }
        }
    });
    receiver
}

/// The generation and annotations of every object by uid: they change with the spec, and not with the status.
#[derive(Default)]
struct SpecVersions(HashMap<String, (i64, BTreeMap<String, String>)>);

impl SpecVersions {
    /// Whether the change should wake the loop. A pod's status is news; every other status is written by controllers, mostly
    /// by the loop itself.
    fn is_news<K: Resource<DynamicType = ()>>(&mut self, event: &watcher::Event<K>) -> bool {
        match event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                let is_pod = K::kind(&()) == "Pod";
                let Some(generation) = object.meta().generation.filter(|_| !is_pod) else { return true };
                let state = (generation, object.annotations().clone());
                let uid = object.uid().unwrap_or_default();
                self.0.insert(uid, state.clone()) != Some(state)
            }
            watcher::Event::Delete(object) => {
                self.0.remove(&object.uid().unwrap_or_default());
                true
            }
            watcher::Event::Init | watcher::Event::InitDone => false,
        }
    }
}
