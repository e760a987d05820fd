//! Garbage collection: what is left when an owner is deleted.
//!
//! Follows `pkg/controller/garbagecollector`: an object all of whose owners are gone is deleted; an owner with the finalizer
//! `foregroundDeletion` goes after its dependents, and takes those that have another owner out; with `orphan` its
//! dependents stay, without it. Only the metadata of objects is watched, of every kind the API server can list, watch and
//! delete; kinds that CustomResourceDefinitions add are found when they come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::PartialObjectMeta;
use kube::discovery::{ApiResource, Discovery, Scope, verbs};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cluster::Cluster;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Kinds that come and go too often to be worth it, and never have owners.
const IGNORED: [&str; 2] = ["events", "leases"];
/// Changes on their way from the watches; more wait in the watches.
const CHANGES_MAX: usize = 256;
/// After an error.
const RETRY: Duration = Duration::from_secs(1);

pub(super) fn start(cluster: &Cluster, tasks: &mut JoinSet<()>) {
    tasks.spawn(run(cluster.client.clone()));
}

/// An object by kind and place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    /// `group/version/plural`, the key into [`Graph::kinds`].
    kind: String,
    namespace: String,
    name: String,
}

/// What the collector knows.
#[derive(Default)]
struct Graph {
    kinds: BTreeMap<String, (ApiResource, Scope)>,
    objects: BTreeMap<Id, Arc<ObjectMeta>>,
    /// Dependents by their owners' uids.
    dependents: BTreeMap<String, BTreeSet<Id>>,
}

enum Change {
    Seen(Id, Box<ObjectMeta>),
    Gone(Id),
    Listed(String, BTreeSet<Id>),
    NewKinds,
    Again(Id),
}

async fn run(client: Client) {
    let (changes, mut inbox) = mpsc::channel(CHANGES_MAX);
    let mut watches = JoinSet::new();
    watches.spawn(watch_definitions(client.clone(), changes.clone()));
    let mut collector = Collector { client, graph: Graph::default(), changes, listed: BTreeSet::new() };
    collector.find_kinds(&mut watches).await;
    while let Some(change) = inbox.recv().await {
        match change {
            Change::NewKinds => collector.find_kinds(&mut watches).await,
            Change::Seen(id, metadata) => {
                collector.graph.put(id.clone(), *metadata);
                collector.look_at(&id).await;
            }
            Change::Gone(id) => collector.gone(&id).await,
            Change::Listed(kind, listed) => {
                let vanished: Vec<Id> = collector
                    .graph
                    .objects
                    .keys()
                    .filter(|id| id.kind == kind && !listed.contains(id))
                    .cloned()
                    .collect();
                for id in vanished {
                    collector.gone(&id).await;
                }
                collector.listed.insert(kind);
            }
            Change::Again(id) => collector.look_at(&id).await,
        }
    }
}

/// Tells of every new kind.
async fn watch_definitions(client: Client, changes: mpsc::Sender<Change>) {
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let told = matches!(event, Ok(watcher::Event::Apply(_) | watcher::Event::InitDone));
        if told && changes.send(Change::NewKinds).await.is_err() {
            return;
        }
    }
}

async fn watch(client: Client, kind: String, resource: ApiResource, changes: mpsc::Sender<Change>) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut listed = BTreeSet::new();
    let id = |object: &PartialObjectMeta<DynamicObject>| Id {
        kind: kind.clone(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    };
    while let Some(event) = events.next().await {
        let change = match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(id(&object));
                Change::Seen(id(&object), Box::new(object.metadata))
            }
            Ok(watcher::Event::InitDone) => Change::Listed(kind.clone(), std::mem::take(&mut listed)),
            Ok(watcher::Event::Apply(object)) => Change::Seen(id(&object), Box::new(object.metadata)),
            Ok(watcher::Event::Delete(object)) => Change::Gone(id(&object)),
            Err(e) => {
                tracing::debug!(kind, "watch for garbage: {e}");
                continue;
            }
        };
        if changes.send(change).await.is_err() {
            return;
        }
    }
}

impl Graph {
    fn put(&mut self, id: Id, mut metadata: ObjectMeta) {
        self.take(&id);
        for owner in metadata.owner_references.iter().flatten() {
            self.dependents.entry(owner.uid.clone()).or_default().insert(id.clone());
        }
        // the rest is of no use here, and much of it is large
        metadata.managed_fields = None;
        metadata.annotations = None;
        metadata.labels = None;
        self.objects.insert(id, Arc::new(metadata));
    }

