//! The recommender: use and kills in, recommendations and conditions out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use flyball_api::kinds::vertical_pod_autoscaler::{VerticalPodAutoscaler, VerticalPodAutoscalerStatus};
use flyball_api::vertical::policy::{mode_name, policy};
use flyball_api::vertical::status::{Findings, recommended, status};
use flyball_engine::vertical::{Checkpoint, ContainerRecommendation, RecommenderSettings, VerticalRules};
use flyball_engine::{Name, Time};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as MetaTime;
use kube::{Api, Client, ResourceExt};

use super::WORKERS;
use super::checkpoints::{self, Loaded};
use super::evictions::Eviction;
use super::joint::Joint;
use super::samples::Samples;
use super::state::RecommenderState;
use super::targets::{Key, Targets, VpaTarget, key, place};
use crate::act::write::write_status;
use crate::gather::cluster::Cluster;
use crate::tell::telemetry::{ObjectKind, VpaMetrics};

/// The recommender that a VerticalPodAutoscaler without `recommenders` gets: VPA's, to the last digit.
const DEFAULT: &str = "default";
/// Ours, which follows within minutes.
const FLYBALL: &str = "flyball";
/// How often checkpoints of what is gone are removed, in saves: every ten minutes, as VPA's.
const ORPHANS_EVERY_SAVES: u64 = 10;

/// The recommenders of all VerticalPodAutoscalers.
pub(super) struct Recommenders {
    client: Client,
    joint: Joint,
    metrics: VpaMetrics,
    known: BTreeMap<Key, RecommenderState>,
    /// The uids of all that there are, also of those that other recommenders recommend to.
    living: BTreeMap<Key, String>,
    /// Checkpoints that were there at the start, until their VerticalPodAutoscaler is seen.
    loaded: Loaded,
    rules: VerticalRules,
    saves: u64,
}

impl Recommenders {
    pub(super) fn new(client: Client, joint: Joint, metrics: VpaMetrics) -> Self {
        Recommenders {
            client,
            joint,
            metrics,
            known: BTreeMap::new(),
            living: BTreeMap::new(),
            loaded: Loaded::new(),
            rules: VerticalRules::default(),
            saves: 0,
        }
    }

    /// Remembers what was learned before the start.
    pub(super) fn load(&mut self, loaded: Loaded) {
        self.loaded = loaded;
    }

    /// Forgets what is gone.
    pub(super) fn keep_only(&mut self, cluster: &Cluster) {
        let objects = cluster.vertical_autoscalers.state();
        self.living = objects.iter().map(|object| (key(object), object.uid().unwrap_or_default())).collect();
        self.known.retain(|key, known| self.living.get(key) == Some(&known.uid));
        // Also the last one that goes takes its size along, and does not wait for a round.
        self.joint.keep_only(|| {
            let ours = objects.iter().filter(|object| is_ours(object));
            ours.map(|object| (place(object), object.uid().unwrap_or_default())).collect()
        });
    }

    /// Whether a first recommendation is awaited, a policy has changed, or a size has.
    pub(super) fn has_news(&self, targets: &Targets, now: Time) -> bool {
        targets.0.iter().filter(|target| is_ours(&target.object)).any(|target| {
            let known = self.known.get(&target.key()).filter(|known| known.had_round);
            let Some(known) = known else { return true };
            let shown = known.written.as_ref().map(|(status, _)| recommended(Some(status)));
            let resized = target.in_charge
                && self.joint.desired(&target.controller(), now).is_some_and(|desired| {
                    let cpu = |all: &[ContainerRecommendation]| -> Vec<_> {
                        all.iter().map(|one| (one.container.clone(), one.target.cpu_millis)).collect()
                    };
                    shown.is_none_or(|shown| cpu(&shown) != cpu(&desired))
                });
            resized || known.policy != policy(&target.object)
        })
    }

