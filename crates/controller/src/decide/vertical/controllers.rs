//! The controllers above pods, of every kind (`pkg/target`, `pkg/target/controller_fetcher`): their owners, and which pods
//! they select.
//!
//! The well-known kinds are watched. Any other kind is asked for its `scale`, and the answer is kept for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_api::selector;
use flyball_api::vertical::admission::Controller;
use futures::{StreamExt, stream};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use super::WORKERS;
use crate::gather::cluster::Cluster;
use crate::gather::workload::{WorkloadRef, Workloads};

/// How long a scale is taken for granted. VPA does for ten minutes.
const SCALE_KEPT: Duration = Duration::from_secs(60);
/// How long it is taken for granted that there is none.
const NO_SCALE_KEPT: Duration = Duration::from_secs(5);
/// What runs a static pod is no controller, and is not asked.
const NODE: &str = "Node";

/// The namespace of a controller, and the controller.
pub(super) type ControllerKey = (String, Controller);

/// A controller that is there.
#[derive(Clone, Debug)]
pub(super) struct ControllerInfo {
    pub(super) owners: Vec<OwnerReference>,
    /// None for the kinds whose pods are known by their owner alone, or why it cannot be read.
    pub(super) selector: Result<Option<LabelSelector>, String>,
}

/// Looks controllers up.
pub(super) struct Controllers {
    cluster: Cluster,
    workloads: Workloads,
    scales: BTreeMap<ControllerKey, CachedScale>,
}

/// The answer to a question for a scale.
struct CachedScale {
    at: Instant,
    answer: Result<ControllerInfo, String>,
}

impl Controllers {
    pub(super) fn new(cluster: Cluster, workloads: Workloads) -> Controllers {
        Controllers { cluster, workloads, scales: BTreeMap::new() }
    }

    /// A controller, or a sentence that says why there is none.
    pub(super) fn get(&self, (namespace, one): &ControllerKey) -> Result<ControllerInfo, String> {
        if !one.is_well_known() {
            let kept = self.scales.get(&(namespace.clone(), one.clone()));
            return kept
                .map_or_else(|| Err("it was not asked for yet".to_owned()), |kept| kept.answer.clone());
        }
        self.watched(namespace, one)
            .ok_or_else(|| format!("{} {namespace}/{} does not exist", one.kind, one.name))
    }

    fn watched(&self, namespace: &str, one: &Controller) -> Option<ControllerInfo> {
        let (cluster, name) = (&self.cluster, one.name.as_str());
        match (one.group.as_str(), one.kind.as_str()) {
            ("apps", "Deployment") => {
                find(&cluster.deployments, namespace, name, |found| Some(found.spec.selector.clone()))
            }
            ("apps", "ReplicaSet") => {
                find(&cluster.replica_sets, namespace, name, |found| Some(found.spec.selector.clone()))
            }
            ("apps", "StatefulSet") => {
                find(&cluster.stateful_sets, namespace, name, |found| Some(found.spec.selector.clone()))
            }
            ("apps", "DaemonSet") => {
                find(&cluster.daemon_sets, namespace, name, |found| Some(found.spec.selector.clone()))
            }
            ("", "ReplicationController") => {
                find(&cluster.replication_controllers, namespace, name, |found| {
                    let match_labels = found.spec.as_ref()?.selector.clone();
                    Some(LabelSelector { match_labels, ..LabelSelector::default() })
                })
            }
            ("batch", "Job") => {
                find(&cluster.jobs, namespace, name, |found| found.spec.as_ref()?.selector.clone())
            }
            ("batch", "CronJob") => find(&cluster.cron_jobs, namespace, name, |found| {
                let template = &found.spec.job_template.spec.as_ref()?.template;
                let match_labels = template.metadata.as_ref()?.labels.clone();
                Some(LabelSelector { match_labels, ..LabelSelector::default() })
            }),
            _ => None,
        }
    }

    /// Whether a controller of a kind that is not well known has a scale.
    pub(super) fn has_scale(&self, place: &ControllerKey) -> bool {
        self.scales.get(place).is_some_and(|kept| kept.answer.is_ok())
    }

    /// Asks for the scales of these controllers, which are not well known, and of what owns them; with their API versions.
    pub(super) async fn ask(&mut self, mut places: BTreeMap<ControllerKey, String>) {
        self.scales.retain(|_, kept| kept.at.elapsed() < kept.lifetime());
        while !places.is_empty() {
            places.retain(|(namespace, one), _| {
                one.kind != NODE && !self.scales.contains_key(&(namespace.clone(), one.clone()))
            });
            // futures of one type, made outside of the stream: its closure could not be sent to another thread
            let asked: Vec<_> = places.into_iter().map(|place| ask(&self.workloads, place)).collect();
            let answers: Vec<_> = stream::iter(asked).buffer_unordered(WORKERS).collect().await;
            places = BTreeMap::new();
            for (place, answer) in answers {
                let owners = answer.as_ref().map(|found| found.owners.as_slice()).unwrap_or_default();
                places.extend(unknown_owner(&place.0, owners));
                self.scales.insert(place, CachedScale { at: Instant::now(), answer });
            }
        }
    }
}

impl CachedScale {
    fn lifetime(&self) -> Duration {
        if self.answer.is_ok() { SCALE_KEPT } else { NO_SCALE_KEPT }
    }
}

/// The controller among these owners, with its API version, if it is of a kind that has to be asked.
pub(super) fn unknown_owner(namespace: &str, owners: &[OwnerReference]) -> Option<(ControllerKey, String)> {
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    let one = Controller::of(std::slice::from_ref(owner)).filter(|one| !one.is_well_known())?;
    Some(((namespace.to_owned(), one), owner.api_version.clone()))
}

fn find<K>(
    store: &Store<K>,
    namespace: &str,
    name: &str,
    selector: impl Fn(&K) -> Option<LabelSelector>,
) -> Option<ControllerInfo>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let object = store.get(&ObjectRef::new(name).within(namespace))?;
    Some(ControllerInfo { owners: object.owner_references().to_vec(), selector: Ok(selector(&object)) })
}

async fn ask(
    workloads: &Workloads,
    (place, api_version): (ControllerKey, String),
) -> (ControllerKey, Result<ControllerInfo, String>) {
    let (namespace, Controller { kind, name, .. }) = place.clone();
    let reference = WorkloadRef { api_version, kind, namespace, name };
    let answer = workloads.scale(&reference).await.map(found).map_err(|error| {
        let WorkloadRef { api_version, kind, name, .. } = &reference;
        format!("Unhandled targetRef {api_version} / {kind} / {name}, last error {error}")
    });
    (place, answer)
}

fn found(scale: Scale) -> ControllerInfo {
    let text = scale.status.and_then(|status| status.selector).unwrap_or_default();
    let selector = selector::parse(&text).map(LabelSelector::from).map_err(|error| error.to_string());
    ControllerInfo {
        owners: scale.metadata.owner_references.unwrap_or_default(),
        selector: selector.map(Some),
    }
}
