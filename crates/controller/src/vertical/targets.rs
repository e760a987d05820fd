//! Which pods each VerticalPodAutoscaler sizes, or why it can size none.
//!
//! Its target has to be the topmost controller of the pods (`pkg/target`): the pods are those whose chain of owners ends
//! there and which its selector matches. Of several VerticalPodAutoscalers with one target, the oldest is in charge of
//! its pods; the others only recommend.

use std::collections::BTreeMap;
use std::sync::Arc;

use flyball_api::kinds::vertical_pod_autoscaler::VerticalPodAutoscaler;
use flyball_api::vertical::admission::{Controller, in_charge};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::cluster::Cluster;
use crate::selector;
use crate::workload::{WorkloadRef, Workloads};

/// Kinds that VPA sizes though they have no scale; their pods are known by their owner alone.
const UNSCALED: [&str; 2] = ["DaemonSet", "Job"];

/// Namespace and name.
pub(super) type Key = (String, String);

/// One VerticalPodAutoscaler and its pods.
pub(super) struct Target {
    pub(super) object: Arc<VerticalPodAutoscaler>,
    /// That live and are not about to go, by name.
    pub(super) pods: Vec<Arc<Pod>>,
    /// Why the target cannot be sized.
    pub(super) unsupported: Option<String>,
    /// Whether this object changes its pods, or an older one does.
    pub(super) in_charge: bool,
}

impl Target {
    pub(super) fn key(&self) -> Key {
        key(&self.object)
    }

    /// The namespace and the controller whose pods are sized.
    pub(super) fn controller(&self) -> (String, Controller) {
        (self.object.namespace().unwrap_or_default(), Controller::targeted(&self.object))
    }
}

/// Namespace and name of an object.
pub(super) fn key(object: &VerticalPodAutoscaler) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// All of them.
pub(super) struct Targets(pub(super) Vec<Target>);

impl Targets {
    /// Looks up every target, from the watches where there is one for its kind.
    pub(super) async fn resolve(cluster: &Cluster, workloads: &Workloads) -> Targets {
        let pods = by_controller(cluster);
        let objects = cluster.vertical_autoscalers.state();
        let mut rivals: BTreeMap<_, Vec<&VerticalPodAutoscaler>> = BTreeMap::new();
        for object in &objects {
            let target = (object.namespace().unwrap_or_default(), Controller::targeted(object));
            rivals.entry(target).or_default().push(object);
        }
        let first_of =
            |target: &(String, Controller)| Some(in_charge(rivals.get(target)?.iter().copied())?.name_any());
        let mut targets = Vec::new();
        for object in &objects {
            let namespace = object.namespace().unwrap_or_default();
            let controller = Controller::targeted(object);
            let found = look_up(cluster, workloads, object, &controller).await;
            let (selector, unsupported) = match found {
                Ok(selector) => (Some(selector), None),
                Err(why) => (None, Some(why)),
            };
            let own =
                pods.get(&(namespace.clone(), controller.clone())).map(Vec::as_slice).unwrap_or_default();
            let own = own
                .iter()
                .filter(|pod| selector.as_ref().is_some_and(|s| selector::matches(s, pod.labels())));
            let first = first_of(&(namespace, controller));
            targets.push(Target {
                pods: own.cloned().collect(),
                unsupported,
                in_charge: first.is_none_or(|first| first == object.name_any()),
                object: Arc::clone(object),
            });
        }
        Targets(targets)
    }
}

/// The selector of a target, or a sentence for `ConfigUnsupported`.
async fn look_up(
    cluster: &Cluster,
    workloads: &Workloads,
    object: &VerticalPodAutoscaler,
    controller: &Controller,
) -> Result<LabelSelector, String> {
    let target = &object.spec.target_ref;
    let namespace = object.namespace().unwrap_or_default();
    let reference = WorkloadRef {
        api_version: target.api_version.clone().unwrap_or_default(),
        kind: target.kind.clone(),
        namespace: namespace.clone(),
        name: target.name.clone(),
    };
    let found = if UNSCALED.contains(&target.kind.as_str()) {
        workloads.exists(&reference).await.map(|()| LabelSelector::default())
    } else {
        workloads.read(&reference).await.and_then(|workload| workload.selector)
    };
    let selector = found.map_err(|error| {
        let why = if error.ends_with("not found") {
            format!("{} {namespace}/{} does not exist", target.kind, target.name)
        } else {
            error
        };
        format!("Cannot read targetRef. Reason: {why}")
    })?;
    if Controller::of(&owners(cluster, &namespace, controller)).is_some() {
        return Err(format!(
            "The target {}.{}/{} has a parent controller but it should point to a topmost well-known or scalable controller",
            reference.api_version, target.kind, target.name
        ));
    }
    Ok(selector)
}

/// The pods that live, by the topmost controller above them.
fn by_controller(cluster: &Cluster) -> BTreeMap<(String, Controller), Vec<Arc<Pod>>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for pod in cluster.pods.state() {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
            continue;
        }
        let namespace = pod.namespace().unwrap_or_default();
        if let Some(owner) = Controller::of(pod.owner_references()) {
            let top = owner.topmost(|controller| owners(cluster, &namespace, controller));
            all.entry((namespace, top)).or_default().push(pod);
        }
    }
    for pods in all.values_mut() {
        pods.sort_by_key(|pod| pod.name_any());
    }
    all
}

/// The owners of a controller, if it is of a kind that is watched.
fn owners(cluster: &Cluster, namespace: &str, controller: &Controller) -> Vec<OwnerReference> {
    fn of<K: kube::Resource<DynamicType = ()> + Clone>(
        store: &kube::runtime::reflector::Store<K>,
        namespace: &str,
        name: &str,
    ) -> Vec<OwnerReference> {
        let found = store.get(&ObjectRef::new(name).within(namespace));
        found.map(|object| object.owner_references().to_vec()).unwrap_or_default()
    }
    match (controller.group.as_str(), controller.kind.as_str()) {
        ("apps", "ReplicaSet") => of(&cluster.replica_sets, namespace, &controller.name),
        ("apps", "Deployment") => of(&cluster.deployments, namespace, &controller.name),
        ("apps", "StatefulSet") => of(&cluster.stateful_sets, namespace, &controller.name),
        _ => Vec::new(),
    }
}