    fn take(&mut self, id: &Id) -> Option<Arc<ObjectMeta>> {
        let metadata = self.objects.remove(id)?;
        for owner in metadata.owner_references.iter().flatten() {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(id);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        Some(metadata)
    }

    fn dependents_of(&self, metadata: &ObjectMeta) -> Vec<Id> {
        let uid = metadata.uid.as_deref().unwrap_or_default();
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// The key of a kind that an owner reference names by API version and kind.
    fn kind_of(&self, api_version: &str, kind: &str) -> Option<&str> {
        let found = self.kinds.iter().find(|(_, (r, _))| r.api_version == api_version && r.kind == kind);
        found.map(|(key, _)| key.as_str())
    }
}

/// Whether an object of this finalizer is being deleted.
fn leaves_with(metadata: &ObjectMeta, finalizer: &str) -> bool {
    metadata.deletion_timestamp.is_some() && metadata.finalizers.iter().flatten().any(|f| f == finalizer)
}

struct Collector {
    client: Client,
    graph: Graph,
    changes: mpsc::Sender<Change>,
    /// Kinds whose first list is complete.
    listed: BTreeSet<String>,
}

impl Collector {
    /// Starts a watch for every kind that has none yet.
    async fn find_kinds(&mut self, watches: &mut JoinSet<()>) {
        let discovery = match Discovery::new(self.client.clone()).run().await {
            Ok(discovery) => discovery,
            Err(e) => {
                tracing::debug!("discovery for garbage: {e}");
                let changes = self.changes.clone();
                watches.spawn(async move {
                    tokio::time::sleep(RETRY).await;
                    let _ = changes.send(Change::NewKinds).await;
                });
                return;
            }
        };
        for (resource, capabilities) in discovery.groups().flat_map(|group| group.recommended_resources()) {
            let wanted =
                [verbs::LIST, verbs::WATCH, verbs::DELETE].iter().all(|v| capabilities.supports_operation(v));
            let key = format!("{}/{}", resource.api_version, resource.plural);
            if !wanted || IGNORED.contains(&resource.plural.as_str()) || self.graph.kinds.contains_key(&key) {
                continue;
            }
            watches.spawn(watch(self.client.clone(), key.clone(), resource.clone(), self.changes.clone()));
            self.graph.kinds.insert(key, (resource, capabilities.scope));
        }
    }

    fn api(&self, id: &Id) -> Option<Api<DynamicObject>> {
        let (resource, scope) = self.graph.kinds.get(&id.kind)?;
        Some(match scope {
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), &id.namespace, resource),
            Scope::Cluster => Api::all_with(self.client.clone(), resource),
        })
    }

    async fn gone(&mut self, id: &Id) {
        let Some(metadata) = self.graph.take(id) else { return };
        for dependent in self.graph.dependents_of(&metadata) {
            self.look_at(&dependent).await;
        }
        // a foreground deletion may have waited for this one
        for owner in metadata.owner_references.iter().flatten() {
            let Some(kind) = self.graph.kind_of(&owner.api_version, &owner.kind) else { continue };
            let namespaces = [id.namespace.clone(), String::new()];
            for namespace in namespaces {
                let owner = Id { kind: kind.to_owned(), namespace, name: owner.name.clone() };
                if self.graph.objects.get(&owner).is_some_and(|m| m.deletion_timestamp.is_some()) {
                    self.again(owner, Duration::ZERO);
                }
            }
        }
    }

