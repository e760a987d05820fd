//! The workloads that are scaled: how many replicas they have, and which pods are theirs.
//!
//! Deployments, ReplicaSets and StatefulSets are read from the watches. Any other kind with a `scale` subresource is
//! asked for it in the background, and its last answer is read at once: a server that is slow holds nobody up.
//!
//! A watch shows our own writes late. So what was written last is remembered, with its version, until the watch has
//! seen it; else a decision would rest on replicas that are history, and be made twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use flyball_api::kinds::scaled_object::ScaledObject;
use flyball_api::selector;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::core::gvk::ParseGroupVersionError;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};

use crate::api_error;
use crate::gather::cluster::Cluster;

/// Who writes replicas, in `managedFields`.
pub(crate) const FIELD_MANAGER: &str = "flyball";
/// The period of polling a scale that is not watched.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Questions for scales that are under way at once.
const ASKED_AT_ONCE: usize = 16;
/// An answer of the API server that takes longer is a failure.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A scale that was not read for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);

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

/// A workload as it stands; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// `spec.replicas`: what was asked for.
    pub(crate) desired: i32,
    /// `status.replicas`: what there is, ready or not.
    pub(crate) current: i32,
    object: Object,
}

/// Where the rest is read from.
#[derive(Clone, Debug)]
enum Object {
    Deployment(Arc<Deployment>),
    ReplicaSet(Arc<ReplicaSet>),
    StatefulSet(Arc<StatefulSet>),
    /// Only its scale is known: the plural of its kind, and the selector, or why that cannot be read.
    Scale(Arc<(String, Result<LabelSelector, String>)>),
}

/// Reads and writes the scale of workloads; clones share what they know.
#[derive(Clone)]
pub(crate) struct Workloads {
    client: Client,
    cluster: Cluster,
    shared: Arc<Shared>,
    /// Woken when a workload was read for the first time.
    woken: Arc<Notify>,
}

struct Shared {
    resources: Mutex<HashMap<GroupVersionKind, ApiResource>>,
    written: Mutex<HashMap<WorkloadRef, Written>>,
    asked: Mutex<HashMap<WorkloadRef, PolledScale>>,
    permits: Arc<Semaphore>,
}

/// Replicas that were written, as of a version of the workload.
#[derive(Clone, Copy, Debug)]
struct Written {
    version: u64,
    replicas: i32,
}

/// The last answer for a scale that is not watched.
struct PolledScale {
    answer: Option<Result<Workload, String>>,
    read: Instant,
    asked: Instant,
    running: bool,
}

impl Workloads {
    pub(crate) fn new(client: Client, cluster: Cluster, woken: Arc<Notify>) -> Workloads {
        let shared = Shared {
            resources: Mutex::default(),
            written: Mutex::default(),
            asked: Mutex::default(),
            permits: Arc::new(Semaphore::new(ASKED_AT_ONCE)),
        };
        Workloads { client, cluster, shared: Arc::new(shared), woken }
    }

    /// The workload as it was last seen, or why it cannot be read: it does not exist, has no `scale` subresource, or
    /// the API server cannot be asked. None until it has been asked for.
    pub(crate) fn read(&self, reference: &WorkloadRef) -> Option<Result<Workload, String>> {
        self.watched(reference).or_else(|| self.read_asked(reference))
    }

    /// A workload of a watched kind; none for other kinds.
    pub(crate) fn watched(&self, reference: &WorkloadRef) -> Option<Result<Workload, String>> {
        let cluster = &self.cluster;
        let found = match (reference.api_version.as_str(), reference.kind.as_str()) {
            ("apps/v1", "Deployment") => find(&cluster.deployments, reference, "deployments").map(|found| {
                let current = found.status.as_ref().and_then(|status| status.replicas);
                (found.spec.replicas, current, version(&*found), Object::Deployment(found))
            }),
            ("apps/v1", "StatefulSet") => {
                find(&cluster.stateful_sets, reference, "statefulsets").map(|found| {
                    let current = found.status.as_ref().map(|status| status.replicas);
                    (found.spec.replicas, current, version(&*found), Object::StatefulSet(found))
                })
            }
            ("apps/v1", "ReplicaSet") => find(&cluster.replica_sets, reference, "replicasets").map(|found| {
                let current = found.status.as_ref().map(|status| status.replicas);
                (found.spec.replicas, current, version(&*found), Object::ReplicaSet(found))
            }),
            _ => return None,
        };
        Some(found.map(|(desired, current, version, object)| {
            let desired = self.as_written(reference, version).or(desired).unwrap_or(1);
            Workload { desired, current: current.unwrap_or(0), object }
        }))
    }

