//! Recommender and updater: samples, kills and objects in; statuses, sizes, events, checkpoints and metrics out.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use flyball_api::kinds::vertical_pod_autoscaler::{VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint};
use flyball_controller::{Admitted, Options, VpaMetrics};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Event, Pod, ReplicationController};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::fleet::{self, Usage};
use crate::{World, wait};

/// Rounds, as the binary has them.
const ROUND: Duration = Duration::from_secs(1);

/// A world with `metrics.k8s.io`, in which rounds come every second.
async fn sized(usage: &Usage) -> World {
    let options = Options { vertical_interval: Some(ROUND), ..Options::default() };
    World::start_with(options, async |server, _| usage.serve(server)).await
}

fn requests(cpu: &str, memory: &str) -> Value {
    json!({ "requests": { "cpu": cpu, "memory": memory } })
}

impl World {
    async fn vpa(&self, name: &str, spec: Value) {
        self.create::<VerticalPodAutoscaler>(fleet::vpa(name, spec)).await;
    }

    /// What the main container of a pod requests.
    async fn request(&self, pod: &str, resource: &str) -> Option<String> {
        let pod = self.api::<Pod>().get(pod).await.ok()?;
        let resources = pod.spec?.containers.into_iter().next()?.resources?;
        resources.requests?.get(resource).map(|amount| amount.0.clone())
    }

    async fn wait_for_request(&self, pod: &str, resource: &str, wanted: &str) {
        wait(&format!("{pod} requests {wanted} {resource}"), async || {
            self.request(pod, resource).await.as_deref() == Some(wanted)
        })
        .await;
    }

    pub(crate) async fn own_metrics(&self) -> String {
        let request = Request::get("/metrics").body(Body::empty()).expect("a good request");
        let response = self.autoscaler.prometheus().oneshot(request).await.expect("it answers");
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("it has a body");
        String::from_utf8(body.to_vec()).expect("it is text")
    }

    /// The VerticalPodAutoscaler's condition of this type: its status, reason and message.
    async fn vpa_condition(&self, name: &str, kind: &str) -> Option<[String; 3]> {
        let status = self.api::<VerticalPodAutoscaler>().get(name).await.ok()?.status?;
        let found = status.conditions.into_iter().find(|one| one.kind == kind)?;
        Some([found.status, found.reason.unwrap_or_default(), found.message.unwrap_or_default()])
    }

    /// The target that is shown for a container.
    async fn target(&self, name: &str, container: &str, resource: &str) -> Option<String> {
        let status = self.api::<VerticalPodAutoscaler>().get(name).await.ok()?.status?;
        let all = status.recommendation?.container_recommendations;
        let one = all.into_iter().find(|one| one.container_name == container)?;
        one.target.get(resource).map(|amount| amount.0.clone())
    }

    async fn wait_for_condition(&self, name: &str, kind: &str, message: &str) {
        let wanted = async || self.vpa_condition(name, kind).await.is_some_and(|found| found[2] == message);
        wait(&format!("{name} has {kind} {message}"), wanted).await;
    }

    /// How many containers are sized by the newest decision about a Deployment.
    async fn sizes(&self, name: &str) -> Option<usize> {
        let apis = self.autoscaler.apis();
        let decisions = apis.iter().find(|api| api.group == "flyball.dev")?;
        let path = format!("/apis/flyball.dev/v1alpha1/decisions?name={name}&last=1");
        let response =
            decisions.router.clone().oneshot(Request::get(path).body(Body::empty()).ok()?).await.ok()?;
        let list: Value =
            serde_json::from_slice(&to_bytes(response.into_body(), usize::MAX).await.ok()?).ok()?;
        let decision = list.pointer("/items/0/decision")?;
        Some(decision.get("sizes").and_then(Value::as_array).map_or(0, Vec::len))
    }

