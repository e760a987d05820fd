//! The loop: gather facts, let the engine decide, act. Everything else in this crate is a step of it.
//!
//! A round runs every second, and at once when a watched object changes. It gathers first (scrapes, use of CPU and
//! memory, readings) and decides then, so a decision rests on facts that are a second old at most. While a target
//! has no replicas, the Services in front of it are looked at five times a second: somebody may be waiting.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use flyball_engine::{Decision, Engine, Observation, Reading, Scale, Selector, Time};
use flyball_metrics::{Store, StoreOptions};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::act::{Actor, Made};
use crate::claims::Claims;
use crate::cluster::{Changed, Cluster};
use crate::facts;
use crate::history::{History, file::Journal};
use crate::jobs::JobScalers;
use crate::lock;
use crate::memories::Memories;
use crate::polled::Polled;
use crate::scalers::{self, Scaler, Scalers};
use crate::scrape::discover::Discovery;
use crate::scrape::fetch::Fetcher;
use crate::scrape::node::{self, NodeReader};
use crate::scrape::pool::{DroppedTargets, Pool, Shown};
use crate::selector;
use crate::serve::external_metrics::Values;
use crate::serve::{decisions, external_metrics, live_facts, prometheus, resource_metrics};
use crate::source::Sources;
use crate::source::promql::Down;
use crate::store_file::StoreFile;
use crate::telemetry::{self, OwnSeries};
use crate::usage::UsageLog;
use crate::vertical::Vertical;
use crate::vertical::joint::{self, Joint};
use crate::workload::{Workload, Workloads};

/// How often everything is decided anew.
const ROUND: Duration = Duration::from_secs(1);
/// How often waiting requests are looked for while a target has no replicas.
const LOOK_FOR_WAITING: Duration = Duration::from_millis(200);
/// How long a round waits for the scrapes that it started. A slower one counts in the next round.
const SCRAPES_WAIT: Duration = Duration::from_millis(300);
/// Changes within this time of one another are taken in together: an applied file has several objects.
const SETTLE: Duration = Duration::from_millis(20);
/// How often old samples are dropped, in rounds.
const EVICT_EVERY_ROUNDS: u64 = 60;
/// How often the autoscaler's own metrics are kept, in rounds.
const TELL_EVERY_ROUNDS: u64 = 5;
/// Bytes of memory for what was scraped. A day of a small service takes a tenth of it; a thousand pods, some minutes.
const STORE_BYTES_MAX: usize = 200_000_000;
/// How long samples are kept, if there is room for them.
const RETENTION: Duration = Duration::from_secs(24 * 3_600);
/// How often new samples are written to their file, in rounds: what a crash may cost.
const SAVE_EVERY_ROUNDS: u64 = 10;
/// Series that are kept: what two hundred pods with a thousand series each have.
const SERIES_MAX: usize = 200_000;

/// How the autoscaler runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Scrape targets that feed a trigger at their monitor's interval, not every second.
    pub keep_scrape_intervals: bool,
    /// The file in which decisions are kept over restarts; in memory only if there is none.
    pub history: Option<PathBuf>,
    /// The file in which the engine's memory of each target is kept over restarts: what was recommended and changed
    /// lately. It is forgotten at a restart if there is none.
    pub memories: Option<PathBuf>,
    /// How often VerticalPodAutoscalers are looked at; every minute, as VPA does, if unset.
    pub vertical_interval: Option<Duration>,
    /// The file in which samples are kept over restarts; in memory only if there is none.
    pub samples: Option<PathBuf>,
}

/// An API for the API server to aggregate.
pub struct AggregatedApi {
    /// Its group.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its resources: plural, kind, whether they are namespaced, and verbs.
    pub resources: Vec<(&'static str, &'static str, bool, &'static [&'static str])>,
    /// What answers requests to it, by their full paths.
    pub router: Router,
}

/// The running autoscaler.
pub struct Autoscaler {
    shared: Shared,
    cluster: Cluster,
    workloads: Workloads,
    stop: CancellationToken,
    watches: JoinSet<()>,
    loops: JoinSet<()>,
}