    /// The replicas that were written, if the watch has not seen that yet.
    fn as_written(&self, reference: &WorkloadRef, seen: Option<u64>) -> Option<i32> {
        let mut written = self.shared.written.lock();
        let own = *written.get(reference)?;
        if seen.is_none_or(|seen| seen >= own.version) {
            written.remove(reference);
            return None;
        }
        Some(own.replicas)
    }

    fn read_asked(&self, reference: &WorkloadRef) -> Option<Result<Workload, String>> {
        let now = Instant::now();
        let mut all = self.shared.asked.lock();
        let is_new = !all.contains_key(reference);
        if is_new {
            all.retain(|_, one| now.duration_since(one.read) < FORGET_AFTER);
        }
        let new = || PolledScale { answer: None, read: now, asked: now, running: false };
        let one = all.entry(reference.clone()).or_insert_with(new);
        one.read = now;
        if !one.running && (is_new || now.duration_since(one.asked) >= ASK_EVERY) {
            (one.running, one.asked) = (true, now);
            tokio::spawn(self.clone().ask(reference.clone()));
        }
        one.answer.clone()
    }

    /// Asks for a scale, and takes the answer down.
    async fn ask(self, reference: WorkloadRef) {
        let permit = Arc::clone(&self.shared.permits).acquire_owned().await;
        let answer = self.read_scale(&reference).await;
        drop(permit);
        let mut all = self.shared.asked.lock();
        let Some(one) = all.get_mut(&reference) else { return };
        one.running = false;
        if one.answer.replace(answer).is_none() {
            self.woken.notify_one();
        }
    }

    /// The scale of a workload of any kind that has one.
    ///
    /// # Errors
    /// It does not exist, has no `scale` subresource, or the API server cannot be asked: a sentence for the user.
    pub(crate) async fn scale(&self, reference: &WorkloadRef) -> Result<Scale, String> {
        in_time(async {
            let (_, api) = self.scale_api(reference).await?;
            api.get_scale(&reference.name).await.map_err(|error| api_error::message(&error))
        })
        .await
    }

    async fn read_scale(&self, reference: &WorkloadRef) -> Result<Workload, String> {
        let scale = self.scale(reference).await?;
        let plural = self.resource(reference).await?.plural;
        let desired = self.as_written(reference, version(&scale));
        let status = scale.status.unwrap_or_default();
        let selector = selector::parse(status.selector.as_deref().unwrap_or_default());
        let selector = selector.map(LabelSelector::from).map_err(|error| error.to_string());
        let spec = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
        Ok(Workload {
            desired: desired.unwrap_or(spec),
            current: status.replicas,
            object: Object::Scale(Arc::new((plural, selector))),
        })
    }

    /// Sets `spec.replicas` through the scale subresource.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached in time.
    pub(crate) async fn write(&self, reference: &WorkloadRef, replicas: i32) -> Result<Scale, String> {
        let patch = Patch::Merge(serde_json::json!({ "spec": { "replicas": replicas } }));
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let scale: Scale = in_time(async {
            let (_, api) = self.scale_api(reference).await?;
            api.patch_scale(&reference.name, &parameters, &patch)
                .await
                .map_err(|error| api_error::message(&error))
        })
        .await?;
        if let Some(version) = version(&scale) {
            self.shared.written.lock().insert(reference.clone(), Written { version, replicas });
        }
        if let Some(Ok(known)) =
            self.shared.asked.lock().get_mut(reference).and_then(|one| one.answer.as_mut())
        {
            known.desired = replicas;
        }
        Ok(scale)
    }

    async fn scale_api(&self, reference: &WorkloadRef) -> Result<(ApiResource, Api<DynamicObject>), String> {
        let resource = self.resource(reference).await?;
        let api = Api::namespaced_with(self.client.clone(), &reference.namespace, &resource);
        Ok((resource, api))
    }

    /// The API server's name of each kind; discovered once.
    async fn resource(&self, reference: &WorkloadRef) -> Result<ApiResource, String> {
        let gvk = reference.gvk().map_err(|error| error.to_string())?;
        if matches!(
            (gvk.group.as_str(), gvk.kind.as_str()),
            ("apps", "Deployment" | "StatefulSet" | "ReplicaSet")
        ) {
            return Ok(ApiResource::from_gvk(&gvk));
        }
        if let Some(known) = self.shared.resources.lock().get(&gvk) {
            return Ok(known.clone());
        }
        let found = kube::discovery::pinned_kind(&self.client, &gvk)
            .await
            .map_err(|error| api_error::message(&error))?
            .0;
        self.shared.resources.lock().insert(gvk, found.clone());
        Ok(found)
    }
}

