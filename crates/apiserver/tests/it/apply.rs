//! Server-side apply and managedFields.

use serde_json::{Value, json};

use crate::support::*;

const APPLY: &str = "apply-patch+yaml";

fn config(replicas: Option<i64>, env: &[&str]) -> Value {
    let mut object = deployment("model");
    let env: Vec<Value> = env.iter().map(|name| json!({"name": name, "value": "1"})).collect();
    object["spec"]["template"]["spec"]["containers"][0]["env"] = env.into();
    match replicas {
        Some(replicas) => object["spec"]["replicas"] = replicas.into(),
        None => drop(object["spec"].as_object_mut().and_then(|spec| spec.remove("replicas"))),
    }
    object
}

fn env(object: &Value) -> Vec<&str> {
    let env = object["spec"]["template"]["spec"]["containers"][0]["env"].as_array();
    env.map_or_else(Vec::new, |env| env.iter().filter_map(|one| one["name"].as_str()).collect())
}

#[tokio::test]
async fn fields_are_owned_added_and_removed_by_their_appliers() {
    let server = server().await;
    let path = |manager: &str| format!("{DEPLOYMENTS}/model?fieldManager={manager}");
    let (code, created) = patch(&server, &path("one"), APPLY, &config(Some(2), &["A", "B"])).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!(created["metadata"]["managedFields"][0]["operation"], "Apply");
    assert_eq!(created["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:replicas"], json!({}));

    let (code, again) = patch(&server, &path("one"), APPLY, &config(Some(2), &["A", "B"])).await;
    assert_eq!((code, &again["metadata"]["resourceVersion"]), (200, &created["metadata"]["resourceVersion"]));

    let (_, changed) = patch(&server, &path("one"), APPLY, &config(Some(2), &["B", "C"])).await;
    assert_eq!(env(&changed), ["B", "C"], "what is not applied any more goes");

    // Another manager changes the replicas and owns them from then on.
    let scale = json!({"spec": {"replicas": 5}});
    patch(&server, &format!("{DEPLOYMENTS}/model/scale?fieldManager=scaler"), "merge-patch+json", &scale)
        .await;
    let (code, status) = patch(&server, &path("one"), APPLY, &config(Some(2), &["B", "C"])).await;
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")));
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("Apply failed with 1 conflict: conflict with \"scaler\" with subresource \"scale\" using apps/v1 at "), "{message}");
    assert!(message.ends_with(": .spec.replicas"), "{message}");
    assert_eq!(status["details"]["causes"][0]["reason"], "FieldManagerConflict");

    let (code, without) = patch(&server, &path("one"), APPLY, &config(None, &["B"])).await;
    assert_eq!((code, &without["spec"]["replicas"]), (200, &json!(5)), "a field that another owns stays");
    let (code, forced) =
        patch(&server, &format!("{}&force=true", path("one")), APPLY, &config(Some(2), &["B"])).await;
    assert_eq!((code, &forced["spec"]["replicas"]), (200, &json!(2)));
    let managers: Vec<&Value> = forced["metadata"]["managedFields"]
        .as_array()
        .map_or_else(Vec::new, |all| all.iter().map(|one| &one["manager"]).collect());
    assert_eq!(managers, ["one"], "who owns nothing is forgotten");
}

#[tokio::test]
async fn two_appliers_share_an_object() {
    let server = server().await;
    let path = |manager: &str| format!("/api/v1/namespaces/default/configmaps/c?fieldManager={manager}");
    let config = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data});
    patch(&server, &path("one"), APPLY, &config(json!({"a": "1", "both": "x"}))).await;
    let (_, object) = patch(&server, &path("two"), APPLY, &config(json!({"b": "2", "both": "x"}))).await;
    assert_eq!(object["data"], json!({"a": "1", "b": "2", "both": "x"}));
    let (_, object) = patch(&server, &path("one"), APPLY, &config(json!({"a": "1"}))).await;
    assert_eq!(
        object["data"],
        json!({"a": "1", "b": "2", "both": "x"}),
        "what both own stays while one does"
    );
    let (_, object) = patch(&server, &path("two"), APPLY, &config(json!({"b": "2"}))).await;
    assert_eq!(object["data"], json!({"a": "1", "b": "2"}));
    let (code, status) = patch(&server, &path(""), APPLY, &config(json!({}))).await;
    assert_eq!(code, 422);
    assert!(
        status["message"].as_str().is_some_and(|message| message.contains("fieldManager: Required value"))
    );
}
