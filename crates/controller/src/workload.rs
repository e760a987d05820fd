//! The workloads that are scaled: how many replicas they have, and which pods are theirs.
//!
//! Deployments, ReplicaSets and StatefulSets are read from the watches. Any other kind with a `scale` subresource
//! is asked for it, which costs a request for each evaluation.

use std::collections::BTreeMap;

use flyball_api::kinds::scaled_object::ScaledObject;
use flyball_api::selector;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::core::gvk::ParseGroupVersionError;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client};

use crate::cluster::Cluster;

/// Who writes replicas, in `managedFields`.
pub(crate) const FIELD_MANAGER: &str = "flyball";

/// A workload by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkloadRef {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl WorkloadRef {
    /// What a ScaledObject scales; KEDA's defaults are `apps/v1` and `Deployment`.
    pub(crate) fn of_scaled_object(object: &ScaledObject) -> WorkloadRef {
        let reference = &object.spec.scale_target_ref;
        let or = |value: &Option<String>, default: &str| {
            value.clone().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
        };
        WorkloadRef {
            api_version: or(&reference.api_version, "apps/v1"),
            kind: or(&reference.kind, "Deployment"),
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: reference.name.clone(),
        }
    }

    /// What a HorizontalPodAutoscaler scales.
    pub(crate) fn of_autoscaler(object: &HorizontalPodAutoscaler) -> WorkloadRef {
        let reference = object.spec.scale_target_ref.clone();
        WorkloadRef {
            api_version: reference.api_version.unwrap_or_default(),
            kind: reference.kind,
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: reference.name,
        }
    }

    fn gvk(&self) -> Result<GroupVersionKind, ParseGroupVersionError> {
        let version: kube::core::GroupVersion = self.api_version.parse()?;
        Ok(version.with_kind(&self.kind))
    }
}

/// A workload as it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    /// `spec.replicas`: what was asked for.
    pub(crate) desired: i32,
    /// `status.replicas`: what there is, ready or not.
    pub(crate) current: i32,
    /// Which pods are its own, or why that cannot be read.
    pub(crate) selector: Result<LabelSelector, String>,
    /// The plural, for status fields that name it.
    pub(crate) plural: String,
    /// The labels that its pods will have: how a Service is known to be its own while there are no pods.
    pub(crate) template_labels: BTreeMap<String, String>,
    /// The pod template, for what triggers read from it.
    pub(crate) template: Option<k8s_openapi::api::core::v1::PodTemplateSpec>,
}

/// Reads and writes the scale of workloads.
#[derive(Clone)]
pub(crate) struct Workloads {
    client: Client,
    cluster: Cluster,
}

impl Workloads {
    pub(crate) fn new(client: Client, cluster: Cluster) -> Workloads {
        Workloads { client, cluster }
    }

    /// The workload, from a watch where there is one.
    ///
    /// # Errors
    /// It does not exist, has no `scale` subresource, or the API server cannot be asked: a sentence for the user.
    pub(crate) async fn read(&self, reference: &WorkloadRef) -> Result<Workload, String> {
        match self.read_watched(reference) {
            Some(workload) => workload,
            None => self.read_scale(reference).await,
        }
    }

    /// The namespace and the workload, if it is of a watched kind and exists.
    pub(crate) fn watched(&self, reference: &WorkloadRef) -> Option<(String, Workload)> {
        Some((reference.namespace.clone(), self.read_watched(reference)?.ok()?))
    }

    fn read_watched(&self, reference: &WorkloadRef) -> Option<Result<Workload, String>> {
        let cluster = &self.cluster;
        Some(match (reference.api_version.as_str(), reference.kind.as_str()) {
            ("apps/v1", "Deployment") => find(&cluster.deployments, reference, "deployments").map(|found| {
                let spec = found.spec.clone();
                let current = found.status.as_ref().and_then(|status| status.replicas);
                watched(spec.replicas, current, spec.selector, Some(spec.template), "deployments")
            }),
            ("apps/v1", "StatefulSet") => {
                find(&cluster.stateful_sets, reference, "statefulsets").map(|found| {
                    let spec = found.spec.clone();
                    let current = found.status.as_ref().map(|status| status.replicas);
                    watched(spec.replicas, current, spec.selector, Some(spec.template), "statefulsets")
                })
            }
            ("apps/v1", "ReplicaSet") => find(&cluster.replica_sets, reference, "replicasets").map(|found| {
                let spec = found.spec.clone();
                let current = found.status.as_ref().map(|status| status.replicas);
                watched(spec.replicas, current, spec.selector, spec.template, "replicasets")
            }),
            _ => return None,
        })
    }

