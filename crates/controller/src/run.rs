//! The loop: gather facts, let the engine decide, act. Everything else in this crate is a step of it.
//!
//! A round runs every second, and soon after a watched object has changed. The first begins with scrapes and the nodes'
//! pages, and waits a moment for them, so that a decision rests on facts that are a second old at most. Everything that
//! is slow goes on beside the loop, and is read from memory: a round waits for no server, and no write.
//!
//! Changes are batched: after a round the loop rests for several times as long as the round took, and then takes in all
//! changes together. So a storm of changes costs a bounded part of a core, and delays no decision beyond the regular
//! round of the next second.
//!
//! While a target has no replicas, the Services in front of it are polled five times a second for waiting requests.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use flyball_api::status::Outcome;
use flyball_engine::{Decision, Engine, Observation, Time};
use jiff::Timestamp;
use kube::Client;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::act::events::Events;
use crate::act::{Actor, DecisionReport, ScaleResult};
use crate::decide::jobs::JobScalers;
use crate::decide::scalers::Scalers;
use crate::decide::vertical::joint;
use crate::gather::cluster::Cluster;
use crate::gather::facts;
use crate::gather::polled::PolledReadings;
use crate::gather::scrape::discover::Discovery;
use crate::gather::scrape::fetch::Fetcher;
use crate::gather::scrape::node::NodeReader;
use crate::gather::scrape::scraper::Scraper;
use crate::gather::source::{Sources, Stores};
use crate::gather::tls::Names;
use crate::gather::workload::Workloads;
use crate::keep::files::Files;
use crate::keep::memories::Memories;
use crate::options::Options;
use crate::shared::Shared;
use crate::tell::telemetry::OwnSeries;

mod observe;
mod pages;

use observe::ObservedTargets;

/// The period of the regular round, which decides about every target that is due.
const ROUND: Duration = Duration::from_secs(1);
/// The period of polling for waiting requests while a target has no replicas.
const LOOK_FOR_WAITING: Duration = Duration::from_millis(200);
/// Changes within this time are taken in together: an applied file has several objects.
const SETTLE: Duration = Duration::from_millis(20);
/// After a round, rest this many times as long as it took before the next one for changes, so that they take a tenth of a
/// core together.
const REST_PER_ROUND: u32 = 9;
/// How long shutdown waits for writes under way.
const FINISH_MAX: Duration = Duration::from_secs(3);
/// How often old samples are dropped, in rounds.
const EVICT_EVERY_ROUNDS: u64 = 60;
/// How often the autoscaler's own metrics are stored, in rounds.
const OWN_METRICS_EVERY_ROUNDS: u64 = 5;
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
    scraper: Scraper,
    nodes: NodeReader,
    scalers: Scalers,
    shared: Shared,
    memories: Memories,
    polled: PolledReadings,
    own_series: OwnSeries,
    files: Files,
    discovery: Discovery,
    /// The revision of the watched objects at the last discovery.
    pages_revision: Option<u64>,
    standing: ObservedTargets,
    /// Notified when requests wait at a Service.
    waiting: Arc<Notify>,
    /// Regular rounds so far.
    count: u64,
    /// When the rest after the last round ends.
    rested: Instant,
}

impl Rounds {
    pub(crate) fn new(
        client: Client,
        (cluster, workloads): (Cluster, Workloads),
        shared: Shared,
        files: Files,
        options: &Options,
    ) -> Rounds {
        let fetcher = Fetcher::new(client.clone(), Names::of(&cluster));
        let scraper = Scraper::new(Arc::clone(&shared.store), fetcher, options);
        let stores = Stores {
            usage: &shared.usage,
            store: &shared.store,
            standing: scraper.health(),
            servers: shared.servers.clone(),
        };
        let (events, waiting) = (Events::start(client.clone()), Arc::new(Notify::new()));
        Rounds {
            engine: Engine::default(),
            actor: Actor::new(client.clone(), cluster.clone(), workloads.clone(), events.clone()),
            sources: Sources::new(client.clone(), cluster.clone(), stores, options.features),
            jobs: JobScalers::new(client.clone(), cluster.clone(), events),
            scraper,
            nodes: NodeReader::new(
                client,
                Arc::clone(&shared.store),
                Arc::clone(&shared.usage),
                Arc::clone(&waiting),
            ),
            scalers: Scalers::default(),
            workloads,
            cluster,
            shared,
            memories: Memories::open(options.memories.clone()),
            polled: PolledReadings::default(),
            own_series: OwnSeries::new(),
            files,
            discovery: Discovery::default(),
            pages_revision: None,
            standing: ObservedTargets::default(),
            waiting,
            count: 0,
            rested: Instant::now(),
        }
    }