    /// Takes in the kills since the last look; whether there were any.
    pub(super) fn look_for_kills(&mut self, targets: &Targets) -> bool {
        let mut any = false;
        for target in targets.0.iter().filter(|target| is_ours(&target.object)) {
            let known = self.known_of(target);
            for pod in &target.pods {
                any |= known.look_at(pod);
            }
        }
        any
    }

    /// Takes in what kubelets evicted; whether any of it is sized here.
    pub(super) fn take_evictions(&mut self, evictions: &[Eviction]) -> bool {
        let mut any = false;
        for eviction in evictions {
            let of_namespace =
                self.known.iter_mut().filter(|((namespace, _), _)| *namespace == eviction.namespace);
            for (_, known) in of_namespace {
                any |= known.evicted(eviction);
            }
        }
        any
    }

    /// Takes in samples.
    pub(super) fn observe(&mut self, targets: &Targets, samples: &Samples) {
        for target in targets.0.iter().filter(|target| is_ours(&target.object)) {
            let known = self.known_of(target);
            let mut live = BTreeSet::new();
            for pod in &target.pods {
                live.insert(Name::from(pod.name_any()));
                known.sample(pod, samples);
            }
            known.retain_pods(&live);
        }
        self.metrics
            .recommender
            .states(self.known.values().map(|known| known.recommender.containers().count()).sum());
    }

    /// Writes what is recommended; `targets` have it at once, and need not wait for the watch.
    pub(super) async fn recommend(&mut self, targets: &mut Targets, now: Time) {
        let (mut news, mut counts) = (Vec::new(), BTreeMap::new());
        for target in targets.0.iter_mut().filter(|target| is_ours(&target.object)) {
            if let Some(status) = self.recommend_to(target, now) {
                news.push((target.key(), status));
            }
            *counts.entry(object_kind(target)).or_default() += 1;
        }
        self.metrics.recommender.objects(&counts);
        self.write(news).await;
    }

    /// The new status of one, if it says something new.
    fn recommend_to(&mut self, target: &mut VpaTarget, now: Time) -> Option<VerticalPodAutoscalerStatus> {
        let (joint, rules, metrics) = (self.joint.clone(), self.rules, self.metrics.clone());
        let known = self.known_of(target);
        let mut recommended = known.recommend(now, &rules, target.pods.len());
        if target.in_charge {
            joint.offer(target.controller(), &known.uid, &recommended, &known.policy);
            recommended = joint.desired(&target.controller(), now).unwrap_or(recommended);
        }
        let found = Findings {
            recommended: &recommended,
            has_pods: !target.pods.is_empty(),
            unsupported: target.unsupported.clone(),
        };
        let mut object = VerticalPodAutoscaler::clone(&target.object);
        if let Some((written, _)) = &known.written {
            object.status = Some(written.clone());
        }
        let status = status(&object, &found, MetaTime(second(Timestamp::now())));
        let news = known.is_news(object.status.as_ref(), &status, now).then(|| {
            known.written = Some((status.clone(), now));
            if is_first(object.status.as_ref(), &status) {
                metrics.recommender.recommended_first(age(&object));
            }
            object.status = Some(status.clone());
            status
        });
        target.object = Arc::new(object);
        news
    }

    /// Writes statuses, some at once. One that cannot be written is new again in the next round.
    async fn write(&mut self, news: Vec<(Key, VerticalPodAutoscalerStatus)>) {
        let written: Vec<_> = news.into_iter().map(|one| write(&self.client, one)).collect();
        let failed: Vec<Option<Key>> = stream::iter(written).buffer_unordered(WORKERS).collect().await;
        for key in failed.into_iter().flatten() {
            if let Some(known) = self.known.get_mut(&key) {
                known.written = None;
            }
        }
    }

