//! `/resize`, LimitRanges and mutating admission: which resources pods may request, at creation and later.

use std::sync::Arc;

use flyball_apiserver::{AdmissionResponse, ApiServer};
use serde_json::{Value, json};

use crate::support::*;

const STRATEGIC: &str = "strategic-merge-patch+json";

async fn with_pod() -> ApiServer {
    let server = server().await;
    let mut object = pod("p", json!({}));
    object["spec"]["containers"] = json!([
        {"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m", "memory": "64Mi", "example.com/card": "1"},
            "limits": {"cpu": "200m", "memory": "128Mi", "example.com/card": "1"}}},
        {"name": "d", "image": "i"},
    ]);
    let (code, answer) = post(&server, PODS, &object).await;
    assert_eq!(code, 201, "{answer}");
    server
}

async fn resize(server: &ApiServer, containers: Value) -> (u16, Value) {
    let body = json!({"spec": {"containers": containers}});
    patch(server, &format!("{PODS}/p/resize"), STRATEGIC, &body).await
}

#[tokio::test]
async fn a_resize_changes_resources_and_counts_as_a_generation() {
    let server = with_pod().await;
    let (code, resized) = resize(
        &server,
        json!([{"name": "c", "image": "another", "resources": {"requests": {"cpu": "0.5"}, "limits": {"cpu": "1"}}}]),
    )
    .await;
    assert_eq!(code, 200, "{resized}");
    let container = &resized["spec"]["containers"][0];
    assert_eq!(container["resources"]["requests"]["memory"], "64Mi");
    assert_eq!(container["resources"]["limits"]["cpu"], "1");
    assert_eq!(container["image"], "i", "nothing else is changed");
    assert_eq!(resized["metadata"]["generation"], 2);
    let (code, same) = get(&server, &format!("{PODS}/p/resize")).await;
    assert_eq!((code, same), (200, resized));
}

#[tokio::test]
async fn what_a_resize_may_not_change_is_said_in_kubernetes_words() {
    let server = with_pod().await;
    for (containers, expected) in [
        (
            json!([{"name": "c", "resources": {"requests": {"memory": null}, "limits": {"memory": null}}}]),
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
        ),
        (
            json!([{"name": "c", "resources": {"limits": {"memory": null}}}]),
            "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
        ),
        (
            json!([{"name": "c", "resources": {"requests": {"example.com/card": "2"}, "limits": {"example.com/card": "2"}}}]),
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
        (
            json!([{"name": "c", "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}]),
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
        (
            json!([{"name": "e", "image": "i"}]),
            "spec.containers: Forbidden: containers may not be added or removed on resize",
        ),
        (
            json!([{"name": "c", "resources": {"requests": {"cpu": "300m"}}}]),
            "spec.containers[0].resources.requests: Invalid value: \"300m\": must be less than or equal to cpu limit of 200m",
        ),
    ] {
        let (code, answer) = resize(&server, containers.clone()).await;
        assert_eq!(code, 422, "{containers}: {answer}");
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains(expected), "{containers}: {message}");
    }
}

#[tokio::test]
async fn a_resize_keeps_the_quality_of_service() {
    let server = server().await;
    post(&server, PODS, &pod("p", json!({}))).await;
    let (code, answer) =
        resize(&server, json!([{"name": "c", "resources": {"requests": {"cpu": "1"}}}])).await;
    let expected =
        "spec: Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing";
    assert_eq!(code, 422);
    assert!(answer["message"].as_str().unwrap_or_default().contains(expected), "{answer}");
}

#[tokio::test]
async fn resize_policies_are_checked_when_a_pod_is_created() {
    let server = server().await;
    let mut object = pod("p", json!({}));
    object["spec"]["restartPolicy"] = json!("Never");
    object["spec"]["containers"][0]["resizePolicy"] = json!([
        {"resourceName": "cpu", "restartPolicy": "RestartContainer"},
        {"resourceName": "disk", "restartPolicy": "Maybe"},
    ]);
    let (code, answer) = post(&server, PODS, &object).await;
    assert_eq!(code, 422);
    for expected in [
        "spec.containers[0].resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when `restartPolicy` is 'Never'",
        "spec.containers[0].resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\"",
        "spec.containers[0].resizePolicy: Unsupported value: \"Maybe\": supported values: \"NotRequired\", \"RestartContainer\"",
    ] {
        assert!(answer["message"].as_str().unwrap_or_default().contains(expected), "{answer}");
    }
}

#[tokio::test]
async fn a_limit_range_fills_in_and_refuses_at_creation_and_at_resize() {
    let server = server().await;
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "bounds"}, "spec": {"limits": [
        {"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "50m"}, "defaultRequest": {"cpu": "100m"}}]}});
    let ranges = "/api/v1/namespaces/default/limitranges";
    let (code, stored) = post(&server, ranges, &range).await;
    assert_eq!((code, &stored["spec"]["limits"][0]["default"]["cpu"]), (201, &json!("1")), "{stored}");
    let (_, object) = post(&server, PODS, &pod("p", json!({}))).await;
    let resources = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}});
    assert_eq!(object["spec"]["containers"][0]["resources"], resources);
    assert_eq!(object["status"]["qosClass"], "Burstable");
    assert_eq!(
        object["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let mut large = pod("large", json!({}));
    large["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
    let (code, answer) = post(&server, PODS, &large).await;
    let expected = "pods \"large\" is forbidden: maximum cpu usage per Container is 1, but limit is 2";
    assert_eq!((code, &answer["message"]), (403, &json!(expected)));
    let (code, answer) =
        resize(&server, json!([{"name": "c", "resources": {"requests": {"cpu": "20m"}}}])).await;
    let expected = "pods \"p\" is forbidden: minimum cpu usage per Container is 50m, but request is 20m";
    assert_eq!((code, &answer["message"]), (403, &json!(expected)));

    let mut wrong = range.clone();
    wrong["metadata"]["name"] = json!("wrong");
    wrong["spec"]["limits"][0]["min"]["cpu"] = json!("2");
    let (code, answer) = post(&server, ranges, &wrong).await;
    assert_eq!(code, 422);
    let expected = "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1";
    assert!(answer["message"].as_str().unwrap_or_default().contains(expected), "{answer}");
}

#[tokio::test]
async fn a_mutating_rule_patches_a_new_pod_before_it_is_judged() {
    let server = server().await;
    server.register_mutation(
        "",
        "pods",
        Arc::new(|request| {
            let unlimited = request.object.is_some_and(|pod| pod.pointer("/metadata/labels/limited").is_none());
            let patch = json!([{"op": "add", "path": "/spec/containers/0/resources/limits", "value": {"cpu": "0.2"}}]);
            AdmissionResponse { patch: (!unlimited).then_some(patch), ..AdmissionResponse::allowed() }
        }),
    );
    let (_, object) = post(&server, PODS, &pod("p", json!({"limited": "yes"}))).await;
    let resources = json!({"requests": {"cpu": "200m"}, "limits": {"cpu": "200m"}});
    assert_eq!(object["spec"]["containers"][0]["resources"], resources, "defaults follow the patch");
    let (_, object) = post(&server, PODS, &pod("q", json!({}))).await;
    assert_eq!(object["spec"]["containers"][0]["resources"], json!({}));
}
