//! Carries decisions out: writes the scale, and tells of it in statuses and events.
//!
//! A status is written only when it says something new. What was written last is remembered, because a watch shows it
//! late; it is also what the next status is merged with.

mod autoscaler;
mod deleted;
pub(crate) mod events;

use std::collections::BTreeMap;

use flyball_api::kinds::scaled_object::{GroupVersionKindResource, ScaledObject, ScaledObjectStatus};
use flyball_api::scaled_object::NAME_LABEL;
use flyball_api::status::{self, Decided, Outcome};
use flyball_engine::{Decision, Memory};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as MetaTime;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::json;

use crate::act::autoscaler::Autoscalers;
use crate::act::events::{Events, Note};
use crate::cluster::Cluster;
use crate::scalers::{Broken, Owner, OwnerKey, Scaler};
use crate::workload::{FIELD_MANAGER, Workload, Workloads};

/// Who speaks for a HorizontalPodAutoscaler, and for a ScaledObject.
const HPA_COMPONENT: &str = "horizontal-pod-autoscaler";
const KEDA_COMPONENT: &str = "keda-operator";

/// Writes to the cluster.
pub(crate) struct Actor {
    client: Client,
    workloads: Workloads,
    events: Events,
    autoscalers: Autoscalers,
    written: BTreeMap<OwnerKey, Written>,
}

/// A decision that was made, and what came of it.
#[derive(Clone, Copy)]
pub(crate) struct Made<'a> {
    pub(crate) decision: &'a Decision,
    pub(crate) outcome: &'a Outcome,
    /// What the engine remembers of the target.
    pub(crate) memory: Option<&'a Memory>,
}

/// The statuses that were written last, and the decision they told of.
#[derive(Debug, Default)]
struct Written {
    decision: Option<Decision>,
    scaled_object: Option<ScaledObjectStatus>,
    autoscaler: Option<HorizontalPodAutoscalerStatus>,
}

impl Actor {
    pub(crate) fn new(client: Client, cluster: Cluster, workloads: Workloads) -> Actor {
        Actor {
            events: Events::new(client.clone()),
            autoscalers: Autoscalers::new(client.clone(), cluster),
            written: BTreeMap::new(),
            client,
            workloads,
        }
    }

    /// Sets the replicas that were decided.
    pub(crate) async fn rescale(&self, scaler: &Scaler, decision: &Decision) -> Outcome {
        if !decision.rescales() {
            return Outcome::Kept;
        }
        let replicas = i32::try_from(decision.desired).unwrap_or(i32::MAX);
        match self.workloads.write(&scaler.workload, replicas).await {
            Ok(_) => Outcome::Rescaled,
            Err(error) => Outcome::Failed { error },
        }
    }

    /// Tells of a decision.
    pub(crate) async fn tell(&mut self, scaler: &Scaler, workload: Option<&Workload>, made: Made<'_>) {
        match &scaler.owner {
            Owner::Autoscaler(object) => self.tell_autoscaler(&scaler.owner.key(), object, made).await,
            Owner::ScaledObject(object) => self.tell_scaled_object(scaler, object, workload, made).await,
        }
        self.written.entry(scaler.owner.key()).or_default().decision = Some(made.decision.clone());
    }

    fn previous(&self, key: &OwnerKey) -> Option<Decision> {
        self.written.get(key).and_then(|written| written.decision.clone())
    }

    /// Tells of an object that could not be planned.
    pub(crate) async fn tell_broken(&mut self, broken: &Broken) {
        let error = broken.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let object = match &broken.owner {
            Owner::ScaledObject(object) => object,
            Owner::Autoscaler(object) => return self.tell_refused(object, &error).await,
        };
        let before = self.scaled_object_status(&broken.owner.key(), object);
        let what = "ScaledObject doesn't have correct triggers specification";
        let after = status::checked_failed(before.clone(), what, &error);
        self.write_scaled_object(&broken.owner.key(), object, &before, after, None).await;
    }

    /// Tells of a HorizontalPodAutoscaler whose target another object scales.
    async fn tell_refused(&mut self, object: &HorizontalPodAutoscaler, why: &str) {
        let before = object.status.as_ref();
        let after = status::hpa_refused(before, why, MetaTime(Timestamp::now()));
        if before == Some(&after) {
            return;
        }
        let api: Api<HorizontalPodAutoscaler> =
            Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        match write_status(&api, &object.name_any(), &after).await {
            Ok(()) => {
                let (reason, message) = ("AmbiguousSelector".to_owned(), why.to_owned());
                let event = status::Event { warning: true, reason, message };
                self.publish(events::about(object), HPA_COMPONENT, event).await;
            }
            Err(error) => tracing::warn!(hpa = object.name_any(), %error, "cannot write a status"),
        }
    }

    /// Forgets what is not among `owners`.
    pub(crate) fn keep_only(&mut self, owners: &[OwnerKey]) {
        self.written.retain(|key, _| owners.contains(key));
        self.autoscalers.keep_only(owners);
    }

