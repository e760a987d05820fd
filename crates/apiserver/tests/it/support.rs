//! An in-memory server, and helpers for requests and objects.

use axum::body::Body;
use flyball_apiserver::{ApiServer, Options};
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) async fn server() -> ApiServer {
    ApiServer::open(Options::default()).await.expect("a server in memory starts")
}

pub(crate) async fn client() -> kube::Client {
    kube::Client::new(server().await.router(), "default")
}

/// Sends a raw request; returns status code and JSON body.
pub(crate) async fn request(
    server: &ApiServer,
    method: &str,
    path: &str,
    content_type: &str,
    body: &Value,
) -> (u16, Value) {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .header("user-agent", "test/1")
        .body(body)
        .expect("the request is well formed");
    send(server, request).await
}

pub(crate) async fn send(server: &ApiServer, request: Request<Body>) -> (u16, Value) {
    let response = server.router().oneshot(request).await.expect("the router never fails");
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("the body is whole").to_bytes();
    (
        code,
        serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into()),
    )
}

pub(crate) async fn post(server: &ApiServer, path: &str, body: &Value) -> (u16, Value) {
    request(server, "POST", path, "application/json", body).await
}

pub(crate) async fn get(server: &ApiServer, path: &str) -> (u16, Value) {
    request(server, "GET", path, "application/json", &Value::Null).await
}

pub(crate) async fn patch(server: &ApiServer, path: &str, kind: &str, body: &Value) -> (u16, Value) {
    request(server, "PATCH", path, &format!("application/{kind}"), body).await
}

pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";

pub(crate) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "c", "image": "model:latest", "ports": [{"containerPort": 8000}],
                    "resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": "100m", "memory": "128Mi"}},
                }]},
            },
        },
    })
}

pub(crate) fn pod(name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": "here", "containers": [{"name": "c", "image": "i"}]},
    })
}