    async fn event_reasons(&self, about: &str) -> Vec<String> {
        let events = self.api::<Event>().list(&Default::default()).await.expect("events are listed");
        let own =
            events.items.into_iter().filter(|event| event.involved_object.name.as_deref() == Some(about));
        own.filter_map(|event| event.reason).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_are_told_under_vpas_names() {
    let (usage, vpa_metrics) = (Usage::default(), VpaMetrics::default());
    vpa_metrics.admitted(Admitted::Pod, true, Duration::from_millis(3));
    let options = Options { vertical_interval: Some(ROUND), vpa_metrics, ..Options::default() };
    let world = World::start_with(options, async |server, _| usage.serve(server)).await;
    for name in ["resized", "evicted"] {
        fleet::deployment(&world.client, name, 4, &requests("50m", "64Mi")).await;
        (0..4).for_each(|index| usage.set(&format!("{name}-{index}"), "100m", "300Mi"));
    }
    world.vpa("resized", json!({ "updatePolicy": { "updateMode": "InPlaceOrRecreate" } })).await;
    world.vpa("evicted", json!({ "updatePolicy": { "updateMode": "Recreate" } })).await;
    world.vpa("lost", json!({ "updatePolicy": { "updateMode": "Off" } })).await;
    for index in 0..4 {
        world.wait_for_request(&format!("resized-{index}"), "cpu", "126m").await;
        fleet::resized(&world.client, &format!("resized-{index}")).await;
    }
    let of_evicted = ListParams::default().labels("app=evicted");
    // there is no node that would end them
    wait("two of four are evicted", async || {
        let pods = world.api::<Pod>().list(&of_evicted).await.expect("pods are listed");
        pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count() == 2
    })
    .await;
    wait("a round finds nothing to resize", async || {
        world.own_metrics().await.contains("vpa_updater_in_place_updatable_pods_total{vpa_size_log2=\"2\"} 0")
    })
    .await;
    assert!(world.event_reasons("resized-0").await.contains(&"InPlaceResizedByVPA".to_owned()));
    assert!(world.event_reasons("evicted").await.contains(&"EvictedPod".to_owned()));

    let page = world.own_metrics().await;
    for series in [
        "vpa_recommender_vpa_objects_count{api=\"v1\",has_recommendation=\"true\",matches_pods=\"true\",unsupported_config=\"false\",update_mode=\"Recreate\"} 1",
        "vpa_recommender_vpa_objects_count{api=\"v1\",has_recommendation=\"false\",matches_pods=\"false\",unsupported_config=\"true\",update_mode=\"Off\"} 1",
        "vpa_recommender_recommendation_latency_seconds_bucket{le=\"1800\"} 2",
        "vpa_recommender_recommendation_latency_seconds_bucket{le=\"7.5\"}",
        "vpa_recommender_execution_latency_seconds_bucket{step=\"LoadVPAs\",le=\"0.01\"}",
        "vpa_recommender_execution_latency_seconds_count{step=\"LoadPods\"}",
        "vpa_recommender_execution_latency_seconds_count{step=\"LoadMetrics\"}",
        "vpa_recommender_execution_latency_seconds_count{step=\"UpdateVPAs\"}",
        "vpa_recommender_execution_latency_seconds_count{step=\"MaintainCheckpoints\"}",
        "vpa_recommender_execution_latency_seconds_count{step=\"GarbageCollect\"}",
        "vpa_recommender_execution_latency_seconds_count{step=\"total\"}",
        "vpa_recommender_aggregate_container_states_count 2",
        "vpa_recommender_metric_server_responses{client_name=\"default-metrics-client\",is_error=\"false\"}",
        "vpa_updater_controlled_pods_total{update_mode=\"InPlaceOrRecreate\",vpa_size_log2=\"2\"} 4",
        "vpa_updater_evictable_pods_total{update_mode=\"Recreate\"",
        "vpa_updater_vpas_with_evictable_pods_total{update_mode=\"Recreate\"",
        "vpa_updater_vpas_with_evicted_pods_total{update_mode=\"Recreate\"",
        "vpa_updater_evicted_pods_total{update_mode=\"Recreate\",vpa_name=\"evicted\",vpa_namespace=\"default\",vpa_size_log2=\"2\"} 2",
        "vpa_updater_in_place_updatable_pods_total{vpa_size_log2=\"2\"} 0",
        "vpa_updater_vpas_with_in_place_updatable_pods_total{vpa_size_log2=\"2\"} 0",
        "vpa_updater_vpas_with_in_place_updated_pods_total{vpa_size_log2=\"2\"} 0",
        "vpa_updater_in_place_updated_pods_total{vpa_name=\"resized\",vpa_namespace=\"default\",vpa_size_log2=\"2\"} 4",
        "vpa_updater_execution_latency_seconds_count{step=\"FilterPods\"}",
        "vpa_updater_execution_latency_seconds_count{step=\"EvictPods\"}",
        "vpa_updater_execution_latency_seconds_bucket{step=\"total\",le=\"+Inf\"}",
        "vpa_quality_usage_recommendation_relative_diffs_bucket{is_oom=\"false\",resource=\"cpu\",update_mode=\"Recreate\",le=\"-0.1\"}",
        "vpa_quality_usage_sample_missing_recommendation_count{is_oom=\"false\",resource=\"memory\",update_mode=\"Recreate\"}",
        "vpa_quality_cpu_recommendation_over_usage_diffs_cores_bucket{recommendation_missing=\"false\",update_mode=\"Recreate\",le=\"0.01\"} 0",
        "vpa_quality_mem_recommendation_over_usage_diffs_bytes_bucket{is_oom=\"false\",recommendation_missing=\"false\",update_mode=\"Recreate\",le=\"1000000\"} 0",
        "vpa_quality_cpu_recommendation_lower_equal_usage_diffs_cores_count{recommendation_missing=\"true\",update_mode=\"Recreate\"}",
        "vpa_quality_mem_recommendation_lower_equal_usage_diffs_bytes_count{is_oom=\"false\",recommendation_missing=\"true\",update_mode=\"Recreate\"}",
        "vpa_quality_cpu_recommendations_cores_bucket{update_mode=\"Recreate\",le=\"655.36\"}",
        "vpa_quality_mem_recommendations_bytes_bucket{is_oom=\"false\",update_mode=\"Recreate\",le=\"65536000000\"}",
        "vpa_quality_relative_recommendation_changes_bucket{resource=\"cpu\",update_mode=\"InPlaceOrRecreate\",vpa_size_log2=\"2\",le=\"0\"}",
        "vpa_resources_get_resources_count{source=\"Pod.Status.ContainerStatuses\"}",
        "vpa_admission_controller_admission_pods_total{applied=\"true\"} 1",
        "vpa_admission_controller_admission_latency_seconds_bucket{resource=\"Pod\",status=\"applied\",le=\"0.01\"} 1",
        "vpa_admission_controller_execution_latency_seconds_count{step=\"total\"} 1",
    ] {
        assert!(page.lines().any(|line| line.starts_with(series)), "{series} is not in\n{page}");
    }
    world.autoscaler.stop().await;
}

/// A container that was killed for want of memory.
fn killed(after: &str, memory: &str) -> Value {
    let end = json!({
        "reason": "OOMKilled", "exitCode": 137, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": Timestamp::now(),
    });
    let resources = requests("50m", memory);
    match after {
        "terminated" => json!({ "state": { "terminated": end }, "resources": resources }),
        _ => json!({
            "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "lastState": { "terminated": end },
            "restartCount": 1, "resources": resources,
        }),
    }
}

/// The memory that pods ask for after a kill, whatever was sampled: twice the request and the margin for `flyball`; for
/// `default` the request and 100 MiB, rounded up to its bucket, and the margin, once CPU was seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_before_the_first_sample_starts_from_the_request() {
    let usage = Usage::default();
    let world = sized(&usage).await;
    let in_place = json!({ "updateMode": "InPlaceOrRecreate" });
    let flyball = json!({ "updatePolicy": in_place, "recommenders": [{ "name": "flyball" }] });
    for name in ["seen", "missed", "default", "evicted"] {
        fleet::deployment(&world.client, name, 1, &requests("50m", "300Mi")).await;
    }
    // before anybody looked
    fleet::set_status(&world.client, "missed-0", killed("waiting", "300Mi")).await;
    for name in ["seen", "missed", "evicted"] {
        world.vpa(name, flyball.clone()).await;
    }
    world.vpa("default", json!({ "updatePolicy": in_place })).await;
    let twice = (600_i64 << 20) * 115 / 100;
    world.wait_for_request("missed-0", "memory", &twice.to_string()).await;
    wait("all are looked at", async || {
        world.vpa_condition("default", "RecommendationProvided").await.is_some()
            && world.vpa_condition("seen", "RecommendationProvided").await.is_some()
    })
    .await;
    for name in ["seen-0", "default-0"] {
        fleet::set_status(&world.client, name, killed("terminated", "300Mi")).await;
    }
    world.wait_for_request("seen-0", "memory", &twice.to_string()).await;
    assert_eq!(world.target("default", fleet::CONTAINER, "memory").await, None, "VPA waits for CPU");
    usage.set("default-0", "50m", "10Mi");
    world.wait_for_request("default-0", "memory", "511772986").await;

    let told = json!({
        "metadata": { "name": "evicted", "annotations": {
            "offending_containers": "main", "offending_containers_usage": "400Mi", "starved_resource": "memory",
        } },
        "reason": "Evicted", "lastTimestamp": Timestamp::now(),
        "involvedObject": { "kind": "Pod", "namespace": "default", "name": "evicted-0" },
    });
    world.create::<Event>(told).await;
    world.wait_for_request("evicted-0", "memory", &((800_i64 << 20) * 115 / 100).to_string()).await;
    world.autoscaler.stop().await;
}

fn checkpoint(name: &str, of: [&str; 2], version: &str, buckets: &Value, total: f64) -> Value {
    let at = Timestamp::now();
    let histogram = json!({ "referenceTimestamp": at, "bucketWeights": buckets, "totalWeight": total });
    json!({
        "metadata": { "name": name },
        "spec": { "vpaObjectName": of[0], "containerName": of[1] },
        "status": {
            "version": version, "lastUpdateTime": at, "firstSampleStart": at, "lastSampleStart": at,
            "totalSamplesCount": 20_000, "cpuHistogram": histogram, "memoryHistogram": histogram,
        },
    })
}

/// Of the checkpoints that are there at the start, the good ones count, whatever the others hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_that_make_no_sense_cost_nothing_else() {
    let usage = Usage::default();
    let options = Options { vertical_interval: Some(ROUND), ..Options::default() };
    // bucket 36 ends at one core and at 1 GB
    let good = json!({ "36": 10_000 });
    let world = World::start_with(options, async |server, client| {
        usage.serve(server);
        for (name, of, version, buckets, total) in [
            ("good-main", ["good", "main"], "v3", good.clone(), 1e6),
            ("good-gone", ["good", "gone"], "v3", good.clone(), 1e6),
            ("old-main", ["old", "main"], "v2", good.clone(), 1e6),
            ("broken-main", ["broken", "main"], "v3", json!({ "9999": 1 }), 1.0),
            ("negative-main", ["negative", "main"], "v3", good.clone(), -1.0),
            ("foreign-main", ["nobody", "main"], "v3", good.clone(), 1e6),
        ] {
            let object = checkpoint(name, of, version, &buckets, total);
            fleet::create::<VerticalPodAutoscalerCheckpoint>(client, object).await;
        }
    })
    .await;
    for name in ["good", "old", "broken", "negative"] {
        fleet::deployment(&world.client, name, 1, &requests("50m", "300Mi")).await;
        usage.set(&format!("{name}-0"), "100m", "300Mi");
        world.vpa(name, json!({ "updatePolicy": { "updateMode": "Off" } })).await;
    }
    for (name, container, cpu) in [
        ("good", "main", Some("1168m")),
        // what only a checkpoint knows is kept, as VPA does
        ("good", "gone", Some("1168m")),
        ("old", "main", Some("126m")),
        ("broken", "main", Some("126m")),
        ("negative", "main", Some("126m")),
    ] {
        let found = async || world.target(name, container, "cpu").await;
        wait(&format!("{name} {container} is recommended {cpu:?}"), async || found().await.as_deref() == cpu)
            .await;
    }
    world.autoscaler.stop().await;
    // what was learned is written at the end, over what was broken
    let api = Api::<VerticalPodAutoscalerCheckpoint>::default_namespaced(world.client.clone());
    let rewritten = api.get("broken-main").await.expect("it is there").status.expect("it has a status");
    assert_eq!(rewritten.version.as_deref(), Some("v3"));
}

