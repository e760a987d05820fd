//! What VPA's webhook does: it sizes new pods, and completes VerticalPodAutoscalers.
//!
//! (`pkg/admission-controller/resource/{pod,vpa}/handler.go`.) A pod is sized by the VerticalPodAutoscaler whose target is the
//! pod's topmost controller and whose target's selector matches; of several, by the oldest.

use std::collections::BTreeMap;

use flyball_engine::Name;
use flyball_engine::vertical::{NewPod, UpdateMode, VerticalRules, admission_patch};
use k8s_openapi::api::core::v1::{LimitRange, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::limit_ranges::limit_ranges;
use super::pod::facts;
use super::policy::policy;
use super::status::recommended;
use crate::kinds::vertical_pod_autoscaler::VerticalPodAutoscaler;

/// The kinds whose pods VPA sizes without asking for a scale (`pkg/target/controller_fetcher`).
const WELL_KNOWN: [&str; 7] =
    ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicationController"];

/// A controller by kind and name, in the namespace of its pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Controller {
    /// The API group, without the version.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
}

impl Controller {
    /// What a VerticalPodAutoscaler names as its target.
    pub fn targeted(object: &VerticalPodAutoscaler) -> Controller {
        let target = &object.spec.target_ref;
        Controller {
            group: group(target.api_version.as_deref().unwrap_or_default()),
            kind: target.kind.clone(),
            name: target.name.clone(),
        }
    }

    /// The one that controls an object with these owners.
    pub fn of(owners: &[OwnerReference]) -> Option<Controller> {
        let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
        Some(Controller {
            group: group(&owner.api_version),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
        })
    }

    /// Whether its pods are sized for its kind alone; those of others, where it has a scale.
    pub fn is_well_known(&self) -> bool {
        WELL_KNOWN.contains(&self.kind.as_str())
    }

    /// The topmost controller from this one up that is well known or has a scale, if any is; `owners` looks up an
    /// object's own owners. What an operator puts above that cannot be scaled does not count. Chains that go round end.
    pub fn topmost(
        self,
        has_scale: impl Fn(&Controller) -> bool,
        owners: impl Fn(&Controller) -> Vec<OwnerReference>,
    ) -> Option<Controller> {
        /// A pod, its ReplicaSet, its Deployment, and what an operator puts above; longer ones go round.
        const DEPTH_MAX: usize = 8;
        let chain = std::iter::successors(Some(self), |one| Controller::of(&owners(one)));
        chain.take(DEPTH_MAX).filter(|one| one.is_well_known() || has_scale(one)).last()
    }
}

fn group(api_version: &str) -> String {
    api_version.split_once('/').map_or("", |(group, _)| group).to_owned()
}

/// The VerticalPodAutoscaler that is in charge: the oldest, then the first by name.
pub fn in_charge<'a>(
    all: impl IntoIterator<Item = &'a VerticalPodAutoscaler>,
) -> Option<&'a VerticalPodAutoscaler> {
    all.into_iter().min_by_key(|object| (object.creation_timestamp().map(|time| time.0), object.name_any()))
}

/// The JSON patch for a new pod under these VerticalPodAutoscalers, which all match it; none if it is left as it is.
pub fn pod_patch(
    pod: &Pod,
    matching: &[VerticalPodAutoscaler],
    ranges: &[LimitRange],
    rules: &VerticalRules,
) -> Option<Value> {
    let policies: BTreeMap<String, _> = matching.iter().map(|one| (one.name_any(), policy(one))).collect();
    let sizes = |one: &&VerticalPodAutoscaler| {
        policies.get(&one.name_any()).is_some_and(|policy| {
            let boosts = policy.startup_boost.is_some()
                || policy.other_containers.startup_boost.is_some()
                || policy.containers.values().any(|own| own.startup_boost.is_some());
            policy.mode != UpdateMode::Off || (boosts && rules.startup_boost)
        })
    };
    let object = in_charge(matching.iter().filter(sizes))?;
    let own = policies.get(&object.name_any())?;
    let facts = facts(pod);
    let new = NewPod { containers: &facts.containers, has_annotations: pod.metadata.annotations.is_some() };
    let name = Name::from(object.name_any());
    let patch =
        admission_patch(&name, new, &recommended(object.status.as_ref()), own, &limit_ranges(ranges), rules);
    serde_json::to_value(patch).ok()
}

/// The JSON patch for a new VerticalPodAutoscaler: the one default that VPA's webhook writes.
pub fn vpa_patch(object: &Value) -> Option<Value> {
    let has_policy = object.pointer("/spec/updatePolicy").is_some_and(|policy| !policy.is_null());
    let default =
        json!([{ "op": "add", "path": "/spec/updatePolicy", "value": { "updateMode": "Recreate" } }]);
    (!has_policy).then_some(default)
}
