//! Recommender and updater: samples, kills and objects in; statuses, sizes, events, checkpoints and metrics out.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use flyball_api::kinds::vertical_pod_autoscaler::VerticalPodAutoscaler;
use flyball_controller::{Admitted, Options, VpaMetrics};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::fleet::{self, Usage};
use crate::{World, wait};

/// Rounds, as the binary has them.
const ROUND: Duration = Duration::from_secs(1);

/// A world with `metrics.k8s.io`, in which rounds come every second.
async fn sized(usage: &Usage) -> World {
    let options = Options { vertical_interval: Some(ROUND), ..Options::default() };
    World::start_with(options, |server| usage.serve(server)).await
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

    async fn own_metrics(&self) -> String {
        let request = Request::get("/metrics").body(Body::empty()).expect("a good request");
        let response = self.autoscaler.prometheus().oneshot(request).await.expect("it answers");
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("it has a body");
        String::from_utf8(body.to_vec()).expect("it is text")
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
    let world = World::start_with(options, |server| usage.serve(server)).await;
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
