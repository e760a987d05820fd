//! The autoscaler against the embedded API server, in process: whole objects in, whole objects out.
//!
//! There is no node and no workload controller, so pods are only what a test creates; a scale is written and read back.
#![allow(clippy::disallowed_methods, reason = "these tests wait for a loop that runs by the clock")]

mod fleet;
mod vertical;

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::routing::get;
use flyball_api::kinds::scaled_object::ScaledObject;
use flyball_apiserver::{ApiResource, ApiServer};
use flyball_controller::{Autoscaler, Options};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The loop decides every second; this is for a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    server: ApiServer,
    client: Client,
    autoscaler: Autoscaler,
}

impl World {
    async fn start() -> World {
        World::start_with(Options::default(), async |_, _| {}).await
    }

    /// `prepare` sees the server before the autoscaler does.
    async fn start_with(options: Options, prepare: impl AsyncFnOnce(&ApiServer, &Client)) -> World {
        let server = ApiServer::open(flyball_apiserver::Options::default()).await.expect("a server starts");
        let client = Client::new(server.router(), "default");
        define_kinds(&client).await;
        prepare(&server, &client).await;
        let autoscaler = Autoscaler::start(client.clone(), options).await.expect("it starts");
        World { server, client, autoscaler }
    }

    /// One without any definition.
    async fn start_bare() -> World {
        let server = ApiServer::open(flyball_apiserver::Options::default()).await.expect("a server starts");
        let client = Client::new(server.router(), "default");
        let starts = Autoscaler::start(client.clone(), Options::default());
        let autoscaler = tokio::time::timeout(PATIENCE, starts).await.expect("it waits for no definition");
        World { server, client, autoscaler: autoscaler.expect("it starts") }
    }

    /// One whose autoscaler gets no answer to requests whose method and path end so.
    async fn start_hanging(hangs: fn(&str, &str) -> bool) -> World {
        let server = ApiServer::open(flyball_apiserver::Options::default()).await.expect("a server starts");
        let client = Client::new(server.router(), "default");
        define_kinds(&client).await;
        let hang = middleware::from_fn(move |request: Request, next: Next| async move {
            if hangs(request.method().as_str(), request.uri().path()) {
                std::future::pending::<()>().await;
            }
            next.run(request).await
        });
        let behind = Client::new(server.router().layer(hang), "default");
        let autoscaler = Autoscaler::start(behind, Options::default()).await.expect("it starts");
        World { server, client, autoscaler }
    }

    /// An adapter that answers every request for a metric with one value.
    fn serve_adapter(&self, group: &'static str, kind: &str, value: &'static str) {
        let about = json!({ "kind": "Service", "namespace": "default", "name": "front" });
        let item = json!({
            "describedObject": about, "metricName": "m", "timestamp": jiff::Timestamp::now(), "value": value,
        });
        let list = json!({ "kind": kind, "apiVersion": format!("{group}/v1beta1"), "metadata": {}, "items": [item] });
        let router = Router::new()
            .route(&format!("/apis/{group}/v1beta1/{{*rest}}"), get(async move || axum::Json(list.clone())));
        let resource = ApiResource {
            plural: "metrics".to_owned(),
            kind: kind.to_owned(),
            namespaced: true,
            verbs: vec!["get".to_owned()],
        };
        self.server.register_api(group, "v1beta1", vec![resource], router);
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::default_namespaced(self.client.clone())
    }

    async fn create<K>(&self, object: Value)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).expect("a good object");
        self.api::<K>().create(&PostParams::default(), &object).await.expect("it is created");
    }

    async fn deploy(&self, name: &str, replicas: u32) {
        self.deploy_selecting(name, name, replicas).await;
    }

    async fn create_pod(&self, name: &str, app: &str) {
        let spec = json!({ "containers": [{ "name": "c", "image": "i" }] });
        let metadata = json!({ "name": name, "labels": { "app": app } });
        self.create::<Pod>(json!({ "metadata": metadata, "spec": spec })).await;
    }

    async fn deploy_selecting(&self, name: &str, app: &str, replicas: u32) {
        self.create::<Deployment>(json!({
            "metadata": { "name": name },
            "spec": {
                "replicas": replicas, "selector": { "matchLabels": { "app": app } },
                "template": {
                    "metadata": { "labels": { "app": app } },
                    "spec": { "containers": [{ "name": "c", "image": "i" }] },
                },
            },
        }))
        .await;
    }

    async fn replicas(&self, name: &str) -> Option<i32> {
        self.api::<Deployment>().get(name).await.ok()?.spec.replicas
    }

    async fn scale(&self, name: &str, replicas: u32) {
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        self.api::<Deployment>().patch_scale(name, &PatchParams::default(), &patch).await.expect("it scales");
    }

    async fn wait_for_replicas(&self, name: &str, wanted: i32) {
        wait(&format!("{name} has {wanted} replicas"), async || self.replicas(name).await == Some(wanted))
            .await;
    }

    /// Waits until the autoscaler's condition has this reason.
    async fn wait_for_reason(&self, name: &str, kind: &str, reason: &str) {
        let has = async || {
            let object = self.api::<HorizontalPodAutoscaler>().get(name).await.ok();
            let status = object.and_then(|object| object.status);
            let conditions = status.and_then(|status| status.conditions).unwrap_or_default();
            conditions.iter().any(|own| own.type_ == kind && own.reason.as_deref() == Some(reason))
        };
        wait(&format!("{name} has {kind} {reason}"), has).await;
    }
}