    /// The scale of a workload of any kind that has one.
    ///
    /// # Errors
    /// It does not exist, has no `scale` subresource, or the API server cannot be asked: a sentence for the user.
    pub(crate) async fn scale(&self, reference: &WorkloadRef) -> Result<Scale, String> {
        let (_, api) = self.scale_api(reference).await?;
        api.get_scale(&reference.name).await.map_err(|error| error.to_string())
    }

    async fn read_scale(&self, reference: &WorkloadRef) -> Result<Workload, String> {
        let (resource, api) = self.scale_api(reference).await?;
        let scale = api.get_scale(&reference.name).await.map_err(|error| error.to_string())?;
        let status = scale.status.unwrap_or_default();
        let selector = selector::parse(status.selector.as_deref().unwrap_or_default());
        let selector = selector.map(LabelSelector::from).map_err(|error| error.to_string());
        Ok(Workload {
            desired: scale.spec.and_then(|spec| spec.replicas).unwrap_or(0),
            current: status.replicas,
            template_labels: selector.clone().ok().and_then(|own| own.match_labels).unwrap_or_default(),
            selector,
            plural: resource.plural,
            template: None,
        })
    }

    /// Sets `spec.replicas` through the scale subresource.
    ///
    /// # Errors
    /// The API server refuses or cannot be reached.
    pub(crate) async fn write(&self, reference: &WorkloadRef, replicas: i32) -> Result<Scale, String> {
        let (_, api) = self.scale_api(reference).await?;
        let patch = Patch::Merge(serde_json::json!({ "spec": { "replicas": replicas } }));
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        api.patch_scale(&reference.name, &parameters, &patch).await.map_err(|error| error.to_string())
    }

    async fn scale_api(&self, reference: &WorkloadRef) -> Result<(ApiResource, Api<DynamicObject>), String> {
        let gvk = reference.gvk().map_err(|error| error.to_string())?;
        let resource = match (gvk.group.as_str(), gvk.kind.as_str()) {
            ("apps", "Deployment" | "StatefulSet" | "ReplicaSet") => ApiResource::from_gvk(&gvk),
            _ => kube::discovery::pinned_kind(&self.client, &gvk).await.map_err(|error| error.to_string())?.0,
        };
        let api = Api::namespaced_with(self.client.clone(), &reference.namespace, &resource);
        Ok((resource, api))
    }
}

/// What the pods of a watched workload look like.
pub(crate) fn template(
    cluster: &Cluster,
    reference: &WorkloadRef,
) -> Option<k8s_openapi::api::core::v1::PodTemplateSpec> {
    let WorkloadRef { name, namespace, .. } = reference;
    match (reference.api_version.as_str(), reference.kind.as_str()) {
        ("apps/v1", "Deployment") => {
            let found = cluster.deployments.get(&ObjectRef::new(name).within(namespace))?;
            Some(found.spec.template.clone())
        }
        ("apps/v1", "StatefulSet") => {
            let found = cluster.stateful_sets.get(&ObjectRef::new(name).within(namespace))?;
            Some(found.spec.template.clone())
        }
        _ => None,
    }
}

fn find<K>(store: &Store<K>, reference: &WorkloadRef, plural: &str) -> Result<std::sync::Arc<K>, String>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let key = ObjectRef::new(&reference.name).within(&reference.namespace);
    store.get(&key).ok_or_else(|| format!("{plural}.apps \"{}\" not found", reference.name))
}

fn watched(
    desired: Option<i32>,
    current: Option<i32>,
    selector: LabelSelector,
    template: Option<k8s_openapi::api::core::v1::PodTemplateSpec>,
    plural: &str,
) -> Workload {
    let labels = template.as_ref().and_then(|template| template.metadata.as_ref()?.labels.clone());
    Workload {
        desired: desired.unwrap_or(1),
        current: current.unwrap_or(0),
        selector: Ok(selector),
        plural: plural.to_owned(),
        template_labels: labels.unwrap_or_default(),
        template,
    }
}

impl Workload {
    /// Whether a pod with these labels is its own. A selector that says nothing, or can't be read, selects nothing.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.as_ref().is_ok_and(|own| !is_empty(own) && crate::selector::matches(own, labels))
    }

    /// Its selector as text.
    pub(crate) fn selector_text(&self) -> String {
        let selector = self.selector.clone().ok().and_then(|own| kube::core::Selector::try_from(own).ok());
        selector.map(|own| own.to_string()).unwrap_or_default()
    }

    /// Whether its pods can be told apart, by its own account.
    pub(crate) fn selector_state(&self) -> flyball_engine::Selector {
        match &self.selector {
            Ok(own) if is_empty(own) => flyball_engine::Selector::Missing,
            Ok(_) => flyball_engine::Selector::Valid,
            Err(error) => flyball_engine::Selector::Invalid { error: error.clone() },
        }
    }
}

fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}
