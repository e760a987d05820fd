//! What is told of a decision, and how: the statuses and events of a ScaledObject and of the HorizontalPodAutoscaler that
//! stands for it.
//!
//! A status is written only when it says something new. What was written last is remembered, because a watch shows it
//! late; it is also what the next status is merged with.

use flyball_api::kinds::scaled_object::{GroupVersionKindResource, ScaledObject, ScaledObjectStatus};
use flyball_api::scaled_object::NAME_LABEL;
use flyball_api::status;
use flyball_engine::Decision;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as MetaTime;
use kube::api::Patch;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::autoscaler::{Applied, Autoscalers};
use super::events::{self, Events, Note};
use super::write::{in_time, parameters, write_status};
use super::{Decided, deleted};
use crate::decide::scalers::{Broken, Owner, OwnerKey, Scaler};
use crate::gather::cluster::Cluster;
use crate::gather::workload::{Workload, Workloads};

/// Who speaks for a HorizontalPodAutoscaler, and for a ScaledObject.
const HPA_COMPONENT: &str = "horizontal-pod-autoscaler";
pub(super) const KEDA_COMPONENT: &str = "keda-operator";

/// Writes what is told.
pub(super) struct Teller {
    pub(super) client: Client,
    pub(super) workloads: Workloads,
    events: Events,
    autoscalers: Autoscalers,
}

/// What was told of one object: the statuses that were written last, and the decision they told of.
#[derive(Debug, Default)]
pub(super) struct Told {
    decision: Option<Decision>,
    scaled_object: Option<ScaledObjectStatus>,
    autoscaler: Option<HorizontalPodAutoscalerStatus>,
    applied: Option<Applied>,
    /// Something could not be written, and has to be told again.
    pub(super) failed: bool,
}

impl Teller {
    pub(super) fn new(client: Client, cluster: Cluster, workloads: Workloads, events: Events) -> Teller {
        let autoscalers = Autoscalers::new(client.clone(), cluster);
        Teller { client, workloads, events, autoscalers }
    }

    /// Tells of a decision.
    pub(super) async fn tell(&self, key: &OwnerKey, decided: &Decided, told: &mut Told) {
        match &decided.scaler.owner {
            Owner::Autoscaler(object) => self.tell_autoscaler(key, object, decided, told).await,
            Owner::ScaledObject(object) => self.tell_scaled_object(key, object, decided, told).await,
        }
        told.decision = Some(decided.decision.clone());
    }

    /// Tells of an object that could not be planned.
    pub(super) async fn tell_broken(&self, key: &OwnerKey, broken: &Broken, told: &mut Told) {
        let error = broken.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let object = match &broken.owner {
            Owner::ScaledObject(object) => object,
            Owner::Autoscaler(object) => return self.tell_refused(object, &error, told).await,
        };
        let before = told.scaled_object_status(object);
        let what = "ScaledObject doesn't have correct triggers specification";
        let after = status::checked_failed(before.clone(), what, &error);
        self.write_scaled_object(key, object, (&before, after), None, told).await;
    }

    /// Tells of a HorizontalPodAutoscaler whose target another object scales.
    async fn tell_refused(&self, object: &HorizontalPodAutoscaler, reason: &str, told: &mut Told) {
        let before = object.status.as_ref();
        let after = status::hpa_refused(before, reason, MetaTime(Timestamp::now()));
        if before == Some(&after) {
            return;
        }
        let api: Api<HorizontalPodAutoscaler> =
            Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        match in_time(write_status(&api, &object.name_any(), &after)).await {
            Ok(()) => {
                let (reason, message) = ("AmbiguousSelector".to_owned(), reason.to_owned());
                let event = status::Event { warning: true, reason, message };
                self.publish(events::about(object), HPA_COMPONENT, event);
            }
            Err(error) => {
                told.failed = true;
                tracing::warn!(hpa = object.name_any(), error, "cannot write a status");
            }
        }
    }