    fn again(&self, id: Id, after: Duration) {
        let changes = self.changes.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let _ = changes.send(Change::Again(id)).await;
        });
    }

    /// Does what an object needs, and tries again later if that fails.
    async fn look_at(&mut self, id: &Id) {
        let Some(metadata) = self.graph.objects.get(id).cloned() else { return };
        let done = if leaves_with(&metadata, FOREGROUND) {
            self.delete_dependents_first(id, &metadata).await
        } else if leaves_with(&metadata, ORPHAN) {
            self.orphan_dependents(id, &metadata).await
        } else if metadata.deletion_timestamp.is_none() {
            self.delete_if_unowned(id, &metadata).await
        } else {
            Ok(())
        };
        match done {
            Ok(()) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(e) => {
                tracing::debug!(?id, "garbage: {e}");
                self.again(id.clone(), RETRY);
            }
        }
    }

    async fn delete_if_unowned(&self, id: &Id, metadata: &ObjectMeta) -> Result<(), kube::Error> {
        let owners = metadata.owner_references.iter().flatten();
        let mut owned = false;
        for owner in owners {
            owned = true;
            let Some(kind) = self.graph.kind_of(&owner.api_version, &owner.kind) else { return Ok(()) };
            // an owner is in the same namespace, or in none
            let namespace = match self.graph.kinds.get(kind).map(|(_, scope)| scope.clone()) {
                Some(Scope::Namespaced) => id.namespace.clone(),
                _ => String::new(),
            };
            let owner_id = Id { kind: kind.to_owned(), namespace, name: owner.name.clone() };
            if self.graph.objects.get(&owner_id).is_some_and(|m| m.uid.as_ref() == Some(&owner.uid)) {
                return Ok(());
            }
            // the watches of two kinds are not in step: ask before deleting
            let Some(api) = self.api(&owner_id) else { return Ok(()) };
            let found = api.get_metadata_opt(&owner_id.name).await?;
            if found.is_some_and(|found| found.metadata.uid.as_ref() == Some(&owner.uid)) {
                return Ok(());
            }
        }
        if owned { self.delete(id, metadata).await } else { Ok(()) }
    }

    async fn delete(&self, id: &Id, metadata: &ObjectMeta) -> Result<(), kube::Error> {
        let Some(api) = self.api(id) else { return Ok(()) };
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions { uid: metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(&id.name, &params).await {
            // another object of that name
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop),
        }
    }

    async fn delete_dependents_first(&self, id: &Id, metadata: &ObjectMeta) -> Result<(), kube::Error> {
        let dependents = self.graph.dependents_of(metadata);
        let mut blocked = false;
        for dependent in &dependents {
            let Some(theirs) = self.graph.objects.get(dependent) else { continue };
            let blocks = theirs.owner_references.iter().flatten().any(|owner| {
                Some(&owner.uid) == metadata.uid.as_ref() && owner.block_owner_deletion == Some(true)
            });
            blocked |= blocks;
            if theirs.deletion_timestamp.is_none() {
                self.delete(dependent, theirs).await?;
            }
        }
        if blocked { Ok(()) } else { self.drop_finalizer(id, metadata, FOREGROUND).await }
    }

    async fn orphan_dependents(&self, id: &Id, metadata: &ObjectMeta) -> Result<(), kube::Error> {
        for dependent in self.graph.dependents_of(metadata) {
            let (Some(theirs), Some(api)) = (self.graph.objects.get(&dependent), self.api(&dependent)) else {
                continue;
            };
            let others: Vec<_> = theirs
                .owner_references
                .iter()
                .flatten()
                .filter(|o| Some(&o.uid) != metadata.uid.as_ref())
                .collect();
            let patch = json!({"metadata": {"uid": theirs.uid, "ownerReferences": others}});
            match api.patch_metadata(&dependent.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
                other => drop(other?),
            }
        }
        self.drop_finalizer(id, metadata, ORPHAN).await
    }

    async fn drop_finalizer(
        &self,
        id: &Id,
        metadata: &ObjectMeta,
        finalizer: &str,
    ) -> Result<(), kube::Error> {
        let Some(api) = self.api(id) else { return Ok(()) };
        let left: Vec<&String> = metadata.finalizers.iter().flatten().filter(|f| *f != finalizer).collect();
        let version = &metadata.resource_version;
        let patch =
            json!({"metadata": {"uid": metadata.uid, "resourceVersion": version, "finalizers": left}});
        api.patch_metadata(&id.name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        Id { kind: "v1/pods".into(), namespace: "ns".into(), name: name.into() }
    }

    fn metadata(uid: &str, owners: &[&str]) -> ObjectMeta {
        let owners: Vec<_> = owners
            .iter()
            .map(|uid| json!({"apiVersion": "v1", "kind": "Pod", "name": uid, "uid": uid}))
            .collect();
        serde_json::from_value(json!({"uid": uid, "ownerReferences": owners})).unwrap()
    }

    #[test]
    fn dependents_are_known_as_long_as_they_are() {
        let mut graph = Graph::default();
        graph.put(id("a"), metadata("a", &["owner", "other"]));
        graph.put(id("b"), metadata("b", &["owner"]));
        let owner = metadata("owner", &[]);
        assert_eq!(graph.dependents_of(&owner), [id("a"), id("b")]);
        graph.put(id("a"), metadata("a", &["other"]));
        assert_eq!(graph.dependents_of(&owner), [id("b")]);
        graph.take(&id("b"));
        assert!(graph.dependents_of(&owner).is_empty());
        assert_eq!(graph.dependents.len(), 1, "no empty sets are kept");
    }
}
