//! VerticalPodAutoscalers and pods as the vertical rules see them, and what they say back.

use flyball_api::kinds::vertical_pod_autoscaler::VerticalPodAutoscaler;
use flyball_api::vertical::admission::{Controller, in_charge, pod_patch, vpa_patch};
use flyball_api::vertical::limit_ranges::limit_ranges;
use flyball_api::vertical::policy::policy;
use flyball_api::vertical::status::{Findings, recommended, status};
use flyball_api::vertical::{pod, resource_list, resources};
use flyball_engine::Name;
use flyball_engine::vertical::{
    ContainerRecommendation, ContainerState, Resizing, Resource, Resources, UpdateMode, VerticalRules,
};
use k8s_openapi::api::core::v1::{ContainerStatus, LimitRange, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn parse<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("the object is of its kind")
}

fn vpa(name: &str, spec: Value) -> VerticalPodAutoscaler {
    let mut whole = json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "model"}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    parse(json!({"apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler",
        "metadata": {"name": name, "namespace": "default", "generation": 3}, "spec": whole}))
}

#[test]
fn a_policy_is_what_the_object_says_and_vpas_defaults_elsewhere() {
    let plain = policy(&vpa("plain", json!({})));
    assert_eq!(plain.mode, UpdateMode::Recreate);
    assert_eq!(plain.container(&"any".into()).controlled, Resource::ALL);
    let full = policy(&vpa(
        "full",
        json!({
            "updatePolicy": {"updateMode": "Auto", "minReplicas": 3, "evictAfterOOMSeconds": 60,
                "evictionRequirements": [{"resources": ["cpu", "memory"], "changeRequirement": "TargetHigherThanRequests"}]},
            "resourcePolicy": {"containerPolicies": [
                {"containerName": "*", "minAllowed": {"cpu": "50m", "memory": "64Mi"}, "controlledResources": ["memory"]},
                {"containerName": "side", "mode": "Off", "oomBumpUpRatio": "1.5", "controlledValues": "RequestsOnly"}]},
        }),
    ));
    assert_eq!((full.mode, full.min_replicas), (UpdateMode::InPlaceOrRecreate, Some(3)));
    assert_eq!(full.eviction_requirements[0].resources, Resource::ALL);
    let other = full.container(&"main".into());
    assert_eq!(other.min_allowed, Resources::new(Some(50), Some(64 << 20)));
    assert_eq!(other.controlled, [Resource::Memory]);
    let side = full.container(&"side".into());
    assert!(side.off);
    assert_eq!(side.memory.oom_bump_up_ratio, Some(1.5));
}

#[test]
fn a_pod_is_what_its_status_says_is_in_force() {
    let pod: Pod = parse(json!({"metadata": {"name": "p", "annotations": {"vpaObservedContainers": "main",
            "vpaCpuStartupBoost/main": "{\"requests\":{\"cpu\":\"50m\"},\"limits\":{}}"}},
        "spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "200m"}},
            "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]}]},
        "status": {"phase": "Running", "conditions": [{"type": "PodResizePending", "status": "True",
                "reason": "Deferred", "lastTransitionTime": "2026-01-01T00:00:10Z"}],
            "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 1,
                "resources": {"requests": {"cpu": "100m"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled",
                    "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:05Z"}}}]}}));
    let facts = pod::facts(&pod);
    let main = &facts.containers[0];
    assert_eq!(main.resources().requests.cpu_millis, Some(100));
    assert!(main.restarts_on_resize);
    let end = main.last_termination.expect("it ended before");
    assert_eq!((end.oom_killed, end.ran_for.as_secs()), (true, 5));
    assert_eq!(facts.resize.expect("a resize is under way").state, Resizing::Deferred);
    assert_eq!(facts.observed, Some(vec![Name::from("main")]));
    assert_eq!(facts.boosted[0].original.requests.cpu_millis, Some(50));
}

