//! The loop: gather facts, let the engine decide, act. Everything else in this crate is a step of it.
//!
//! A round runs every second, and at once when a watched object changes. It gathers first (scrapes, use of CPU and
//! memory, readings) and decides then, so a decision rests on facts that are a second old at most. While a target
//! has no replicas, the Services in front of it are looked at five times a second: somebody may be waiting.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use flyball_engine::{Decision, Engine, Observation, Time};
use jiff::Timestamp;
use kube::{Client, ResourceExt};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::act::{Actor, Made};
use crate::autoscaler::{Options, Shared};
use crate::cluster::Cluster;
use crate::facts;
use crate::files::Files;
use crate::jobs::JobScalers;
use crate::lock;
use crate::memories::Memories;
use crate::pods::Pods;
use crate::polled::Polled;
use crate::scalers::{self, Scalers};
use crate::scrape::discover::Discovery;
use crate::scrape::fetch::Fetcher;
use crate::scrape::node::{self, NodeReader};
use crate::scrape::pool::Pool;
use crate::source::Sources;
use crate::source::promql::{self, Down};
use crate::telemetry::OwnSeries;
use crate::vertical::joint;
use crate::workload::Workloads;

mod observe;

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
/// How often new samples are written to their file, in rounds: what a crash may cost.
const SAVE_EVERY_ROUNDS: u64 = 10;
/// The loop and what it owns.
pub(crate) struct Rounds {
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

impl Rounds {
    pub(crate) fn new(
        client: Client,
        cluster: Cluster,
        shared: Shared,
        files: Files,
        options: &Options,
    ) -> Rounds {
        let fetcher = Fetcher::new(client.clone(), promql::names(&cluster));
        let workloads = Workloads::new(client.clone(), cluster.clone());
        Rounds {
            engine: Engine::default(),
            actor: Actor::new(client.clone(), cluster.clone(), workloads.clone()),
            sources: Sources::new(
                client.clone(),
                cluster.clone(),
                &shared.usage,
                &shared.store,
                options.features,
            ),
            jobs: JobScalers::new(client.clone(), cluster.clone()),
            pool: Pool::new(Arc::clone(&shared.store), fetcher, options),
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

    pub(crate) async fn run(mut self, changed: Arc<Notify>, stop: CancellationToken) {
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
        self.memories.write(&self.engine, self.scalers.by_target.keys(), now());
        self.files.finish(&self.shared.history, &self.shared.store).await;
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
            self.files.save_samples(&self.shared.store);
        }
    }

    /// Counts the round, and keeps the autoscaler's own metrics every few rounds.
    fn tell_of_itself(&mut self, took: Duration) {
        lock(&self.shared.telemetry.horizontal).round(took);
        if self.count.is_multiple_of(TELL_EVERY_ROUNDS) {
            let page = self.shared.telemetry.page();
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
        lock(&self.shared.telemetry.horizontal).keep_only(|target| scalers.by_target.contains_key(target));
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
        *lock(&self.shared.pools) = self.pool.pools();
    }

    /// A target feeds a trigger if a query selects its series, or if it is a pod that an autoscaler is about: its
    /// series may be born with the first request.
    fn mark_feeding(&mut self) {
        let mut fed = self.sources.promql.feeding();
        fed.extend(self.sources.custom.feeding().cloned());
        let pods = Pods::new(self.cluster.pods.state());
        let workloads = self.scalers.by_target.values().map(|scaler| &scaler.workload);
        let scaled: HashSet<(String, String)> = workloads
            .filter_map(|workload| self.workloads.watched(workload))
            .flat_map(|(namespace, workload)| pods.of(&namespace, &workload))
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
        lock(&self.shared.telemetry.horizontal).record(&scaler, &decision, &outcome);
        self.files.record(&self.shared.history, decision);
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
