//! What the autoscaler sees of the cluster: watched objects, kept in memory.
//!
//! Every kind has one watch. A change wakes the loop, so a new ScaledObject is acted on at once and not at the next
//! tick; but not a change of a status, since the loop itself writes those. Managed fields are dropped on arrival:
//! nobody here reads them, and they are half of an object's size.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

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
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;

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
    /// Starts the watches on `tasks`, and returns when each has seen all there is.
    pub(crate) async fn watch(client: &Client, changed: &Changed, tasks: &mut JoinSet<()>) -> Cluster {
        let cluster = Cluster {
            scaled_objects: watch(client, changed, tasks),
            scaled_jobs: watch(client, changed, tasks),
            jobs: watch(client, changed, tasks),
            trigger_authentications: watch(client, changed, tasks),
            cluster_trigger_authentications: watch(client, changed, tasks),
            secrets: watch(client, changed, tasks),
            config_maps: watch(client, changed, tasks),
            autoscalers: watch(client, changed, tasks),
            vertical_autoscalers: watch(client, changed, tasks),
            limit_ranges: watch(client, changed, tasks),
            deployments: watch(client, changed, tasks),
            replica_sets: watch(client, changed, tasks),
            stateful_sets: watch(client, changed, tasks),
            daemon_sets: watch(client, changed, tasks),
            replication_controllers: watch(client, changed, tasks),
            cron_jobs: watch(client, changed, tasks),
            pods: watch(client, changed, tasks),
            nodes: watch(client, changed, tasks),
            services: watch(client, changed, tasks),
            slices: watch(client, changed, tasks),
            service_monitors: watch(client, changed, tasks),
            pod_monitors: watch(client, changed, tasks),
            scrape_configs: watch(client, changed, tasks),
        };
        cluster.ready().await;
        cluster
    }

    async fn ready(&self) {
        // An error means that the watch has ended, and with it the program.
        let _ = tokio::join!(
            self.scaled_objects.wait_until_ready(),
            self.scaled_jobs.wait_until_ready(),
            self.jobs.wait_until_ready(),
            self.trigger_authentications.wait_until_ready(),
            self.cluster_trigger_authentications.wait_until_ready(),
            self.secrets.wait_until_ready(),
            self.config_maps.wait_until_ready(),
            self.autoscalers.wait_until_ready(),
            self.vertical_autoscalers.wait_until_ready(),
            self.limit_ranges.wait_until_ready(),
            self.deployments.wait_until_ready(),
            self.replica_sets.wait_until_ready(),
            self.stateful_sets.wait_until_ready(),
            self.daemon_sets.wait_until_ready(),
            self.replication_controllers.wait_until_ready(),
            self.cron_jobs.wait_until_ready(),
            self.pods.wait_until_ready(),
            self.nodes.wait_until_ready(),
            self.services.wait_until_ready(),
            self.slices.wait_until_ready(),
            self.service_monitors.wait_until_ready(),
            self.pod_monitors.wait_until_ready(),
            self.scrape_configs.wait_until_ready(),
        );
    }
}

fn watch<K>(client: &Client, changed: &Changed, tasks: &mut JoinSet<()>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    let (store, writer) = reflector::store();
    let api: Api<K> = Api::all(client.clone());
    let changed = changed.clone();
    tasks.spawn(async move {
        let objects = watcher(api, watcher::Config::default()).default_backoff();
        let objects = objects.modify(|object| object.managed_fields_mut().clear()).reflect(writer);
        let mut objects = std::pin::pin!(objects);
        let mut seen = Seen::default();
        while let Some(event) = objects.next().await {
            match event {
                Ok(event) if seen.is_news(&event) => changed.tell(),
                Ok(_) => {}
                Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "watch failed, trying again"),
            }
        }
    });
    store
}

/// The generation and annotations of every object, by its uid: what tells a change of a spec from one of a status.
#[derive(Default)]
struct Seen(HashMap<String, (i64, BTreeMap<String, String>)>);

impl Seen {
    /// Whether the loop should look at once. The status of a pod is news; that of everything else is written by
    /// controllers, mostly by the loop itself.
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