    async fn tell_scaled_object(
        &self,
        key: &OwnerKey,
        object: &ScaledObject,
        decided: &Decided,
        told: &mut Told,
    ) {
        let Decided { scaler, workload, decision, outcome, .. } = decided;
        self.ensure_marks(object, told).await;
        let stopped = !matches!(object.paused(), Ok(None));
        let before = told.scaled_object_status(object);
        let named_before = before.hpa_name.as_deref();
        let wanted = &scaler.autoscaler;
        let autoscaler = self.autoscalers.ensure(key, wanted, named_before, stopped, &mut told.applied).await;
        told.failed |= autoscaler.is_none() && !stopped;
        if let Some(autoscaler) = &autoscaler {
            self.tell_autoscaler(key, autoscaler, decided, told).await;
        }
        let mut after = before.clone();
        if let Some(workload) = workload {
            // Those before this decision: the workload may have been scaled since.
            let replicas = i32::try_from(decision.current).unwrap_or(i32::MAX);
            let kind = resource_of(scaler, workload);
            after = status::defined(after, object, &scaler.triggers, kind, replicas);
        }
        let hpa = told.autoscaler.as_ref().filter(|_| autoscaler.is_some());
        after = status::decided(after, object, decision, hpa);
        let previous = told.decision.take();
        let news = status::Decided { previous: previous.as_ref(), decision, outcome };
        self.write_scaled_object(key, object, (&before, after), Some(news), told).await;
    }

    async fn write_scaled_object(
        &self,
        key: &OwnerKey,
        object: &ScaledObject,
        (before, after): (&ScaledObjectStatus, ScaledObjectStatus),
        decided: Option<status::Decided<'_>>,
        told: &mut Told,
    ) {
        for event in status::scaled_object_events(object, before, &after, decided) {
            self.publish(events::about(object), KEDA_COMPONENT, event);
        }
        if after == *before {
            told.scaled_object = Some(after);
            return;
        }
        let api: Api<ScaledObject> = Api::namespaced(self.client.clone(), &key.1);
        match in_time(write_status(&api, &key.2, &after)).await {
            Ok(()) => told.scaled_object = Some(after),
            Err(error) => {
                (told.scaled_object, told.failed) = (None, true);
                tracing::warn!(scaled_object = key.2, namespace = key.1, error, "cannot write a status");
            }
        }
    }

    async fn tell_autoscaler(
        &self,
        key: &OwnerKey,
        object: &HorizontalPodAutoscaler,
        decided: &Decided,
        told: &mut Told,
    ) {
        let Decided { decision, outcome, memory, .. } = decided;
        let before = told.autoscaler.clone().or_else(|| object.status.clone());
        let at = Timestamp::from_millisecond(decision.at.as_millis() as i64).unwrap_or_default();
        let after =
            status::hpa_status(before.as_ref(), object, decision, memory.as_ref(), outcome, MetaTime(at));
        for event in status::hpa_events(told.decision.as_ref(), &object.spec, decision, outcome) {
            self.publish(events::about(object), HPA_COMPONENT, event);
        }
        let unchanged = before.as_ref() == Some(&after);
        if !unchanged {
            let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &key.1);
            if let Err(error) = in_time(write_status(&api, &object.name_any(), &after)).await {
                (told.autoscaler, told.failed) = (None, true);
                tracing::warn!(hpa = object.name_any(), namespace = key.1, error, "cannot write a status");
                return;
            }
        }
        told.autoscaler = Some(after);
    }

    pub(super) fn publish(
        &self,
        about: ObjectReference,
        component: &'static str,
        status::Event { warning, reason, message }: status::Event,
    ) {
        self.events.publish(Note { about, component, warning, reason, message });
    }

    /// Waits until the events so far are written.
    pub(super) async fn finish(&self) {
        self.events.finish().await;
    }

    /// KEDA labels every ScaledObject with its own name, which its metrics select by. One whose replicas are to be put
    /// back must not go before that is done.
    async fn ensure_marks(&self, object: &ScaledObject, told: &mut Told) {
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
        if let Err(error) = in_time(api.patch(&object.name_any(), &parameters(), &patch)).await {
            told.failed = true;
            tracing::warn!(scaled_object = object.name_any(), error, "cannot mark a ScaledObject");
        }
    }
}

impl Told {
    fn scaled_object_status(&self, object: &ScaledObject) -> ScaledObjectStatus {
        self.scaled_object.clone().or_else(|| object.status.clone()).unwrap_or_default()
    }
}

fn resource_of(scaler: &Scaler, workload: &Workload) -> GroupVersionKindResource {
    let api_version = scaler.workload.api_version.as_str();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    GroupVersionKindResource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: scaler.workload.kind.clone(),
        resource: workload.plural().to_owned(),
    }
}
