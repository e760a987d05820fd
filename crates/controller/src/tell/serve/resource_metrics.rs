//! `metrics.k8s.io/v1beta1`: what `kubectl top` and other autoscalers ask metrics-server for.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use flyball_api::quantity::{Format, Quantity};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gather::usage::{UsageLog, Use};
use crate::tell::serve::{LabelQuery, not_found};

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

async fn list_all_pods(
    State(source): State<Source>,
    headers: HeaderMap,
    Query(selection): Query<Selection>,
) -> Json<Value> {
    presented(&headers, pod_list(&source, None, &selection))
}

async fn list_pods(
    State(source): State<Source>,
    headers: HeaderMap,
    Path(namespace): Path<String>,
    Query(selection): Query<Selection>,
) -> Json<Value> {
    presented(&headers, pod_list(&source, Some(&namespace), &selection))
}

fn pod_list(source: &Source, namespace: Option<&str>, selection: &Selection) -> Value {
    let usage = source.usage.lock();
    let items =
        usage.pods().filter(|((pod_namespace, _), _)| namespace.is_none_or(|wanted| wanted == pod_namespace));
    let items = items.filter_map(|((namespace, name), containers)| {
        let pod = source.pods.get(&ObjectRef::new(name).within(namespace))?;
        selection.label_selector.matches(pod.labels()).then(|| pod_metrics(&pod, &containers))
    });
    list("PodMetricsList", items.collect())
}

async fn get_pod(
    State(source): State<Source>,
    headers: HeaderMap,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    let pod = source.pods.get(&ObjectRef::new(&name).within(&namespace));
    let usage = source.usage.lock();
    let containers = usage.pod(&(namespace.clone(), name.clone()));
    match pod.zip(containers) {
        Some((pod, containers)) => presented(&headers, pod_metrics(&pod, &containers)).into_response(),
        None => not_found("metrics.k8s.io", "podmetrics", &format!("{namespace}/{name}")),
    }
}

async fn list_nodes(
    State(source): State<Source>,
    headers: HeaderMap,
    Query(selection): Query<Selection>,
) -> Json<Value> {
    let usage = source.usage.lock();
    let items = usage.nodes().filter_map(|(name, used)| {
        let node = source.nodes.get(&ObjectRef::new(name))?;
        selection.label_selector.matches(node.labels()).then(|| node_metrics(&node, used))
    });
    presented(&headers, list("NodeMetricsList", items.collect()))
}

async fn get_node(State(source): State<Source>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    let node = source.nodes.get(&ObjectRef::new(&name));
    let usage = source.usage.lock();
    let used = usage.nodes().find(|(node, _)| *node == name).map(|(_, used)| used);
    match node.zip(used) {
        Some((node, used)) => presented(&headers, node_metrics(&node, used)).into_response(),
        None => not_found("metrics.k8s.io", "nodemetrics", &name),
    }
}

fn list(kind: &str, items: Vec<Value>) -> Value {
    json!({ "kind": kind, "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items })
}

/// The object or list, or the table of it that `kubectl get` asks for.
fn presented(headers: &HeaderMap, value: Value) -> Json<Value> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    Json(if accept.contains("as=Table") { table(&value) } else { value })
}

/// metrics-server's table: a name, an amount of each resource, the window.
fn table(value: &Value) -> Value {
    let items = value["items"].as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
    let row = |item: &Value| {
        let containers = item["containers"].as_array();
        let of = |name: &str| {
            let each = containers
                .map_or_else(|| vec![&item["usage"]], |all| all.iter().map(|c| &c["usage"]).collect());
            let amounts = each.into_iter().filter_map(|usage| Quantity::parse(usage[name].as_str()?).ok());
            amounts.fold(0.0, |sum, amount| sum + amount.as_f64())
        };
        let cpu = Quantity::parse(&format!("{:.0}n", of("cpu") * 1e9))
            .map_or_else(|_| String::new(), |q| q.to_string());
        let memory = Quantity::from_units(of("memory") as i64, Format::BinarySi).to_string();
        let object = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]});
        json!({"cells": [item["metadata"]["name"], cpu, memory, item["window"]], "object": object})
    };
    let column = |name: &str, kind: &str, format: &str| json!({"name": name, "type": kind, "format": format, "description": "", "priority": 0});
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {},
        "columnDefinitions": [
            column("Name", "string", "name"),
            column("cpu", "string", "quantity"),
            column("memory", "string", "quantity"),
            column("Window", "string", "duration"),
        ],
        "rows": items.iter().map(row).collect::<Vec<_>>(),
    })
}

fn pod_metrics(pod: &Pod, containers: &BTreeMap<&str, Use>) -> Value {
    // the container that was read first speaks for the pod, as in metrics-server
    let oldest = containers.values().copied().min_by_key(|used| used.at_ms);
    let entries = containers.iter().map(|(name, used)| json!({ "name": name, "usage": quantities(*used) }));
    json!({
        "kind": "PodMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {
            "name": pod.name_any(),
            "namespace": pod.namespace(),
            "creationTimestamp": now(),
            "labels": pod.labels(),
        },
        "timestamp": timestamp(oldest),
        "window": window(oldest),
        "containers": entries.collect::<Vec<_>>(),
    })
}

fn node_metrics(node: &Node, used: Use) -> Value {
    json!({
        "kind": "NodeMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {
            "name": node.name_any(),
            "creationTimestamp": now(),
            "labels": node.labels(),
        },
        "timestamp": timestamp(Some(used)),
        "window": window(Some(used)),
        "usage": quantities(used),
    })
}

/// In canonical form, as every Kubernetes API writes amounts.
fn quantities(used: Use) -> Value {
    let memory = i64::try_from(used.memory_bytes).unwrap_or(i64::MAX);
    let memory = Quantity::from_units(memory, Format::BinarySi).to_string();
    let cpu = format!("{}n", used.cpu_nanocores);
    let cpu = Quantity::parse(&cpu).map_or(cpu, |cpu| cpu.to_string());
    json!({ "cpu": cpu, "memory": memory })
}

/// The time of the answer, in whole seconds.
fn now() -> String {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string()
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
