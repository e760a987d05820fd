//! A cache of one kind, fed by a watch, that also sees this process' own writes at once.
//!
//! A controller that creates a pod and then looks at a cache that does not know the pod yet creates it twice. Kubernetes keeps
//! "expectations" against that; here a write is put into the cache with the API server's answer ([`Informer::absorb`]), and
//! the watch, arriving later, never replaces a newer version by an older one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

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

type Handler<K> = Box<dyn Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync>;

/// The cache; clones share it.
pub(crate) struct Informer<K>(Arc<Inner<K>>);

struct Inner<K> {
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    handlers: RwLock<Vec<Handler<K>>>,
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
        let informer = Informer(Arc::new(Inner {
            objects: RwLock::default(),
            handlers: RwLock::default(),
            synced: watch::Sender::new(false),
        }));
        let api: Api<K> = Api::all_with(client.clone(), &());
        tasks.spawn(informer.clone().follow(api));
        informer
    }

    async fn follow(self, api: Api<K>) {
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
        let mut listed = BTreeSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    listed.insert(Key::of(&object));
                    self.absorb(object);
                }
                Ok(watcher::Event::InitDone) => {
                    for object in self.all().into_iter().filter(|o| !listed.contains(&Key::of(&**o))) {
                        self.forget(&object);
                    }
                    listed.clear();
                    self.0.synced.send_replace(true);
                }
                Ok(watcher::Event::Apply(object)) => self.absorb(object),
                Ok(watcher::Event::Delete(object)) => self.forget(&object),
                Err(e) => tracing::warn!("watch of {}: {e}", K::plural(&())),
            }
        }
    }

    /// Waits for the first complete list.
    pub(crate) async fn synced(&self) {
        let _ = self.0.synced.subscribe().wait_for(|done| *done).await;
    }

    /// Takes in an object as the API server has just returned it, unless a newer one is known.
    pub(crate) fn absorb(&self, object: K) {
        let object = Arc::new(object);
        let old = {
            let mut objects = self.0.objects.write().unwrap_or_else(PoisonError::into_inner);
            let key = Key::of(&*object);
            if objects.get(&key).is_some_and(|known| newer_or_same(&**known, &*object)) {
                return;
            }
            objects.insert(key, Arc::clone(&object))
        };
        self.notify(old.as_ref(), Some(&object));
    }

    /// Takes out an object that the API server has removed.
    pub(crate) fn forget(&self, object: &K) {
        let old = {
            let mut objects = self.0.objects.write().unwrap_or_else(PoisonError::into_inner);
            let key = Key::of(object);
            match objects.get(&key) {
                Some(known) if known.uid() == object.uid() => objects.remove(&key),
                _ => None,
            }
        };
        if old.is_some() {
            self.notify(old.as_ref(), None);
        }
    }

    /// Calls `handler` with (before, after) for every change, and once for each object already known.
    pub(crate) fn on_change(
        &self,
        handler: impl Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync + 'static,
    ) {
        for object in self.all() {
            handler(None, Some(&object));
        }
        self.0.handlers.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(handler));
    }

    fn notify(&self, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
        for handler in self.0.handlers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            handler(old, new);
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.0.objects.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Everything, in order of namespace and name.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.0.objects.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Everything in a namespace, in order of name.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let from = Key { namespace: namespace.to_owned(), name: String::new() };
        let objects = self.0.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects
            .range(from..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, o)| Arc::clone(o))
            .collect()
    }
}

/// Resource versions are compared as numbers, as KEP-5504 allows for; a recreated object always counts as newer.
fn newer_or_same<K: Kind>(known: &K, object: &K) -> bool {
    let version = |o: &K| o.resource_version().and_then(|v| v.parse::<u64>().ok());
    match (version(known), version(object)) {
        (Some(known), Some(new)) => known >= new,
        _ => false,
    }
}