/// Targets that are not there, that are below something else, and that vanish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_cannot_be_sized_says_why() {
    let usage = Usage::default();
    let world = sized(&usage).await;
    fleet::deployment(&world.client, "model", 2, &requests("50m", "300Mi")).await;
    (0..2).for_each(|index| usage.set(&format!("model-{index}"), "100m", "300Mi"));
    world.vpa("model", json!({ "updatePolicy": { "updateMode": "InPlaceOrRecreate" } })).await;
    let target = |version: &str, kind: &str, name: &str| json!({ "targetRef": { "apiVersion": version, "kind": kind, "name": name }, "updatePolicy": { "updateMode": "Off" } });
    world.vpa("below", target("apps/v1", "ReplicaSet", "model-1")).await;
    world.vpa("nowhere", target("batch/v1", "CronJob", "nothing")).await;
    world.vpa("unscaled", target("v1", "Service", "front")).await;
    world
        .wait_for_condition(
            "below",
            "ConfigUnsupported",
            "The target apps/v1.ReplicaSet/model-1 has a parent controller but it should point to a topmost well-known or \
             scalable controller",
        )
        .await;
    let gone = |what: &str| format!("Cannot read targetRef. Reason: {what} does not exist");
    world.wait_for_condition("nowhere", "ConfigUnsupported", &gone("CronJob default/nothing")).await;
    wait("a kind without a scale is refused", async || {
        let found = world.vpa_condition("unscaled", "ConfigUnsupported").await.unwrap_or_default();
        found[2].starts_with(
            "Cannot read targetRef. Reason: Unhandled targetRef v1 / Service / front, last error ",
        )
    })
    .await;
    world.wait_for_request("model-0", "cpu", "126m").await;
    assert_eq!(world.vpa_condition("model", "ConfigUnsupported").await, None);
    world.api::<Deployment>().delete("model", &DeleteParams::default()).await.expect("it is deleted");
    world.wait_for_condition("model", "ConfigUnsupported", &gone("Deployment default/model")).await;
    world.wait_for_condition("model", "NoPodsMatched", "No pods match this VPA object").await;
    let provided = world.vpa_condition("model", "RecommendationProvided").await;
    assert_eq!(provided.map(|found| found[0].clone()).as_deref(), Some("True"), "what was learned stays");
    world.autoscaler.stop().await;
}

