//! What the server does after a write: reloads a CRD, and empties a namespace or CRD that is being deleted.
//!
//! Emptying runs as a task, started by the deletion and again by a restart. It deletes the contents, waits until they
//! are gone (pods take their grace period, finalizers as long as their owners need), then removes the finalizer.

use std::sync::Arc;

use serde_json::Value;

use crate::crd;
use crate::kinds::Kind;
use crate::kinds::cluster::NAMESPACE;
use crate::kinds::extension::CUSTOM_RESOURCE_DEFINITION;
use crate::object::{self, at, list};
use crate::state::ServerState;
use crate::status::Result;
use crate::store::Key;

use super::Call;
use super::delete::{Options, delete_collection, release};

/// Handles the consequences of a write. Also called at start, for deletions that an earlier run left unfinished.
pub(crate) fn after_write(server: &Arc<ServerState>, kind: &Arc<Kind>, object: &Value) {
    let is_deleted = at(object, "metadata.deletionTimestamp").is_some();
    if kind.is(&CUSTOM_RESOURCE_DEFINITION) {
        crd::reload(server, object::name(object));
        if is_deleted && !list(object, "metadata.finalizers").is_empty() {
            // All versions share one storage, so emptying one empties all.
            let custom: Vec<Arc<Kind>> = crd::kinds(object).into_iter().take(1).map(Arc::new).collect();
            empty_definition(server, kind, object::name(object), custom);
        }
    } else if kind.is(&NAMESPACE) && is_deleted {
        empty_namespace(server, kind, object::name(object));
    }
}

/// Empties a namespace, then removes its finalizer.
fn empty_namespace(server: &Arc<ServerState>, kind: &Arc<Kind>, name: &str) {
    let (server, kind, name) = (server.clone(), kind.clone(), name.to_owned());
    tokio::spawn(async move {
        let contents = || server.registry().stored().into_iter().filter(|kind| kind.namespaced).collect();
        if until_empty(&server, &Key::new(&kind.storage, "", &name), &name, contents).await {
            let mut call = Call::internal(&server, kind.clone(), "", &name);
            report(release(&mut call, "spec.finalizers", "kubernetes").await, &name);
        }
    });
}

/// Deletes all objects of a custom kind, then removes its CRD's finalizer. The kind is unregistered first: a client
/// that no longer finds the CRD must not find the kind either.
fn empty_definition(server: &Arc<ServerState>, crd: &Arc<Kind>, name: &str, custom: Vec<Arc<Kind>>) {
    let (server, crd, name) = (server.clone(), crd.clone(), name.to_owned());
    tokio::spawn(async move {
        if !until_empty(&server, &Key::new(&crd.storage, "", &name), "", || custom.clone()).await {
            return;
        }
        crd::unregister(&server, &name);
        let mut call = Call::internal(&server, crd.clone(), "", &name);
        report(release(&mut call, "metadata.finalizers", crd::CLEANUP).await, &name);
        // Has an effect only if removing the finalizer failed.
        crd::reload(&server, &name);
    });
}

fn report(result: Result<()>, name: &str) {
    match result {
        Ok(()) => {}
        Err(failure) if failure.code == 404 => {}
        Err(failure) => tracing::warn!(name, error = failure.message, "cannot finish a deletion"),
    }
}

/// Deletes `contents` until nothing is left, checking again after every write to the store. Returns false if the
/// server stops first.
async fn until_empty(
    server: &Arc<ServerState>,
    owner: &Key,
    namespace: &str,
    contents: impl Fn() -> Vec<Arc<Kind>>,
) -> bool {
    let mut revisions = server.store.subscribe();
    loop {
        revisions.mark_unchanged();
        let mut left = 0;
        for kind in contents() {
            let (found, _) = server.store.list(&kind.storage, namespace, None);
            let asked =
                found.iter().all(|stored| at(&stored.value(), "metadata.deletionTimestamp").is_some());
            if !found.is_empty() && !asked {
                let call = Call::internal(server, kind.clone(), namespace, "");
                report(delete_collection(&call, &Options::default()).await.map(drop), namespace);
            }
            left += server.store.list(&kind.storage, namespace, None).0.len();
        }
        if left == 0 || server.store.get(owner).is_none() {
            return true;
        }
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return false },
            () = server.stopped() => return false,
        }
    }
}
