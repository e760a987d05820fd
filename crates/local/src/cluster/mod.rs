//! This crate's view of the API: caches fed by watches, a work queue, events. Nothing else talks to the API server.

mod cache;
mod events;
mod informer;
mod queue;

use http::HeaderValue;
use http::header::USER_AGENT;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::client::Body;
use kube::{Client, Resource, ResourceExt};
use tokio::task::JoinSet;

pub(crate) use events::{Recorder, Severity, reference};
pub(crate) use informer::{Informer, Key, Kind};
pub(crate) use queue::{Queue, work};

/// The caches that several parts share, one watch for each kind.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) pods: Informer<Pod>,
    pub(crate) nodes: Informer<Node>,
    pub(crate) services: Informer<Service>,
    pub(crate) slices: Informer<EndpointSlice>,
    pub(crate) deployments: Informer<Deployment>,
    pub(crate) replica_sets: Informer<ReplicaSet>,
    pub(crate) stateful_sets: Informer<StatefulSet>,
    pub(crate) jobs: Informer<Job>,
    pub(crate) config_maps: Informer<ConfigMap>,
    pub(crate) secrets: Informer<Secret>,
}

impl Cluster {
    /// The same caches, for a part that writes under this name.
    pub(crate) fn acting_as(&self, name: &'static str) -> Self {
        Cluster { client: acting_as(&self.client, name), ..self.clone() }
    }

    /// Starts the watches and waits until each cache holds what the API server has.
    pub(crate) async fn start(client: Client, tasks: &mut JoinSet<()>) -> Self {
        let cluster = Cluster {
            recorder: Recorder::start(client.clone(), tasks),
            pods: Informer::start(&client, tasks),
            nodes: Informer::start(&client, tasks),
            services: Informer::start(&client, tasks),
            slices: Informer::start(&client, tasks),
            deployments: Informer::start(&client, tasks),
            replica_sets: Informer::start(&client, tasks),
            stateful_sets: Informer::start(&client, tasks),
            jobs: Informer::start(&client, tasks),
            config_maps: Informer::start(&client, tasks),
            secrets: Informer::start(&client, tasks),
            client,
        };
        tokio::join!(
            cluster.pods.synced(),
            cluster.nodes.synced(),
            cluster.services.synced(),
            cluster.slices.synced(),
            cluster.deployments.synced(),
            cluster.replica_sets.synced(),
            cluster.stateful_sets.synced(),
            cluster.jobs.synced(),
            cluster.config_maps.synced(),
            cluster.secrets.synced(),
        );
        cluster
    }
}

/// The same API, asked under a name of Kubernetes' own, which `managedFields` then shows as who wrote.
pub(crate) fn acting_as(client: &Client, name: &'static str) -> Client {
    let inner = client.clone();
    let service = tower::service_fn(move |mut request: http::Request<Body>| {
        let inner = inner.clone();
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(name));
        async move { inner.send(request).await }
    });
    Client::new(service, client.default_namespace())
}

/// The owner that controls an object, if it is of kind `K`: its key.
pub(crate) fn controller_key<K: Kind>(object: &impl ResourceExt) -> Option<Key> {
    let owner = controller_of(object)?;
    (owner.kind == K::kind(&()) && owner.api_version == K::api_version(&()))
        .then(|| Key { namespace: object.namespace().unwrap_or_default(), name: owner.name.clone() })
}

/// The owner reference that says who controls an object.
pub(crate) fn controller_of(object: &impl ResourceExt) -> Option<&OwnerReference> {
    object.owner_references().iter().find(|owner| owner.controller == Some(true))
}

/// Whether `owner` controls `object`.
pub(crate) fn controls(owner: &impl ResourceExt, object: &impl ResourceExt) -> bool {
    controller_of(object).is_some_and(|reference| Some(&reference.uid) == owner.uid().as_ref())
}

/// The reference an owner puts on what it creates.
pub(crate) fn owned_by<K: Resource<DynamicType = ()>>(owner: &K) -> Vec<OwnerReference> {
    owner.controller_owner_ref(&()).into_iter().collect()
}
