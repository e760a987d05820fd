//! What is known of one VerticalPodAutoscaler: its samples, its pods as they were seen last, and the status that was written.

use std::collections::{BTreeMap, BTreeSet};

use flyball_api::kinds::vertical_pod_autoscaler::{VerticalPodAutoscaler, VerticalPodAutoscalerStatus};
use flyball_api::vertical::pod::{facts, look, status_of};
use flyball_api::vertical::policy::{mode_name, policy};
use flyball_engine::vertical::{
    Checkpoint, ContainerFacts, ContainerId, ContainerLook, ContainerRecommendation, ContainerState,
    PeakChange, PodFacts, Recommender, RecommenderSettings, Rejected, Resource, VerticalPolicy,
    VerticalRules, oom_killed,
};
use flyball_engine::{Name, Time};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use super::evictions::Eviction;
use super::samples::Samples;
use crate::gather::facts::engine_time;
use crate::tell::telemetry::{Sample, VpaMetrics};

/// A container that used this much of its limit counts as throttled: `metrics.k8s.io` reports usage, not throttling.
const THROTTLED_PERCENT: i64 = 95;
/// A status whose bounds alone changed is written after this time: bounds move with every sample.
const BOUNDS_EVERY_SECONDS: u64 = 20;

/// The state of the recommender of one VerticalPodAutoscaler.
pub(super) struct RecommenderState {
    pub(super) uid: String,
    settings: RecommenderSettings,
    pub(super) recommender: Recommender,
    pub(super) policy: VerticalPolicy,
    update_mode: &'static str,
    pub(super) written: Option<(VerticalPodAutoscalerStatus, Time)>,
    /// Whether a round has ended with a recommendation, or without one.
    pub(super) had_round: bool,
    /// Before it was capped, by container.
    uncapped: BTreeMap<Name, ContainerRecommendation>,
    /// The checkpoints that were written last, without their time.
    saved: BTreeMap<Name, Checkpoint>,
    looks: BTreeMap<ContainerId, ContainerSnapshot>,
    /// The versions of the pods that were read: an unchanged pod has nothing new.
    versions: BTreeMap<Name, String>,
    /// Kills up to then are known: when the checkpoints that were loaded were written, or the last kill.
    learned_until: Time,
    metrics: VpaMetrics,
}

/// The last observation of a container.
struct ContainerSnapshot {
    state: ContainerState,
    restarts: u32,
    last_oom_killed: bool,
    facts: ContainerFacts,
}

impl RecommenderState {
    pub(super) fn new(
        object: &VerticalPodAutoscaler,
        settings: RecommenderSettings,
        metrics: VpaMetrics,
    ) -> RecommenderState {
        RecommenderState {
            uid: object.uid().unwrap_or_default(),
            settings,
            recommender: Recommender::new(settings),
            policy: policy(object),
            update_mode: mode_name(object),
            written: None,
            had_round: false,
            uncapped: BTreeMap::new(),
            saved: BTreeMap::new(),
            looks: BTreeMap::new(),
            versions: BTreeMap::new(),
            learned_until: Time::default(),
            metrics,
        }
    }

    /// Takes in what is asked for now. Another recommender starts anew.
    pub(super) fn update(&mut self, object: &VerticalPodAutoscaler, settings: RecommenderSettings) {
        self.policy = policy(object);
        self.update_mode = mode_name(object);
        if self.settings != settings {
            self.settings = settings;
            self.recommender = Recommender::new(settings);
        }
    }

    /// Takes in a checkpoint.
    pub(super) fn load(
        &mut self,
        now: Time,
        container: &Name,
        checkpoint: &Checkpoint,
    ) -> Result<(), String> {
        self.recommender.load(now, container, checkpoint).map_err(|error| error.to_string())?;
        self.learned_until = self.learned_until.max(checkpoint.last_update_time.unwrap_or_default());
        Ok(())
    }

