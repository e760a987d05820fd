//! Services: balancing, activation, and no request lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{HttpClient, TestWorld, deployment, service};

/// Clients that ask again and again over kept connections until told to stop; each answer but 200 counts as lost.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: JoinSet<Vec<String>>,
}

impl Load {
    fn start(address: &str, clients: usize) -> Self {
        let mut load = Load { stop: Arc::default(), answered: Arc::default(), clients: JoinSet::new() };
        for _ in 0..clients {
            let (stop, answered, address) =
                (Arc::clone(&load.stop), Arc::clone(&load.answered), address.to_owned());
            load.clients.spawn(async move {
                let mut lost = Vec::new();
                let mut client = HttpClient::connect(&address).await.unwrap();
                while !stop.load(Ordering::Relaxed) {
                    match client.get("/?milliseconds=5").await {
                        Ok((200, _)) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Ok((status, body)) => lost.push(format!("{status} {body}")),
                        Err(e) => {
                            lost.push(e.to_string());
                            client = HttpClient::connect(&address).await.unwrap();
                        }
                    }
                }
                lost
            });
        }
        load
    }

    async fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let lost = self.clients.join_all().await.concat();
        (self.answered.load(Ordering::Relaxed), lost)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_scaling_and_updating() {
    let mut world = TestWorld::start().await;
    if world.lacks("namespaces") {
        return;
    }
    world.create::<Service>(service("busy")).await;
    world.create::<Deployment>(deployment("busy", 1)).await;
    world.until_ready("busy", 1).await;
    let address = format!("{}:8080", world.cluster_ip("busy").await);
    let began = Instant::now();
    let load = Load::start(&address, 16);
    world.patch::<Deployment>("busy", json!({"spec": {"replicas": 5}})).await;
    world.until_ready("busy", 5).await;
    // connections that were there before reach all pods
    let mut seen = BTreeSet::new();
    let mut client = HttpClient::connect(&address).await.unwrap();
    while seen.len() < 5 {
        seen.insert(client.get("/").await.unwrap().1);
    }
    let update = json!({"spec": {"template": {"metadata": {"annotations": {"changed": "yes"}}}}});
    world.patch::<Deployment>("busy", update).await;
    world
        .until_some::<Deployment>("busy", "updated", |d| {
            d.status.as_ref().is_some_and(|s| {
                s.observed_generation == d.metadata.generation
                    && s.updated_replicas == Some(5)
                    && s.replicas == Some(5)
            })
        })
        .await;
    world.patch::<Deployment>("busy", json!({"spec": {"replicas": 1}})).await;
    world.until_ready("busy", 1).await;
    let (answered, lost) = load.stop().await;
    println!("{answered} requests answered in {:?}", began.elapsed());
    assert!(lost.is_empty(), "{} of {} lost: {:?}", lost.len(), answered, lost.first());
    let (_, metrics) = world.kubelet("/metrics").await;
    assert!(
        metrics
            .contains("flyball_service_requests_total{namespace=\"default\",service=\"busy\",code=\"200\"}"),
        "{metrics}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_the_first_pod() {
    let mut world = TestWorld::start().await;
    world.create::<Service>(service("idle")).await;
    world.create::<Deployment>(deployment("idle", 0)).await;
    let address = format!("{}:8080", world.cluster_ip("idle").await);
    let request = tokio::spawn(async move {
        let mut client = loop {
            match HttpClient::connect(&address).await {
                Ok(client) => break client,
                Err(_) => tokio::task::yield_now().await, // the listener is about to open
            }
        };
        client.get("/").await.unwrap()
    });
    // what an autoscaler sees
    loop {
        let (_, metrics) = world.kubelet("/metrics").await;
        if metrics.contains("flyball_service_requests_waiting{namespace=\"default\",service=\"idle\"} 1") {
            break;
        }
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    world.patch::<Deployment>("idle", json!({"spec": {"replicas": 1}})).await;
    let (status, body) = request.await.unwrap();
    println!("answered {:?} after the scale-up", began.elapsed());
    assert_eq!(status, 200, "{body}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_pass_and_pods_are_reached_at_their_address() {
    let mut world = TestWorld::start().await;
    world.create::<Service>(service("direct")).await;
    world.create::<Deployment>(deployment("direct", 1)).await;
    let pods = world.until_ready("direct", 1).await;
    let ip = pods[0].status.as_ref().unwrap().pod_ip.clone().unwrap();
    let mut client = HttpClient::connect(&format!("{ip}:8000")).await.unwrap();
    assert_eq!(client.get("/").await.unwrap().0, 200);
    world.end().await;
}
