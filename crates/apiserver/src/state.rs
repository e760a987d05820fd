//! State shared by all requests: the store, the table of kinds, admission rules, aggregated APIs and kubelets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::Router;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::admission::{Rule, Rules};
use crate::kinds::{Kind, Registry, group_version};
use crate::load_limits::LoadLimits;
use crate::socket::identity::Identity;
use crate::store::Store;

/// A resource of an aggregated API, for discovery.
#[derive(Debug, Clone)]
pub struct ApiResource {
    /// The plural name, as in paths: `pods`.
    pub plural: String,
    /// The kind: `PodMetrics`.
    pub kind: String,
    /// Whether objects are namespaced.
    pub namespaced: bool,
    /// Supported verbs: `get`, `list`.
    pub verbs: Vec<String>,
}

/// An API served by another crate's router.
#[derive(Clone)]
pub(crate) struct Aggregated {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resources: Vec<ApiResource>,
    pub(crate) router: Router,
}

/// State shared by all requests.
pub(crate) struct ServerState {
    pub(crate) store: Store,
    kinds: RwLock<Arc<Registry>>,
    admission: RwLock<Rules>,
    mutation: RwLock<Rules>,
    kubelets: RwLock<BTreeMap<String, Router>>,
    aggregated: RwLock<Vec<Aggregated>>,
    /// Held from choosing a Service's addresses to storing them.
    pub(crate) allocation: tokio::sync::Mutex<()>,
    /// Held while an eviction is checked against budgets and carried out.
    pub(crate) eviction: tokio::sync::Mutex<()>,
    pub(crate) watches: AtomicUsize,
    pub(crate) load_limits: LoadLimits,
    pub(crate) identity: Identity,
    stop: watch::Sender<bool>,
}

impl ServerState {
    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.kinds.read().clone()
    }

    /// Changes the table of kinds under a lock, so that concurrent changes do not overwrite each other.
    pub(crate) fn change_registry(&self, change: impl FnOnce(&mut Registry)) {
        change(Arc::make_mut(&mut self.kinds.write()));
    }

    pub(crate) fn kubelet(&self, node: &str) -> Option<Router> {
        self.kubelets.read().get(node).cloned()
    }

    /// Returns the router of an aggregated API.
    pub(crate) fn aggregated(&self, group: &str, version: &str) -> Option<Router> {
        let apis = self.aggregated.read();
        apis.iter().find(|api| api.group == group && api.version == version).map(|api| api.router.clone())
    }

    /// Resolves when the server stops.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as `self`.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Ends all watches; clients restart them.
    pub(crate) fn end_watches(&self) {
        self.stop.send_replace(true);
    }

    /// Creates the state of a new server.
    pub(crate) fn new(store: Store, identity: Identity) -> Self {
        Self {
            store,
            kinds: RwLock::new(Arc::new(Registry::builtin())),
            admission: RwLock::default(),
            mutation: RwLock::default(),
            kubelets: RwLock::default(),
            aggregated: RwLock::default(),
            allocation: tokio::sync::Mutex::default(),
            eviction: tokio::sync::Mutex::default(),
            watches: AtomicUsize::new(0),
            load_limits: LoadLimits::default(),
            identity,
            stop: watch::Sender::new(false),
        }
    }

    /// Returns a kind's validating rules.
    pub(crate) fn admission_rules(&self, kind: &Kind) -> Vec<Rule> {
        self.admission.read().of(kind)
    }

    /// Returns a kind's mutating rules.
    pub(crate) fn mutation_rules(&self, kind: &Kind) -> Vec<Rule> {
        self.mutation.read().of(kind)
    }

    pub(crate) fn add_admission(&self, group: &str, resource: &str, rule: Rule) {
        self.admission.write().add(group, resource, rule);
    }

    pub(crate) fn add_mutation(&self, group: &str, resource: &str, rule: Rule) {
        self.mutation.write().add(group, resource, rule);
    }

    pub(crate) fn add_kubelet(&self, node: &str, router: Router) {
        self.kubelets.write().insert(node.to_owned(), router);
    }

    /// Adds an aggregated API, replacing any with the same group and version.
    pub(crate) fn add_api(&self, api: Aggregated) {
        let mut apis = self.aggregated.write();
        let same = |other: &Aggregated| {
            group_version(&other.group, &other.version) == group_version(&api.group, &api.version)
        };
        apis.retain(|other| !same(other));
        apis.push(api);
    }

    /// Returns the aggregated APIs.
    pub(crate) fn aggregated_apis(&self) -> Vec<Aggregated> {
        self.aggregated.read().clone()
    }
}
