//! A thousand VerticalPodAutoscalers with five pods each, over the embedded API server in process: how long a round of
//! recommender and updater takes, by VPA's own metrics, and how much memory it takes.
//!
//! The first round is the worst there is: every VerticalPodAutoscaler gets its first recommendation, and every pod is
//! resized. Upstream's benchmark needs 98.7 s for as many VerticalPodAutoscalers with two pods each
//! (`vertical-pod-autoscaler/test/benchmark`), in the step `EvictPods`.

#![allow(missing_docs, reason = "a program")]
#![allow(unsafe_code, reason = "a global allocator that counts is unsafe to declare")]
#![allow(clippy::disallowed_methods, reason = "it waits for a loop that runs by the clock")]

#[path = "../tests/it/fleet.rs"]
mod fleet;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use flyball_api::kinds::vertical_pod_autoscaler::VerticalPodAutoscaler;
use flyball_apiserver::ApiServer;
use flyball_controller::{Autoscaler, Options};
use futures::{StreamExt, stream};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use tower::ServiceExt as _;

const VPAS: usize = 1_000;
const PODS: usize = 5;
/// Rounds in which nothing is to be changed.
const STEADY: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
/// Requests at once while the workloads are made.
const WORKERS: usize = 16;

/// Bytes that are allocated now, and the most since it was looked at last.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

/// Sums and counts of the steps of rounds, by component and step.
type Steps = BTreeMap<(&'static str, String), (f64, u64)>;

async fn steps(autoscaler: &Autoscaler) -> Steps {
    let request = Request::get("/metrics").body(Body::empty()).expect("a good request");
    let response = autoscaler.prometheus().oneshot(request).await.expect("it answers");
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("it has a body");
    let mut steps = Steps::new();
    for line in String::from_utf8_lossy(&body).lines() {
        for component in ["recommender", "updater"] {
            let prefix = format!("vpa_{component}_execution_latency_seconds_");
            let Some((kind, rest)) = line.strip_prefix(&prefix).and_then(|rest| rest.split_once("{step=\""))
            else {
                continue;
            };
            if kind == "bucket" {
                continue;
            }
            let Some((step, value)) = rest.split_once("\"} ") else { continue };
            let own = steps.entry((component, step.to_owned())).or_default();
            match kind {
                "sum" => own.0 = value.parse().expect("a sum is a number"),
                "count" => own.1 = value.parse().expect("a count is a number"),
                _ => {}
            }
        }
    }
    steps
}

fn rounds(steps: &Steps) -> u64 {
    steps.get(&("recommender", "total".to_owned())).map_or(0, |(_, count)| *count)
}

/// Waits for so many more rounds, and prints how long their steps took on average.
async fn measure(what: &str, autoscaler: &Autoscaler, more: u64) {
    let before = steps(autoscaler).await;
    PEAK.store(ALLOCATED.load(Ordering::Relaxed), Ordering::Relaxed);
    let base = ALLOCATED.load(Ordering::Relaxed);
    let after = loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = steps(autoscaler).await;
        if rounds(&now) >= rounds(&before) + more {
            break now;
        }
    };
    let peak = PEAK.load(Ordering::Relaxed).saturating_sub(base);
    let count = (rounds(&after) - rounds(&before)) as f64;
    println!("{what} ({count} rounds, per round)");
    let mut all = 0.0;
    for (key, (sum, _)) in &after {
        let seconds = (sum - before.get(key).map_or(0.0, |(sum, _)| *sum)) / count;
        println!("  {:<12} {:<20} {:>9.1} ms", key.0, key.1, seconds * 1e3);
        if key.1 == "total" {
            all += seconds;
        }
    }
    println!("  {:<33} {:>9.1} ms, {:.1} MB more than before at most", "all", all * 1e3, megabytes(peak));
}

async fn fleet_of(client: &Client, usage: &fleet::Usage) {
    let resources = json!({ "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "cpu": "100m", "memory": "128Mi" } });
    let one = async |index: usize| {
        let name = format!("model-{index}");
        fleet::deployment(client, &name, PODS, &resources).await;
        (0..PODS)
            .for_each(|pod| usage.set(&format!("{name}-{pod}"), &format!("{}m", 90 + index % 20), "300Mi"));
        let spec = json!({ "updatePolicy": { "updateMode": "InPlaceOrRecreate" } });
        fleet::create::<VerticalPodAutoscaler>(client, fleet::vpa(&name, spec)).await;
    };
    stream::iter(0..VPAS).map(one).buffer_unordered(WORKERS).collect::<Vec<()>>().await;
}

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let server = ApiServer::open(flyball_apiserver::Options::default()).await.expect("a server starts");
    let client = Client::new(server.router(), "default");
    let definitions = Api::all(client.clone());
    for definition in flyball_api::kinds::crds() {
        definitions.create(&PostParams::default(), &definition).await.expect("a definition is good");
    }
    let usage = fleet::Usage::default();
    usage.serve(&server);
    eprintln!("making {VPAS} VerticalPodAutoscalers with {PODS} pods each");
    fleet_of(&client, &usage).await;

    let before = ALLOCATED.load(Ordering::Relaxed);
    let options = Options { vertical_interval: Some(ROUND), ..Options::default() };
    let autoscaler = Autoscaler::start(client.clone(), options).await.expect("it starts");
    let watched = ALLOCATED.load(Ordering::Relaxed).saturating_sub(before);
    println!("watches hold {:.1} MB", megabytes(watched));
    measure("everything is resized", &autoscaler, 1).await;
    let names = (0..VPAS).flat_map(|index| (0..PODS).map(move |pod| format!("model-{index}-{pod}")));
    let settled = names.map(|name| {
        let client = &client;
        async move { fleet::resized(client, &name).await }
    });
    stream::iter(settled).buffer_unordered(WORKERS).collect::<Vec<()>>().await;
    // the round that saw the last of these changes
    measure("the rest is resized", &autoscaler, 2).await;
    measure("nothing is to be changed", &autoscaler, STEADY as u64).await;
    let held = ALLOCATED.load(Ordering::Relaxed).saturating_sub(before);
    println!("autoscaler and what the API server keeps of its writes: {:.1} MB", megabytes(held));
    autoscaler.stop().await;
}
