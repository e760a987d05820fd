//! Watches: order, selectors, bookmarks, initial events, 410 Gone.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::support::*;

fn map(name: &str, label: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"l": label}}}))
        .expect("it is a ConfigMap")
}

fn shown(event: WatchEvent<ConfigMap>) -> String {
    let name = |map: ConfigMap| map.metadata.name.unwrap_or_default();
    match event {
        WatchEvent::Added(map) => format!("+{}", name(map)),
        WatchEvent::Modified(map) => format!("~{}", name(map)),
        WatchEvent::Deleted(map) => format!("-{}", name(map)),
        WatchEvent::Bookmark(_) => "bookmark".into(),
        WatchEvent::Error(status) => format!("error {}", status.code),
    }
}

async fn take(api: &Api<ConfigMap>, parameters: &WatchParams, from: &str, count: usize) -> Vec<String> {
    let stream = api.watch(parameters, from).await.expect("the watch starts");
    stream.take(count).map_ok(shown).try_collect().await.expect("the watch goes on")
}

#[tokio::test]
async fn a_watch_sees_every_change_in_order_and_by_selector() {
    let api: Api<ConfigMap> = Api::default_namespaced(client().await);
    let first = api.create(&PostParams::default(), &map("a", "x")).await.expect("it is valid");
    let from = first.metadata.resource_version.expect("it has a version");
    api.create(&PostParams::default(), &map("b", "y")).await.expect("it is valid");
    let relabel = |label: &str| Patch::Merge(json!({"metadata": {"labels": {"l": label}}}));
    api.patch("b", &PatchParams::default(), &relabel("x")).await.expect("it applies");
    api.patch("b", &PatchParams::default(), &relabel("z")).await.expect("it applies");
    api.delete("a", &DeleteParams::default()).await.expect("it is there");
    assert_eq!(take(&api, &WatchParams::default(), &from, 4).await, ["+b", "~b", "~b", "-a"]);
    let selected = WatchParams::default().labels("l=x");
    assert_eq!(
        take(&api, &selected, &from, 3).await,
        ["+b", "-b", "-a"],
        "what enters is added, what leaves is deleted"
    );
    assert_eq!(take(&api, &WatchParams::default(), "0", 1).await, ["+b"], "from 0 the present comes first");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let api: Api<ConfigMap> = Api::default_namespaced(client().await);
    api.create(&PostParams::default(), &map("a", "x")).await.expect("it is valid");
    let parameters = WatchParams::default().initial_events();
    assert_eq!(take(&api, &parameters, "", 2).await, ["+a", "bookmark"]);
}

#[tokio::test]
async fn a_watch_from_a_forgotten_revision_is_told() {
    let api: Api<ConfigMap> = Api::default_namespaced(client().await);
    api.create(&PostParams::default(), &map("a", "x")).await.expect("it is valid");
    // More changes than the log holds.
    for index in 0..4200 {
        let patch = Patch::Merge(json!({"data": {"n": index.to_string()}}));
        api.patch("a", &PatchParams::default(), &patch).await.expect("it applies");
    }
    assert_eq!(take(&api, &WatchParams::default(), "1", 1).await, ["error 410"]);
}

#[tokio::test]
async fn kube_runtimes_watcher_follows() {
    use kube::runtime::{WatchStreamExt, watcher};
    let api: Api<ConfigMap> = Api::default_namespaced(client().await);
    api.create(&PostParams::default(), &map("a", "x")).await.expect("it is valid");
    let mut seen =
        Box::pin(watcher(api.clone(), watcher::Config::default().streaming_lists()).applied_objects());
    let name = |map: Option<Result<ConfigMap, _>>| {
        map.expect("it goes on")
            .map_err(|error: watcher::Error| error.to_string())
            .expect("it works")
            .metadata
            .name
    };
    assert_eq!(name(seen.next().await).as_deref(), Some("a"));
    api.create(&PostParams::default(), &map("b", "x")).await.expect("it is valid");
    assert_eq!(name(seen.next().await).as_deref(), Some("b"));
}

#[tokio::test]
async fn a_table_is_watched_row_by_row() {
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    let server = server().await;
    post(&server, PODS, &pod("p", json!({}))).await;
    let request =
        http::Request::get(format!("{PODS}?watch=true&resourceVersion=0&fieldSelector=metadata.name%3Dp"))
            .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
            .body(axum::body::Body::empty())
            .expect("the request is well formed");
    let mut body = server.router().oneshot(request).await.expect("the router never fails").into_body();
    let frame =
        body.frame().await.expect("there is one").expect("it is whole").into_data().expect("it is data");
    let event: serde_json::Value = serde_json::from_slice(&frame).expect("it is JSON");
    assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(event["object"]["rows"][0]["cells"][0], "p");
    assert_eq!(event["object"]["columnDefinitions"][2]["name"], "Status");
}
