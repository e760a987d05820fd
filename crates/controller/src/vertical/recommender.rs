//! The recommender: use and kills in, recommendations and conditions out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flyball_api::kinds::vertical_pod_autoscaler::{VerticalPodAutoscaler, VerticalPodAutoscalerStatus};
use flyball_api::vertical::pod::{facts, look, status_of};
use flyball_api::vertical::policy::policy;
use flyball_api::vertical::status::{Findings, recommended, status};
use flyball_engine::vertical::{
    ContainerFacts, ContainerId, ContainerLook, ContainerRecommendation, ContainerState, Recommender,
    RecommenderSettings, Resource, VerticalPolicy, VerticalRules, oom_killed,
};
use flyball_engine::{Name, Time};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as MetaTime;
use kube::{Api, Client, ResourceExt};

use super::checkpoints::{self, Loaded};
use super::joint::Joint;
use super::samples::Samples;
use super::targets::{Key, Target, Targets, key};
use crate::act::write_status;
use crate::cluster::Cluster;

/// The recommender that a VerticalPodAutoscaler without `recommenders` gets: VPA's, to the last digit.
const DEFAULT: &str = "default";
/// Ours, which follows within minutes.
const FLYBALL: &str = "flyball";
/// A container that used so much of its limit was throttled: `metrics.k8s.io` tells use, and not how often a quota ended it.
const THROTTLED_PERCENT: i64 = 95;
/// A status of which only the bounds changed is written after this time: they move with every sample.
const BOUNDS_EVERY_SECONDS: u64 = 20;
/// How often checkpoints of what is gone are removed, in saves: every ten minutes, as VPA's.
const ORPHANS_EVERY_SAVES: u64 = 10;

/// The recommenders of all VerticalPodAutoscalers.
pub(super) struct Recommenders {
    client: Client,
    joint: Joint,
    known: BTreeMap<Key, Known>,
    /// Checkpoints that were there at the start, until their VerticalPodAutoscaler is seen.
    loaded: Loaded,
    rules: VerticalRules,
    saves: u64,
}

/// What is known of one.
struct Known {
    uid: String,
    settings: RecommenderSettings,
    recommender: Recommender,
    policy: VerticalPolicy,
    looks: BTreeMap<ContainerId, Look>,
    written: Option<(VerticalPodAutoscalerStatus, Time)>,
}

/// A container as it was seen last.
struct Look {
    state: ContainerState,
    restarts: u32,
    last_oom_killed: bool,
    facts: ContainerFacts,
}

