//! Workloads as a cluster's own controllers would have made them, and a `metrics.k8s.io` that says what they use.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use flyball_apiserver::{ApiResource, ApiServer};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) const NAMESPACE: &str = "default";
/// The one container of each pod.
pub(crate) const CONTAINER: &str = "main";

/// What containers use, by pod: the `usage` of each container by its name. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Usage(Arc<Mutex<BTreeMap<String, Value>>>);

impl Usage {
    /// From now on the main container of a pod uses so much.
    pub(crate) fn set(&self, pod: &str, cpu: &str, memory: &str) {
        let usage = json!({ CONTAINER: { "cpu": cpu, "memory": memory } });
        self.0.lock().insert(pod.to_owned(), usage);
    }

    /// Answers for `metrics.k8s.io`, with samples that are always new.
    pub(crate) fn serve(&self, server: &ApiServer) {
        let router =
            Router::new().route("/apis/metrics.k8s.io/v1beta1/pods", get(list)).with_state(self.clone());
        let (plural, kind, verbs) = ("pods".to_owned(), "PodMetrics".to_owned(), vec!["list".to_owned()]);
        let resource = ApiResource { plural, kind, namespaced: true, verbs };
        server.register_api("metrics.k8s.io", "v1beta1", vec![resource], router);
    }
}

async fn list(State(Usage(all)): State<Usage>) -> Json<Value> {
    let all = all.lock();
    let now = Timestamp::now().to_string();
    let item = |(pod, usage): (&String, &Value)| {
        let containers = usage.as_object().into_iter().flatten();
        let containers: Vec<_> =
            containers.map(|(name, usage)| json!({ "name": name, "usage": usage })).collect();
        let metadata = json!({ "name": pod, "namespace": NAMESPACE });
        json!({ "metadata": metadata, "timestamp": now, "window": "5s", "containers": containers })
    };
    let items: Vec<_> = all.iter().map(item).collect();
    Json(
        json!({ "kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items }),
    )
}

/// A controller of objects.
pub(crate) fn owner(api_version: &str, kind: &str, object: &impl ResourceExt) -> Value {
    let (name, uid) = (object.name_any(), object.uid().unwrap_or_default());
    json!([{ "apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true }])
}

pub(crate) async fn create<K>(client: &Client, object: Value) -> K
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let object: K = serde_json::from_value(object).expect("a good object");
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    api.create(&PostParams::default(), &object).await.expect("it is created")
}

/// A Deployment, its ReplicaSet and its running pods, `NAME-0` and so on, whose main container has these resources.
pub(crate) async fn deployment(client: &Client, name: &str, replicas: usize, resources: &Value) {
    let labels = json!({ "app": name });
    let spec = json!({
        "replicas": replicas, "selector": { "matchLabels": labels },
        "template": {
            "metadata": { "labels": labels },
            "spec": { "containers": [{ "name": CONTAINER, "image": "i", "resources": resources }] },
        },
    });
    let whole = json!({ "metadata": { "name": name }, "spec": spec });
    let deployment: Deployment = create(client, whole).await;
    let owners = owner("apps/v1", "Deployment", &deployment);
    let whole =
        json!({ "metadata": { "name": format!("{name}-1"), "ownerReferences": owners }, "spec": spec });
    let set: ReplicaSet = create(client, whole).await;
    let owners = owner("apps/v1", "ReplicaSet", &set);
    for index in 0..replicas {
        pod(client, &format!("{name}-{index}"), (&labels, &owners), resources).await;
    }
}

/// A running pod.
pub(crate) async fn pod(client: &Client, name: &str, (labels, owners): (&Value, &Value), resources: &Value) {
    let metadata = json!({ "name": name, "labels": labels, "ownerReferences": owners });
    let containers = json!([{ "name": CONTAINER, "image": "i", "resources": resources }]);
    let whole = json!({ "metadata": metadata, "spec": { "nodeName": "n", "containers": containers } });
    create::<Pod>(client, whole).await;
    let running = json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } });
    set_status(client, name, json!({ "state": running, "resources": resources })).await;
}

/// Shows that the container of a pod has what its spec asks for, as a node does after a resize.
pub(crate) async fn resized(client: &Client, name: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pod = serde_json::to_value(pods.get(name).await.expect("it is there")).expect("it is an object");
    let mut status = pod["status"]["containerStatuses"].clone();
    status[0]["resources"] = pod["spec"]["containers"][0]["resources"].clone();
    let patch = Patch::Merge(json!({ "status": { "containerStatuses": status } }));
    pods.patch_status(name, &PatchParams::default(), &patch).await.expect("it has a status");
}

/// Sets the status of a pod's main container.
pub(crate) async fn set_status(client: &Client, name: &str, container: Value) {
    let mut whole =
        json!({ "name": CONTAINER, "image": "i", "imageID": "i", "ready": true, "restartCount": 0 });
    json_patch::merge(&mut whole, &container);
    let status = json!({
        "phase": "Running", "startTime": "2026-01-01T00:00:00Z", "containerStatuses": [whole],
        "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = Patch::Merge(json!({ "status": status }));
    pods.patch_status(name, &PatchParams::default(), &patch).await.expect("it has a status");
}

/// A VerticalPodAutoscaler of a Deployment of the same name.
pub(crate) fn vpa(name: &str, spec: Value) -> Value {
    let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": name });
    let mut whole = json!({ "metadata": { "name": name }, "spec": { "targetRef": target } });
    json_patch::merge(&mut whole["spec"], &spec);
    whole
}
