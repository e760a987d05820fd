//! All forms of deletion, eviction, logs and proxies, and persistence across restarts.

use flyball_apiserver::{ApiServer, OpenError, Options};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::*;

async fn delete(server: &ApiServer, path: &str, options: Value) -> (u16, Value) {
    request(server, "DELETE", path, "application/json", &options).await
}

/// Waits until an object is gone, using a watch.
pub(crate) async fn until_gone(server: &ApiServer, path: &str) {
    let (collection, name) = path.rsplit_once('/').expect("the path has a name");
    let uri = format!("{collection}?watch=true&fieldSelector=metadata.name%3D{name}");
    let request =
        http::Request::get(uri).body(axum::body::Body::empty()).expect("the request is well formed");
    let mut events = server.router().oneshot(request).await.expect("the router never fails").into_body();
    while get(server, path).await.0 != 404 {
        events.frame().await;
    }
}

#[tokio::test]
async fn a_pod_goes_gracefully_and_the_node_ends_it() {
    let server = server().await;
    post(&server, PODS, &pod("p", json!({}))).await;
    let path = format!("{PODS}/p");
    let (code, going) = delete(&server, &path, Value::Null).await;
    assert_eq!((code, &going["metadata"]["deletionGracePeriodSeconds"]), (200, &json!(30)));
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let (_, again) = delete(&server, &path, Value::Null).await;
    assert_eq!(
        again["metadata"]["resourceVersion"], going["metadata"]["resourceVersion"],
        "asking twice changes nothing"
    );
    let wrong = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "other"}});
    assert_eq!(delete(&server, &path, wrong).await.0, 409);
    let uid = going["metadata"]["uid"].clone();
    delete(&server, &path, json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})).await;
    assert_eq!(get(&server, &path).await.0, 404);
    let mut unscheduled = pod("q", json!({}));
    unscheduled["spec"]["nodeName"] = Value::Null;
    post(&server, PODS, &unscheduled).await;
    delete(&server, &format!("{PODS}/q"), Value::Null).await;
    assert_eq!(get(&server, &format!("{PODS}/q")).await.0, 404, "nobody runs it, so it goes at once");
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let server = server().await;
    let mut object = deployment("model");
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    post(&server, DEPLOYMENTS, &object).await;
    let path = format!("{DEPLOYMENTS}/model");
    let (_, held) = delete(&server, &path, json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(held["metadata"]["finalizers"], json!(["example.com/hold", "foregroundDeletion"]));
    let (code, _) =
        patch(&server, &path, "merge-patch+json", &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!((code, get(&server, &path).await.0), (200, 404));
}

#[tokio::test]
async fn a_namespace_goes_with_its_contents() {
    let server = server().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    assert_eq!(post(&server, "/api/v1/namespaces", &namespace).await.0, 201);
    post(&server, "/api/v1/namespaces/team/pods", &pod("p", json!({}))).await;
    let map = json!({"metadata": {"name": "m"}});
    post(&server, "/api/v1/namespaces/team/configmaps", &map).await;
    let (_, going) = delete(&server, "/api/v1/namespaces/team", Value::Null).await;
    assert_eq!(going["status"]["phase"], "Terminating");
    let (code, status) =
        post(&server, "/api/v1/namespaces/team/configmaps", &json!({"metadata": {"name": "late"}})).await;
    assert_eq!(code, 403);
    assert!(
        status["message"].as_str().is_some_and(|text| text
            .ends_with("unable to create new content in namespace team because it is being terminated")),
        "{status}"
    );
    until_gone(&server, "/api/v1/namespaces/team/configmaps/m").await;
    assert_eq!(get(&server, "/api/v1/namespaces/team").await.0, 200, "it waits for the pod");
    delete(&server, "/api/v1/namespaces/team/pods/p", json!({"gracePeriodSeconds": 0})).await;
    until_gone(&server, "/api/v1/namespaces/team").await;
    assert_eq!(delete(&server, "/api/v1/namespaces/default", Value::Null).await.0, 403);
}

#[tokio::test]
async fn evictions_honour_budgets() {
    let server = server().await;
    for name in ["a", "b"] {
        post(&server, PODS, &pod(name, json!({"app": "m"}))).await;
        let ready =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        patch(&server, &format!("{PODS}/{name}/status"), "merge-patch+json", &ready).await;
    }
    let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "m"}}});
    let budget = json!({"metadata": {"name": "keep"}, "spec": spec});
    post(&server, "/apis/policy/v1/namespaces/default/poddisruptionbudgets", &budget).await;
    let eviction =
        |name: &str| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    assert_eq!(post(&server, &format!("{PODS}/a/eviction"), &eviction("a")).await.0, 201);
    let (code, status) = post(&server, &format!("{PODS}/b/eviction"), &eviction("b")).await;
    assert_eq!((code, &status["reason"]), (429, &json!("TooManyRequests")));
    assert_eq!(
        status["details"]["causes"][0]["message"],
        "The disruption budget keep needs 1 healthy pods and has 1 currently"
    );
}

