//! A thousand ScaledObjects over the embedded API server in process, each with a Deployment at zero and a query of its
//! own: how long until all are decided about, what a second at rest costs, and how long a step of all metrics takes to
//! reach all Deployments. By default with 100, 1,000 and 10,000 of them, to show that the cost grows with their number
//! and no faster; other numbers are taken as arguments:
//!
//!     cargo bench -p flyball-controller --bench thousand_targets -- 1000
//!
//! Processor time is that of the whole process: API server, controllers, scrapes, and this program as their client.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::disallowed_methods, reason = "it waits for a loop that runs by the clock")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use axum::routing::get;
use flyball_api::kinds::scaled_object::ScaledObject;
use flyball_api::kinds::scrape_config::ScrapeConfig;
use flyball_apiserver::ApiServer;
use flyball_controller::{Answers, Autoscaler, Options};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::ServiceExt as _;

const COUNTS: [usize; 3] = [100, 1_000, 10_000];
/// Nothing is written for so long at rest.
const QUIET: Duration = Duration::from_secs(4);
/// Looked at this long at rest.
const REST: Duration = Duration::from_secs(10);
/// All must have happened by then; else the figure is told as what there was.
const PATIENCE: Duration = Duration::from_secs(180);
/// What each metric reads after the step, with a target of 10 for each replica.
const LOAD: u64 = 25;
/// Pod events in a second, as a crash-looping deployment makes them, and how long.
const EVENTS_PER_SECOND: u32 = 500;
const STORM: Duration = Duration::from_secs(10);
/// Who write them, one after the other each.
const WRITERS: u32 = 8;

/// Processor time of this process up to now.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Resident memory, in megabytes.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
    kilobytes / 1e3
}

/// The page that all queries read from.
async fn serve_load(count: usize, load: Arc<AtomicU64>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it has an address").port();
    let page = async move || {
        let load = load.load(Ordering::Relaxed);
        let lines = (0..count).map(|index| format!("load{{target=\"{index}\"}} {load}\n"));
        ([("content-type", "text/plain; version=0.0.4")], lines.collect::<String>())
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/metrics", get(page))).await });
    port
}

async fn create<K>(client: &Client, object: Value)
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let object: K = serde_json::from_value(object).expect("a good object");
    let api: Api<K> = Api::default_namespaced(client.clone());
    // kubectl looks before it creates
    assert!(api.get_opt(&object.name_any()).await.expect("it answers").is_none());
    api.create(&PostParams::default(), &object).await.expect("it is created");
}

async fn create_target(client: &Client, index: usize) {
    let name = format!("model-{index:05}");
    let labels = json!({ "app": name });
    let resources = json!({ "requests": { "cpu": "100m", "memory": "64Mi" } });
    let container =
        json!({ "name": "main", "image": "i", "resources": resources, "ports": [{ "containerPort": 8000 }] });
    let template = json!({ "metadata": { "labels": labels }, "spec": { "containers": [container] } });
    let spec = json!({ "replicas": 0, "selector": { "matchLabels": labels }, "template": template });
    create::<Deployment>(client, json!({ "metadata": { "name": name }, "spec": spec })).await;
    let metadata = json!({
        "serverAddress": "http://prometheus-operated.monitoring.svc:9090",
        "query": format!("sum(load{{target=\"{index}\"}})"), "threshold": "10", "activationThreshold": "5",
    });
    let spec = json!({
        "scaleTargetRef": { "name": name }, "minReplicaCount": 0, "maxReplicaCount": 9,
        "triggers": [{ "type": "prometheus", "metadata": metadata }],
    });
    create::<ScaledObject>(client, json!({ "metadata": { "name": name }, "spec": spec })).await;
}

/// The autoscaler's own metrics.
async fn page(autoscaler: &Autoscaler) -> String {
    let request = Request::get("/metrics").body(Body::empty()).expect("a good request");
    let response = autoscaler.prometheus().oneshot(request).await.expect("it answers");
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("it has a body");
    String::from_utf8_lossy(&body).into_owned()
}