/// What the loop writes and the APIs read.
#[derive(Clone)]
struct Shared {
    store: Arc<Mutex<Store>>,
    usage: Arc<Mutex<UsageLog>>,
    history: Arc<Mutex<History>>,
    values: Values,
    targets: Arc<Mutex<Vec<Shown>>>,
    telemetry: telemetry::Shared,
    joint: Joint,
    dropped: DroppedTargets,
}

impl Autoscaler {
    /// Watches, and starts to decide.
    ///
    /// # Errors
    /// The file of decisions cannot be read or written.
    pub async fn start(client: Client, options: Options) -> std::io::Result<Autoscaler> {
        let mut history = History::default();
        let journal = options.history.as_ref().map(|path| Journal::open(path, &mut history)).transpose()?;
        let shared = Shared {
            store: Arc::new(Mutex::new(Store::new(StoreOptions {
                series_max: SERIES_MAX,
                bytes_max: STORE_BYTES_MAX,
                retention: RETENTION,
                ..StoreOptions::default()
            }))),
            usage: Arc::default(),
            history: Arc::new(Mutex::new(history)),
            values: Values::default(),
            targets: Arc::default(),
            telemetry: Arc::default(),
            joint: Joint::default(),
            dropped: DroppedTargets::default(),
        };
        let now_ms = Timestamp::now().as_millisecond();
        let samples = options.samples.as_ref().map(|path| StoreFile::open(path, &shared.store, now_ms));
        let samples = samples.transpose()?.map(|file| Arc::new(Mutex::new(file)));
        let (mut watches, mut loops) = (JoinSet::new(), JoinSet::new());
        let changed = Changed::default();
        let cluster = Cluster::watch(&client, &changed, &mut watches).await;
        let stop = CancellationToken::new();
        let workloads = Workloads::new(client.clone(), cluster.clone());
        let (joint, interval) = (shared.joint.clone(), options.vertical_interval);
        let vertical = Vertical::new(client.clone(), cluster.clone(), workloads.clone(), joint, interval);
        loops.spawn(vertical.run(changed.vertical, stop.clone()));
        let files = Files { journal, samples, saving: None };
        let rounds = Rounds::new(client, cluster.clone(), shared.clone(), files, &options);
        loops.spawn(rounds.run(changed.horizontal, stop.clone()));
        Ok(Autoscaler { shared, cluster, workloads, stop, watches, loops })
    }

    /// The Prometheus HTTP API over everything that was scraped.
    pub fn prometheus(&self) -> Router {
        let (store, targets) = (Arc::clone(&self.shared.store), Arc::clone(&self.shared.targets));
        let dropped = Arc::clone(&self.shared.dropped);
        let own = telemetry::router(Arc::clone(&self.shared.telemetry));
        prometheus::router(prometheus::Source::new(store, targets).with_dropped(dropped)).merge(own)
    }

    /// The APIs to aggregate: resource metrics, external metrics, decisions and live facts.
    pub fn apis(&self) -> Vec<AggregatedApi> {
        let usage = resource_metrics::Source {
            usage: Arc::clone(&self.shared.usage),
            pods: self.cluster.pods.clone(),
            nodes: self.cluster.nodes.clone(),
        };
        let live = live_facts::Source {
            store: Arc::clone(&self.shared.store),
            targets: Arc::clone(&self.shared.targets),
            history: Arc::clone(&self.shared.history),
            cluster: self.cluster.clone(),
            workloads: self.workloads.clone(),
        };
        vec![
            AggregatedApi {
                group: "metrics.k8s.io",
                version: "v1beta1",
                resources: vec![
                    ("nodes", "NodeMetrics", false, &["get", "list"]),
                    ("pods", "PodMetrics", true, &["get", "list"]),
                ],
                router: resource_metrics::router(usage),
            },
            AggregatedApi {
                group: "external.metrics.k8s.io",
                version: "v1beta1",
                resources: vec![("externalmetrics", "ExternalMetricValueList", true, &["get"])],
                router: external_metrics::router(Arc::clone(&self.shared.values)),
            },
            AggregatedApi {
                group: decisions::GROUP,
                version: decisions::VERSION,
                resources: vec![
                    ("decisions", "Decision", true, &["list"]),
                    ("livefacts", "LiveFacts", true, &["get"]),
                ],
                // The Prometheus API is there as well, for clients that know the kubeconfig and nothing else.
                router: decisions::router(Arc::clone(&self.shared.history))
                    .merge(live_facts::router(live))
                    .nest(
                        &format!("/apis/{}/{}/prometheus", decisions::GROUP, decisions::VERSION),
                        self.prometheus(),
                    ),
            },
        ]
    }