    /// Forgets the pods that are gone.
    pub(super) fn retain_pods(&mut self, live: &BTreeSet<Name>) {
        self.recommender.retain_pods(live);
        self.looks.retain(|id, _| live.contains(&id.pod));
        self.versions.retain(|pod, _| live.contains(pod));
    }

    /// Takes in what a pod's containers used.
    pub(super) fn sample(&mut self, pod: &Pod, samples: &Samples) {
        let name = (pod.namespace().unwrap_or_default(), pod.name_any());
        let Some(sample) = samples.get(&name) else { return };
        let pod = self.read(pod);
        for own in &pod.containers {
            let Some((_, used)) = sample.containers.iter().find(|(name, _)| own.name == **name) else {
                continue;
            };
            let id = ContainerId::new(pod.name.clone(), own.name.clone());
            // what was taken in before is refused, which is as it should be
            if let Some(millis) = used.cpu_millis
                && self.recommender.cpu_used(&id, sample.at, millis).is_ok()
            {
                self.compare(&own.name, Resource::Cpu, millis, false);
                let limit = own.resources().limits.bound(Resource::Cpu);
                if let Some(limit) = limit.filter(|limit| is_throttled(millis, *limit)) {
                    self.recommender.cpu_throttled(&id, sample.at, limit);
                }
            }
            if let Some(bytes) = used.memory_bytes
                && self.recommender.memory_used(&id, sample.at, bytes, &self.policy).is_ok()
            {
                self.compare(&own.name, Resource::Memory, bytes, false);
            }
        }
    }

    /// Takes in how a pod's containers are; whether one was killed for want of memory since the last look.
    pub(super) fn look_at(&mut self, pod: &Pod) -> bool {
        let name = Name::from(pod.name_any());
        let version = pod.resource_version().unwrap_or_default();
        if self.versions.get(&name).is_some_and(|seen| *seen == version) {
            return false;
        }
        self.versions.insert(name, version);
        let mut killed = false;
        let pod_facts = self.read(pod);
        for facts in pod_facts.containers {
            let Some(status) = status_of(pod, facts.name.as_str()) else { continue };
            let id = ContainerId::new(pod_facts.name.clone(), facts.name.clone());
            let before = self.looks.get(&id);
            let new = look(status, before.map_or(u32::MAX, |before| before.restarts), &facts);
            let requested = match before {
                Some(before) => oom_killed(&before.look(), &new),
                None => self.killed_before_first_look(status).then(|| requested(&facts)),
            };
            let new = (new.state, new.restarts, new.last_oom_killed);
            if let Some(requested) = requested {
                let at = last_kill(status).unwrap_or_else(super::now);
                killed |= self.oom_killed(&id, at, requested).is_ok();
            }
            let (state, restarts, last_oom_killed) = new;
            self.looks.insert(id, ContainerSnapshot { state, restarts, last_oom_killed, facts });
        }
        killed
    }

    /// Takes in that a container was evicted; whether it is one of these.
    pub(super) fn evicted(&mut self, eviction: &Eviction) -> bool {
        let id = ContainerId::new(eviction.pod.as_str(), eviction.container.as_str());
        self.looks.contains_key(&id) && self.oom_killed(&id, eviction.at, eviction.used_bytes).is_ok()
    }

    /// Whether a container that is seen for the first time was killed when nobody looked: VPA follows all pods, with a
    /// VerticalPodAutoscaler or without, and so would know.
    fn killed_before_first_look(&self, status: &ContainerStatus) -> bool {
        let interval = self.settings.memory.interval;
        last_kill(status).is_some_and(|at| at > self.learned_until && super::now().since(at) < interval)
    }

    fn oom_killed(&mut self, id: &ContainerId, at: Time, bytes: i64) -> Result<Option<PeakChange>, Rejected> {
        let change = self.recommender.oom_killed(id, at, bytes, &self.policy)?;
        self.learned_until = self.learned_until.max(at);
        self.compare(&id.container, Resource::Memory, bytes, true);
        Ok(change)
    }