#[tokio::test]
async fn logs_and_proxies_reach_the_kubelet() {
    use axum::extract::OriginalUri;
    let server = server().await;
    let echo = |OriginalUri(uri): OriginalUri| async move { uri.to_string() };
    server.register_kubelet("here", axum::Router::new().fallback(echo));
    post(&server, PODS, &pod("p", json!({}))).await;
    let (code, text) = get(&server, &format!("{PODS}/p/log?follow=true&tailLines=5")).await;
    assert_eq!((code, &text), (200, &json!("/containerLogs/default/p/c?follow=true&tailLines=5")));
    let (code, status) = get(&server, &format!("{PODS}/p/log?container=x")).await;
    assert_eq!((code, &status["message"]), (400, &json!("container x is not valid for pod p")));
    let (_, text) = get(&server, "/api/v1/nodes/here/proxy/metrics/resource?a=b").await;
    assert_eq!(text, "/metrics/resource?a=b");

    let none = "previous terminated container \"c\" in pod \"p\" not found";
    let refuse = move || async move { (http::StatusCode::BAD_REQUEST, none) };
    server.register_kubelet("here", axum::Router::new().fallback(refuse));
    let (code, status) = get(&server, &format!("{PODS}/p/log?previous=true")).await;
    assert_eq!((code, &status["reason"], &status["message"]), (400, &json!("BadRequest"), &json!(none)));
}

#[tokio::test]
async fn a_binding_assigns_a_pod_once() {
    let server = server().await;
    let mut object = pod("p", json!({}));
    object["spec"]["nodeName"] = Value::Null;
    object["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "50m"}});
    post(&server, PODS, &object).await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "here"}});
    assert_eq!(post(&server, &format!("{PODS}/p/binding"), &binding).await.0, 201);
    let (_, bound) = get(&server, &format!("{PODS}/p")).await;
    assert_eq!(bound["spec"]["nodeName"], "here");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    assert_eq!(post(&server, &format!("{PODS}/p/binding"), &binding).await.0, 409);
    let resources =
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "70m"}}}]}});
    let (code, resized) =
        patch(&server, &format!("{PODS}/p/resize"), "strategic-merge-patch+json", &resources).await;
    assert_eq!(
        (code, &resized["spec"]["containers"][0]["resources"]["requests"]["cpu"]),
        (200, &json!("70m")),
        "{resized}"
    );
    let (code, _) =
        patch(&server, &format!("{PODS}/p"), "strategic-merge-patch+json", &resources_of("80m")).await;
    assert_eq!(code, 422, "only /resize may change them");
}

fn resources_of(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let options = || Options { state_dir: Some(directory.path().join("state")) };
    let first = ApiServer::open(options()).await.expect("the directory is empty");
    post(&first, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crate::crd::widget_definition())
        .await;
    let (_, created) = post(&first, DEPLOYMENTS, &deployment("model")).await;
    let kubeconfig = first.kubeconfig(([127, 0, 0, 1], 1).into());
    assert!(matches!(ApiServer::open(options()).await, Err(OpenError::InUse(_))));
    first.close();
    let (code, late) = post(&first, DEPLOYMENTS, &deployment("late")).await;
    assert_eq!(
        (code, &late["reason"]),
        (503, &json!("ServiceUnavailable")),
        "a closed store accepts nothing"
    );
    assert_eq!(late["details"]["retryAfterSeconds"], 1);
    drop(first);

    let second = ApiServer::open(options()).await.expect("the directory is free");
    let (_, found) = get(&second, &format!("{DEPLOYMENTS}/model")).await;
    assert_eq!(found, created);
    assert_eq!(get(&second, "/apis/example.com/v1/widgets").await.0, 200, "custom kinds come back");
    assert_eq!(second.kubeconfig(([127, 0, 0, 1], 1).into()), kubeconfig, "CA and token stay");
    let (_, newer) = post(&second, DEPLOYMENTS, &deployment("other")).await;
    let revision = |object: &Value| {
        object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse::<u64>().ok())
    };
    assert!(revision(&newer) > revision(&created));
    for file in ["token", "ca.key", "objects.redb"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(directory.path().join("state").join(file))
            .expect("the file is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

/// Names the state directory of the writer process that is killed.
const VICTIM: &str = "FLYBALL_TEST_VICTIM_STATE_DIR";

/// Not a separate test: the next test runs it in a process that it kills.
#[tokio::test]
async fn victim() {
    let Ok(directory) = std::env::var(VICTIM) else { return };
    let server =
        ApiServer::open(Options { state_dir: Some(directory.into()) }).await.expect("the directory is free");
    for index in 0.. {
        let map = json!({"metadata": {"name": format!("m{index}")}});
        let (code, _) = post(&server, "/api/v1/namespaces/default/configmaps", &map).await;
        println!("\nacknowledged {index} {code}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let mut child = tokio::process::Command::new(std::env::current_exe().expect("the test has a file"))
        .args(["--exact", "lifecycle::victim", "--nocapture"])
        .env(VICTIM, directory.path())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the test starts itself");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut acknowledged = 0;
    while acknowledged < 30 {
        let line = lines.next_line().await.expect("it can be read").expect("the writer goes on");
        acknowledged += usize::from(line.starts_with("acknowledged") && line.ends_with("201"));
    }
    child.kill().await.expect("it runs");
    while let Ok(Some(line)) = lines.next_line().await {
        acknowledged += usize::from(line.starts_with("acknowledged") && line.ends_with("201"));
    }
    let server = ApiServer::open(Options { state_dir: Some(directory.path().into()) })
        .await
        .expect("the file is whole");
    let (_, list) = get(&server, "/api/v1/namespaces/default/configmaps").await;
    let found = list["items"].as_array().map_or(0, Vec::len);
    assert!(found >= acknowledged, "{acknowledged} were acknowledged, {found} are there");
}
