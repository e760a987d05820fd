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
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

use super::controllers::{ControllerKey, Controllers, unknown_owner};
use crate::gather::cluster::Cluster;
use crate::gather::selector;
use crate::tell::telemetry::Timer;

/// Namespace and name.
pub(super) type Key = (String, String);

/// One VerticalPodAutoscaler and its pods.
pub(super) struct VpaTarget {
    pub(super) object: Arc<VerticalPodAutoscaler>,
    /// That live and are not about to go, by name.
    pub(super) pods: Vec<Arc<Pod>>,
    /// Why the target cannot be sized.
    pub(super) unsupported: Option<String>,
    /// Whether this object changes its pods, or an older one does.
    pub(super) in_charge: bool,
}

impl VpaTarget {
    pub(super) fn key(&self) -> Key {
        key(&self.object)
    }

    /// The namespace and the controller whose pods are sized.
    pub(super) fn controller(&self) -> ControllerKey {
        place(&self.object)
    }
}

/// Namespace and name of an object.
pub(super) fn key(object: &VerticalPodAutoscaler) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The namespace and the controller that an object is about.
pub(super) fn place(object: &VerticalPodAutoscaler) -> ControllerKey {
    (object.namespace().unwrap_or_default(), Controller::targeted(object))
}

/// All of them.
pub(super) struct Targets(pub(super) Vec<VpaTarget>);

impl Targets {
    /// Looks up every target, from the watches where there is one for its kind.
    pub(super) async fn resolve(
        cluster: &Cluster,
        controllers: &mut Controllers,
        timer: &mut Timer,
    ) -> Targets {
        let (pods, objects) = (living_pods(cluster), cluster.vertical_autoscalers.state());
        controllers.ask(to_ask(controllers, &pods, &objects)).await;
        let pods = by_controller(controllers, pods);
        timer.step("LoadPods");
        let mut rivals: BTreeMap<ControllerKey, Vec<&VerticalPodAutoscaler>> = BTreeMap::new();
        for object in &objects {
            rivals.entry(place(object)).or_default().push(object);
        }
        let target = |object: &Arc<VerticalPodAutoscaler>| {
            let place = place(object);
            let first = rivals.get(&place).and_then(|all| in_charge(all.iter().copied()));
            let selector = look_up(controllers, object, &place);
            let own = pods.get(&place).map(Vec::as_slice).unwrap_or_default();
            let own = own.iter().filter(|pod| selector.as_ref().is_ok_and(|own| selects(own.as_ref(), pod)));
            VpaTarget {
                pods: own.cloned().collect(),
                unsupported: selector.err(),
                in_charge: first.is_none_or(|first| first.metadata.name == object.metadata.name),
                object: Arc::clone(object),
            }
        };
        let targets = objects.iter().map(target).collect();
        timer.step("LoadVPAs");
        Targets(targets)
    }
}

fn selects(own: Option<&LabelSelector>, pod: &Pod) -> bool {
    own.is_none_or(|own| selector::matches(own, pod.labels()))
}

/// The selector of a target, or a sentence for `ConfigUnsupported`.
fn look_up(
    controllers: &Controllers,
    object: &VerticalPodAutoscaler,
    place: &ControllerKey,
) -> Result<Option<LabelSelector>, String> {
    let found = controllers.get(place).and_then(|found| Ok((found.selector.clone()?, found)));
    let (selector, found) = found.map_err(|why| format!("Cannot read targetRef. Reason: {why}"))?;
    match Controller::of(&found.owners).and_then(|above| topmost(controllers, &place.0, above)) {
        Some(_) => {
            let target = &object.spec.target_ref;
            let version = target.api_version.as_deref().unwrap_or_default();
            Err(format!(
                "The target {version}.{}/{} has a parent controller but it should point to a topmost well-known or \
                 scalable controller",
                target.kind, target.name
            ))
        }
        None => Ok(selector),
    }
}

fn topmost(controllers: &Controllers, namespace: &str, from: Controller) -> Option<Controller> {
    let place = |one: &Controller| (namespace.to_owned(), one.clone());
    from.topmost(
        |one| controllers.has_scale(&place(one)),
        |one| controllers.get(&place(one)).map(|found| found.owners).unwrap_or_default(),
    )
}

fn living_pods(cluster: &Cluster) -> Vec<Arc<Pod>> {
    let mut pods = cluster.pods.state();
    pods.retain(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
    });
    pods
}

/// The controllers that are targets or above pods and are of a kind that has to be asked for its scale.
fn to_ask(
    controllers: &Controllers,
    pods: &[Arc<Pod>],
    objects: &[Arc<VerticalPodAutoscaler>],
) -> BTreeMap<ControllerKey, String> {
    let version =
        |object: &VerticalPodAutoscaler| object.spec.target_ref.api_version.clone().unwrap_or_default();
    let targets = objects.iter().map(|object| (place(object), version(object)));
    let mut ask: BTreeMap<ControllerKey, String> =
        targets.filter(|((_, one), _)| !one.is_well_known()).collect();
    let mut seen = std::collections::BTreeSet::new();
    for pod in pods {
        let namespace = pod.namespace().unwrap_or_default();
        ask.extend(unknown_owner(&namespace, pod.owner_references()));
        let mut next = Controller::of(pod.owner_references()).map(|owner| (namespace.clone(), owner));
        // each once, so that chains that go round end
        while let Some(place) = next.filter(|place| seen.insert(place.clone())) {
            let owners = controllers.get(&place).map(|found| found.owners).unwrap_or_default();
            ask.extend(unknown_owner(&namespace, &owners));
            next = Controller::of(&owners).map(|owner| (namespace.clone(), owner));
        }
    }
    ask
}

/// The pods by the topmost controller above them, sorted by name.
fn by_controller(controllers: &Controllers, pods: Vec<Arc<Pod>>) -> BTreeMap<ControllerKey, Vec<Arc<Pod>>> {
    let mut tops: BTreeMap<ControllerKey, Option<ControllerKey>> = BTreeMap::new();
    let mut all: BTreeMap<ControllerKey, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in pods {
        let namespace = pod.namespace().unwrap_or_default();
        let Some(owner) = Controller::of(pod.owner_references()) else { continue };
        let top = tops.entry((namespace, owner)).or_insert_with_key(|(namespace, owner)| {
            let top = topmost(controllers, namespace, owner.clone())?;
            Some((namespace.clone(), top))
        });
        if let Some(top) = top {
            all.entry(top.clone()).or_default().push(pod);
        }
    }
    for pods in all.values_mut() {
        pods.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    }
    all
}
