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
pub(crate) mod joint;
mod recommender;
mod samples;
mod targets;
mod updater;

use std::sync::Arc;
use std::time::Duration;

use flyball_engine::Time;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::act::events::Events;
use crate::cluster::Cluster;
use crate::facts;
use crate::workload::Workloads;
use joint::Joint;
use recommender::Recommenders;
use targets::Targets;
use updater::Updater;

/// `--recommender-interval` and `--updater-interval`.
const ROUND_DEFAULT: Duration = Duration::from_secs(60);
/// Changes within this time of one another are looked at together.
const SETTLE: Duration = Duration::from_millis(20);
/// How often kills and other sizes are looked for, if nothing changes.
const LOOK: Duration = Duration::from_secs(1);
/// How often checkpoints are written; VPA writes them in every round, which is as often.
const SAVE: Duration = Duration::from_secs(60);

/// The loop and what it owns.
pub(crate) struct Vertical {
    cluster: Cluster,
    workloads: Workloads,
    client: Client,
    recommenders: Recommenders,
    updater: Updater,
    round_every: Duration,
}

impl Vertical {
    pub(crate) fn new(
        client: Client,
        cluster: Cluster,
        workloads: Workloads,
        joint: Joint,
        interval: Option<Duration>,
    ) -> Self {
        Vertical {
            recommenders: Recommenders::new(client.clone(), joint),
            updater: Updater::new(client.clone(), cluster.clone(), Events::new(client.clone())),
            cluster,
            workloads,
            client,
            round_every: interval.unwrap_or(ROUND_DEFAULT),
        }
    }

    pub(crate) async fn run(mut self, changed: Arc<Notify>, stop: CancellationToken) {
        self.recommenders.load(checkpoints::read_all(&self.client).await);
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut last_round, mut last_save) = (None, now());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
                () = changed.notified() => tokio::time::sleep(SETTLE).await,
            }
            let now = now();
            self.recommenders.keep_only(&self.cluster);
            if self.cluster.vertical_autoscalers.is_empty() {
                continue;
            }
            let mut targets = Targets::resolve(&self.cluster, &self.workloads).await;
            let killed = self.recommenders.look_for_kills(&targets, now);
            let due = last_round.is_none_or(|last| now.since(last) >= self.round_every);
            if due || killed || self.recommenders.has_news(&targets, now) {
                self.round(&mut targets, now).await;
                last_round = Some(now);
            }
            if now.since(last_save) >= SAVE {
                self.recommenders.save(now).await;
                last_save = now;
            }
        }
        self.recommenders.save(now()).await;
    }

    async fn round(&mut self, targets: &mut Targets, now: Time) {
        match samples::read(&self.client).await {
            Ok(samples) => self.recommenders.observe(targets, &samples),
            Err(error) => tracing::debug!(%error, "no use of pods from metrics.k8s.io"),
        }
        self.recommenders.recommend(targets, now).await;
        self.updater.update(targets, now).await;
    }
}

fn now() -> Time {
    facts::time_from_ms(Timestamp::now().as_millisecond())
}
