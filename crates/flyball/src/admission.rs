//! Registers KEDA's and VPA's admission rules with the embedded API server: what is refused and what is filled in when an
//! object is created or changed.
//!
//! The API server has no knowledge of autoscaling, and the rules have none of a server; this file connects them. On a
//! cluster the same rules run behind admission webhooks.

use std::sync::Arc;
use std::time::Instant;

use flyball_api::admission::{self, Admission, Checks, Neighbours};
use flyball_api::kinds::scaled_object::ScaledObject;
use flyball_api::kinds::vertical_pod_autoscaler::VerticalPodAutoscaler;
use flyball_api::vertical::{self, admission::Controller};
use flyball_apiserver::{AdmissionRequest, AdmissionResponse, ApiServer, FieldError, Lookup, Operation};
use flyball_controller::{Admitted, Features, VpaMetrics};
use flyball_engine::vertical::VerticalRules;
use k8s_openapi::api::core::v1::{LimitRange, Pod, PodSpec};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};

/// The kinds with validation rules, as group and plural.
const KINDS: [(&str, &str); 8] = [
    ("keda.sh", "scaledobjects"),
    ("keda.sh", "scaledjobs"),
    ("keda.sh", "triggerauthentications"),
    ("keda.sh", "clustertriggerauthentications"),
    ("autoscaling.k8s.io", "verticalpodautoscalers"),
    ("monitoring.coreos.com", "servicemonitors"),
    ("monitoring.coreos.com", "podmonitors"),
    ("monitoring.coreos.com", "scrapeconfigs"),
];

/// Registers the rules of all kinds that have some.
pub(crate) fn register(server: &ApiServer, metrics: &VpaMetrics, features: Features) {
    let (of_pods, of_vpas) = (metrics.clone(), metrics.clone());
    let size_pod = move |request: &AdmissionRequest<'_>| counted(&of_pods, Admitted::Pod, request, size_pod);
    server.register_mutation("", "pods", Arc::new(size_pod));
    let complete_vpa =
        move |request: &AdmissionRequest<'_>| counted(&of_vpas, Admitted::Vpa, request, complete_vpa);
    server.register_mutation("autoscaling.k8s.io", "verticalpodautoscalers", Arc::new(complete_vpa));
    for (group, resource) in KINDS {
        let check =
            move |request: &AdmissionRequest<'_>| without_blocking_others(|| validate(request, features));
        server.register_admission(group, resource, Arc::new(check));
    }
}

/// Runs slow work, such as compiling the regular expressions of queries, without blocking the worker's other requests.
fn without_blocking_others<T>(work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    if matches!(flavor, Ok(RuntimeFlavor::MultiThread)) { tokio::task::block_in_place(work) } else { work() }
}

/// Validates an object. Deletions and subresources are never refused, as with KEDA's webhook.
fn validate(request: &AdmissionRequest<'_>, features: Features) -> AdmissionResponse {
    let is_checked = request.operation != Operation::Delete && request.subresource.is_empty();
    let Some(object) = request.object.filter(|_| is_checked) else { return AdmissionResponse::allowed() };
    let pod = pod_of_workload(object, request);
    let names = names_of(object);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (lookup, namespace) = (request.lookup, request.namespace);
    let scaled_objects = lookup.list_naming("keda.sh", "scaledobjects", namespace, &names);
    let hpas = lookup.list_naming("autoscaling", "horizontalpodautoscalers", namespace, &names);
    let neighbours = Neighbours {
        scaled_objects: &read_all(scaled_objects),
        hpas: &read_all(hpas),
        pod: pod.as_ref(),
        limit_ranges: &list(request.lookup, "", "limitranges", request.namespace),
        dry_run: request.dry_run,
    };
    let check_query = |query: &str| features.parse(query).map(drop).map_err(|error| error.to_string());
    let checks = Checks { query: &check_query, relabeling: &flyball_controller::check_relabeling };
    let admission = admission::admit(object, request.old_object, neighbours, checks);
    let Admission { problems, warnings } = admission.unwrap_or_default();
    let causes = problems
        .iter()
        .map(|problem| FieldError::worded(&problem.field, problem.cause.code(), problem.body()));
    AdmissionResponse { warnings, ..AdmissionResponse::invalid(causes.collect()) }
}

