//! The recommender of one VerticalPodAutoscaler: it is told what containers use, and says what they should ask for.
//!
//! It keeps one history for each container name, and for each running container only what belongs to the current
//! memory interval. Samples of a container that ran and is gone stay in its history; a history without samples for
//! eight intervals is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use super::cap::for_status;
use super::estimate::{ContainerRecommendation, EstimatorSettings};
use super::histogram::CheckpointError;
use super::history::{Checkpoint, ContainerHistory, HalfLives};
use super::peaks::{MemoryPeak, MemorySettings, PeakChange, Rejected};
use super::policy::{VerticalPolicy, VerticalRules};
use crate::name::Name;
use crate::time::Time;

/// All settings of a recommender, with VPA's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RecommenderSettings {
    /// How an estimate is made.
    pub estimator: EstimatorSettings,
    /// How fast is forgotten.
    pub half_lives: HalfLives,
    /// How memory is gathered.
    pub memory: MemorySettings,
    /// By what was used lately: the recommender `flyball`.
    pub recent: bool,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId {
    /// The pod's name.
    pub pod: Name,
    /// The container's.
    pub container: Name,
}

impl ContainerId {
    /// A container of a pod.
    pub fn new(pod: impl Into<Name>, container: impl Into<Name>) -> Self {
        Self { pod: pod.into(), container: container.into() }
    }
}

/// What belongs to one running container alone.
#[derive(Clone, Copy, Debug, Default)]
struct Running {
    last_cpu: Option<Time>,
    memory: MemoryPeak,
}

/// The recommender of one VerticalPodAutoscaler.
#[derive(Clone, Debug)]
pub struct Recommender {
    settings: RecommenderSettings,
    histories: BTreeMap<Name, ContainerHistory>,
    running: BTreeMap<ContainerId, Running>,
}

impl Recommender {
    /// One that knows nothing.
    pub fn new(settings: RecommenderSettings) -> Self {
        Self { settings, histories: BTreeMap::new(), running: BTreeMap::new() }
    }

    /// The names of the containers that something is known of.
    pub fn containers(&self) -> impl Iterator<Item = &Name> {
        self.histories.keys()
    }

    /// What is known of the containers of one name.
    pub fn history(&self, container: &Name) -> Option<&ContainerHistory> {
        self.histories.get(container)
    }

    /// A container used so much CPU.
    ///
    /// # Errors
    ///
    /// A negative amount, or one not younger than the last. Nothing changes.
    pub fn cpu_used(&mut self, id: &ContainerId, at: Time, millis: i64) -> Result<(), Rejected> {
        let running = self.running.entry(id.clone()).or_default();
        if millis < 0 || running.last_cpu.is_some_and(|last| at <= last) {
            return Err(Rejected);
        }
        running.last_cpu = Some(at);
        self.history_of(id, at).add_cpu(at, millis);
        Ok(())
    }

    /// A container was held at its CPU limit, and would have used more. Only the recommender `flyball` listens.
    pub fn cpu_throttled(&mut self, id: &ContainerId, at: Time, limit_millis: i64) {
        self.history_of(id, at).add_throttled(at, limit_millis.max(0));
    }

    /// A container used so much memory. Says how that changed its peak, if it did.
    ///
    /// # Errors
    ///
    /// A negative amount, or one older than the last. Nothing changes.
    pub fn memory_used(
        &mut self,
        id: &ContainerId,
        at: Time,
        bytes: i64,
        policy: &VerticalPolicy,
    ) -> Result<Option<PeakChange>, Rejected> {
        let settings = policy.container(&id.container).memory.over(self.settings.memory);
        let change = self.running.entry(id.clone()).or_default().memory.used(at, bytes, &settings)?;
        Ok(self.add_memory(id, at, bytes, change))
    }

    /// A container that requested so much was killed for want of memory. Says how that changed its peak, if it did.
    ///
    /// # Errors
    ///
    /// It happened more than an interval before the last sample. Nothing changes.
    pub fn oom_killed(
        &mut self,
        id: &ContainerId,
        at: Time,
        requested_bytes: i64,
        policy: &VerticalPolicy,
    ) -> Result<Option<PeakChange>, Rejected> {
        let settings = policy.container(&id.container).memory.over(self.settings.memory);
        let memory = &mut self.running.entry(id.clone()).or_default().memory;
        let needed = settings.needed_after_oom(requested_bytes, memory.used_bytes());
        let change = memory.killed(at, requested_bytes, &settings)?;
        Ok(self.add_memory(id, at, needed, change))
    }

    fn add_memory(
        &mut self,
        id: &ContainerId,
        at: Time,
        bytes: i64,
        change: Option<PeakChange>,
    ) -> Option<PeakChange> {
        let history = self.history_of(id, at);
        history.add_memory(at, bytes);
        if let Some(change) = &change {
            history.add_peak(change);
        }
        change
    }

    fn history_of(&mut self, id: &ContainerId, now: Time) -> &mut ContainerHistory {
        let half_lives = self.settings.half_lives;
        self.histories.entry(id.container.clone()).or_insert_with(|| ContainerHistory::new(now, half_lives))
    }

    /// Forgets the running containers of pods that are gone. Their samples stay.
    pub fn retain_pods(&mut self, live: &BTreeSet<Name>) {
        self.running.retain(|id, _| live.contains(&id.pod));
    }

    /// Forgets histories without samples for so long that they say nothing any more.
    pub fn forget_expired(&mut self, now: Time, policy: &VerticalPolicy) {
        let settings = self.settings.memory;
        self.histories.retain(|container, history| {
            !policy.container(container).memory.over(settings).expired(history.age(now))
        });
    }

    /// What each container should ask for, by name; only of those that have samples and are not switched off.
    pub fn recommend(&self, policy: &VerticalPolicy, rules: &VerticalRules) -> Vec<ContainerRecommendation> {
        let recent = self.settings.recent;
        let sized = |(container, history): &(&Name, &ContainerHistory)| {
            let sampled = history.samples() > 0 || recent && !history.recent().is_empty();
            sampled && !policy.container(container).off
        };
        let sized: Vec<_> = self.histories.iter().filter(sized).collect();
        let count = u32::try_from(sized.len()).unwrap_or(u32::MAX);
        let estimate = |(container, history): (&Name, &ContainerHistory)| {
            let controlled = &policy.container(container).controlled;
            let estimate = self.settings.estimator.estimate(container, history, count, controlled, recent);
            for_status(estimate, policy, rules)
        };
        sized.into_iter().map(estimate).collect()
    }

    /// The checkpoint of a container's history, in VPA's format.
    pub fn save(&self, now: Time, container: &Name, rules: &VerticalRules) -> Option<Checkpoint> {
        let history = self.histories.get(container)?;
        let own =
            self.running.iter().filter(|(id, _)| id.container == *container && !rules.keep_unfinished_peaks);
        let unfinished: Vec<_> = own.filter_map(|(_, running)| running.memory.current()).collect();
        Some(history.save(now, &unfinished))
    }

    /// Adds what a checkpoint of a container holds to its history.
    ///
    /// # Errors
    ///
    /// A checkpoint of another version, or one that makes no sense. Nothing changes.
    pub fn load(
        &mut self,
        now: Time,
        container: &Name,
        checkpoint: &Checkpoint,
    ) -> Result<(), CheckpointError> {
        let loaded = ContainerHistory::load(now, self.settings.half_lives, checkpoint)?;
        match self.histories.get_mut(container) {
            Some(history) => history.merge(&loaded),
            None => {
                self.histories.insert(container.clone(), loaded);
            }
        }
        Ok(())
    }
}