    async fn tell_scaled_object(
        &mut self,
        scaler: &Scaler,
        object: &ScaledObject,
        workload: Option<&Workload>,
        made: Made<'_>,
    ) {
        let key = scaler.owner.key();
        self.ensure_marks(object).await;
        let stopped = !matches!(object.paused(), Ok(None));
        let before = self.scaled_object_status(&key, object);
        let named_before = before.hpa_name.as_deref();
        let autoscaler = self.autoscalers.ensure(&key, &scaler.autoscaler, named_before, stopped).await;
        if let Some(autoscaler) = &autoscaler {
            self.tell_autoscaler(&key, autoscaler, made).await;
        }
        let mut after = before.clone();
        if let Some(workload) = workload {
            // Those before this decision: the workload may have been scaled since.
            let replicas = i32::try_from(made.decision.current).unwrap_or(i32::MAX);
            let kind = resource_of(scaler, workload);
            after = status::defined(after, object, &scaler.triggers, &BTreeMap::new(), kind, replicas);
        }
        let hpa = self.written.get(&key).and_then(|written| written.autoscaler.clone());
        after = status::decided(after, object, made.decision, hpa.as_ref().filter(|_| autoscaler.is_some()));
        let previous = self.previous(&key);
        let Made { decision, outcome, .. } = made;
        let decided = Decided { previous: previous.as_ref(), decision, outcome };
        self.write_scaled_object(&key, object, &before, after, Some(decided)).await;
    }

    fn scaled_object_status(&self, key: &OwnerKey, object: &ScaledObject) -> ScaledObjectStatus {
        let written = self.written.get(key).and_then(|written| written.scaled_object.clone());
        written.or_else(|| object.status.clone()).unwrap_or_default()
    }

    async fn write_scaled_object(
        &mut self,
        key: &OwnerKey,
        object: &ScaledObject,
        before: &ScaledObjectStatus,
        after: ScaledObjectStatus,
        decided: Option<Decided<'_>>,
    ) {
        for event in status::scaled_object_events(object, before, &after, decided) {
            self.publish(events::about(object), KEDA_COMPONENT, event).await;
        }
        let unchanged = after == *before;
        self.written.entry(key.clone()).or_default().scaled_object = Some(after.clone());
        if unchanged {
            return;
        }
        let api: Api<ScaledObject> = Api::namespaced(self.client.clone(), &key.1);
        if let Err(error) = write_status(&api, &key.2, &after).await {
            self.written.remove(key);
            tracing::warn!(scaled_object = key.2, namespace = key.1, %error, "cannot write a status");
        }
    }

    async fn tell_autoscaler(&mut self, key: &OwnerKey, object: &HorizontalPodAutoscaler, made: Made<'_>) {
        let Made { decision, outcome, .. } = made;
        let written = self.written.entry(key.clone()).or_default().autoscaler.clone();
        let before = written.or_else(|| object.status.clone());
        let at = Timestamp::from_millisecond(made.decision.at.as_millis() as i64).unwrap_or_default();
        let after = status::hpa_status(before.as_ref(), object, decision, made.memory, outcome, MetaTime(at));
        let previous = self.previous(key);
        for event in status::hpa_events(previous.as_ref(), &object.spec, decision, outcome) {
            self.publish(events::about(object), HPA_COMPONENT, event).await;
        }
        let unchanged = before.as_ref() == Some(&after);
        self.written.entry(key.clone()).or_default().autoscaler = Some(after.clone());
        if unchanged {
            return;
        }
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &key.1);
        if let Err(error) = write_status(&api, &object.name_any(), &after).await {
            self.written.entry(key.clone()).or_default().autoscaler = None;
            tracing::warn!(hpa = object.name_any(), namespace = key.1, %error, "cannot write a status");
        }
    }

    async fn publish(&mut self, about: ObjectReference, component: &'static str, event: status::Event) {
        let status::Event { warning, reason, message } = event;
        self.events.publish(&Note { about, component, warning, reason, message }).await;
    }

    /// KEDA labels every ScaledObject with its own name, which its metrics select by. One whose replicas are to be put
    /// back must not go before that is done.
    async fn ensure_marks(&self, object: &ScaledObject) {
        let is_labelled = object.labels().get(NAME_LABEL) == Some(&object.name_any());
        let has_finalizer = object.finalizers().iter().any(|own| own == deleted::FINALIZER);
        let needs_finalizer = deleted::restores(object) && !has_finalizer;
        if is_labelled && !needs_finalizer {
            return;
        }
        let mut metadata = json!({ "labels": { NAME_LABEL: object.name_any() } });
        if needs_finalizer {
            let mut finalizers = object.finalizers().to_vec();
            finalizers.push(deleted::FINALIZER.to_owned());
            metadata["finalizers"] = json!(finalizers);
        }
        let api: Api<ScaledObject> =
            Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        if let Err(error) = api.patch(&object.name_any(), &parameters(), &patch).await {
            tracing::warn!(scaled_object = object.name_any(), %error, "cannot mark a ScaledObject");
        }
    }
}

fn resource_of(scaler: &Scaler, workload: &Workload) -> GroupVersionKindResource {
    let api_version = scaler.workload.api_version.as_str();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    GroupVersionKindResource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: scaler.workload.kind.clone(),
        resource: workload.plural.clone(),
    }
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// Writes a whole status. A merge would keep what it does not name, such as triggers that are gone.
pub(crate) async fn write_status<K>(api: &Api<K>, name: &str, status: &impl Serialize) -> kube::Result<()>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let patch = json!([{ "op": "add", "path": "/status", "value": status }]);
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
    api.patch_status(name, &parameters(), &Patch::Json::<()>(patch)).await.map(|_| ())
}
