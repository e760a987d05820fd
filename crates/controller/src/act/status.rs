//! Reports decisions: the statuses and events of a ScaledObject and of its HorizontalPodAutoscaler.
//!
//! A status is written only when it differs from the last one written. That one is remembered, because a watch shows it
//! late; the next status is merged with it.

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
use super::{DecisionReport, deleted};
use crate::decide::scalers::{Broken, Owner, OwnerKey, Scaler};
use crate::gather::cluster::Cluster;
use crate::gather::workload::{Workload, Workloads};

/// The components that report events: kube-controller-manager's for a HorizontalPodAutoscaler, KEDA's for a ScaledObject.
const HPA_COMPONENT: &str = "horizontal-pod-autoscaler";
pub(super) const KEDA_COMPONENT: &str = "keda-operator";

/// Writes statuses and events.
pub(super) struct StatusWriter {
    pub(super) client: Client,
    pub(super) workloads: Workloads,
    events: Events,
    autoscalers: Autoscalers,
}

/// The statuses written last to one object, and the decision that they report.
#[derive(Debug, Default)]
pub(super) struct LastWritten {
    decision: Option<Decision>,
    scaled_object: Option<ScaledObjectStatus>,
    autoscaler: Option<HorizontalPodAutoscalerStatus>,
    applied: Option<Applied>,
    /// Whether a write failed, so that the report must be repeated.
    pub(super) failed: bool,
}

impl StatusWriter {
    pub(super) fn new(
        client: Client,
        cluster: Cluster,
        workloads: Workloads,
        events: Events,
    ) -> StatusWriter {
        let autoscalers = Autoscalers::new(client.clone(), cluster);
        StatusWriter { client, workloads, events, autoscalers }
    }

    /// Writes the report of a decision.
    pub(super) async fn report(&self, key: &OwnerKey, decided: &DecisionReport, written: &mut LastWritten) {
        match &decided.scaler.owner {
            Owner::Autoscaler(object) => self.report_autoscaler(key, object, decided, written).await,
            Owner::ScaledObject(object) => self.report_scaled_object(key, object, decided, written).await,
        }
        written.decision = Some(decided.decision.clone());
    }

    /// Writes the report of an object that could not be planned.
    pub(super) async fn report_broken(&self, key: &OwnerKey, broken: &Broken, written: &mut LastWritten) {
        let error = broken.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let object = match &broken.owner {
            Owner::ScaledObject(object) => object,
            Owner::Autoscaler(object) => return self.report_refused(object, &error, written).await,
        };
        let before = written.scaled_object_status(object);
        let what = "ScaledObject doesn't have correct triggers specification";
        let after = status::checked_failed(before.clone(), what, &error);
        self.write_scaled_object(key, object, (&before, after), None, written).await;
    }

    /// Writes the report of a HorizontalPodAutoscaler whose target another object scales.
    async fn report_refused(
        &self,
        object: &HorizontalPodAutoscaler,
        reason: &str,
        written: &mut LastWritten,
    ) {
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
                written.failed = true;
                tracing::warn!(hpa = object.name_any(), error, "cannot write a status");
            }
        }
    }

    async fn report_scaled_object(
        &self,
        key: &OwnerKey,
        object: &ScaledObject,
        decided: &DecisionReport,
        written: &mut LastWritten,
    ) {
        let DecisionReport { scaler, workload, decision, outcome, .. } = decided;
        self.ensure_marks(object, written).await;
        let stopped = !matches!(object.paused(), Ok(None));
        let before = written.scaled_object_status(object);
        let named_before = before.hpa_name.as_deref();
        let wanted = &scaler.autoscaler;
        let autoscaler =
            self.autoscalers.ensure(key, wanted, named_before, stopped, &mut written.applied).await;
        written.failed |= autoscaler.is_none() && !stopped;
        if let Some(autoscaler) = &autoscaler {
            self.report_autoscaler(key, autoscaler, decided, written).await;
        }
        let mut after = before.clone();
        if let Some(workload) = workload {
            // Those before this decision: the workload may have been scaled since.
            let replicas = i32::try_from(decision.current).unwrap_or(i32::MAX);
            let kind = resource_of(scaler, workload);
            after = status::defined(after, object, &scaler.triggers, kind, replicas);
        }
        let hpa = written.autoscaler.as_ref().filter(|_| autoscaler.is_some());
        after = status::decided(after, object, decision, hpa);
        let previous = written.decision.take();
        let news = status::Decided { previous: previous.as_ref(), decision, outcome };
        self.write_scaled_object(key, object, (&before, after), Some(news), written).await;
    }

    async fn write_scaled_object(
        &self,
        key: &OwnerKey,
        object: &ScaledObject,
        (before, after): (&ScaledObjectStatus, ScaledObjectStatus),
        decided: Option<status::Decided<'_>>,
        written: &mut LastWritten,
    ) {
        for event in status::scaled_object_events(object, before, &after, decided) {
            self.publish(events::about(object), KEDA_COMPONENT, event);
        }
        if after == *before {
            written.scaled_object = Some(after);
            return;
        }
        let api: Api<ScaledObject> = Api::namespaced(self.client.clone(), &key.1);
        match in_time(write_status(&api, &key.2, &after)).await {
            Ok(()) => written.scaled_object = Some(after),
            Err(error) => {
                (written.scaled_object, written.failed) = (None, true);
                tracing::warn!(scaled_object = key.2, namespace = key.1, error, "cannot write a status");
            }
        }
    }

    async fn report_autoscaler(
        &self,
        key: &OwnerKey,
        object: &HorizontalPodAutoscaler,
        decided: &DecisionReport,
        written: &mut LastWritten,
    ) {
        let DecisionReport { decision, outcome, memory, .. } = decided;
        let before = written.autoscaler.clone().or_else(|| object.status.clone());
        let at = Timestamp::from_millisecond(decision.at.as_millis() as i64).unwrap_or_default();
        let after =
            status::hpa_status(before.as_ref(), object, decision, memory.as_ref(), outcome, MetaTime(at));
        for event in status::hpa_events(written.decision.as_ref(), &object.spec, decision, outcome) {
            self.publish(events::about(object), HPA_COMPONENT, event);
        }
        let unchanged = before.as_ref() == Some(&after);
        if !unchanged {
            let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &key.1);
            if let Err(error) = in_time(write_status(&api, &object.name_any(), &after)).await {
                (written.autoscaler, written.failed) = (None, true);
                tracing::warn!(hpa = object.name_any(), namespace = key.1, error, "cannot write a status");
                return;
            }
        }
        written.autoscaler = Some(after);
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
    async fn ensure_marks(&self, object: &ScaledObject, written: &mut LastWritten) {
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
            written.failed = true;
            tracing::warn!(scaled_object = object.name_any(), error, "cannot mark a ScaledObject");
        }
    }
}

impl LastWritten {
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