#[test]
fn a_kill_that_nobody_saw_happen_still_counts_as_one() {
    let facts =
        pod::facts(&parse(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "main"}]}})));
    let check = |state: Value, restarts: i32, last_restarts: u32, expected: ContainerState| {
        let status: ContainerStatus =
            parse(json!({"name": "main", "image": "", "imageID": "", "ready": false,
            "restartCount": restarts, "state": state,
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}));
        assert_eq!(pod::look(&status, last_restarts, &facts.containers[0]).state, expected, "{status:?}");
    };
    let waiting = || json!({"waiting": {"reason": "CrashLoopBackOff"}});
    check(waiting(), 2, 1, ContainerState::Terminated { oom_killed: true });
    check(waiting(), 2, 2, ContainerState::Waiting);
    check(json!({"running": {}}), 2, 1, ContainerState::Running);
    check(json!({}), 0, 0, ContainerState::Unknown);
}

#[test]
fn several_limit_ranges_are_the_strictest_of_all() {
    let range =
        |limits: Value| -> LimitRange { parse(json!({"metadata": {}, "spec": {"limits": [limits]}})) };
    let merged = limit_ranges(&[
        range(json!({"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}})),
        range(json!({"type": "Container", "max": {"cpu": "1"}, "min": {"memory": "2Mi"}})),
        range(json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}})),
    ]);
    let container = merged.container.expect("there are some");
    assert_eq!((container.max.cpu_millis, container.min.memory_bytes), (Some(1000), Some(2 << 20)));
    assert_eq!(merged.pod, None);
}

fn recommendation() -> ContainerRecommendation {
    ContainerRecommendation {
        target: Resources::new(Some(126), Some(262_144_000)),
        lower_bound: Resources::new(Some(25), Some(262_144_000)),
        upper_bound: Resources::new(Some(100_000), Some(100_000_000_000_000)),
        uncapped_target: Resources::new(Some(126), Some(262_144_000)),
        ..ContainerRecommendation::new("main")
    }
}

#[test]
fn a_status_shows_what_is_recommended_and_can_be_read_back() {
    let mut object = vpa("model", json!({}));
    let all = [recommendation()];
    let found = Findings { recommended: &all, has_pods: true, unsupported: None };
    let time = |seconds| Time(jiff::Timestamp::from_second(seconds).expect("in range"));
    let first = status(&object, &found, time(10));
    let shown = serde_json::to_value(&first).expect("it is JSON");
    let target = &shown["recommendation"]["containerRecommendations"][0]["target"];
    assert_eq!(*target, json!({"cpu": "126m", "memory": "262144k"}));
    assert_eq!(shown["conditions"].as_array().map(Vec::len), Some(1));
    assert_eq!(shown["conditions"][0]["type"], "RecommendationProvided");
    assert_eq!(shown["conditions"][0]["status"], "True");
    assert_eq!(shown["observedGeneration"], 3);
    assert_eq!(recommended(Some(&first)), all);
    object.status = Some(first);
    let later = status(&object, &found, time(20));
    assert_eq!(Some(&later), object.status.as_ref(), "what does not change keeps its time");

    let nobody = Findings { unsupported: Some("Cannot read targetRef".into()), ..Findings::default() };
    let gone = status(&object, &nobody, time(30));
    let conditions: Vec<_> = gone
        .conditions
        .iter()
        .map(|c| (c.kind.as_str(), c.status.as_str(), c.reason.as_deref(), c.message.as_deref()))
        .collect();
    let no_pods = (Some("NoPodsMatched"), Some("No pods match this VPA object"));
    assert_eq!(
        conditions,
        [
            ("ConfigUnsupported", "True", None, Some("Cannot read targetRef")),
            ("NoPodsMatched", "True", no_pods.0, no_pods.1),
            ("RecommendationProvided", "False", no_pods.0, no_pods.1),
        ]
    );
    object.status = Some(gone);
    let back = status(&object, &found, time(40));
    assert_eq!(back.conditions.len(), 1, "what is over is not shown");
}