impl Recommenders {
    pub(super) fn new(client: Client, joint: Joint) -> Self {
        Recommenders {
            client,
            joint,
            known: BTreeMap::new(),
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
        if self.known.is_empty() {
            return;
        }
        let living: BTreeSet<(Key, String)> = cluster
            .vertical_autoscalers
            .state()
            .iter()
            .map(|object| (key(object), object.uid().unwrap_or_default()))
            .collect();
        self.known.retain(|key, known| living.contains(&(key.clone(), known.uid.clone())));
    }

    /// Whether somebody waits for a first recommendation, changed what is asked for, or is to have another size.
    pub(super) fn has_news(&self, targets: &Targets, now: Time) -> bool {
        targets.0.iter().filter(|target| is_ours(&target.object)).any(|target| {
            let Some(known) = self.known.get(&target.key()) else { return true };
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
    pub(super) fn look_for_kills(&mut self, targets: &Targets, now: Time) -> bool {
        let mut any = false;
        for target in targets.0.iter().filter(|target| is_ours(&target.object)) {
            let Some(known) = self.known.get_mut(&target.key()) else { continue };
            for pod in &target.pods {
                any |= known.look_at(pod, now);
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
            known.recommender.retain_pods(&live);
            known.looks.retain(|id, _| live.contains(&id.pod));
        }
    }

    /// Writes what is recommended; `targets` have it at once, and need not wait for the watch.
    pub(super) async fn recommend(&mut self, targets: &mut Targets, now: Time) {
        let joint = self.joint.clone();
        joint.keep_only(&targets.0.iter().map(Target::controller).collect::<Vec<_>>());
        for target in targets.0.iter_mut().filter(|target| is_ours(&target.object)) {
            let rules = self.rules;
            let known = self.known_of(target);
            known.recommender.forget_expired(now, &known.policy);
            let mut recommended = known.recommender.recommend(&known.policy, &rules);
            if target.in_charge {
                joint.offer(target.controller(), &recommended, &known.policy);
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
            if known.is_news(object.status.as_ref(), &status, now) {
                known.written = Some((status.clone(), now));
                self.write(target, &status).await;
                object.status = Some(status);
            }
            target.object = Arc::new(object);
        }
    }

    async fn write(&mut self, target: &Target, status: &VerticalPodAutoscalerStatus) {
        let (namespace, name) = target.key();
        let api: Api<VerticalPodAutoscaler> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(error) = write_status(&api, &name, status).await {
            tracing::warn!(vpa = name, namespace, %error, "cannot write a status");
            if let Some(known) = self.known.get_mut(&(namespace, name)) {
                known.written = None;
            }
        }
    }

    /// Writes checkpoints, and now and then removes those that nobody needs.
    pub(super) async fn save(&mut self, now: Time) {
        for (key, known) in &self.known {
            for container in known.recommender.containers() {
                let Some(checkpoint) = known.recommender.save(now, container, &self.rules) else { continue };
                let written = checkpoints::write(&self.client, key, container.as_str(), &checkpoint).await;
                if let Err(error) = written {
                    tracing::warn!(vpa = key.1, %container, %error, "cannot write a checkpoint");
                }
            }
        }
        self.saves += 1;
        if self.saves.is_multiple_of(ORPHANS_EVERY_SAVES) {
            let exists = |key: &Key| self.known.contains_key(key);
            if let Err(error) = checkpoints::remove_orphans(&self.client, exists).await {
                tracing::warn!(%error, "cannot remove checkpoints");
            }
        }
    }

    fn known_of(&mut self, target: &Target) -> &mut Known {
        let key = target.key();
        let policy = policy(&target.object);
        let loaded = self.loaded.remove(&key);
        let known = self.known.entry(key.clone()).or_insert_with(|| Known {
            uid: target.object.uid().unwrap_or_default(),
            settings: settings(&target.object),
            recommender: Recommender::new(settings(&target.object)),
            policy: VerticalPolicy::default(),
            looks: BTreeMap::new(),
            written: None,
        });
        known.policy = policy;
        if known.settings != settings(&target.object) {
            known.settings = settings(&target.object);
            known.recommender = Recommender::new(known.settings);
        }
        for (container, status) in loaded.into_iter().flatten() {
            let name = Name::from(container.as_str());
            let result = checkpoints::parse(status).and_then(|checkpoint| {
                known.recommender.load(super::now(), &name, &checkpoint).map_err(|error| error.to_string())
            });
            if let Err(error) = result {
                tracing::warn!(vpa = key.1, container, error, "a checkpoint is left out");
            }
        }
        known
    }
}

/// The recommender that is asked.
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

impl Known {
    fn sample(&mut self, pod: &Pod, samples: &Samples) {
        let name = (pod.namespace().unwrap_or_default(), pod.name_any());
        let Some(sample) = samples.get(&name) else { return };
        for own in facts(pod).containers {
            let Some((_, used)) = sample.containers.iter().find(|(name, _)| own.name == **name) else {
                continue;
            };
            let id = ContainerId::new(pod.name_any(), own.name.clone());
            // what was taken in before is refused, which is as it should be
            if let Some(millis) = used.cpu_millis
                && self.recommender.cpu_used(&id, sample.at, millis).is_ok()
                && let Some(limit) = own.resources().limits.bound(Resource::Cpu)
                && millis.saturating_mul(100) >= limit.saturating_mul(THROTTLED_PERCENT)
            {
                self.recommender.cpu_throttled(&id, sample.at, limit);
            }
            if let Some(bytes) = used.memory_bytes {
                let _ = self.recommender.memory_used(&id, sample.at, bytes, &self.policy);
            }
        }
    }

    fn look_at(&mut self, pod: &Pod, now: Time) -> bool {
        let mut killed = false;
        for facts in facts(pod).containers {
            let Some(status) = status_of(pod, facts.name.as_str()) else { continue };
            let id = ContainerId::new(pod.name_any(), facts.name.clone());
            let before = self.looks.get(&id);
            let restarts = before.map_or(u32::MAX, |before| before.restarts);
            let (state, restarts, last_oom_killed) = {
                let new = look(status, restarts, &facts);
                if let Some(before) = before
                    && let Some(requested) = oom_killed(&before.look(), &new)
                {
                    killed = true;
                    let _ = self.recommender.oom_killed(&id, now, requested, &self.policy);
                }
                (new.state, new.restarts, new.last_oom_killed)
            };
            self.looks.insert(id, Look { state, restarts, last_oom_killed, facts });
        }
        killed
    }

    /// Whether a status has to be written now.
    fn is_news(
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
        coarse(shown) != coarse(status) || (waited && shown != status)
    }
}

impl Look {
    fn look(&self) -> ContainerLook<'_> {
        ContainerLook {
            state: self.state,
            restarts: self.restarts,
            last_oom_killed: self.last_oom_killed,
            facts: &self.facts,
        }
    }
}

/// Kubernetes' times have no fractions of a second.
fn second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