fn number(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

/// How many triggers have a value.
fn with_value(page: &str) -> usize {
    page.lines().filter(|line| line.starts_with("keda_scaler_metrics_value{")).count()
}

/// When each of the Deployments had replicas, from the start of the watch.
async fn scaled(client: Client, count: usize, from: Instant) -> Vec<Duration> {
    let api: Api<Deployment> = Api::default_namespaced(client);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    let (mut done, mut times) = (BTreeSet::new(), Vec::new());
    while times.len() < count {
        let event = tokio::time::timeout(PATIENCE, events.next()).await;
        let Ok(Some(Ok(watcher::Event::Apply(found) | watcher::Event::InitApply(found)))) = event else {
            if event.is_err() {
                break;
            }
            continue;
        };
        let replicas = found.spec.replicas.unwrap_or(0);
        if replicas > 0 && done.insert(found.name_any()) {
            times.push(from.elapsed());
        }
    }
    times
}

/// Pods of one Deployment that crash and come back, as their node would tell it.
async fn pod_events(client: &Client, deployment: &str) -> u32 {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    for index in 0..50 {
        let metadata = json!({ "name": format!("{deployment}-{index}"), "labels": { "app": deployment } });
        let spec = json!({ "containers": [{ "name": "c", "image": "i" }] });
        let pod = serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).expect("a pod");
        api.create(&PostParams::default(), &pod).await.expect("it is created");
    }
    let begun = Instant::now();
    let writer = async |first: u32| {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) * WRITERS / EVENTS_PER_SECOND);
        let mut sent = 0;
        while begun.elapsed() < STORM {
            ticks.tick().await;
            let status = json!({ "status": { "phase": "Running", "message": format!("restart {sent}") } });
            let name = format!("{deployment}-{}", (first + sent * WRITERS) % 50);
            let written = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
            written.expect("it is written");
            sent += 1;
        }
        sent
    };
    futures::future::join_all((0..WRITERS).map(writer)).await.into_iter().sum()
}

/// One line of the table.
struct Figures {
    count: usize,
    created: Duration,
    created_processor: Duration,
    decided: Duration,
    rest: Rest,
    rest_quiet: Rest,
    memory: f64,
    first: Duration,
    all: Duration,
    reached: usize,
    step_processor: Duration,
    storm: Rest,
    /// Cores that the same pod events take without the autoscaler.
    storm_alone: f64,
}

/// What some seconds cost.
#[derive(Clone, Copy)]
struct Rest {
    rounds: f64,
    /// On the clock.
    round: Duration,
    /// Of the processor, everything else in that time included.
    round_processor: Duration,
    cores: f64,
}

/// Waits until nothing has been written for some seconds: what follows from the last change is told.
async fn quiet(client: &Client) {
    let (api, begun) = (Api::<Pod>::all(client.clone()), Instant::now());
    let mut last = (String::new(), Instant::now());
    while last.1.elapsed() < QUIET && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let list = api.list(&ListParams::default().limit(1)).await.expect("it answers");
        let version = list.metadata.resource_version.unwrap_or_default();
        if version != last.0 {
            last = (version, Instant::now());
        }
    }
}

/// Runs `during`, and says what it cost.
async fn cost(autoscaler: &Autoscaler, during: impl Future) -> Rest {
    let before = page(autoscaler).await;
    let (begun, used) = (Instant::now(), processor());
    during.await;
    let (wall, used) = (begun.elapsed(), processor() - used);
    let after = page(autoscaler).await;
    let delta = |series: &str| number(&after, series) - number(&before, series);
    let rounds = delta("flyball_round_seconds_count");
    Rest {
        rounds: rounds / wall.as_secs_f64(),
        round: Duration::from_secs_f64(delta("flyball_round_seconds_sum") / rounds.max(1.0)),
        round_processor: used.div_f64(rounds.max(1.0)),
        cores: used.as_secs_f64() / wall.as_secs_f64(),
    }
}