/// Pods of kinds that no scale is asked of, and of one that has to be asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_every_kind_are_sized() {
    let usage = Usage::default();
    let world = sized(&usage).await;
    let client = &world.client;
    let labels = json!({ "app": "every" });
    let template = json!({
        "metadata": { "labels": labels },
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "main", "image": "i" }] },
    });
    let mut always = template.clone();
    always["spec"]["restartPolicy"] = "Always".into();
    let named = |name: &str, spec: Value| json!({ "metadata": { "name": name }, "spec": spec });
    let selector = json!({ "matchLabels": labels });
    let set: DaemonSet =
        fleet::create(client, named("every-daemon", json!({ "selector": selector, "template": always })))
            .await;
    let controller: ReplicationController = fleet::create(
        client,
        named("every-controller", json!({ "replicas": 2, "selector": labels, "template": always })),
    )
    .await;
    let job_spec = json!({ "template": template });
    let cron: CronJob = fleet::create(
        client,
        named("every-cron", json!({ "schedule": "* * * * *", "jobTemplate": { "spec": job_spec } })),
    )
    .await;
    let mut of_cron = named("every-cron-1", job_spec.clone());
    of_cron["metadata"]["ownerReferences"] = fleet::owner("batch/v1", "CronJob", &cron);
    let of_cron: Job = fleet::create(client, of_cron).await;
    let alone: Job = fleet::create(client, named("every-job", job_spec)).await;
    let job_labels = |job: &Job| {
        let mut all =
            json!(job.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()?.labels.clone()));
        all["app"] = "every".into();
        all
    };
    for (name, version, kind, labels, owners) in [
        ("every-daemon", "apps/v1", "DaemonSet", labels.clone(), fleet::owner("apps/v1", "DaemonSet", &set)),
        (
            "every-controller",
            "v1",
            "ReplicationController",
            labels.clone(),
            fleet::owner("v1", "ReplicationController", &controller),
        ),
        (
            "every-cron",
            "batch/v1",
            "CronJob",
            job_labels(&of_cron),
            fleet::owner("batch/v1", "Job", &of_cron),
        ),
        ("every-job", "batch/v1", "Job", job_labels(&alone), fleet::owner("batch/v1", "Job", &alone)),
    ] {
        for index in 0..2 {
            let pod = format!("{name}-p{index}");
            fleet::pod(client, &pod, (&labels, &owners), &requests("50m", "300Mi")).await;
            usage.set(&pod, "100m", "300Mi");
        }
        let target = json!({ "apiVersion": version, "kind": kind, "name": name });
        world
            .vpa(name, json!({ "targetRef": target, "updatePolicy": { "updateMode": "InPlaceOrRecreate" } }))
            .await;
    }
    let ready = json!({ "status": { "numberReady": 2, "currentNumberScheduled": 2, "desiredNumberScheduled": 2, "numberMisscheduled": 0 } });
    let sets = world.api::<DaemonSet>();
    sets.patch_status("every-daemon", &PatchParams::default(), &Patch::Merge(ready))
        .await
        .expect("it has a status");
    for name in ["every-daemon", "every-controller", "every-cron", "every-job"] {
        for index in 0..2 {
            world.wait_for_request(&format!("{name}-p{index}"), "cpu", "126m").await;
        }
    }
    world.autoscaler.stop().await;
}

