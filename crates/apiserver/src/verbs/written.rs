//! What the server itself has to do after an object was stored: follow a CRD, empty a namespace that is deleted.

use std::sync::Arc;

use serde_json::Value;

use super::empty;
use crate::crd;
use crate::kinds::Kind;
use crate::kinds::cluster::NAMESPACE;
use crate::kinds::extension::CUSTOM_RESOURCE_DEFINITION;
use crate::object::{self, at, list};
use crate::state::ServerState;

/// Follows a write; also at the start, for deletions that an earlier run left under way.
pub(crate) fn follow(server: &Arc<ServerState>, kind: &Arc<Kind>, object: &Value) {
    let is_deleted = at(object, "metadata.deletionTimestamp").is_some();
    if kind.is(&CUSTOM_RESOURCE_DEFINITION) {
        crd::reload(server, object::name(object));
        if is_deleted && !list(object, "metadata.finalizers").is_empty() {
            // All versions share one storage, so emptying one empties all.
            let custom: Vec<Arc<Kind>> = crd::kinds(object).into_iter().take(1).map(Arc::new).collect();
            empty::definition(server, kind, object::name(object), custom);
        }
    } else if kind.is(&NAMESPACE) && is_deleted {
        empty::namespace(server, kind, object::name(object));
    }
}
