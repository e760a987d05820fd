//! The three components of the VerticalPodAutoscaler: recommender, updater, and the events they tell.
//!
//! They speak only the Kubernetes API, and with each other only by the status of the VerticalPodAutoscaler, as VPA's own do,
//! so each of VPA's could take the place of ours and the other way round: use is read from `metrics.k8s.io`, what was
//! learned is kept in VerticalPodAutoscalerCheckpoints, pods are resized by their `resize` subresource and evicted by
//! the eviction API. The rules are the engine's ([`flyball_engine::vertical`]); the admission is registered with the
//! API server, from outside, since a webhook is asked and does not watch.
//!
//! A round samples, recommends, and updates. At each change it is looked whether a container was killed for want of
//! memory, or whether the horizontal loop decided another size (`joint`); then the round comes at once.

mod checkpoints;
mod controllers;
mod evictions;
pub(crate) mod headroom;
pub(crate) mod joint;
mod recommender;
mod samples;
mod state;
mod targets;
mod updater;

use std::sync::Arc;
use std::time::Duration;

use flyball_engine::Time;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::act::events::Events;
use crate::gather::cluster::Cluster;
use crate::gather::facts;
use crate::gather::workload::Workloads;
use crate::tell::telemetry::{Timer, VpaMetrics};
use controllers::Controllers;
use evictions::Evictions;
use joint::Joint;
use recommender::Recommenders;
use targets::Targets;
use updater::Updater;

/// `--recommender-interval` and `--updater-interval`.
const ROUND_DEFAULT: Duration = Duration::from_secs(60);
/// Changes within this time are handled together.
const SETTLE: Duration = Duration::from_millis(20);
/// After a look it is waited for so many times as long as it took, so that a large cluster in which pods come and go
/// does not keep the loop looking.
const REST_PER_LOOK: u32 = 4;
/// The period of looking for kills and changed sizes without a change.
const LOOK: Duration = Duration::from_secs(1);
/// How often checkpoints are written; VPA writes them in every round, which is as often.
const SAVE: Duration = Duration::from_secs(60);
/// `--update-worker-count`: requests to the API server that are under way at once.
const WORKERS: usize = 10;

/// The loop and what it owns.
pub(crate) struct Vertical {
    cluster: Cluster,
    controllers: Controllers,
    client: Client,
    metrics: VpaMetrics,
    recommenders: Recommenders,
    evictions: Evictions,
    updater: Updater,
    round_every: Duration,
    last_save: Time,
}

impl Vertical {
    pub(crate) fn new(
        client: Client,
        cluster: Cluster,
        workloads: Workloads,
        (joint, metrics): (Joint, VpaMetrics),
        interval: Option<Duration>,
    ) -> Self {
        let events = Events::start(client.clone());
        Vertical {
            recommenders: Recommenders::new(client.clone(), joint, metrics.clone()),
            evictions: Evictions::watch(client.clone()),
            updater: Updater::new(client.clone(), cluster.clone(), events, metrics.clone()),
            controllers: Controllers::new(cluster.clone(), workloads),
            cluster,
            client,
            metrics,
            round_every: interval.unwrap_or(ROUND_DEFAULT),
            last_save: now(),
        }
    }

    pub(crate) async fn run(mut self, changed: Arc<Notify>, stop: CancellationToken) {
        self.recommenders.load(checkpoints::read_all(&self.client).await);
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut last_round, mut rest) = (None, SETTLE);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
                () = changed.notified() => tokio::time::sleep(rest).await,
            }
            let (now, started) = (now(), Instant::now());
            let mut timer = self.metrics.recommender.timer();
            self.recommenders.keep_only(&self.cluster);
            timer.step("GarbageCollect");
            if self.cluster.vertical_autoscalers.is_empty() {
                continue;
            }
            let mut targets = Targets::resolve(&self.cluster, &mut self.controllers, &mut timer).await;
            let evicted = self.recommenders.take_evictions(&self.evictions.take());
            let killed = self.recommenders.look_for_kills(&targets);
            rest = SETTLE.max(started.elapsed() * REST_PER_LOOK);
            let due = last_round.is_none_or(|last| now.since(last) >= self.round_every);
            if due || killed || evicted || self.recommenders.has_news(&targets, now) {
                self.round(&mut targets, now, timer).await;
                last_round = Some(now);
            }
        }
        self.recommenders.save(now()).await;
        self.updater.finish().await;
    }

    async fn round(&mut self, targets: &mut Targets, now: Time, mut timer: Timer) {
        let samples = samples::read(&self.client).await;
        self.metrics.recommender.metrics_answered(samples.is_err());
        match samples {
            Ok(samples) => self.recommenders.observe(targets, &samples),
            Err(error) => tracing::debug!(%error, "no use of pods from metrics.k8s.io"),
        }
        timer.step("LoadMetrics");
        self.recommenders.recommend(targets, now).await;
        timer.step("UpdateVPAs");
        self.updater.update(targets, now).await;
        timer.skip();
        if now.since(self.last_save) >= SAVE {
            self.recommenders.save(now).await;
            self.last_save = now;
        }
        timer.step("MaintainCheckpoints");
        timer.total();
    }
}

fn now() -> Time {
    facts::time_from_ms(Timestamp::now().as_millisecond())
}