/// Whatever another recommender writes and a policy says: what pods get lies between the bounds, or nothing happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_applied_that_makes_no_sense() {
    let usage = Usage::default();
    let world = sized(&usage).await;
    let recommended = |target: &str, lower: &str, upper: &str| {
        let one = json!({
            "containerName": "main", "target": { "cpu": target }, "lowerBound": { "cpu": lower }, "upperBound": { "cpu": upper },
        });
        let ghost = json!({ "containerName": "ghost", "target": { "cpu": "7" } });
        json!({ "recommendation": { "containerRecommendations": [ghost, one] } })
    };
    let cases = [
        ("good", recommended("200m", "100m", "300m"), json!({}), "200m"),
        ("crossed", recommended("200m", "300m", "100m"), json!({}), "200m"),
        ("negative", recommended("-5m", "-10m", "-1m"), json!({}), "50m"),
        ("zero", recommended("0", "0", "0"), json!({}), "0"),
        (
            "contradicting",
            recommended("200m", "100m", "300m"),
            json!({ "minAllowed": { "cpu": "400m" }, "maxAllowed": { "cpu": "150m" } }),
            "150m",
        ),
        (
            "unknown",
            recommended("200m", "100m", "300m"),
            json!({ "containerName": "ghost", "maxAllowed": { "cpu": "1m" } }),
            "200m",
        ),
    ];
    for (name, status, own, _) in &cases {
        fleet::deployment(&world.client, name, 2, &requests("50m", "300Mi")).await;
        let mut container = json!({ "containerName": "*", "controlledResources": ["cpu"] });
        json_patch::merge(&mut container, own);
        let spec = json!({
            "recommenders": [{ "name": "other" }], "updatePolicy": { "updateMode": "InPlaceOrRecreate" },
            "resourcePolicy": { "containerPolicies": [container] },
        });
        world.vpa(name, spec).await;
        let patch = Patch::Merge(json!({ "status": status }));
        let vpas = world.api::<VerticalPodAutoscaler>();
        vpas.patch_status(name, &PatchParams::default(), &patch).await.expect("it has a status");
    }
    for (name, _, _, cpu) in &cases {
        for index in 0..2 {
            world.wait_for_request(&format!("{name}-{index}"), "cpu", cpu).await;
        }
    }
    // those that stay have been looked at: nothing was evicted either
    let pods = world.api::<Pod>().list(&ListParams::default()).await.expect("pods are listed");
    assert!(pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_none()));
    assert_eq!(world.request("negative-0", "cpu").await.as_deref(), Some("50m"));
    world.autoscaler.stop().await;
}

/// The horizontal loop decides over both axes while there is a VerticalPodAutoscaler, and over its own when that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_size_goes_with_its_last_vertical_autoscaler() {
    let usage = Usage::default();
    let world = sized(&usage).await;
    fleet::deployment(&world.client, "model", 1, &requests("50m", "300Mi")).await;
    usage.set("model-0", "100m", "300Mi");
    let metric = json!({
        "type": "Resource",
        "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 } },
    });
    world.create::<HorizontalPodAutoscaler>(crate::hpa("model", metric, 1)).await;
    world.vpa("model", json!({ "updatePolicy": { "updateMode": "InPlaceOrRecreate" } })).await;
    wait("both axes are decided about", async || world.sizes("model").await.is_some_and(|sizes| sizes > 0))
        .await;
    world
        .api::<VerticalPodAutoscaler>()
        .delete("model", &DeleteParams::default())
        .await
        .expect("it is deleted");
    wait("the size is gone with it", async || world.sizes("model").await == Some(0)).await;
    world.autoscaler.stop().await;
}
