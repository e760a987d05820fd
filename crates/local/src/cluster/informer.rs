//! A cache of one kind, fed by a watch, that also sees this process' own writes at once.
//!
//! A controller that creates a pod and then looks at a cache that does not know the pod yet creates it twice. Kubernetes keeps
//! "expectations" against that; here a write is put into the cache with the API server's answer ([`Informer::absorb`]), and
//! the watch, arriving later, never replaces a newer version by an older one. What is known, and who is told of changes
//! in which order, is in `cache`; here is what waits: the watch.

use std::fmt;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cache::Cache;

/// A built-in kind, as all the bounds the caches need.
pub(crate) trait Kind:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static
{
}

/// Namespace and name; the namespace is empty for kinds without one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn of(object: &impl ResourceExt) -> Self {
        Key { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The cache; clones share it.
pub(crate) struct Informer<K>(Arc<Inner<K>>);

struct Inner<K> {
    cache: Cache<K>,
    synced: watch::Sender<bool>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Informer(Arc::clone(&self.0))
    }
}

impl<K: Kind> Informer<K> {
    /// Starts the watch.
    pub(crate) fn start(client: &Client, tasks: &mut JoinSet<()>) -> Self {
        let informer =
            Informer(Arc::new(Inner { cache: Cache::default(), synced: watch::Sender::new(false) }));
        let api: Api<K> = Api::all_with(client.clone(), &());
        tasks.spawn(informer.clone().follow(api));
        informer
    }

    async fn follow(self, api: Api<K>) {
        let cache = &self.0.cache;
        let mut events = std::pin::pin!(watcher(api.clone(), watcher::Config::default()).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => cache.begin_list(),
                Ok(watcher::Event::InitApply(object)) => cache.list(object),
                Ok(watcher::Event::InitDone) => {
                    for object in cache.end_list() {
                        self.ask_for(&api, &object).await;
                    }
                    self.0.synced.send_replace(true);
                }
                Ok(watcher::Event::Apply(object)) => cache.applied(object),
                Ok(watcher::Event::Delete(object)) => cache.gone(&object),
                Err(e) => tracing::warn!("watch of {}: {e}", K::plural(&())),
            }
        }
    }

    /// Takes an object out unless the API server still has it.
    async fn ask_for(&self, api: &Api<K>, object: &Arc<K>) {
        let key = Key::of(&**object);
        let params = ListParams::default().fields(&format!("metadata.name={}", key.name));
        match api.list(&params).await {
            Ok(found) if found.items.iter().any(|one| Key::of(one) == key && one.uid() == object.uid()) => {}
            Ok(_) => self.0.cache.gone(object),
            Err(e) => tracing::debug!(%key, "not found out whether it is there: {e}"),
        }
    }

    /// Waits for the first complete list.
    pub(crate) async fn synced(&self) {
        let _ = self.0.synced.subscribe().wait_for(|done| *done).await;
    }

    /// Takes in an object as the API server has just returned it, unless a newer one is known.
    pub(crate) fn absorb(&self, object: K) {
        self.0.cache.written(object);
    }

    /// Takes out an object that this process has had removed.
    pub(crate) fn forget(&self, object: &K) {
        self.0.cache.deleted(object);
    }

    /// Calls `handler` with (before, after) for every change, in their order, and once for each object already known. It
    /// may read caches, but change none.
    pub(crate) fn on_change(
        &self,
        handler: impl Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync + 'static,
    ) {
        self.0.cache.on_change(Box::new(handler));
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.0.cache.read(|objects| objects.get(key).cloned())
    }

    /// Everything, in order of namespace and name.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.0.cache.all()
    }

    /// Everything in a namespace, in order of name.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let from = Key { namespace: namespace.to_owned(), name: String::new() };
        self.0.cache.read(|objects| {
            let here = objects.range(from..).take_while(|(key, _)| key.namespace == namespace);
            here.map(|(_, object)| Arc::clone(object)).collect()
        })
    }
}