    fn read(&self, pod: &Pod) -> PodFacts {
        let facts = facts(pod);
        self.metrics.read_resources(&facts);
        facts
    }

    fn compare(&self, container: &Name, resource: Resource, used: i64, is_oom: bool) {
        if self.policy.container(container).off {
            return;
        }
        let recommended = self.uncapped.get(container).and_then(|one| one.uncapped_target.get(resource));
        self.metrics.quality.sample(Sample {
            update_mode: self.update_mode,
            resource,
            is_oom,
            used,
            recommended,
        });
    }

    /// What is recommended now, to so many pods.
    pub(super) fn recommend(
        &mut self,
        now: Time,
        rules: &VerticalRules,
        pods: usize,
    ) -> Vec<ContainerRecommendation> {
        self.had_round = true;
        self.recommender.forget_expired(now, &self.policy);
        let recommended = self.recommender.recommend(&self.policy, rules);
        for one in &recommended {
            if let Some(before) = self.uncapped.insert(one.container.clone(), one.clone()) {
                let (before, now) = (&before.uncapped_target, &one.uncapped_target);
                self.metrics.quality.changed(self.update_mode, pods, before, now);
            }
        }
        recommended
    }

    /// The checkpoints of its containers that say something new since the last ones.
    pub(super) fn checkpoints(&mut self, now: Time, rules: &VerticalRules) -> Vec<(Name, Checkpoint)> {
        let names: Vec<Name> = self.recommender.containers().cloned().collect();
        let mut changed = Vec::new();
        for container in names {
            let Some(checkpoint) = self.recommender.save(now, &container, rules) else { continue };
            let undated = Checkpoint { last_update_time: None, ..checkpoint.clone() };
            if self.saved.insert(container.clone(), undated.clone()) != Some(undated) {
                changed.push((container, checkpoint));
            }
        }
        changed
    }

    /// The checkpoint of a container could not be written.
    pub(super) fn unsaved(&mut self, container: &Name) {
        self.saved.remove(container);
    }

    /// Whether a status has to be written now.
    pub(super) fn is_news(
        &self,
        shown: Option<&VerticalPodAutoscalerStatus>,
        status: &VerticalPodAutoscalerStatus,
        now: Time,
    ) -> bool {
        let Some(shown) = shown else { return true };
        let coarse = |status: &VerticalPodAutoscalerStatus| {
            let mut status = status.clone();
            for one in status.recommendation.iter_mut().flat_map(|all| &mut all.container_recommendations) {
                one.lower_bound.clear();
                one.upper_bound.clear();
            }
            status
        };
        let waited =
            self.written.as_ref().is_none_or(|(_, at)| now.since(*at).as_secs() >= BOUNDS_EVERY_SECONDS);
        shown != status && (waited || coarse(shown) != coarse(status))
    }
}

impl ContainerSnapshot {
    fn look(&self) -> ContainerLook<'_> {
        ContainerLook {
            state: self.state,
            restarts: self.restarts,
            last_oom_killed: self.last_oom_killed,
            facts: &self.facts,
        }
    }
}

fn is_throttled(millis: i64, limit: i64) -> bool {
    millis.saturating_mul(100) >= limit.saturating_mul(THROTTLED_PERCENT)
}

fn requested(facts: &ContainerFacts) -> i64 {
    facts.resources().requests.amount(Resource::Memory)
}

/// When a container was killed for want of memory, if that is how it ended last.
fn last_kill(status: &ContainerStatus) -> Option<Time> {
    let ends = [&status.state, &status.last_state].map(|state| state.as_ref()?.terminated.as_ref());
    let killed = ends.into_iter().flatten().find(|end| end.reason.as_deref() == Some("OOMKilled"))?;
    killed.finished_at.as_ref().map(|time| engine_time(time.0))
}