/// Runs a mutation and counts it in VPA's metrics.
fn counted(
    metrics: &VpaMetrics,
    kind: Admitted,
    request: &AdmissionRequest<'_>,
    mutate: fn(&AdmissionRequest<'_>) -> AdmissionResponse,
) -> AdmissionResponse {
    let started = Instant::now();
    let response = mutate(request);
    metrics.admitted(kind, response.patch.is_some(), started.elapsed());
    response
}

/// Sizes a new pod as the VerticalPodAutoscaler of its topmost controller recommends, as VPA's mutating webhook does.
fn size_pod(request: &AdmissionRequest<'_>) -> AdmissionResponse {
    let patch = request.object.and_then(|pod| patch_of_pod(pod, request));
    AdmissionResponse { patch, ..AdmissionResponse::allowed() }
}

fn patch_of_pod(pod: &Value, request: &AdmissionRequest<'_>) -> Option<Value> {
    let pod: Pod = serde_json::from_value(pod.clone()).ok()?;
    let owner = Controller::of(pod.metadata.owner_references.as_deref()?)?;
    let all: Vec<VerticalPodAutoscaler> =
        list(request.lookup, "autoscaling.k8s.io", "verticalpodautoscalers", request.namespace);
    if all.is_empty() {
        return None;
    }
    let definitions: Vec<CustomResourceDefinition> =
        list(request.lookup, "apiextensions.k8s.io", "customresourcedefinitions", "");
    let controller = |one: &Controller| {
        let plural = plural(one, &definitions);
        request.lookup.get(&one.group, &plural, request.namespace, &one.name).unwrap_or_default()
    };
    let owners = |one: &Controller| {
        let owners = controller(one).pointer("/metadata/ownerReferences").cloned();
        owners.and_then(|owners| serde_json::from_value(owners).ok()).unwrap_or_default()
    };
    let has_scale = |one: &Controller| definition(one, &definitions).is_some_and(has_scale);
    let top = owner.topmost(has_scale, owners)?;
    let object = controller(&top);
    let selector: Option<LabelSelector> =
        object.pointer("/spec/selector").and_then(|selector| serde_json::from_value(selector.clone()).ok());
    let selected = selector.is_none_or(|selector| {
        let selector: Result<kube::core::Selector, _> = selector.try_into();
        selector.is_ok_and(|selector| {
            use kube::core::SelectorExt as _;
            selector.matches(pod.metadata.labels.as_ref().unwrap_or(&std::collections::BTreeMap::new()))
        })
    });
    let matching: Vec<_> =
        all.into_iter().filter(|one| selected && Controller::targeted(one) == top).collect();
    let ranges: Vec<LimitRange> = list(request.lookup, "", "limitranges", request.namespace);
    vertical::admission::pod_patch(&pod, &matching, &ranges, &VerticalRules::default())
}

/// Returns the plural of a controller's kind: that of its definition, or else the lower-case kind with an `s`.
fn plural(one: &Controller, definitions: &[CustomResourceDefinition]) -> String {
    let defined = definition(one, definitions).map(|definition| definition.spec.names.plural.clone());
    defined.unwrap_or_else(|| format!("{}s", one.kind.to_lowercase()))
}

fn definition<'a>(
    one: &Controller,
    definitions: &'a [CustomResourceDefinition],
) -> Option<&'a CustomResourceDefinition> {
    definitions.iter().find(|found| found.spec.group == one.group && found.spec.names.kind == one.kind)
}

fn has_scale(definition: &CustomResourceDefinition) -> bool {
    let mut subresources =
        definition.spec.versions.iter().filter_map(|version| version.subresources.as_ref());
    subresources.any(|own| own.scale.is_some())
}

fn complete_vpa(request: &AdmissionRequest<'_>) -> AdmissionResponse {
    let patch = request.object.and_then(vertical::admission::vpa_patch);
    AdmissionResponse { patch, ..AdmissionResponse::allowed() }
}

/// Returns the names by which ScaledObjects conflict: that of the workload, and that of the autoscaler, as written or as
/// derived from a ScaledObject's name.
fn names_of(object: &Value) -> Vec<String> {
    let Ok(object) = serde_json::from_value::<ScaledObject>(object.clone()) else { return Vec::new() };
    let autoscaler = object.hpa_name();
    let made_from = autoscaler.strip_prefix("keda-hpa-").map(str::to_owned);
    [Some(object.spec.scale_target_ref.name.clone()), made_from, Some(autoscaler)]
        .into_iter()
        .flatten()
        .collect()
}

/// Returns the pod template's spec of the workload that a ScaledObject names, if it exists.
fn pod_of_workload(object: &Value, request: &AdmissionRequest<'_>) -> Option<PodSpec> {
    let reference = object.pointer("/spec/scaleTargetRef")?;
    let resource = match reference.get("kind").and_then(Value::as_str).unwrap_or_default() {
        "" | "Deployment" => "deployments",
        "StatefulSet" => "statefulsets",
        _ => return None,
    };
    let workload =
        request.lookup.get("apps", resource, request.namespace, reference.get("name")?.as_str()?)?;
    serde_json::from_value(workload.pointer("/spec/template/spec")?.clone()).ok()
}

/// Returns the stored objects of a kind; skips objects that do not parse, which cannot conflict.
fn list<K: DeserializeOwned>(lookup: &dyn Lookup, group: &str, resource: &str, namespace: &str) -> Vec<K> {
    read_all(lookup.list(group, resource, namespace))
}

fn read_all<K: DeserializeOwned>(stored: Vec<Value>) -> Vec<K> {
    stored.into_iter().filter_map(|object| serde_json::from_value(object).ok()).collect()
}