    /// Ends the loops and the watches. The replicas stay as they are, and what was learned is written down.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.loops.join_next().await.is_some() {}
        self.watches.shutdown().await;
    }
}

/// The loop and what it owns.
struct Rounds {
    engine: Engine,
    cluster: Cluster,
    workloads: Workloads,
    actor: Actor,
    sources: Sources,
    jobs: JobScalers,
    pool: Pool,
    nodes: NodeReader,
    scalers: Scalers,
    shared: Shared,
    memories: Memories,
    polled: Polled,
    own_series: OwnSeries,
    files: Files,
    discovery: Discovery,
    count: u64,
}

/// What is written down.
struct Files {
    journal: Option<Journal>,
    samples: Option<Arc<Mutex<StoreFile>>>,
    /// The samples that are being written.
    saving: Option<JoinHandle<()>>,
}

impl Rounds {
    fn new(client: Client, cluster: Cluster, shared: Shared, files: Files, options: &Options) -> Rounds {
        let fetcher = Fetcher::new(client.clone());
        let workloads = Workloads::new(client.clone(), cluster.clone());
        Rounds {
            engine: Engine::default(),
            actor: Actor::new(client.clone(), cluster.clone(), workloads.clone()),
            sources: Sources::new(client.clone(), cluster.clone(), &shared.usage, &shared.store),
            jobs: JobScalers::new(client.clone(), cluster.clone()),
            pool: Pool::new(Arc::clone(&shared.store), fetcher, options.keep_scrape_intervals),
            nodes: NodeReader::new(client, Arc::clone(&shared.store), Arc::clone(&shared.usage)),
            scalers: Scalers::default(),
            workloads,
            cluster,
            shared,
            memories: Memories::open(options.memories.clone()),
            polled: Polled::default(),
            own_series: OwnSeries::new(),
            files,
            discovery: Discovery::default(),
            count: 0,
        }
    }

