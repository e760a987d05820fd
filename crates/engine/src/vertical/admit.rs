//! What a new pod gets (`pkg/admission-controller/resource/pod`): its containers' requests and limits, and the JSON patch
//! that writes them, with VPA's annotations.

use std::collections::BTreeMap;

use serde::Serialize;

use super::boost;
use super::cap::for_pod;
use super::estimate::ContainerRecommendation;
use super::facts::ContainerFacts;
use super::limit_range::LimitRanges;
use super::limits::{LimitNote, proportional_limits};
use super::policy::{ControlledValues, UpdateMode, VerticalPolicy, VerticalRules};
use super::resources::{ContainerResources, Resource, Resources};
use crate::name::Name;

/// The annotation that says what was changed.
pub const UPDATES_ANNOTATION: &str = "vpaUpdates";
/// The annotation that lists the containers that were looked at.
pub const OBSERVED_CONTAINERS_ANNOTATION: &str = "vpaObservedContainers";
/// The prefix of the annotations that keep what a container had before its startup boost.
pub const STARTUP_BOOST_ANNOTATION_PREFIX: &str = "vpaCpuStartupBoost/";
/// The annotation of a pod that was resized in place.
pub const IN_PLACE_UPDATED_ANNOTATION: &str = "vpaInPlaceUpdated";

/// A pod as it arrives: only what it says counts.
#[derive(Clone, Copy, Debug)]
pub struct NewPod<'a> {
    /// In the order of its spec.
    pub containers: &'a [ContainerFacts],
    /// It has `metadata.annotations`.
    pub has_annotations: bool,
}

/// What one container gets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerChange {
    /// Requests and limits to write; what is not listed stays.
    pub new: ContainerResources,
    /// VPA's words on what bounded them.
    pub notes: Vec<String>,
    /// What it had, if it gets a startup boost.
    pub boosted_from: Option<ContainerResources>,
}

/// `op: add` of a JSON patch (RFC 6902).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PatchOperation {
    /// Always `add`, which also replaces.
    pub op: &'static str,
    /// Where.
    pub path: String,
    /// What.
    pub value: PatchValue,
}

/// What a patch writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PatchValue {
    /// A quantity or an annotation.
    Text(String),
    /// An object that was missing.
    Object(BTreeMap<String, String>),
}

impl PatchOperation {
    fn text(path: String, value: impl Into<String>) -> Self {
        Self { op: "add", path, value: PatchValue::Text(value.into()) }
    }

    fn object(path: String) -> Self {
        Self { op: "add", path, value: PatchValue::Object(BTreeMap::new()) }
    }

    fn annotation(name: &str, value: impl Into<String>) -> Self {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        Self::text(format!("/metadata/annotations/{escaped}"), value)
    }
}

/// Requests and limits for one container. Without a target it gets nothing new, unless `add_all`: then everything it
/// has is listed, as a resize needs it.
pub fn container_resources(
    container: &ContainerFacts,
    target: Option<&Resources>,
    values: ControlledValues,
    default_limit: &Resources,
    add_all: bool,
) -> (ContainerResources, Vec<(Resource, LimitNote)>) {
    let original = container.resources();
    let mut requests = target.copied().unwrap_or_default();
    if add_all {
        requests = requests.or(original.requests);
    }
    let (limits, notes) = match values {
        ControlledValues::RequestsAndLimits if !requests.is_empty() => {
            proportional_limits(&original, &requests, default_limit)
        }
        _ => Default::default(),
    };
    let limits = if add_all { limits.or(original.limits) } else { limits };
    (ContainerResources { requests, limits }, notes)
}

/// What each container of a pod gets, in the pod's order.
pub fn changes(
    containers: &[ContainerFacts],
    recommended: &[ContainerRecommendation],
    policy: &VerticalPolicy,
    ranges: &LimitRanges,
    rules: &VerticalRules,
) -> Vec<ContainerChange> {
    let capped = for_pod(recommended, containers, policy, ranges, rules);
    containers.iter().map(|container| change(container, &capped, policy, ranges, rules)).collect()
}