async fn measure(count: usize) -> Figures {
    let server = ApiServer::open(flyball_apiserver::Options::default()).await.expect("a server starts");
    let client = Client::new(server.router(), "default");
    let definitions = Api::all(client.clone());
    for definition in flyball_api::kinds::crds() {
        definitions.create(&PostParams::default(), &definition).await.expect("a definition is good");
    }
    let load = Arc::new(AtomicU64::new(0));
    let port = serve_load(count, Arc::clone(&load)).await;
    // as `flyball up` has it: there is no Prometheus in this cluster
    let answers = Answers { absent_services: true, ..Answers::default() };
    let options = Options { answers, ..Options::default() };
    let autoscaler = Autoscaler::start(client.clone(), options).await.expect("it starts");
    let config = json!({
        "metadata": { "name": "load" },
        "spec": { "scrapeInterval": "1s", "staticConfigs": [{ "targets": [format!("127.0.0.1:{port}")] }] },
    });
    create::<ScrapeConfig>(&client, config).await;

    let (begun, used) = (Instant::now(), processor());
    for index in 0..count {
        create_target(&client, index).await;
    }
    let (created, created_processor) = (begun.elapsed(), processor() - used);
    eprintln!("{count}: created after {created:.1?}");
    while with_value(&page(&autoscaler).await) < count && begun.elapsed() < PATIENCE + created {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let decided = begun.elapsed();
    eprintln!("{count}: decided after {decided:.1?}");
    quiet(&client).await;
    let rest_quiet = cost(&autoscaler, tokio::time::sleep(REST)).await;
    let memory = resident();

    let from = Instant::now();
    let watched = tokio::spawn(scaled(client.clone(), count, from));
    // the watch has listed, and the step is at no particular time of the round
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let (step, used) = (from.elapsed(), processor());
    load.store(LOAD, Ordering::Relaxed);
    let times = watched.await.expect("the watch goes on");
    let step_processor = processor() - used;
    let since = |time: Option<&Duration>| time.map_or(PATIENCE, |time| time.saturating_sub(step));
    let (first, all) = (since(times.first()), since(times.last()));
    eprintln!("{count}: {} scaled after {all:.1?}", times.len());
    quiet(&client).await;
    let rest = cost(&autoscaler, tokio::time::sleep(REST)).await;
    let storm =
        cost(&autoscaler, async { eprintln!("{count}: {} pod events", pod_events(&client, "a").await) })
            .await;
    autoscaler.stop().await;
    // the same without the autoscaler: what the writers and the API server take
    let (begun, used) = (Instant::now(), processor());
    pod_events(&client, "b").await;
    let storm_alone = (processor() - used).as_secs_f64() / begun.elapsed().as_secs_f64();
    let reached = times.len();
    Figures {
        count,
        created,
        created_processor,
        decided,
        rest,
        rest_quiet,
        memory,
        first,
        all,
        reached,
        step_processor,
        storm,
        storm_alone,
    }
}

impl Figures {
    fn row(&self) -> String {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let cells = [
            self.count.to_string(),
            seconds(self.created),
            seconds(self.created_processor),
            seconds(self.decided),
            millis(self.rest_quiet.round),
            millis(self.rest_quiet.round_processor),
            format!("{:.3}", self.rest_quiet.cores),
            format!("{:.0} MB", self.memory),
            seconds(self.first),
            format!("{} ({})", seconds(self.all), self.reached),
            seconds(self.step_processor),
            millis(self.rest.round),
            millis(self.rest.round_processor),
            format!("{:.3}", self.rest.cores),
            format!("{:.1}", self.storm.rounds),
            millis(self.storm.round),
            format!("{:.3}", self.storm.cores),
            format!("{:.3}", self.storm_alone),
        ];
        format!("| {} |", cells.join(" | "))
    }
}

const HEAD: &str = "\
| targets | created | processor | all decided | at zero: a round | processor | cores | memory | step: first scaled | \
all scaled (how many) | processor | in use: a round | processor | cores | pod events: rounds/s | a round | cores | cores without the autoscaler |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// Each number of targets has a process of its own, so that none is measured with the memory of another.
fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if let (true, [count]) = (std::env::args().any(|argument| argument == "row"), numbers.as_slice()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let figures = runtime.expect("a runtime starts").block_on(measure(*count));
        return println!("{}", figures.row());
    }
    println!("{HEAD}");
    let counts = if numbers.is_empty() { COUNTS.to_vec() } else { numbers };
    for count in counts {
        let own = std::env::current_exe().expect("it has a path");
        let run = std::process::Command::new(own).args(["row", &count.to_string()]).status();
        assert!(run.expect("it starts").success(), "{count} targets");
    }
}
