//! Deployments, StatefulSets and Jobs, as users watch them.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use std::time::Instant;

use crate::harness::{TestWorld, deployment};

fn is_rolled_out(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.replicas;
    deployment.status.as_ref().is_some_and(|s| {
        s.observed_generation == deployment.metadata.generation
            && s.updated_replicas == wanted
            && s.replicas == wanted
            && s.available_replicas == wanted
    })
}

fn reason(deployment: &Deployment, kind: &str) -> Option<String> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_.as_deref() == Some(kind))?.reason.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_rolled_out_scaled_updated_undone_and_deleted() {
    let mut world = TestWorld::start().await;
    let began = Instant::now();
    world.create::<Deployment>(deployment("web", 3)).await;
    world.until_ready("web", 3).await;
    println!("three pods ready after {:?}", began.elapsed());
    let done = world.until_some("web", "rolled out", is_rolled_out).await;
    assert_eq!(done.annotations()["deployment.kubernetes.io/revision"], "1");
    assert_eq!(reason(&done, "Available").as_deref(), Some("MinimumReplicasAvailable"));
    let progressed = |d: &Deployment| reason(d, "Progressing").as_deref() == Some("NewReplicaSetAvailable");
    world.until_some("web", "progressed", progressed).await;

    world.patch::<Deployment>("web", json!({"spec": {"replicas": 1}})).await;
    world.until_ready("web", 1).await;
    let events = world.events("web").await;
    let sets = world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    let scaled = format!("Scaled up replica set {} from 0 to 3", sets[0].name_any());
    assert!(events.contains(&("ScalingReplicaSet".to_owned(), scaled)), "{events:?}");

    let update = json!({"spec": {"template": {"spec": {"containers": [{
        "name": "server", "image": "test/server:v2", "ports": [{"containerPort": 8000}]}]}}}});
    world.patch::<Deployment>("web", update).await;
    let second =
        |d: &Deployment| is_rolled_out(d) && d.annotations()["deployment.kubernetes.io/revision"] == "2";
    world.until_some("web", "updated", second).await;
    assert_eq!(
        world.until_ready("web", 1).await[0].spec.as_ref().unwrap().containers[0].image.as_deref(),
        Some("test/server:v2")
    );

    let note = json!({"metadata": {"annotations": {"kubernetes.io/change-cause": "the second"}}});
    world.patch::<Deployment>("web", note).await;
    let set = format!("web-{}", world.until_ready("web", 1).await[0].labels()["pod-template-hash"]);
    let is_noted = |set: &ReplicaSet| {
        set.annotations().get("kubernetes.io/change-cause").is_some_and(|cause| cause == "the second")
    };
    world.until_some(&set, "noted", is_noted).await;

    // what `kubectl rollout undo` does
    let old = deployment("web", 1);
    world.patch::<Deployment>("web", json!({"spec": {"template": old["spec"]["template"]}})).await;
    let third =
        |d: &Deployment| is_rolled_out(d) && d.annotations()["deployment.kubernetes.io/revision"] == "3";
    world.until_some("web", "undone", third).await;
    let sets = world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(sets.len(), 2, "the old set is used again");

    world.api::<Deployment>().delete("web", &DeleteParams::background()).await.unwrap();
    for set in sets {
        world.until_gone::<ReplicaSet>(&set.name_any()).await;
    }
    world.until_ready("web", 0).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recreate_stops_the_old_before_it_starts_the_new() {
    let mut world = TestWorld::start().await;
    let mut object = deployment("once", 2);
    object["spec"]["strategy"] = json!({"type": "Recreate"});
    world.create::<Deployment>(object).await;
    world.until_ready("once", 2).await;
    let update = json!({"spec": {"template": {"metadata": {"annotations": {"changed": "yes"}}}}});
    world.patch::<Deployment>("once", update).await;
    let second =
        |d: &Deployment| is_rolled_out(d) && d.annotations()["deployment.kubernetes.io/revision"] == "2";
    world.until_some("once", "updated", second).await;
    for pod in world.until_ready("once", 2).await {
        assert_eq!(pod.annotations()["changed"], "yes");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_makes_its_pods_in_order() {
    let mut world = TestWorld::start().await;
    world
        .create::<StatefulSet>(json!({"metadata": {"name": "db"}, "spec": {
            "serviceName": "db", "replicas": 3, "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [
                {"name": "server", "image": "test/server", "ports": [{"containerPort": 8000}]}]}}}}))
        .await;
    let pods = world.until_ready("db", 3).await;
    let mut created: Vec<_> = pods.iter().map(|p| (p.creation_timestamp(), p.name_any())).collect();
    created.sort_by(|a, b| a.1.cmp(&b.1));
    let names: Vec<_> = created.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["db-0", "db-1", "db-2"]);
    assert!(created.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{created:?}");
    world.patch::<StatefulSet>("db", json!({"spec": {"replicas": 1}})).await;
    let left = world.until_ready("db", 1).await;
    assert_eq!(left[0].name_any(), "db-0");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_complete_or_fail() {
    let mut world = TestWorld::start().await;
    let job = |name: &str, script: &str, completions: i32| {
        json!({"metadata": {"name": name}, "spec": {"completions": completions, "parallelism": 2, "backoffLimit": 0,
            "template": {"spec": {"restartPolicy": "Never", "containers": [
                {"name": "main", "image": "test/shell", "args": ["-c", script]}]}}}})
    };
    world.create::<Job>(job("good", "exit 0", 3)).await;
    world.create::<Job>(job("bad", "exit 7", 1)).await;
    let has = |job: &Job, kind: &str| {
        job.status
            .as_ref()
            .is_some_and(|s| s.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True"))
    };
    let good = world.until_some("good", "complete", |job| has(job, "Complete")).await;
    assert_eq!(good.status.unwrap().succeeded, Some(3));
    let bad = world.until_some("bad", "failed", |job| has(job, "Failed")).await;
    let reason =
        bad.status.unwrap().conditions.unwrap().into_iter().find(|c| c.type_ == "Failed").unwrap().reason;
    assert_eq!(reason.as_deref(), Some("BackoffLimitExceeded"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_is_replaced() {
    let mut world = TestWorld::start().await;
    world.create::<Deployment>(deployment("steady", 1)).await;
    let first = world.until_ready("steady", 1).await[0].name_any();
    world.api::<Pod>().delete(&first, &DeleteParams::default()).await.unwrap();
    world.until_gone::<Pod>(&first).await;
    assert_ne!(world.until_ready("steady", 1).await[0].name_any(), first);
    world.end().await;
}
