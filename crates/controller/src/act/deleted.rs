//! What is left to do for a ScaledObject that is deleted: `restoreToOriginalReplicaCount`, and its event.
//!
//! Only one that asks for its replicas back gets KEDA's finalizer, so that nothing else ever waits for this program to
//! be deleted. One that KEDA left behind is taken off, too.

use flyball_api::kinds::scaled_object::ScaledObject;
use flyball_api::status::Event;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::events;
use super::status::{KEDA_COMPONENT, StatusWriter};
use crate::api_error;
use crate::gather::workload::WorkloadRef;

/// KEDA's own, which tools know.
pub(super) const FINALIZER: &str = "finalizer.keda.sh";

/// Whether the object must not go before its workload has its replicas back.
pub(super) fn restores(object: &ScaledObject) -> bool {
    object.spec.advanced.as_ref().is_some_and(|own| own.restore_to_original_replica_count == Some(true))
}

/// Whether the object is being deleted and waits for us.
pub(super) fn waits(object: &ScaledObject) -> bool {
    object.metadata.deletion_timestamp.is_some() && object.finalizers().iter().any(|own| own == FINALIZER)
}

impl StatusWriter {
    /// Finishes a ScaledObject that waits for it.
    pub(super) async fn finish_deleted(&self, object: &ScaledObject) {
        self.restore(object).await;
        self.release(object).await;
    }

    /// Puts the replicas back. Failures are only logged, as in KEDA: the object is to go in any case.
    async fn restore(&self, object: &ScaledObject) {
        let original = object.status.as_ref().and_then(|status| status.original_replica_count);
        let Some(replicas) = original.filter(|_| restores(object)) else { return };
        let workload = WorkloadRef::of_scaled_object(object);
        if let Err(error) = self.workloads.write(&workload, replicas).await {
            tracing::warn!(
                scaled_object = object.name_any(),
                replicas,
                error,
                "cannot put the replicas back"
            );
        }
    }

    async fn release(&self, object: &ScaledObject) {
        let namespace = object.namespace().unwrap_or_default();
        let api: Api<ScaledObject> = Api::namespaced(self.client.clone(), &namespace);
        let kept: Vec<&String> = object.finalizers().iter().filter(|own| *own != FINALIZER).collect();
        let patch =
            json!({ "metadata": { "finalizers": kept, "resourceVersion": object.resource_version() } });
        match api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {
                let message = "ScaledObject was deleted".to_owned();
                let event = Event { warning: false, reason: "ScaledObjectDeleted".to_owned(), message };
                self.publish(events::about(object), KEDA_COMPONENT, event);
            }
            // Changed or gone meanwhile: the next round looks again.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
            Err(error) => {
                let error = api_error::message(&error);
                tracing::warn!(scaled_object = object.name_any(), error, "cannot take the finalizer off");
            }
        }
    }
}