    pub(crate) async fn run(mut self, changed: Arc<Notify>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(ROUND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut looks = tokio::time::interval(LOOK_FOR_WAITING);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let waiting = Arc::clone(&self.waiting);
        // When the changes since the last round are taken in; `None` without changes.
        let mut soon: Option<Instant> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {
                    soon = None;
                    self.round_of_the_second().await;
                }
                () = changed.notified(), if soon.is_none() => {
                    soon = Some(self.rested.max(Instant::now() + SETTLE));
                }
                () = waiting.notified() => soon = Some(self.rested),
                () = sleep_until(soon.unwrap_or(self.rested)), if soon.is_some() => {
                    soon = None;
                    self.round_of_changes();
                }
                _ = looks.tick(), if self.standing.any_at_zero => self.look_for_waiting(),
                scaled = self.actor.next() => {
                    scaled.into_iter().for_each(|scaled| self.take_in(scaled));
                    self.take_in_written();
                }
            }
        }
        self.finish_writes().await;
        self.memories.finish(&self.engine, self.scalers.by_target.keys(), now()).await;
        self.files.finish(&self.shared.history, &self.shared.store).await;
    }

    /// Waits a moment for writes under way, so that no object is left with half a report.
    async fn finish_writes(&mut self) {
        let all = async {
            while self.actor.is_busy() {
                let scaled = self.actor.next().await;
                scaled.into_iter().for_each(|scaled| self.take_in(scaled));
            }
            self.actor.finish().await;
        };
        // What is not written now is reported after the next start.
        let _ = tokio::time::timeout(FINISH_MAX, all).await;
    }

    /// Runs a regular round: gathers, decides about every target that is due, and acts.
    async fn round_of_the_second(&mut self) {
        self.count += 1;
        let started = Instant::now();
        self.take_in_written();
        self.take_in_scalers();
        let waited = self.gather().await;
        self.decide();
        self.memories.keep(&self.engine, self.scalers.by_target.keys(), now());
        self.rest(started.elapsed().saturating_sub(waited));
        self.store_own_metrics();
        if self.count.is_multiple_of(EVICT_EVERY_ROUNDS) {
            self.shared.store.lock().evict(Timestamp::now().as_millisecond());
            self.forget_queries();
        }
        if self.count.is_multiple_of(SAVE_EVERY_ROUNDS) {
            self.files.save_samples(&self.shared.store);
        }
    }

    /// Runs a round for changes: takes them in, and decides about the targets that they make due.
    fn round_of_changes(&mut self) {
        let started = Instant::now();
        self.take_in_written();
        self.take_in_scalers();
        let mut scrapes = JoinSet::new();
        self.start_scrapes(&mut scrapes);
        scrapes.detach_all();
        self.decide();
        self.rest(started.elapsed());
    }

    /// Decides about every target and ScaledJob that is due, and starts the writes that follow.
    fn decide(&mut self) {
        self.observe();
        let now = now();
        for decision in self.engine.evaluate(now) {
            self.carry_out(decision, now);
        }
        self.jobs.round(&mut self.sources, now);
        self.scalers.broken.iter().for_each(|broken| self.actor.report_broken(broken));
        self.actor.finish_deleted();
    }

    /// Counts a round, and sets when the next round for changes may start.
    fn rest(&mut self, took: Duration) {
        self.rested = Instant::now() + took * REST_PER_ROUND;
        self.shared.telemetry.horizontal.lock().round(took);
    }

    /// Stores the autoscaler's own metrics every few rounds, beside the loop: they are many.
    fn store_own_metrics(&mut self) {
        if self.count.is_multiple_of(OWN_METRICS_EVERY_ROUNDS) {
            let at_ms = Timestamp::now().as_millisecond();
            self.own_series.store(&self.shared.store, &self.shared.telemetry, at_ms);
        }
    }

    /// Reads the autoscaler objects that have changed, and reports the engine what is new about them.
    fn take_in_scalers(&mut self) {
        let Some(news) = self.scalers.update(&self.cluster) else { return };
        let now = now();
        for target in news.gone {
            self.standing.forget(&target);
            self.engine.observe(now, Observation::Deleted { target });
        }
        for scaler in news.added.iter().chain(&news.changed) {
            let (target, policy) = (scaler.plan.target.clone(), Box::new(scaler.plan.policy.clone()));
            self.engine.observe(now, Observation::Policy { target, policy });
        }
        for scaler in &news.added {
            let (target, memory) = (scaler.plan.target.clone(), Box::new(self.memories.recall(scaler)));
            self.engine.observe(now, Observation::Memory { target, memory });
        }
        self.forget_others();
        self.forget_queries();
    }

    /// Drops the state of objects that are gone.
    fn forget_others(&mut self) {
        let by_target = &self.scalers.by_target;
        let scaled = by_target.values().map(|scaler| &scaler.owner);
        let broken = self.scalers.broken.iter().map(|broken| &broken.owner);
        let owners: BTreeSet<_> = scaled.chain(broken).map(|owner| owner.key()).collect();
        self.actor.keep_only(&owners);
        let names: HashSet<(&str, &str)> =
            owners.iter().map(|(_, namespace, name)| (namespace.as_str(), name.as_str())).collect();
        self.shared
            .values
            .lock()
            .retain(|(namespace, name, _), _| names.contains(&(namespace.as_str(), name.as_str())));
        self.shared.telemetry.horizontal.lock().keep_only(|target| by_target.contains_key(target));
        self.polled.keep_only(|target| by_target.contains_key(target));
    }

    /// Drops the queries that no trigger asks any more.
    fn forget_queries(&mut self) {
        let of_jobs = self.jobs.triggers();
        let of_objects = self.scalers.by_target.values().flat_map(|scaler| {
            scaler.triggers.iter().map(|trigger| (scaler.workload.namespace.as_str(), trigger))
        });
        let of_jobs = of_jobs.iter().map(|(namespace, trigger)| (namespace.as_str(), trigger));
        self.sources.keep_only(of_objects.chain(of_jobs));
    }

    /// Carries a decision out, unless the target's replicas are being written: then it rests on replicas that are about to
    /// change.
    fn carry_out(&mut self, decision: Decision, now: Time) {
        let Some(scaler) = self.scalers.by_target.get(&decision.target).cloned() else { return };
        if self.actor.is_scaling(&decision.target) {
            return;
        }
        self.shared.joint.decided(&joint::key(&scaler.workload), now, &decision.sizes);
        match decision.rescales() {
            true => self.actor.rescale(scaler, decision),
            false => self.record(ScaleResult { scaler, decision, outcome: Outcome::Kept }),
        }
    }

    /// Takes in all writes that have ended. Each waits for one round at most.
    fn take_in_written(&mut self) {
        self.actor.written().into_iter().for_each(|scaled| self.take_in(scaled));
    }

    /// Passes the outcome of a scale write to the engine, and records it.
    fn take_in(&mut self, scaled: ScaleResult) {
        let error = match &scaled.outcome {
            Outcome::Failed { error } => Some(error.clone()),
            _ => None,
        };
        log_rescale(&scaled.decision, error.as_deref());
        let Decision { target, current: from, desired: to, .. } = scaled.decision.clone();
        self.engine.observe(now(), Observation::Rescaled { target, from, to, error });
        self.record(scaled);
    }

    /// Reports a decision and its outcome, counts it, and keeps it in the history.
    fn record(&mut self, ScaleResult { scaler, decision, outcome }: ScaleResult) {
        if outcome != Outcome::Kept || self.actor.has_news(&scaler, &decision) {
            self.actor.report(DecisionReport {
                workload: self.standing.workload(&decision.target).cloned(),
                memory: self.engine.memory(&decision.target).cloned(),
                scaler: Arc::clone(&scaler),
                decision: decision.clone(),
                outcome: outcome.clone(),
            });
        }
        self.shared.telemetry.horizontal.lock().record(&scaler, &decision, &outcome);
        self.files.record(&self.shared.history, decision);
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
