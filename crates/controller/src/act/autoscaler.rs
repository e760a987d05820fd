//! The HorizontalPodAutoscaler that stands for a ScaledObject: made, kept as it should be, and taken away while paused.

use std::sync::Arc;

use flyball_api::plan::scaled_object_owner;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};

use super::write::in_time;
use crate::decide::scalers::OwnerKey;
use crate::gather::cluster::Cluster;

/// KEDA's name, as clients find it in `managedFields`.
const FIELD_MANAGER: &str = "keda-operator";

/// Keeps the HorizontalPodAutoscalers of ScaledObjects.
pub(crate) struct Autoscalers {
    client: Client,
    cluster: Cluster,
}

/// What was asked for last, and what became of it.
#[derive(Debug)]
pub(super) struct Applied {
    wanted: HorizontalPodAutoscaler,
    generation: Option<i64>,
}

impl Autoscalers {
    pub(crate) fn new(client: Client, cluster: Cluster) -> Autoscalers {
        Autoscalers { client, cluster }
    }

    /// Makes the object what it should be; none while `stopped`, as in KEDA.
    pub(super) async fn ensure(
        &self,
        key: &OwnerKey,
        wanted: &HorizontalPodAutoscaler,
        named_before: Option<&str>,
        stopped: bool,
        applied: &mut Option<Applied>,
    ) -> Option<Arc<HorizontalPodAutoscaler>> {
        let name = wanted.name_any();
        self.remove_renamed(key, named_before, &name, applied).await;
        let watched = self.cluster.autoscalers.get(&ObjectRef::new(&name).within(&key.1));
        if stopped {
            *applied = None;
            if watched.is_some() {
                self.delete(&key.1, &name).await;
            }
            return None;
        }
        let as_wanted = applied.as_ref().is_some_and(|known| {
            let untouched =
                watched.as_ref().is_none_or(|watched| watched.metadata.generation <= known.generation);
            known.wanted == *wanted && untouched
        });
        match watched {
            Some(watched) if as_wanted => Some(watched),
            Some(theirs) if scaled_object_owner(&theirs).is_none() => {
                self.take_over(key, wanted, &theirs, applied).await
            }
            _ => self.apply(key, wanted, applied).await,
        }
    }

    /// Replaces a foreign autoscaler as a whole: server-side apply would keep fields that only it sets.
    async fn take_over(
        &self,
        key: &OwnerKey,
        wanted: &HorizontalPodAutoscaler,
        theirs: &HorizontalPodAutoscaler,
        applied: &mut Option<Applied>,
    ) -> Option<Arc<HorizontalPodAutoscaler>> {
        let mut ours = wanted.clone();
        ours.metadata.resource_version = theirs.resource_version();
        let parameters =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let replaced = in_time(self.api(&key.1).replace(&ours.name_any(), &parameters, &ours)).await;
        note(key, wanted, replaced, applied)
    }

    async fn apply(
        &self,
        key: &OwnerKey,
        wanted: &HorizontalPodAutoscaler,
        applied: &mut Option<Applied>,
    ) -> Option<Arc<HorizontalPodAutoscaler>> {
        let (api, parameters) = (self.api(&key.1), PatchParams::apply(FIELD_MANAGER).force());
        let written = in_time(api.patch(&wanted.name_any(), &parameters, &Patch::Apply(wanted))).await;
        note(key, wanted, written, applied)
    }

    /// A ScaledObject may name its autoscaler anew; the old one, which its status names, goes.
    async fn remove_renamed(
        &self,
        key: &OwnerKey,
        named_before: Option<&str>,
        name: &str,
        applied: &mut Option<Applied>,
    ) {
        let Some(old) = named_before.filter(|old| *old != name) else { return };
        let watched = self.cluster.autoscalers.get(&ObjectRef::new(old).within(&key.1));
        let owner = watched.as_ref().and_then(|hpa| scaled_object_owner(hpa));
        if owner == Some(key.2.as_str()) {
            *applied = None;
            self.delete(&key.1, old).await;
        }
    }

    async fn delete(&self, namespace: &str, name: &str) {
        match self.api(namespace).delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => {
                let error = crate::api_error::message(&error);
                tracing::warn!(hpa = name, namespace, error, "cannot delete an autoscaler");
            }
        }
    }

    fn api(&self, namespace: &str) -> Api<HorizontalPodAutoscaler> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Remembers what came of writing an autoscaler.
fn note(
    key: &OwnerKey,
    wanted: &HorizontalPodAutoscaler,
    written: Result<HorizontalPodAutoscaler, String>,
    applied: &mut Option<Applied>,
) -> Option<Arc<HorizontalPodAutoscaler>> {
    match written {
        Ok(written) => {
            *applied = Some(Applied { wanted: wanted.clone(), generation: written.metadata.generation });
            Some(Arc::new(written))
        }
        Err(error) => {
            tracing::warn!(hpa = wanted.name_any(), namespace = key.1, error, "cannot write an autoscaler");
            None
        }
    }
}
