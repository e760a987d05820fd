//! `metrics.k8s.io/v1beta1`: what `kubectl top` and other autoscalers ask metrics-server for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::serve::{LabelQuery, not_found};
use crate::usage::{UsageLog, Use};

/// What the handlers read.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) usage: Arc<Mutex<UsageLog>>,
    pub(crate) pods: Store<Pod>,
    pub(crate) nodes: Store<Node>,
}

/// The routes, below `/apis/metrics.k8s.io/v1beta1`.
pub(crate) fn router(source: Source) -> Router {
    Router::new()
        .route("/apis/metrics.k8s.io/v1beta1/nodes", get(list_nodes))
        .route("/apis/metrics.k8s.io/v1beta1/nodes/{name}", get(get_node))
        .route("/apis/metrics.k8s.io/v1beta1/pods", get(list_all_pods))
        .route("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods", get(list_pods))
        .route("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods/{name}", get(get_pod))
        .with_state(source)
}

#[derive(Deserialize)]
struct Selection {
    #[serde(rename = "labelSelector", default)]
    label_selector: LabelQuery,
}

async fn list_all_pods(State(source): State<Source>, Query(selection): Query<Selection>) -> Json<Value> {
    pod_list(&source, None, &selection)
}

async fn list_pods(
    State(source): State<Source>,
    Path(namespace): Path<String>,
    Query(selection): Query<Selection>,
) -> Json<Value> {
    pod_list(&source, Some(&namespace), &selection)
}

fn pod_list(source: &Source, namespace: Option<&str>, selection: &Selection) -> Json<Value> {
    let usage = crate::lock(&source.usage);
    let items =
        usage.pods().filter(|((pod_namespace, _), _)| namespace.is_none_or(|wanted| wanted == pod_namespace));
    let items = items.filter_map(|((namespace, name), containers)| {
        let pod = source.pods.get(&ObjectRef::new(name).within(namespace))?;
        selection.label_selector.matches(pod.labels()).then(|| pod_metrics(&pod, &containers))
    });
    list("PodMetricsList", items.collect())
}

async fn get_pod(State(source): State<Source>, Path((namespace, name)): Path<(String, String)>) -> Response {
    let pod = source.pods.get(&ObjectRef::new(&name).within(&namespace));
    let usage = crate::lock(&source.usage);
    let containers = usage.pod(&(namespace.clone(), name.clone()));
    match pod.zip(containers) {
        Some((pod, containers)) => Json(pod_metrics(&pod, &containers)).into_response(),
        None => not_found("metrics.k8s.io", "podmetrics", &format!("{namespace}/{name}")),
    }
}

async fn list_nodes(State(source): State<Source>, Query(selection): Query<Selection>) -> Json<Value> {
    let usage = crate::lock(&source.usage);
    let items = usage.nodes().filter_map(|(name, used)| {
        let node = source.nodes.get(&ObjectRef::new(name))?;
        selection.label_selector.matches(node.labels()).then(|| node_metrics(&node, used))
    });
    list("NodeMetricsList", items.collect())
}

async fn get_node(State(source): State<Source>, Path(name): Path<String>) -> Response {
    let node = source.nodes.get(&ObjectRef::new(&name));
    let usage = crate::lock(&source.usage);
    let used = usage.nodes().find(|(node, _)| *node == name).map(|(_, used)| used);
    match node.zip(used) {
        Some((node, used)) => (StatusCode::OK, Json(node_metrics(&node, used))).into_response(),
        None => not_found("metrics.k8s.io", "nodemetrics", &name),
    }
}

fn list(kind: &str, items: Vec<Value>) -> Json<Value> {
    Json(json!({ "kind": kind, "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items }))
}

fn pod_metrics(pod: &Pod, containers: &BTreeMap<&str, Use>) -> Value {
    let newest = containers.values().copied().max_by_key(|used| used.at_ms);
    let entries = containers.iter().map(|(name, used)| json!({ "name": name, "usage": quantities(*used) }));
    json!({
        "kind": "PodMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {
            "name": pod.name_any(),
            "namespace": pod.namespace(),
            "creationTimestamp": timestamp(newest),
            "labels": pod.labels(),
        },
        "timestamp": timestamp(newest),
        "window": window(newest),
        "containers": entries.collect::<Vec<_>>(),
    })
}

fn node_metrics(node: &Node, used: Use) -> Value {
    json!({
        "kind": "NodeMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {
            "name": node.name_any(),
            "creationTimestamp": timestamp(Some(used)),
            "labels": node.labels(),
        },
        "timestamp": timestamp(Some(used)),
        "window": window(Some(used)),
        "usage": quantities(used),
    })
}

fn quantities(used: Use) -> Value {
    json!({ "cpu": format!("{}n", used.cpu_nanocores), "memory": format!("{}Ki", used.memory_bytes / 1024) })
}

fn timestamp(used: Option<Use>) -> String {
    let at =
        used.and_then(|used| Timestamp::from_second(used.at_ms / 1000).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_string()
}

/// A Go duration, such as `5.001s`.
fn window(used: Option<Use>) -> String {
    format!("{}s", used.map_or(0, |used| used.window_ms) as f64 / 1000.0)
}