/// A number that grows with each change of an object, as Kubernetes says of resource versions (KEP-5504).
fn version(object: &impl ResourceExt) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

async fn in_time<T>(asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = |_| Err(format!("the API server has not answered within {} s", TIMEOUT.as_secs()));
    timeout(TIMEOUT, asked).await.unwrap_or_else(late)
}

/// What the pods of a watched workload look like.
pub(crate) fn template(cluster: &Cluster, reference: &WorkloadRef) -> Option<PodTemplateSpec> {
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

fn find<K>(store: &Store<K>, reference: &WorkloadRef, plural: &str) -> Result<Arc<K>, String>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let key = ObjectRef::new(&reference.name).within(&reference.namespace);
    store.get(&key).ok_or_else(|| format!("{plural}.apps \"{}\" not found", reference.name))
}

impl Workload {
    /// One of which only the scale is known.
    #[cfg(test)]
    pub(crate) fn of_scale(replicas: i32, selector: Result<LabelSelector, String>) -> Workload {
        let object = Object::Scale(Arc::new(("deployments".to_owned(), selector)));
        Workload { desired: replicas, current: replicas, object }
    }

    /// Whether its pods are chosen and made by the same object as those of `other`.
    pub(crate) fn is_same_object(&self, other: &Workload) -> bool {
        match (&self.object, &other.object) {
            (Object::Deployment(own), Object::Deployment(other)) => Arc::ptr_eq(own, other),
            (Object::ReplicaSet(own), Object::ReplicaSet(other)) => Arc::ptr_eq(own, other),
            (Object::StatefulSet(own), Object::StatefulSet(other)) => Arc::ptr_eq(own, other),
            (Object::Scale(own), Object::Scale(other)) => Arc::ptr_eq(own, other) || own == other,
            _ => false,
        }
    }

    /// Which pods are its own, or why that cannot be read.
    pub(crate) fn selector(&self) -> Result<&LabelSelector, &str> {
        match &self.object {
            Object::Deployment(object) => Ok(&object.spec.selector),
            Object::ReplicaSet(object) => Ok(&object.spec.selector),
            Object::StatefulSet(object) => Ok(&object.spec.selector),
            Object::Scale(scale) => scale.1.as_ref().map_err(String::as_str),
        }
    }

    /// The plural of its kind, for status fields that name it.
    pub(crate) fn plural(&self) -> &str {
        match &self.object {
            Object::Deployment(_) => "deployments",
            Object::ReplicaSet(_) => "replicasets",
            Object::StatefulSet(_) => "statefulsets",
            Object::Scale(scale) => &scale.0,
        }
    }

    /// The labels that its pods will have: how a Service is known to be its own while there are no pods.
    pub(crate) fn template_labels(&self) -> Option<&BTreeMap<String, String>> {
        let template = match &self.object {
            Object::Deployment(object) => Some(&object.spec.template),
            Object::ReplicaSet(object) => object.spec.template.as_ref(),
            Object::StatefulSet(object) => Some(&object.spec.template),
            Object::Scale(scale) => return scale.1.as_ref().ok()?.match_labels.as_ref(),
        };
        template?.metadata.as_ref()?.labels.as_ref()
    }

    /// Whether a pod with these labels is its own. A selector that says nothing, or can't be read, selects nothing.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector().is_ok_and(|own| !is_empty(own) && crate::gather::selector::matches(own, labels))
    }

    /// Its selector as text.
    pub(crate) fn selector_text(&self) -> String {
        let selector = self.selector().ok().and_then(|own| kube::core::Selector::try_from(own.clone()).ok());
        selector.map(|own| own.to_string()).unwrap_or_default()
    }

    /// Whether the workload has a usable selector, judged by itself.
    pub(crate) fn selector_state(&self) -> flyball_engine::Selector {
        match self.selector() {
            Ok(own) if is_empty(own) => flyball_engine::Selector::Missing,
            Ok(_) => flyball_engine::Selector::Valid,
            Err(error) => flyball_engine::Selector::Invalid { error: error.to_owned() },
        }
    }
}

fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}