fn change(
    container: &ContainerFacts,
    capped: &[ContainerRecommendation],
    policy: &VerticalPolicy,
    ranges: &LimitRanges,
    rules: &VerticalRules,
) -> ContainerChange {
    let own = policy.container(&container.name);
    let mut change = ContainerChange::default();
    if own.off {
        return change;
    }
    let found = capped.iter().find(|one| one.container == container.name);
    if let Some(one) = found.filter(|_| policy.mode != UpdateMode::Off) {
        let default_limit = ranges.container.map_or_else(Resources::default, |range| range.default_limit);
        let (new, notes) =
            container_resources(container, Some(&one.target), own.values, &default_limit, false);
        change.new = new;
        change.notes = one.steps.iter().filter_map(|step| step.annotation()).collect();
        change.notes.extend(notes.iter().map(|(resource, note)| format!("{resource}: {note}")));
    }
    if let Some(boost) = policy.boost(&container.name).filter(|_| rules.startup_boost) {
        boost::boost(boost, &container.spec, own.values, rules, &mut change.new);
        change.boosted_from = Some(container.spec);
    }
    change
}

/// The patch of a new pod under the VerticalPodAutoscaler `vpa`. In the order in which upstream writes it.
pub fn admission_patch(
    vpa: &Name,
    pod: NewPod<'_>,
    recommended: &[ContainerRecommendation],
    policy: &VerticalPolicy,
    ranges: &LimitRanges,
    rules: &VerticalRules,
) -> Vec<PatchOperation> {
    let mut patch = Vec::new();
    if !pod.has_annotations {
        patch.push(PatchOperation::object("/metadata/annotations".to_owned()));
    }
    let mut updates = Vec::new();
    let changes = changes(pod.containers, recommended, policy, ranges, rules);
    for (index, (container, change)) in pod.containers.iter().zip(&changes).enumerate() {
        if let Some(original) = &change.boosted_from {
            let name = format!("{STARTUP_BOOST_ANNOTATION_PREFIX}{}", container.name);
            patch.push(PatchOperation::annotation(&name, boost::annotation(original)));
        }
        let (operations, written) = container_patch(index, &container.spec, &change.new);
        if !operations.is_empty() {
            let notes: Vec<String> = change.notes.iter().cloned().chain(written).collect();
            updates.push(format!("container {index}: {}", notes.join(", ")));
            patch.extend(operations);
        }
    }
    if !updates.is_empty() {
        let value = format!("Pod resources updated by {vpa}: {}", updates.join("; "));
        patch.push(PatchOperation::annotation(UPDATES_ANNOTATION, value));
    }
    let names: Vec<&str> = pod.containers.iter().map(|container| container.name.as_str()).collect();
    patch.push(PatchOperation::annotation(OBSERVED_CONTAINERS_ANNOTATION, names.join(", ")));
    patch
}

/// The patch of `pods/NAME/resize` for a running pod: its containers' requests and limits.
pub fn resize_patch(
    containers: &[ContainerFacts],
    new: &[(Name, ContainerResources)],
) -> Vec<PatchOperation> {
    let mut patch = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        if let Some((_, new)) = new.iter().find(|(name, _)| *name == container.name) {
            patch.extend(container_patch(index, &container.spec, new).0);
        }
    }
    patch
}

/// The operations for one container, and what they write in words: `cpu request`.
fn container_patch(
    index: usize,
    old: &ContainerResources,
    new: &ContainerResources,
) -> (Vec<PatchOperation>, Vec<String>) {
    let (mut patch, mut written) = (Vec::new(), Vec::new());
    let base = format!("/spec/containers/{index}/resources");
    if old.requests.is_empty() && old.limits.is_empty() && *new != ContainerResources::default() {
        patch.push(PatchOperation::object(base.clone()));
    }
    let fields = [
        ("requests", "request", &old.requests, &new.requests),
        ("limits", "limit", &old.limits, &new.limits),
    ];
    for (field, word, old, new) in fields {
        if old.is_empty() && !new.is_empty() {
            patch.push(PatchOperation::object(format!("{base}/{field}")));
        }
        for (resource, amount) in new.iter() {
            patch.push(PatchOperation::text(format!("{base}/{field}/{resource}"), resource.quantity(amount)));
            written.push(format!("{resource} {word}"));
        }
    }
    (patch, written)
}
