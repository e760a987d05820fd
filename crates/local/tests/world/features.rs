//! Features of pods and Jobs that manifests use: each does what it does in a cluster.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::harness::{TestWorld, condition, container, deployment, pod};

/// A pod that runs once.
fn once(name: &str, container: Value, spec: Value) -> Value {
    let mut object = pod(name, container);
    object["spec"]["restartPolicy"] = json!("Never");
    object["spec"]["terminationGracePeriodSeconds"] = json!(1);
    json_patch::merge(&mut object["spec"], &spec);
    object
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

impl TestWorld {
    /// What a pod's container `main` has printed, once the pod is over.
    async fn output(&self, name: &str) -> String {
        self.until_some::<Pod>(name, "over", is_over).await;
        self.kubelet(&format!("/containerLogs/default/{name}/main")).await.1
    }

    async fn job_pods(&self, job: &str) -> Vec<Pod> {
        let params = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        self.api::<Pod>().list(&params).await.unwrap().items
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_starts_first_and_ends_last() {
    let mut world = TestWorld::start().await;
    if world.lacks("namespaces") {
        return;
    }
    let shared = json!([{"name": "shared", "mountPath": "/flyball-test-shared"}]);
    let up = "touch /flyball-test-shared/up";
    let sidecar = json!({"name": "proxy", "image": "test/shell", "restartPolicy": "Always", "volumeMounts": shared,
        "args": ["-c", format!("trap 'echo closed; exit 0' TERM; sleep 0.3; {up}; while :; do sleep 0.05; done")],
        "startupProbe": {"exec": {"command": ["test", "-e", "/flyball-test-shared/up"]}, "periodSeconds": 1}});
    let after = json!({"name": "after", "image": "test/shell", "volumeMounts": shared,
        "args": ["-c", "test -e /flyball-test-shared/up"]});
    let spec = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
        "initContainers": [sidecar, after], "volumes": [{"name": "shared", "emptyDir": {}}],
        "containers": [{"name": "main", "image": "test/shell", "args": ["-c", "test -e /flyball-test-shared/up"],
            "volumeMounts": shared}]});
    // it does not keep a Job from completing
    world
        .create::<Job>(
            json!({"metadata": {"name": "beside"}, "spec": {"backoffLimit": 0, "template": {"spec": spec}}}),
        )
        .await;
    let done = |job: &Job| job.status.as_ref().is_some_and(|s| s.completion_time.is_some());
    world.until_some("beside", "complete", done).await;
    let pod = world.job_pods("beside").await.remove(0);
    assert_eq!(phase(&pod), "Succeeded");
    let path = format!("/containerLogs/default/{}/proxy", pod.name_any());
    assert_eq!(world.kubelet(&path).await.1, "closed\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_get_what_they_ask_for() {
    let mut world = TestWorld::start().await;
    if world.lacks("namespaces") {
        return;
    }
    let data = json!({"metadata": {"name": "settings"}, "data": {"A": "1", "file.txt": "hello"}});
    world.create::<ConfigMap>(data).await;
    let volumes = json!({"volumes": [{"name": "c", "configMap": {"name": "settings"}}, {"name": "e", "emptyDir": {}}],
        "hostAliases": [{"ip": "127.0.0.9", "hostnames": ["alias.test"]}]});
    let script = "while ! test -e /flyball-test-e/hook; do sleep 0.05; done; cat /flyball-test-e/hook; \
        echo A=$A B=$B; cat /flyball-test-sub/f.txt; echo; getent hosts alias.test";
    let main = json!({"args": ["-c", script],
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"configMapRef": {"name": "none", "optional": true}}],
        "env": [{"name": "B", "value": "$(A)2"}],
        "volumeMounts": [{"name": "c", "mountPath": "/flyball-test-sub/f.txt", "subPath": "file.txt"},
            {"name": "e", "mountPath": "/flyball-test-e"}],
        "lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "echo hook $A > /flyball-test-e/hook"]}}}});
    world.create::<Pod>(once("asking", main, volumes)).await;
    let own = json!({"args": ["-c", "id -u; id -g; id -G; touch /flyball-test-e/mine && echo written; grep CapBnd /proc/self/status"],
        "volumeMounts": [{"name": "e", "mountPath": "/flyball-test-e"}]});
    let as_user = json!({"securityContext": {"runAsUser": 1000, "fsGroup": 2000},
        "volumes": [{"name": "e", "emptyDir": {}}]});
    world.create::<Pod>(once("as-user", own, as_user)).await;
    world
        .create::<Pod>(once(
            "late",
            json!({"args": ["-c", "exec sleep 1000"]}),
            json!({"activeDeadlineSeconds": 1}),
        ))
        .await;
    world
        .create::<Pod>(once("gated", json!({}), json!({"schedulingGates": [{"name": "ex.test/hold"}]})))
        .await;

    assert_eq!(world.output("asking").await, "hook 1\nA=1 B=12\nhello\n127.0.0.9       alias.test\n");
    let seen = world.output("as-user").await;
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..4], ["1000", "0", "0 2000", "written"], "{seen}");
    assert_eq!(lines[4], "CapBnd:\t00000000a00425fb", "a container's in a cluster, but for MKNOD");
    let late = world.until_some::<Pod>("late", "over", is_over).await;
    assert_eq!(
        (phase(&late), late.status.as_ref().and_then(|s| s.reason.as_deref())),
        ("Failed", Some("DeadlineExceeded"))
    );
    let gated =
        |pod: &Pod| condition(pod, "PodScheduled") == Some(("False".into(), "SchedulingGated".into()));
    world.until_some("gated", "gated", gated).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_sees_nothing_of_the_node_but_its_own_volumes() {
    let mut world = TestWorld::start().await;
    if world.lacks("namespaces") {
        return;
    }
    let secret = json!({"metadata": {"name": "other"}, "data": {"token": "secret"}});
    world.create::<ConfigMap>(secret).await;
    let folder = world.folder().display().to_string();
    let holds = json!({"volumes": [{"name": "c", "configMap": {"name": "other"}}]});
    let mounted = json!({"args": ["-c", "exec sleep 1000"], "volumeMounts": [{"name": "c", "mountPath": "/flyball-test-c"}]});
    let mut holder = once("holder", mounted, holds.clone());
    holder["metadata"]["labels"]["app"] = json!("holder");
    world.create::<Pod>(holder).await;
    world.until_ready("holder", 1).await;
    let script = format!(
        "ls -A {folder}/pods {folder}/logs | grep -v :; cat {folder}/pods/*/volumes/c/token; umount {folder}/pods; \
         touch {folder}/pods/x; ls /proc | grep -c '^[0-9]'; cat /flyball-test-c/token; echo; exit 0"
    );
    let curious =
        json!({"args": ["-c", script], "volumeMounts": [{"name": "c", "mountPath": "/flyball-test-c"}]});
    world.create::<Pod>(once("curious", curious, holds)).await;
    let seen = world.output("curious").await;
    assert_eq!(seen.matches("secret").count(), 1, "its own volume: {seen}");
    for refusal in ["cat: ", "umount: ", "touch: "] {
        assert!(seen.contains(refusal), "{refusal} in {seen}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_config_map_reaches_the_pods_that_show_it() {
    let mut world = TestWorld::start().await;
    if world.lacks("namespaces") {
        return;
    }
    world.create::<ConfigMap>(json!({"metadata": {"name": "mode"}, "data": {"mode": "slow"}})).await;
    let script =
        "while ! grep -q fast /flyball-test-mode/mode; do sleep 0.05; done; cat /flyball-test-mode/mode";
    let main =
        json!({"args": ["-c", script], "volumeMounts": [{"name": "c", "mountPath": "/flyball-test-mode"}]});
    let volumes = json!({"volumes": [{"name": "c", "configMap": {"name": "mode"}}]});
    world.create::<Pod>(once("reader", main, volumes)).await;
    world.until_some::<Pod>("reader", "running", |pod| phase(pod) == "Running").await;
    world.patch::<ConfigMap>("mode", json!({"data": {"mode": "fast"}})).await;
    assert_eq!(world.output("reader").await, "fast\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_has_a_restart_policy_of_its_own() {
    let mut world = TestWorld::start().await;
    let restarts = json!({"args": ["-c", "exit 3"], "restartPolicy": "Always"});
    world.create::<Pod>(once("again", restarts, json!({}))).await;
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let ends = json!({"args": ["-c", "exit 1"], "restartPolicy": "Never", "restartPolicyRules": rules});
    world.create::<Pod>(once("ends", ends, json!({"restartPolicy": "Always"}))).await;
    let restarted = |pod: &Pod| phase(pod) == "Running" && container(pod).restart_count > 0;
    world.until_some("again", "restarted", restarted).await;
    let ended = world.until_some::<Pod>("ends", "over", is_over).await;
    assert_eq!((phase(&ended), container(&ended).restart_count), ("Failed", 0));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_true_by_time_alone_needs_no_event() {
    let mut world = TestWorld::start().await;
    let set = json!({"metadata": {"name": "slow"}, "spec": {"serviceName": "slow", "replicas": 2, "minReadySeconds": 1,
        "selector": {"matchLabels": {"app": "slow"}}, "template": {"metadata": {"labels": {"app": "slow"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "main", "image": "test/shell", "args": ["-c", "exec sleep 1000"]}]}}}});
    world.create::<StatefulSet>(set).await;
    let mut waiting = deployment("waiting", 1);
    waiting["spec"]["minReadySeconds"] = json!(1);
    world.create::<k8s_openapi::api::apps::v1::Deployment>(waiting).await;
    let available = |set: &StatefulSet| set.status.as_ref().is_some_and(|s| s.available_replicas == Some(2));
    world.until_some("slow", "available", available).await;
    let available = |d: &k8s_openapi::api::apps::v1::Deployment| {
        d.status.as_ref().is_some_and(|s| s.available_replicas == Some(1))
    };
    world.until_some("waiting", "available", available).await;
    world.end().await;
}

/// One Job for each feature, side by side.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_do_what_their_fields_say() {
    let mut world = TestWorld::start().await;
    let job = |name: &str, script: &str, spec: Value, pod_spec: Value| {
        let mut whole = json!({"metadata": {"name": name}, "spec": {"template": {"spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "m", "image": "test/shell", "args": ["-c", script]}]}}}});
        json_patch::merge(&mut whole["spec"], &spec);
        json_patch::merge(&mut whole["spec"]["template"]["spec"], &pod_spec);
        whole
    };
    let policy = json!({"rules": [{"action": "FailJob",
        "onExitCodes": {"containerName": "m", "operator": "In", "values": [42]}}]});
    for (name, script, spec, pod_spec) in [
        ("dead", "exec sleep 1000", json!({"activeDeadlineSeconds": 1}), json!({})),
        ("ttl", "exit 0", json!({"ttlSecondsAfterFinished": 1}), json!({})),
        ("susp", "exit 0", json!({"suspend": true}), json!({})),
        (
            "idx",
            "echo $JOB_COMPLETION_INDEX $HOSTNAME",
            json!({"completions": 3, "parallelism": 2, "completionMode": "Indexed"}),
            json!({}),
        ),
        ("pfp", "exit 42", json!({"backoffLimit": 6, "podFailurePolicy": policy}), json!({})),
        ("onf", "exit 1", json!({"backoffLimit": 1}), json!({"restartPolicy": "OnFailure"})),
    ] {
        world.create::<Job>(job(name, script, spec, pod_spec)).await;
    }
    let outcome = |job: &Job| -> Option<String> {
        let conditions = job.status.as_ref()?.conditions.as_ref()?;
        let end = conditions
            .iter()
            .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
        end.reason.clone()
    };
    for (name, reason) in [
        ("dead", "DeadlineExceeded"),
        ("idx", "CompletionsReached"),
        ("pfp", "PodFailurePolicy"),
        ("onf", "BackoffLimitExceeded"),
    ] {
        let ended = world.until_some(name, "over", |job| outcome(job).is_some()).await;
        assert_eq!(outcome(&ended).as_deref(), Some(reason), "{name}");
        let status = ended.status.unwrap();
        assert_eq!((status.active, status.terminating.unwrap_or(0)), (None, 0), "{name}: {status:?}");
        if name == "idx" {
            assert_eq!((status.succeeded, status.completed_indexes.as_deref()), (Some(3), Some("0-2")));
        }
    }
    let mut printed = Vec::new();
    for pod in world.job_pods("idx").await {
        printed.push(world.kubelet(&format!("/containerLogs/default/{}/m", pod.name_any())).await.1);
    }
    printed.sort();
    assert_eq!(printed, ["0 idx-0\n", "1 idx-1\n", "2 idx-2\n"]);
    world.until_gone::<Job>("ttl").await;

    let suspended = |job: &Job, value: &str| {
        let conditions = job.status.iter().flat_map(|s| s.conditions.iter().flatten());
        conditions.into_iter().any(|c| c.type_ == "Suspended" && c.status == value)
    };
    world.until_some("susp", "suspended", |job| suspended(job, "True")).await;
    assert!(world.job_pods("susp").await.is_empty());
    world.patch::<Job>("susp", json!({"spec": {"suspend": false}})).await;
    let resumed = world.until_some("susp", "complete", |job| outcome(job).is_some()).await;
    assert!(suspended(&resumed, "False"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn managed_fields_name_who_wrote() {
    let mut world = TestWorld::start().await;
    world.create::<k8s_openapi::api::apps::v1::Deployment>(deployment("named", 1)).await;
    let pod = world.until_ready("named", 1).await.remove(0);
    let entries = pod.managed_fields().iter();
    let of_pod: Vec<(String, String)> = entries
        .map(|e| (e.manager.clone().unwrap_or_default(), e.subresource.clone().unwrap_or_default()))
        .collect();
    let has =
        |manager: &str, subresource: &str| of_pod.contains(&(manager.to_owned(), subresource.to_owned()));
    assert!(has("kube-controller-manager", "") && has("kubelet", "status"), "{of_pod:?}");
    assert!(!of_pod.iter().any(|(manager, _)| manager == "unknown"), "{of_pod:?}");
    world.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    world.end().await;
}