async fn define_kinds(client: &Client) {
    let world = Api::all(client.clone());
    for crd in flyball_api::kinds::crds() {
        world.create(&PostParams::default(), &crd).await.expect("a definition is good");
    }
}

async fn wait(what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "it never came to pass that {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn hpa(target: &str, metric: Value, min: u32) -> Value {
    json!({
        "metadata": { "name": target },
        "spec": {
            "minReplicas": min, "maxReplicas": 9, "metrics": [metric],
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": target },
        },
    })
}

/// A ScaledObject that wants a replica for each pod with the label `app: load`.
fn scaled_object(target: &str, metadata: Value, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": { "name": target }, "minReplicaCount": 1, "maxReplicaCount": 9,
            "triggers": [{
                "type": "kubernetes-workload", "metadata": { "podSelector": "app=load", "value": "1" },
            }],
            "advanced": more,
        },
    });
    object["metadata"]["name"] = target.into();
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_autoscaler_reads_adapters_and_respects_zero() {
    let world = World::start().await;
    world.serve_adapter("custom.metrics.k8s.io", "MetricValueList", "83200m");
    let service = json!({ "apiVersion": "v1", "kind": "Service", "name": "front" });
    let object = json!({
        "type": "Object",
        "object": {
            "describedObject": service, "metric": { "name": "hits" },
            "target": { "type": "AverageValue", "averageValue": "20" },
        },
    });
    world.deploy("model", 1).await;
    world.create::<HorizontalPodAutoscaler>(hpa("model", object, 1)).await;
    world.wait_for_replicas("model", 5).await;
    world.wait_for_reason("model", "ScalingActive", "ValidMetricFound").await;
    world.scale("model", 0).await;
    world.wait_for_reason("model", "ScalingActive", "ScalingDisabled").await;
    assert_eq!(world.replicas("model").await, Some(0), "who sets zero by hand means it");

    // No adapter serves external metrics, and the store has no such series: nothing is taken away.
    let queue = json!({
        "type": "External",
        "external": { "metric": { "name": "queue" }, "target": { "type": "AverageValue", "averageValue": "5" } },
    });
    world.deploy("worker", 4).await;
    world.create::<HorizontalPodAutoscaler>(hpa("worker", queue, 1)).await;
    world.wait_for_reason("worker", "ScalingActive", "FailedGetExternalMetric").await;
    assert_eq!(world.replicas("worker").await, Some(4));
    let events = world.api::<Event>().list(&Default::default()).await.expect("events are listed");
    let about = |event: &&Event| event.involved_object.name.as_deref() == Some("worker");
    let reasons: Vec<_> = events.iter().filter(about).filter_map(|event| event.reason.as_deref()).collect();
    assert!(reasons.contains(&"FailedGetExternalMetric"), "{reasons:?}");
    world.autoscaler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scaled_object_takes_an_autoscaler_over_and_gives_the_replicas_back() {
    let world = World::start().await;
    for name in ["load-1", "load-2", "load-3"] {
        world.create_pod(name, "load").await;
    }
    world.deploy("model", 2).await;
    let cpu = json!({
        "type": "Resource",
        "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 } },
    });
    world.create::<HorizontalPodAutoscaler>(hpa("model", cpu, 2)).await;
    let annotations = json!({ "annotations": { "scaledobject.keda.sh/transfer-hpa-ownership": "true" } });
    let advanced = json!({
        "restoreToOriginalReplicaCount": true,
        "horizontalPodAutoscalerConfig": { "name": "model" },
    });
    world.create::<ScaledObject>(scaled_object("model", annotations, advanced)).await;
    world.wait_for_replicas("model", 3).await;
    let taken = async || {
        let hpa = world.api::<HorizontalPodAutoscaler>().get("model").await.expect("it stays");
        let metrics = hpa.spec.metrics.clone().unwrap_or_default();
        hpa.owner_references().iter().any(|owner| owner.kind == "ScaledObject")
            && metrics.iter().all(|metric| metric.type_ == "External")
    };
    wait("the autoscaler is the ScaledObject's, whole", taken).await;

    let objects = world.api::<ScaledObject>();
    let marked = async || objects.get("model").await.is_ok_and(|object| !object.finalizers().is_empty());
    wait("the ScaledObject can't go before the replicas are back", marked).await;
    objects.delete("model", &DeleteParams::default()).await.expect("it is deleted");
    world.wait_for_replicas("model", 2).await;
    wait("the ScaledObject is gone", async || objects.get("model").await.is_err()).await;
    world.autoscaler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_that_share_pods_stop_and_are_told() {
    let world = World::start().await;
    let cpu = json!({
        "type": "Resource",
        "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 } },
    });
    for name in ["one", "two"] {
        world.deploy_selecting(name, "shared", 2).await;
        world.create::<HorizontalPodAutoscaler>(hpa(name, cpu.clone(), 1)).await;
    }
    world.create_pod("pod", "shared").await;
    for name in ["one", "two"] {
        world.wait_for_reason(name, "ScalingActive", "AmbiguousSelector").await;
        assert_eq!(world.replicas(name).await, Some(2));
    }
    // Of two autoscalers with one target the older one has it, and the other says so.
    world.deploy("single", 2).await;
    world.create::<HorizontalPodAutoscaler>(hpa("single", cpu.clone(), 1)).await;
    world.wait_for_reason("single", "AbleToScale", "SucceededGetScale").await;
    let mut second = hpa("single", cpu, 1);
    second["metadata"]["name"] = "younger".into();
    world.create::<HorizontalPodAutoscaler>(second).await;
    world.wait_for_reason("younger", "ScalingActive", "AmbiguousSelector").await;
    world.autoscaler.stop().await;
}

/// Each kind is optional: it is picked up when its definition comes, and dropped when that goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_may_come_and_go() {
    let world = World::start_bare().await;
    let cpu = json!({
        "type": "Resource",
        "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 } },
    });
    world.deploy("plain", 2).await;
    world.create::<HorizontalPodAutoscaler>(hpa("plain", cpu, 1)).await;
    world.wait_for_reason("plain", "AbleToScale", "SucceededGetScale").await;

    world.deploy("model", 1).await;
    for (pods, name) in [(2, "load-1"), (3, "load-2")] {
        define_kinds(&world.client).await;
        world.create_pod(&format!("{name}-a"), "load").await;
        if pods == 2 {
            world.create_pod(&format!("{name}-b"), "load").await;
        }
        world.create::<ScaledObject>(scaled_object("model", json!({}), json!({}))).await;
        world.wait_for_replicas("model", pods).await;
        let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
        for crd in flyball_api::kinds::crds() {
            definitions.delete(&crd.name_any(), &DeleteParams::default()).await.expect("it is deleted");
        }
        let gone = async || definitions.list(&Default::default()).await.is_ok_and(|all| all.items.is_empty());
        wait("the definitions are gone", gone).await;
        let followed = "keda_resource_registered_total{namespace=\"default\"";
        wait("its object is followed no more", async || !world.own_metrics().await.contains(followed)).await;
        // nobody else takes care of it here
        let hpas = world.api::<HorizontalPodAutoscaler>();
        hpas.delete("keda-hpa-model", &DeleteParams::default()).await.expect("it is deleted");
    }
    world.autoscaler.stop().await;
}

/// Nodes that hang, a scale and a status that cannot be written: none of it delays another target.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_answer_holds_nobody_up() {
    let world = World::start_hanging(|method, path| {
        path.contains("/nodes/dead")
            || method == "PATCH" && path.ends_with("/deployments/slow/scale")
            || method == "PATCH" && path.ends_with("/horizontalpodautoscalers/keda-hpa-untold/status")
    })
    .await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    for index in 0..40 {
        let node = json!({ "metadata": { "name": format!("dead-{index}") } });
        let node = serde_json::from_value(node).expect("a node");
        nodes.create(&PostParams::default(), &node).await.expect("it is created");
    }
    for pods in ["load-1", "load-2", "load-3"] {
        world.create_pod(pods, "load").await;
    }
    for name in ["slow", "untold", "quick"] {
        world.deploy(name, 1).await;
        world.create::<ScaledObject>(scaled_object(name, json!({}), json!({}))).await;
    }
    world.wait_for_replicas("quick", 3).await;
    world.wait_for_replicas("untold", 3).await;
    world.wait_for_reason("keda-hpa-quick", "AbleToScale", "ReadyForNewScale").await;
    assert_eq!(world.replicas("slow").await, Some(1), "its write hangs");
    world.create_pod("load-4", "load").await;
    world.wait_for_replicas("quick", 4).await;
    world.wait_for_replicas("untold", 4).await;
}