    /// Writes the changed checkpoints, and removes unused ones now and then.
    pub(super) async fn save(&mut self, now: Time) {
        let mut changed = Vec::new();
        for (key, known) in &mut self.known {
            let containers = known.checkpoints(now, &self.rules);
            changed.extend(
                containers.into_iter().map(|(container, checkpoint)| (key.clone(), container, checkpoint)),
            );
        }
        let written: Vec<_> = changed.into_iter().map(|one| save(&self.client, one)).collect();
        let failed: Vec<Option<(Key, Name)>> =
            stream::iter(written).buffer_unordered(WORKERS).collect().await;
        for (key, container) in failed.into_iter().flatten() {
            if let Some(known) = self.known.get_mut(&key) {
                known.unsaved(&container);
            }
        }
        self.saves += 1;
        if self.saves.is_multiple_of(ORPHANS_EVERY_SAVES) {
            let exists = |key: &Key| self.living.contains_key(key);
            if let Err(error) = checkpoints::remove_orphans(&self.client, exists).await {
                tracing::warn!(%error, "cannot remove checkpoints");
            }
        }
    }

    fn known_of(&mut self, target: &VpaTarget) -> &mut RecommenderState {
        let key = target.key();
        let loaded = self.loaded.remove(&key);
        let settings = settings(&target.object);
        let known = self
            .known
            .entry(key.clone())
            .or_insert_with(|| RecommenderState::new(&target.object, settings, self.metrics.clone()));
        known.update(&target.object, settings);
        for (container, status) in loaded.into_iter().flatten() {
            let name = Name::from(container.as_str());
            let result = checkpoints::parse(status)
                .and_then(|checkpoint| known.load(super::now(), &name, &checkpoint));
            if let Err(error) = result {
                tracing::warn!(vpa = key.1, container, error, "a checkpoint is left out");
            }
        }
        known
    }
}

/// Writes a status; whose it is if that failed.
async fn write(client: &Client, (key, status): (Key, VerticalPodAutoscalerStatus)) -> Option<Key> {
    let api: Api<VerticalPodAutoscaler> = Api::namespaced(client.clone(), &key.0);
    let error = write_status(&api, &key.1, &status).await.err()?;
    tracing::warn!(vpa = key.1, namespace = key.0, %error, "cannot write a status");
    Some(key)
}

/// Writes a checkpoint; whose it is if that failed.
async fn save(client: &Client, (key, container, checkpoint): (Key, Name, Checkpoint)) -> Option<(Key, Name)> {
    let error = checkpoints::write(client, &key, container.as_str(), &checkpoint).await.err()?;
    tracing::warn!(vpa = key.1, %container, %error, "cannot write a checkpoint");
    Some((key, container))
}

/// The recommender that an object names.
fn recommender_name(object: &VerticalPodAutoscaler) -> &str {
    object.spec.recommenders.first().map_or(DEFAULT, |one| one.name.as_str())
}

/// Whether it is one of these; others recommend by themselves.
fn is_ours(object: &VerticalPodAutoscaler) -> bool {
    [DEFAULT, FLYBALL].contains(&recommender_name(object))
}

fn settings(object: &VerticalPodAutoscaler) -> RecommenderSettings {
    match recommender_name(object) {
        FLYBALL => RecommenderSettings::flyball(),
        _ => RecommenderSettings::default(),
    }
}

fn object_kind(target: &VpaTarget) -> ObjectKind {
    ObjectKind {
        update_mode: mode_name(&target.object),
        has_recommendation: has_recommendation(target.object.status.as_ref()),
        matches_pods: !target.pods.is_empty(),
        unsupported_config: target.unsupported.is_some(),
    }
}

fn has_recommendation(status: Option<&VerticalPodAutoscalerStatus>) -> bool {
    status.is_some_and(|status| status.recommendation.is_some())
}

fn is_first(before: Option<&VerticalPodAutoscalerStatus>, now: &VerticalPodAutoscalerStatus) -> bool {
    has_recommendation(Some(now)) && !has_recommendation(before)
}

/// How long ago it was created.
fn age(object: &VerticalPodAutoscaler) -> Duration {
    let created = object.creation_timestamp().map_or_else(Timestamp::now, |time| time.0);
    Timestamp::now().duration_since(created).try_into().unwrap_or_default()
}

/// Kubernetes' times have no fractions of a second.
fn second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
