//! The HorizontalPodAutoscaler that stands for a ScaledObject: made, kept as it should be, and taken away while paused.

use std::collections::BTreeMap;
use std::sync::Arc;

use flyball_api::plan::scaled_object_owner;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};

use crate::cluster::Cluster;
use crate::scalers::OwnerKey;

/// KEDA's name, as clients find it in `managedFields`.
const FIELD_MANAGER: &str = "keda-operator";

/// Keeps the HorizontalPodAutoscalers of ScaledObjects.
pub(crate) struct Autoscalers {
    client: Client,
    cluster: Cluster,
    applied: BTreeMap<OwnerKey, Applied>,
}

/// What was asked for last, and what became of it.
#[derive(Debug)]
struct Applied {
    wanted: HorizontalPodAutoscaler,
    generation: Option<i64>,
}

impl Autoscalers {
    pub(crate) fn new(client: Client, cluster: Cluster) -> Autoscalers {
        Autoscalers { client, cluster, applied: BTreeMap::new() }
    }

    /// Makes the object what it should be; none while `stopped`, as in KEDA.
    pub(crate) async fn ensure(
        &mut self,
        key: &OwnerKey,
        wanted: &HorizontalPodAutoscaler,
        named_before: Option<&str>,
        stopped: bool,
    ) -> Option<Arc<HorizontalPodAutoscaler>> {
        let name = wanted.name_any();
        self.remove_renamed(key, named_before, &name).await;
        let watched = self.cluster.autoscalers.get(&ObjectRef::new(&name).within(&key.1));
        if stopped {
            self.applied.remove(key);
            if watched.is_some() {
                self.delete(&key.1, &name).await;
            }
            return None;
        }
        let known = self.applied.get(key);
        let as_wanted = known.is_some_and(|known| {
            let untouched =
                watched.as_ref().is_none_or(|watched| watched.metadata.generation <= known.generation);
            known.wanted == *wanted && untouched
        });
        match watched {
            Some(watched) if as_wanted => Some(watched),
            Some(theirs) if scaled_object_owner(&theirs).is_none() => {
                self.take_over(key, wanted, &theirs).await
            }
            _ => self.apply(key, wanted).await,
        }
    }

    /// Overwrites somebody's autoscaler whole: applying would leave what only theirs says.
    async fn take_over(
        &mut self,
        key: &OwnerKey,
        wanted: &HorizontalPodAutoscaler,
        theirs: &HorizontalPodAutoscaler,
    ) -> Option<Arc<HorizontalPodAutoscaler>> {
        let mut ours = wanted.clone();
        ours.metadata.resource_version = theirs.resource_version();
        let parameters =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let replaced = self.api(&key.1).replace(&ours.name_any(), &parameters, &ours).await;
        self.note(key, wanted, replaced)
    }

    pub(crate) fn keep_only(&mut self, owners: &[OwnerKey]) {
        self.applied.retain(|key, _| owners.contains(key));
    }

    async fn apply(
        &mut self,
        key: &OwnerKey,
        wanted: &HorizontalPodAutoscaler,
    ) -> Option<Arc<HorizontalPodAutoscaler>> {
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let applied = self.api(&key.1).patch(&wanted.name_any(), &parameters, &Patch::Apply(wanted)).await;
        self.note(key, wanted, applied)
    }

    /// Remembers what came of writing an autoscaler.
    fn note(
        &mut self,
        key: &OwnerKey,
        wanted: &HorizontalPodAutoscaler,
        written: kube::Result<HorizontalPodAutoscaler>,
    ) -> Option<Arc<HorizontalPodAutoscaler>> {
        match written {
            Ok(applied) => {
                let generation = applied.metadata.generation;
                self.applied.insert(key.clone(), Applied { wanted: wanted.clone(), generation });
                Some(Arc::new(applied))
            }
            Err(error) => {
                tracing::warn!(hpa = wanted.name_any(), namespace = key.1, %error, "cannot write an autoscaler");
                None
            }
        }
    }

    /// A ScaledObject may name its autoscaler anew; the old one, which its status names, goes.
    async fn remove_renamed(&mut self, key: &OwnerKey, named_before: Option<&str>, name: &str) {
        let Some(old) = named_before.filter(|old| *old != name) else { return };
        let watched = self.cluster.autoscalers.get(&ObjectRef::new(old).within(&key.1));
        let owner = watched.as_ref().and_then(|hpa| scaled_object_owner(hpa));
        if owner == Some(key.2.as_str()) {
            self.applied.remove(key);
            self.delete(&key.1, old).await;
        }
    }

    async fn delete(&self, namespace: &str, name: &str) {
        match self.api(namespace).delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => tracing::warn!(hpa = name, namespace, %error, "cannot delete an autoscaler"),
        }
    }

    fn api(&self, namespace: &str) -> Api<HorizontalPodAutoscaler> {
        Api::namespaced(self.client.clone(), namespace)
    }
}