    async fn run(mut self, changed: Arc<Notify>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(ROUND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
                () = changed.notified() => tokio::time::sleep(SETTLE).await,
                () = self.somebody_waits() => {}
            }
            self.round().await;
        }
        self.write_down_rest();
        self.save_samples();
        if let Some(saving) = self.files.saving.take() {
            // What was written up to now is whole; the rest is in nobody's way.
            let _ = saving.await;
        }
    }

    /// Writes new samples to their file, beside everything else: the disk may be slow.
    fn save_samples(&mut self) {
        let Some(file) = &self.files.samples else { return };
        let before = self.files.saving.take();
        if let Some(saving) = before.filter(|saving| !saving.is_finished()) {
            self.files.saving = Some(saving);
            return;
        }
        let (file, store) = (Arc::clone(file), Arc::clone(&self.shared.store));
        self.files.saving = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = lock(&file).save(&store) {
                tracing::warn!(%error, "cannot write samples down");
            }
        }));
    }

    /// One round: gather, decide, act.
    async fn round(&mut self) {
        self.count += 1;
        let started = Instant::now();
        self.take_in_scalers();
        self.gather().await;
        self.observe().await;
        let now = now();
        for decision in self.engine.evaluate(now) {
            self.carry_out(decision, now).await;
        }
        let down = self.down();
        self.jobs.round(&mut self.sources, &down, now).await;
        self.memories.keep(&self.engine, self.scalers.by_target.keys(), now);
        self.actor.finish_deleted(&self.cluster).await;
        for broken in std::mem::take(&mut self.scalers.broken) {
            self.actor.tell_broken(&broken).await;
        }
        self.tell_of_itself(started.elapsed());
        if self.count.is_multiple_of(EVICT_EVERY_ROUNDS) {
            lock(&self.shared.store).evict(Timestamp::now().as_millisecond());
        }
        if self.count.is_multiple_of(SAVE_EVERY_ROUNDS) {
            self.save_samples();
        }
    }

    /// Counts the round, and keeps the autoscaler's own metrics every few rounds.
    fn tell_of_itself(&mut self, took: Duration) {
        let mut telemetry = lock(&self.shared.telemetry);
        telemetry.round(took);
        if self.count.is_multiple_of(TELL_EVERY_ROUNDS) {
            let page = telemetry.page();
            drop(telemetry);
            self.own_series.store(&self.shared.store, &page, Timestamp::now().as_millisecond());
        }
    }

    /// Reads the autoscaler objects, and tells the engine what is new about them.
    fn take_in_scalers(&mut self) {
        let scalers = scalers::read(&self.cluster);
        let now = now();
        for target in self.scalers.by_target.keys().filter(|target| !scalers.by_target.contains_key(target)) {
            self.engine.observe(now, Observation::Deleted { target: target.clone() });
        }
        for (target, scaler) in &scalers.by_target {
            let known = self.scalers.by_target.get(target);
            if known.is_none_or(|known| known.plan.policy != scaler.plan.policy) {
                let policy = Box::new(scaler.plan.policy.clone());
                self.engine.observe(now, Observation::Policy { target: target.clone(), policy });
            }
            if known.is_none() {
                let memory = Box::new(self.memories.recall(scaler));
                self.engine.observe(now, Observation::Memory { target: target.clone(), memory });
            }
        }
        let owners: Vec<_> = scalers.by_target.values().map(|scaler| scaler.owner.key()).collect();
        self.actor.keep_only(&owners);
        lock(&self.shared.telemetry).keep_only(|target| scalers.by_target.contains_key(target));
        self.polled.keep_only(|target| scalers.by_target.contains_key(target));
        let of_jobs = self.jobs.triggers();
        let of_objects = scalers.by_target.values().flat_map(|scaler| &scaler.triggers);
        self.sources.keep_only(of_objects.chain(&of_jobs));
        self.scalers = scalers;
    }

    /// Scrapes what is due, and reads the nodes.
    async fn gather(&mut self) {
        let now_ms = Timestamp::now().as_millisecond();
        if let Some(found) = self.discovery.discover(&self.cluster) {
            self.pool.sync(found, now_ms);
        }
        self.mark_feeding();
        let mut scrapes = JoinSet::new();
        self.pool.start_due(now_ms, &mut scrapes);
        let nodes = self.node_names();
        let all_scraped = async { while scrapes.join_next().await.is_some() {} };
        let scraped = tokio::time::timeout(SCRAPES_WAIT, all_scraped);
        let (_, ()) = tokio::join!(scraped, self.nodes.read(&nodes, now_ms));
        scrapes.detach_all();
        *lock(&self.shared.targets) = self.pool.shown();
        *lock(&self.shared.dropped) = self.pool.dropped();
    }

    /// A target feeds a trigger if a query selects its series, or if it is a pod that an autoscaler is about: its
    /// series may be born with the first request.
    fn mark_feeding(&mut self) {
        let mut fed = self.sources.promql.feeding();
        fed.extend(self.sources.custom.feeding().cloned());
        let workloads: Vec<_> =
            self.scalers.by_target.values().map(|scaler| scaler.workload.clone()).collect();
        let scaled: Vec<(String, String)> = workloads
            .iter()
            .filter_map(|workload| self.workloads.watched(workload))
            .flat_map(|(namespace, workload)| pods_of(&self.cluster, &namespace, &workload))
            .map(|pod| (pod.namespace().unwrap_or_default(), pod.name_any()))
            .collect();
        self.pool.mark_feeding(|target| {
            let label = |name: &str| target.labels.get(name).cloned().unwrap_or_default();
            fed.contains(&(label("job"), label("instance")))
                || scaled.contains(&(label("namespace"), label("pod")))
        });
    }

    /// The targets that cannot be scraped.
    fn down(&self) -> Vec<Down> {
        self.pool.down().map(|(target, status)| Down::of(target, &status)).collect()
    }

    /// Tells the engine how every target stands.
    async fn observe(&mut self) {
        let down = self.down();
        let waiting = node::waiting(&lock(&self.shared.store));
        let scalers: Vec<Scaler> = self.scalers.by_target.values().cloned().collect();
        let mut scaled = Vec::with_capacity(scalers.len());
        for scaler in &scalers {
            match self.workloads.read(&scaler.workload).await {
                Ok(workload) => {
                    let pods = pods_of(&self.cluster, &scaler.workload.namespace, &workload);
                    scaled.push((scaler, workload, pods));
                }
                Err(error) => {
                    let target = scaler.plan.target.clone();
                    self.engine.observe(now(), Observation::ScaleFailed { target, error });
                }
            }
        }
        let claims = Claims::of(scaled.iter().map(|(scaler, _, pods)| (&scaler.autoscaler, pods.as_slice())));
        for (scaler, workload, pods) in &scaled {
            let target = &scaler.plan.target;
            let selector = claims.judge(workload, pods);
            self.observe_workload(scaler, workload, selector, pods, &waiting);
            let sizing = self.shared.joint.sizing(&joint::key(&scaler.workload), pods, &self.cluster);
            let sizing = Observation::Sizing { target: target.clone(), sizing: sizing.map(Box::new) };
            self.engine.observe(now(), sizing);
            for query in &scaler.plan.queries {
                if self.polled.is_recent(target, query, now()) {
                    continue;
                }
                let reading =
                    self.sources.read(query, &scaler.workload.namespace, workload, pods, &down, now()).await;
                self.remember_value(scaler, query.metric.as_str(), &reading);
                let metric = query.metric.clone();
                self.engine.observe(now(), Observation::Metric { target: target.clone(), metric, reading });
            }
        }
    }

    fn observe_workload(
        &mut self,
        scaler: &Scaler,
        workload: &Workload,
        selector: Selector,
        pods: &[Arc<Pod>],
        waiting: &std::collections::BTreeMap<(String, String), u32>,
    ) {
        let now = now();
        let (target, namespace) = (&scaler.plan.target, &scaler.workload.namespace);
        let scale = Scale {
            spec_replicas: u32::try_from(workload.desired).unwrap_or(0),
            status_replicas: u32::try_from(workload.current).unwrap_or(0),
            selector,
        };
        let requests = waiting
            .iter()
            .filter(|((service_namespace, service), _)| {
                let service = self.cluster.services.get(&ObjectRef::new(service).within(service_namespace));
                let selector =
                    service.and_then(|service| service.spec.as_ref()?.selector.clone()).unwrap_or_default();
                service_namespace == namespace
                    && selector::matches_pairs(&selector, &workload.template_labels)
            })
            .map(|(_, requests)| requests)
            .sum();
        let target = || target.clone();
        self.engine.observe(now, Observation::Scale { target: target(), scale });
        let pods = pods.iter().map(|pod| facts::pod(pod)).collect();
        self.engine.observe(now, Observation::Pods { target: target(), pods });
        self.engine.observe(now, Observation::Waiting { target: target(), requests });
    }

    /// Keeps a trigger's value for the external metrics API.
    fn remember_value(&self, scaler: &Scaler, metric: &str, reading: &Reading) {
        let (_, namespace, name) = scaler.owner.key();
        let key = (namespace, name, metric.to_ascii_lowercase());
        let mut values = lock(&self.shared.values);
        let value = match *reading {
            Reading::Value { value, at } => Some((value, at)),
            Reading::Idle { at } => Some((0.0, at)),
            Reading::PerPod { .. }
            | Reading::Missing { .. }
            | Reading::Stale { .. }
            | Reading::Failed { .. } => None,
        };
        match value {
            Some(value) => values.insert(key, value),
            None => values.remove(&key),
        };
    }

    async fn carry_out(&mut self, decision: Decision, now: Time) {
        let Some(scaler) = self.scalers.by_target.get(&decision.target).cloned() else { return };
        self.shared.joint.decided(&joint::key(&scaler.workload), now, &decision.sizes);
        let outcome = self.actor.rescale(&scaler, &decision).await;
        if decision.rescales() {
            let error = match &outcome {
                flyball_api::status::Outcome::Failed { error } => Some(error.clone()),
                _ => None,
            };
            log_rescale(&decision, error.as_deref());
            let (from, to) = (decision.current, decision.desired);
            let rescaled = Observation::Rescaled { target: decision.target.clone(), from, to, error };
            self.engine.observe(now, rescaled);
        }
        let workload = self.workloads.read(&scaler.workload).await.ok();
        let memory = self.engine.memory(&decision.target);
        let made = Made { decision: &decision, outcome: &outcome, memory };
        self.actor.tell(&scaler, workload.as_ref(), made).await;
        lock(&self.shared.telemetry).record(&scaler, &decision, &outcome);
        self.write_down(decision);
    }

    fn write_down(&mut self, decision: Decision) {
        let mut history = lock(&self.shared.history);
        let complete = history.push(decision).cloned();
        let Some(journal) = &mut self.files.journal else { return };
        let written = complete
            .map_or(Ok(()), |record| journal.append(&record))
            .and_then(|()| journal.compact(&history));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write decisions down");
        }
    }

    /// What is still open when the loop ends.
    fn write_down_rest(&mut self) {
        self.memories.write(&self.engine, self.scalers.by_target.keys(), now());
        let history = lock(&self.shared.history);
        if let Some(journal) = &mut self.files.journal {
            let written: std::io::Result<()> = history.newest().try_for_each(|record| journal.append(record));
            if let Err(error) = written {
                tracing::warn!(%error, "cannot write decisions down");
            }
        }
    }

    /// Returns when a request waits at a Service. Never, while every target has replicas.
    async fn somebody_waits(&mut self) {
        let any_at_zero = self.scalers.by_target.values().any(|scaler| {
            self.workloads.watched(&scaler.workload).is_some_and(|(_, workload)| workload.desired == 0)
        });
        if !any_at_zero {
            return std::future::pending().await;
        }
        let nodes = self.node_names();
        let mut looks = tokio::time::interval_at(Instant::now() + LOOK_FOR_WAITING, LOOK_FOR_WAITING);
        loop {
            looks.tick().await;
            self.nodes.read_waiting(&nodes, Timestamp::now().as_millisecond()).await;
            if node::waiting(&lock(&self.shared.store)).values().any(|requests| *requests > 0) {
                return;
            }
        }
    }

    fn node_names(&self) -> Vec<String> {
        self.cluster.nodes.state().iter().map(|node| node.name_any()).collect()
    }
}

fn pods_of(cluster: &Cluster, namespace: &str, workload: &Workload) -> Vec<Arc<Pod>> {
    let mut pods = cluster.pods.state();
    pods.retain(|pod| pod.namespace().as_deref() == Some(namespace) && workload.selects(pod.labels()));
    pods
}

fn log_rescale(decision: &Decision, error: Option<&str>) {
    let reason = decision.deciding_step().map(|step| step.reason.to_string()).unwrap_or_default();
    let (target, current, desired) = (&decision.target, decision.current, decision.desired);
    match error {
        None => tracing::info!(%target, current, desired, reason, "rescaled"),
        Some(error) => tracing::warn!(%target, current, desired, reason, error, "cannot rescale"),
    }
}

fn now() -> Time {
    facts::time_from_ms(Timestamp::now().as_millisecond())
}
