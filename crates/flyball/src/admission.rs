//! What is refused when an object is created or changed: KEDA's webhook, joined to the embedded API server.
//!
//! The API server knows nothing of autoscaling and the rules know nothing of a server; this is where they meet. On a
//! cluster the same rules would sit behind a ValidatingWebhookConfiguration.

use std::sync::Arc;

use flyball_api::admission::{self, Admission, Neighbours};
use flyball_apiserver::{AdmissionRequest, AdmissionResponse, ApiServer, FieldError, Lookup, Operation};
use k8s_openapi::api::core::v1::PodSpec;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The kinds that have rules, as group and plural.
const KINDS: [(&str, &str); 7] = [
    ("keda.sh", "scaledobjects"),
    ("keda.sh", "scaledjobs"),
    ("keda.sh", "triggerauthentications"),
    ("keda.sh", "clustertriggerauthentications"),
    ("autoscaling.k8s.io", "verticalpodautoscalers"),
    ("monitoring.coreos.com", "servicemonitors"),
    ("monitoring.coreos.com", "podmonitors"),
];

/// Registers the rules for every kind that has some.
pub(crate) fn register(server: &ApiServer) {
    for (group, resource) in KINDS {
        server.register_admission(group, resource, Arc::new(judge));
    }
}

/// Judges what is to be stored. Deletions and statuses are never refused, as with KEDA's webhook.
fn judge(request: &AdmissionRequest<'_>) -> AdmissionResponse {
    let is_judged = request.operation != Operation::Delete && request.subresource.is_empty();
    let Some(object) = request.object.filter(|_| is_judged) else { return AdmissionResponse::allowed() };
    let pod = pod_of_workload(object, request);
    let neighbours = Neighbours {
        scaled_objects: &list(request.lookup, "keda.sh", "scaledobjects", request.namespace),
        hpas: &list(request.lookup, "autoscaling", "horizontalpodautoscalers", request.namespace),
        pod: pod.as_ref(),
        limit_ranges: &list(request.lookup, "", "limitranges", request.namespace),
        dry_run: request.dry_run,
    };
    let judged = admission::admit(object, request.old_object, neighbours, &check_query);
    let Admission { problems, warnings } = judged.unwrap_or_default();
    let causes = problems
        .iter()
        .map(|problem| FieldError::worded(&problem.field, problem.cause.code(), problem.body()));
    AdmissionResponse { warnings, ..AdmissionResponse::invalid(causes.collect()) }
}

/// The pods of the workload that a ScaledObject names, if it is there.
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

/// The stored objects of a kind. What does not parse was stored by somebody else's rules, and is no neighbour.
fn list<K: DeserializeOwned>(lookup: &dyn Lookup, group: &str, resource: &str, namespace: &str) -> Vec<K> {
    let stored = lookup.list(group, resource, namespace).into_iter();
    stored.filter_map(|object| serde_json::from_value(object).ok()).collect()
}

fn check_query(query: &str) -> Result<(), String> {
    flyball_metrics::promql::parse(query).map(drop).map_err(|error| error.to_string())
}
