//! Requests forwarded to a node's kubelet (`pods/log`, `nodes/proxy`), and `pods/binding`, which assigns a pod to a
//! node.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::Call;
use super::write::modify;
use crate::apply::managed::ManagedOperation;
use crate::forward::forward;
use crate::kinds::cluster::NODE;
use crate::object::{self, list, set, text};
use crate::request::RequestPath;
use crate::state::ServerState;
use crate::status::{Failure, Result};

/// Maximum bytes read of a kubelet's error message (the same limit as in Kubernetes).
const REFUSAL_BYTES_MAX: usize = 16 << 10;

/// Handles GET of a pod's log through the kubelet of its node.
pub(crate) async fn log(call: &Call<'_>, query: &str) -> Result<Response> {
    let pod = call.stored()?.value();
    let pairs = || query.split('&').filter_map(|pair| pair.split_once('='));
    let wanted = pairs().find(|(key, _)| *key == "container").map(|(_, name)| name);
    let container = container(call, &pod, wanted)?;
    let node = text(&pod, "spec.nodeName");
    if node.is_empty() {
        return Err(Failure::bad_request(format!("pod {} does not have a host assigned", call.name)));
    }
    let kubelet = call.server.kubelet(node).ok_or_else(|| node_unreachable(node))?;
    let query: Vec<String> =
        pairs().filter(|(key, _)| *key != "container").map(|(key, value)| format!("{key}={value}")).collect();
    let uri = format!("/containerLogs/{}/{}/{container}?{}", call.namespace, call.name, query.join("&"));
    let request = Request::get(uri).body(Body::empty()).map_err(Failure::internal)?;
    let response = forward(kubelet, request).await;
    if response.status().is_success() { Ok(response) } else { Err(refused(call, response).await) }
}

/// Converts a kubelet's plain-text error to a `Status` (`registry/generic/rest/response_checker.go`).
async fn refused(call: &Call<'_>, response: Response) -> Failure {
    let code = response.status();
    let body = axum::body::to_bytes(response.into_body(), REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let message = String::from_utf8_lossy(&body).trim().to_owned();
    match code {
        StatusCode::BAD_REQUEST => Failure::bad_request(message),
        StatusCode::NOT_FOUND => Failure::not_found(&call.kind, &call.name),
        _ => Failure::internal(message),
    }
}

fn node_unreachable(node: &str) -> Failure {
    Failure::new(503, "ServiceUnavailable", format!("the node \"{node}\" is not connected to the API server"))
}

fn container<'a>(call: &Call<'_>, pod: &'a Value, wanted: Option<&str>) -> Result<&'a str> {
    let names = |path| list(pod, path).iter().map(|container| text(container, "name"));
    let (containers, inits) = (names("spec.containers"), names("spec.initContainers"));
    let plain: Vec<&str> = containers.collect();
    let mut all = plain.clone();
    all.extend(inits.clone());
    match wanted.filter(|name| !name.is_empty()) {
        Some(name) => all.iter().find(|one| **one == name).copied().ok_or_else(|| {
            Failure::bad_request(format!("container {name} is not valid for pod {}", call.name))
        }),
        None if plain.len() == 1 => Ok(plain[0]),
        None => {
            let mut message = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                call.name,
                plain.join(" ")
            );
            let inits: Vec<&str> = inits.collect();
            if !inits.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", inits.join(" ")));
            }
            Err(Failure::bad_request(message))
        }
    }
}

/// Forwards any request to `nodes/{name}/proxy/{path}`.
pub(crate) async fn proxy(
    server: &Arc<ServerState>,
    request_path: &RequestPath,
    request: Request,
) -> Result<Response> {
    let node = request_path.name.as_deref().unwrap_or_default();
    let kind = server.registry().of_row(&NODE).ok_or_else(Failure::unknown_path)?;
    let key = crate::store::Key::new(&kind.storage, "", node);
    if server.store.get(&key).is_none() && server.kubelet(node).is_none() {
        return Err(Failure::not_found(&kind, node));
    }
    let kubelet = server.kubelet(node).ok_or_else(|| node_unreachable(node))?;
    let (mut parts, body) = request.into_parts();
    let query = parts.uri.query().map_or_else(String::new, |query| format!("?{query}"));
    let path = parts.uri.path().split_once("/proxy").map_or("", |(_, rest)| rest);
    let path = if path.is_empty() { "/" } else { path };
    parts.uri = format!("{path}{query}").parse().map_err(Failure::internal)?;
    // The kubelet must see its own path, not the original one.
    parts.extensions.clear();
    Ok(forward(kubelet, Request::from_parts(parts, body)).await)
}

/// Handles POST of a Binding, as sent by a scheduler.
pub(crate) async fn bind(call: &Call<'_>, binding: &Value) -> Result<Value> {
    let node = text(binding, "target.name").to_owned();
    if node.is_empty() {
        let error = crate::status::FieldError::required("target.name", "");
        return Err(Failure::invalid(&call.kind, &call.name, &[error]));
    }
    modify(call, ManagedOperation::Update, |current| {
        let bound = text(current, "spec.nodeName");
        if !bound.is_empty() {
            let why = format!("pod {} is already assigned to node \"{bound}\"", call.name);
            return Err(Failure::conflict(&call.kind, &call.name, &why));
        }
        let mut pod = current.clone();
        set(&mut pod, "spec.nodeName", node.clone().into());
        let conditions = object::ensure(&mut pod, "status");
        object::default(conditions, "conditions", json!([]));
        if let Some(list) = conditions["conditions"].as_array_mut() {
            list.retain(|condition| text(condition, "type") != "PodScheduled");
            list.push(
                json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": call.now_text()}),
            );
        }
        Ok(Some(pod))
    })
    .await?;
    Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
}
