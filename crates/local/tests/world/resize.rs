//! Resizes of pods that run: what is granted, what is written, and what is said.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{TestWorld, condition, container, limit_file, pod};

fn sleeping(name: &str, container: Value) -> Value {
    let mut all = json!({"args": ["-c", "exec sleep 1000"]});
    json_patch::merge(&mut all, &container);
    pod(name, all)
}

fn resources(cpu: [&str; 2], memory: [&str; 2]) -> Value {
    json!({"resources": {"requests": {"cpu": cpu[0], "memory": memory[0]}, "limits": {"cpu": cpu[1], "memory": memory[1]}}})
}

impl TestWorld {
    async fn resize(&self, name: &str, container: Value) -> Pod {
        let mut main = json!({"name": "main"});
        json_patch::merge(&mut main, &container);
        let patch = json!({"spec": {"containers": [main]}});
        self.api::<Pod>().patch_resize(name, &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap()
    }

    async fn until_resized(&self, name: &str, cpu_limit: &str) -> Pod {
        self.until_some(name, "resized", |pod: &Pod| {
            let shown = container(pod).resources.and_then(|r| r.limits?.get("cpu").cloned());
            let moving =
                ["PodResizePending", "PodResizeInProgress"].iter().any(|c| condition(pod, c).is_some());
            shown.is_some_and(|cpu| cpu.0 == cpu_limit) && !moving
        })
        .await
    }

    async fn until_pending(&self, name: &str, reason: &str) -> Pod {
        let wanted = Some(("True".to_owned(), reason.to_owned()));
        self.until_some(name, reason, |pod: &Pod| condition(pod, "PodResizePending") == wanted).await
    }
}

fn cpu_quota(pod: &Pod, restarts: i32) -> Option<String> {
    limit_file(pod, restarts, "cpu.cfs_quota_us", "cpu.max")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resize_is_written_to_the_control_groups_of_a_running_container() {
    let mut world = TestWorld::start().await;
    if world.lacks("limits") {
        return;
    }
    world.create::<Pod>(sleeping("resized", resources(["50m", "100m"], ["64Mi", "128Mi"]))).await;
    let before = &world.until_ready("resized", 1).await[0];
    assert!(cpu_quota(before, 0).unwrap().starts_with("10000"));

    let asked = Instant::now();
    let answer = world.resize("resized", resources(["200m", "500m"], ["64Mi", "256Mi"])).await;
    assert_eq!(answer.metadata.generation, Some(2));
    while !cpu_quota(before, 0).unwrap().starts_with("50000") {
        tokio::task::yield_now().await;
    }
    println!("from the request to the control group: {:?}", asked.elapsed());
    let resized = world.until_resized("resized", "500m").await;
    let shown = container(&resized);
    assert_eq!(shown.restart_count, 0);
    assert_eq!(shown.allocated_resources.unwrap()["cpu"].0, "200m");
    assert_eq!(resized.status.as_ref().unwrap().observed_generation, Some(2));
    let memory = limit_file(&resized, 0, "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory.as_deref(), Some("268435456"));
    let told = r#"{"containers":[{"name":"main","resources":{"limits":{"cpu":"500m","memory":"256Mi"},"requests":{"cpu":"200m","memory":"64Mi"}}}],"generation":2}"#;
    assert_eq!(world.until_event("resized", "ResizeStarted").await, format!("Pod resize started: {told}"));
    assert_eq!(
        world.until_event("resized", "ResizeCompleted").await,
        format!("Pod resize completed: {told}")
    );
    let (_, metrics) = world.kubelet("/metrics/resource").await;
    assert!(metrics.contains(
        "container_cpu_usage_seconds_total{container=\"main\",namespace=\"default\",pod=\"resized\"}"
    ));
    assert!(metrics.contains("\nnode_memory_working_set_bytes "));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_node_cannot_give_is_infeasible_or_deferred_until_there_is_room() {
    let mut world = TestWorld::start().await;
    if world.lacks("limits") {
        return;
    }
    let cpus = std::thread::available_parallelism().unwrap().get();
    let all = cpus.to_string();
    world.create::<Pod>(sleeping("wishful", json!({"resources": {"requests": {"cpu": "100m"}}}))).await;
    world.create::<Pod>(sleeping("other", json!({"resources": {"requests": {"cpu": "500m"}}}))).await;
    world.until_ready("other", 1).await;
    world.until_ready("wishful", 1).await;

    world.resize("wishful", json!({"resources": {"requests": {"cpu": "1000"}}})).await;
    let refused = world.until_pending("wishful", "Infeasible").await;
    let conditions = refused.status.clone().unwrap().conditions.unwrap();
    let pending = conditions.iter().find(|c| c.type_ == "PodResizePending").unwrap();
    let expected =
        format!("Node didn't have enough capacity: cpu, requested: 1000000, capacity: {}", cpus * 1000);
    assert_eq!(pending.message.as_ref(), Some(&expected));
    assert_eq!(pending.observed_generation, Some(2));
    assert_eq!(container(&refused).allocated_resources.unwrap()["cpu"].0, "100m", "it keeps what it has");
    let told = world.until_event("wishful", "ResizeInfeasible").await;
    assert!(told.starts_with("Pod resize Infeasible: {") && told.contains(&expected), "{told}");

    world.resize("wishful", json!({"resources": {"requests": {"cpu": all}}})).await;
    let deferred = world.until_pending("wishful", "Deferred").await;
    let conditions = deferred.status.clone().unwrap().conditions.unwrap();
    let pending = conditions.iter().find(|c| c.type_ == "PodResizePending").unwrap();
    let expected = format!(
        "Node didn't have enough resource: cpu, requested: {0}, used: 500, capacity: {0}",
        cpus * 1000
    );
    assert_eq!(pending.message.as_ref(), Some(&expected));

    world.api::<Pod>().delete("other", &DeleteParams::default()).await.unwrap();
    let granted = |pod: &Pod| {
        condition(pod, "PodResizePending").is_none()
            && container(pod).allocated_resources.is_some_and(|amounts| amounts["cpu"].0 == all)
    };
    let granted = world.until_some("wishful", "granted", granted).await;
    assert_eq!(container(&granted).restart_count, 0);
    world.until_event("wishful", "ResizeCompleted").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resize_policy_may_want_a_restart() {
    let mut world = TestWorld::start().await;
    if world.lacks("limits") {
        return;
    }
    let mut object = sleeping("restarted", resources(["50m", "100m"], ["32Mi", "64Mi"]));
    object["spec"]["containers"][0]["resizePolicy"] =
        json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    world.create::<Pod>(object).await;
    world.until_ready("restarted", 1).await;
    world.resize("restarted", resources(["50m", "200m"], ["32Mi", "64Mi"])).await;
    let same = world.until_resized("restarted", "200m").await;
    assert_eq!(container(&same).restart_count, 0, "CPU needs none");
    world.resize("restarted", resources(["50m", "300m"], ["32Mi", "96Mi"])).await;
    let restarted = world.until_resized("restarted", "300m").await;
    assert_eq!(container(&restarted).restart_count, 1);
    let memory = limit_file(&restarted, 1, "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory.as_deref(), Some("100663296"));
    assert_eq!(world.until_event("restarted", "Killing").await, "Container main resize requires restart");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_limit_below_what_is_in_use_waits() {
    let mut world = TestWorld::start().await;
    if world.lacks("limits") {
        return;
    }
    let mut object =
        pod("full", json!({"image": "test/holder", "readinessProbe": {"exec": {"command": ["true"]}}}));
    let given = resources(["50m", "100m"], ["128Mi", "128Mi"]);
    json_patch::merge(&mut object["spec"]["containers"][0], &given);
    world.create::<Pod>(object).await;
    let full = &world.until_ready("full", 1).await[0];
    let in_use = |pod: &Pod| limit_file(pod, 0, "memory.usage_in_bytes", "memory.current");
    while in_use(full).unwrap().parse::<u64>().unwrap() < 64 << 20 {
        tokio::task::yield_now().await;
    }
    world.resize("full", resources(["50m", "100m"], ["32Mi", "32Mi"])).await;
    let error = Some(("True".to_owned(), "Error".to_owned()));
    let failing = |pod: &Pod| condition(pod, "PodResizeInProgress") == error;
    let failed = world.until_some("full", "failing", failing).await;
    let conditions = failed.status.clone().unwrap().conditions.unwrap();
    let message = conditions.into_iter().find(|c| c.type_ == "PodResizeInProgress").unwrap().message.unwrap();
    assert!(
        message.starts_with("cannot decrease memory limits: [attempting to set pod memory limit (33554432) below current usage (")
            && message.contains("attempting to set container \"main\" memory limit (33554432) below current usage ("),
        "{message}"
    );
    let memory = limit_file(&failed, 0, "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory.as_deref(), Some("134217728"), "it still has what it had");
    assert!(world.until_event("full", "ResizeError").await.contains("below current usage"));
    world.resize("full", resources(["50m", "200m"], ["96Mi", "96Mi"])).await;
    let resized = world.until_resized("full", "200m").await;
    assert_eq!(container(&resized).restart_count, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_gives_a_pod_what_it_was_granted() {
    let mut world = TestWorld::start().await;
    if world.lacks("limits") {
        return;
    }
    world.create::<Pod>(sleeping("lasting", resources(["50m", "100m"], ["32Mi", "64Mi"]))).await;
    world.until_ready("lasting", 1).await;
    world.resize("lasting", resources(["1000", "1000"], ["32Mi", "64Mi"])).await;
    world.until_pending("lasting", "Infeasible").await;
    world.end().await;
    world.begin().await;
    let again = world.until_some("lasting", "restarted", |pod: &Pod| container(pod).restart_count == 1);
    let again = again.await;
    let back = world.until_ready("lasting", 1).await;
    assert_eq!(container(&back[0]).resources.unwrap().limits.unwrap()["cpu"].0, "100m", "{again:?}");
    assert!(condition(&back[0], "PodResizePending").is_some());
    world.end().await;
}