#[test]
fn a_new_pod_is_patched_by_the_oldest_that_sizes() {
    let pod: Pod = parse(json!({"metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "main", "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "100m"}}}]}}));
    let mut off = vpa("a", json!({"updatePolicy": {"updateMode": "Off"}}));
    let mut sizing = vpa("b", json!({"updatePolicy": {"updateMode": "Initial"}}));
    let all = [recommendation()];
    for object in [&mut off, &mut sizing] {
        let found = Findings { recommended: &all, has_pods: true, unsupported: None };
        object.status = Some(status(object, &found, Time(jiff::Timestamp::UNIX_EPOCH)));
    }
    let patch = pod_patch(&pod, &[off.clone(), sizing], &[], &VerticalRules::default()).expect("one sizes");
    let value = |path: &str| {
        let operations = patch.as_array().into_iter().flatten();
        operations.filter(|one| one["path"] == path).map(|one| one["value"].clone()).next()
    };
    assert_eq!(value("/spec/containers/0/resources/requests/cpu"), Some(json!("126m")));
    assert_eq!(value("/spec/containers/0/resources/limits/cpu"), Some(json!("252m")), "in proportion");
    assert_eq!(value("/metadata/annotations/vpaObservedContainers"), Some(json!("main")));
    let updates = value("/metadata/annotations/vpaUpdates").expect("it says what it did");
    assert!(
        updates.as_str().is_some_and(|text| text.starts_with("Pod resources updated by b: container 0: "))
    );
    assert_eq!(pod_patch(&pod, &[off], &[], &VerticalRules::default()), None);
    assert!(vpa_patch(&json!({"spec": {}})).is_some());
    assert_eq!(vpa_patch(&json!({"spec": {"updatePolicy": {"updateMode": "Off"}}})), None);
}

#[test]
fn the_topmost_controller_is_found_and_circles_end() {
    let owner = |kind: &str, name: &str| OwnerReference {
        api_version: "apps/v1".into(),
        kind: kind.into(),
        name: name.into(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    let set = Controller::of(&[owner("ReplicaSet", "model-1")]).expect("it is one");
    let above = |one: &Controller| match one.kind.as_str() {
        "ReplicaSet" => vec![owner("Deployment", "model")],
        _ => Vec::new(),
    };
    let deployment = Controller::targeted(&vpa("a", json!({})));
    assert_eq!(set.clone().topmost(|_| false, above), Some(deployment.clone()));
    // an operator's object counts if it can be scaled
    let operated = |one: &Controller| match one.kind.as_str() {
        "Deployment" => vec![owner("Model", "model")],
        _ => above(one),
    };
    assert_eq!(set.clone().topmost(|_| false, operated), Some(deployment));
    let top = set.clone().topmost(|one| one.kind == "Model", operated);
    assert_eq!(top.map(|top| top.kind).as_deref(), Some("Model"));
    let node = Controller::of(&[owner("Node", "n")]).expect("it is one");
    assert_eq!(node.topmost(|_| false, |_| Vec::new()), None);
    let _ = set.topmost(|_| false, |_| vec![owner("ReplicaSet", "model-1")]);
    let (a, b) = (vpa("b", json!({})), vpa("a", json!({})));
    assert_eq!(in_charge([&a, &b]).map(|one| one.metadata.name.as_deref()), Some(Some("a")));
}

proptest! {
    #[test]
    fn amounts_of_any_text_are_read_or_left_out(cpu in ".{0,12}", memory in "[-+]?[0-9]{1,30}[a-zA-Z]{0,2}") {
        let list = parse(json!({"cpu": cpu, "memory": memory}));
        let amounts = resources(&list);
        prop_assert_eq!(resources(&resource_list(&amounts)), amounts);
    }
}
