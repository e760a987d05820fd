//! Single pods: what runs in them and what is said of them.

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::harness::{PROGRAM, TestWorld, condition, container, pod};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_to_its_end_and_its_log_can_be_read() {
    let mut world = TestWorld::start().await;
    let script = "echo $GREETING from $POD_NAME; echo problem >&2; exit 0";
    let mut object = pod(
        "once",
        json!({"args": ["-c", script], "env": [
        {"name": "GREETING", "value": "hello"},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
    );
    object["spec"]["restartPolicy"] = json!("Never");
    world.create::<Pod>(object).await;
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.clone());
    let done: Pod =
        world.until_some("once", "Succeeded", |pod| phase(pod).as_deref() == Some("Succeeded")).await;
    let end = container(&done).state.unwrap().terminated.unwrap();
    assert_eq!((end.exit_code, end.reason.as_deref()), (0, Some("Completed")));
    assert_eq!(condition(&done, "Ready"), Some(("False".into(), "PodCompleted".into())));
    let (status, log) = world.kubelet("/containerLogs/default/once/main").await;
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!((status.as_u16(), lines), (200, vec!["hello from once", "problem"]));
    let (status, problem) = world.kubelet("/containerLogs/default/once/nobody").await;
    assert_eq!((status.as_u16(), problem.as_str()), (400, "container nobody is not valid for pod once"));
    for reason in ["Scheduled", "Pulled", "Created", "Started"] {
        world.until_event("once", reason).await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_see_their_own_processes_network_and_volumes() {
    let mut world = TestWorld::start().await;
    if world.lacks("namespaces") {
        return;
    }
    let data = json!({"metadata": {"name": "settings"}, "data": {"mode": "fast"}});
    world.create::<ConfigMap>(data).await;
    // the mount point does not exist on this machine, and must not be made on it
    let script = "echo pid $$$$; cat /flyball-test-settings/mode; echo; echo x > /flyball-test-scratch/y; ls /flyball-test-scratch; \
                  touch /flyball-test-settings/no || echo read-only; cat /proc/net/dev | tail -n +3 | wc -l";
    let mut object = pod(
        "inside",
        json!({"args": ["-c", script], "volumeMounts": [
        {"name": "settings", "mountPath": "/flyball-test-settings", "readOnly": true},
        {"name": "scratch", "mountPath": "/flyball-test-scratch"}]}),
    );
    object["spec"]["restartPolicy"] = json!("Never");
    object["spec"]["volumes"] = json!([
        {"name": "settings", "configMap": {"name": "settings"}}, {"name": "scratch", "emptyDir": {}}]);
    world.create::<Pod>(object).await;
    let ended = |pod: &Pod| {
        pod.status.as_ref().is_some_and(|s| matches!(s.phase.as_deref(), Some("Succeeded" | "Failed")))
    };
    world.until_some::<Pod>("inside", "over", ended).await;
    let (_, log) = world.kubelet("/containerLogs/default/inside/main").await;
    for line in ["pid 1", "fast", "y", "read-only", "1"] {
        assert!(log.lines().any(|l| l == line), "{line} in {log}");
    }
    assert!(!std::path::Path::new("/flyball-test-scratch").exists());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_come_first_and_probes_decide_readiness() {
    let mut world = TestWorld::start().await;
    if world.lacks("namespaces") {
        return;
    }
    let mut object = pod(
        "probed",
        json!({"image": "test/server", "command": [PROGRAM], "args": ["serve", "8000"],
        "startupProbe": {"tcpSocket": {"port": 8000}},
        "readinessProbe": {"exec": {"command": ["sh", "-c", "test -e /flyball-test-gate/open"]}, "periodSeconds": 1},
        "volumeMounts": [{"name": "gate", "mountPath": "/flyball-test-gate"}]}),
    );
    object["spec"]["volumes"] = json!([{"name": "gate", "emptyDir": {}}]);
    object["spec"]["initContainers"] = json!([{"name": "first", "image": "test/shell",
        "args": ["-c", "touch /flyball-test-gate/open"],
        "volumeMounts": [{"name": "gate", "mountPath": "/flyball-test-gate"}]}]);
    world.create::<Pod>(object).await;
    world.until_ready("probed", 1).await;
    world.api::<Pod>().delete("probed", &DeleteParams::default()).await.unwrap();
    world.until_gone::<Pod>("probed").await;
    let killing = world.until_event("probed", "Killing").await;
    assert_eq!(killing, "Stopping container main");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_liveness_probe_restarts_the_container() {
    let mut world = TestWorld::start().await;
    let object = pod(
        "sick",
        json!({"args": ["-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"],
        "livenessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}}),
    );
    world.create::<Pod>(object).await;
    let restarted: Pod = world
        .until_some("sick", "restarted", |pod: &Pod| {
            pod.status
                .as_ref()
                .is_some_and(|s| s.container_statuses.as_ref().is_some_and(|c| c[0].restart_count > 0))
        })
        .await;
    assert!(container(&restarted).last_state.unwrap().terminated.is_some());
    assert_eq!(
        world.until_event("sick", "Killing").await,
        "Container main failed liveness probe, will be restarted"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_says_what_it_has() {
    let mut world = TestWorld::start().await;
    let node = Api::<Node>::all(world.client.clone()).get("flyball").await.unwrap();
    let status = node.status.unwrap();
    assert_eq!(status.capacity.as_ref().unwrap()["pods"].0, "110");
    let ready = status.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(ready.status, "True");
    world.end().await;
}
