//! A usage history through a recommender and the updater, for one container of one pod that is resized in place.
//!
//! At each sample the container uses what the history says, as far as its CPU limit goes: what is beyond is throttled
//! and lost. If it needs more memory than its limit it is killed, and starts again until the next sample. Once a minute
//! the recommender recommends and the updater decides, by the same code as in a cluster. Limits keep their proportion to
//! requests.
//!
//! The first day is left out of the report: VPA's bounds have no end before.

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_engine::Time;
use flyball_engine::vertical::{
    Action, Configured, ContainerFacts, ContainerId, ContainerResources, LimitRanges, PodFacts, Recommender,
    RecommenderSettings, Resource, Resources, Round, Termination, UpdateMode, VerticalPolicy, VerticalRules,
};
use serde::Serialize;

use crate::usage::{Sample, UsageHistory};

/// The recommender and the updater run this often.
const EVERY: Duration = Duration::from_secs(60);

/// What is replayed, and with what.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Which recommender.
    pub settings: RecommenderSettings,
    /// Its policy, such as `minAllowed`.
    pub policy: VerticalPolicy,
    /// What the container requests at first.
    pub requests: Resources,
    /// How many times its request a limit is; at least 1.
    pub limit_ratio: f64,
    /// So much of the beginning is left out of the report.
    pub warm_up: Duration,
}

impl Replay {
    /// One that starts with little, has limits as high as its requests, and leaves out the first day.
    pub fn new(settings: RecommenderSettings) -> Self {
        Self {
            settings,
            policy: VerticalPolicy { mode: UpdateMode::InPlaceOrRecreate, ..VerticalPolicy::default() },
            requests: Resources::new(Some(100), Some(256 << 20)),
            limit_ratio: 1.0,
            warm_up: Duration::from_secs(86_400),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Samples that count.
    pub samples: usize,
    /// On average, in cores.
    pub cpu_demand_cores: f64,
    /// On average, in cores.
    pub cpu_request_cores: f64,
    /// The share of the CPU requests that was not used (0–1).
    pub cpu_slack: f64,
    /// The share of the CPU demand that was throttled (0–1).
    pub cpu_throttled: f64,
    /// The share of the time in which some was (0–1).
    pub cpu_throttled_time: f64,
    /// On average; none if the history has no memory.
    pub memory_request_bytes: Option<f64>,
    /// The share of the memory requests that was not used (0–1).
    pub memory_slack: Option<f64>,
    /// How often the container was killed for want of memory.
    pub ooms: Option<usize>,
    /// How often its requests were changed.
    pub changes: usize,
    /// All samples, those left out included, for a plot.
    #[serde(skip)]
    pub course: Vec<Moment>,
}

/// One sample, and what the container had.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// What it wanted.
    pub sample: Sample,
    /// What it requested.
    pub requests: Resources,
    /// The CPU that it wanted and did not get, in cores.
    pub lost_cores: f64,
    /// It was killed for want of memory.
    pub killed: bool,
}

/// Sums over the samples that count.
#[derive(Default)]
struct Sums {
    samples: usize,
    cpu_demand: f64,
    cpu_used: f64,
    cpu_lost: f64,
    cpu_requested: f64,
    throttled_samples: usize,
    memory_samples: usize,
    memory_used: f64,
    memory_requested: f64,
    ooms: usize,
    changes: usize,
}

/// Replays a history.
pub fn replay(history: &UsageHistory, replay: &Replay) -> Report {
    let Some(first) = history.samples().first() else { return Report::default() };
    let counts_from = first.seconds.saturating_add(replay.warm_up.as_secs());
    let mut world = World::new(replay, first.seconds);
    let mut sums = Sums::default();
    let mut course = Vec::with_capacity(history.samples().len());
    for sample in history.samples() {
        let moment = world.live(sample);
        let changed = world.update(sample.seconds);
        if sample.seconds >= counts_from {
            sums.add(&moment);
            sums.changes += usize::from(changed);
        }
        course.push(moment);
    }
    sums.report(course)
}

struct World<'a> {
    replay: &'a Replay,
    rules: VerticalRules,
    recommender: Recommender,
    id: ContainerId,
    pod: PodFacts,
    next_update: u64,
    started: u64,
}

fn time(seconds: u64) -> Time {
    Time::from_seconds(seconds)
}

#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn amount(value: f64) -> i64 {
    value as i64
}

fn millis(cores: f64) -> i64 {
    amount((cores * 1000.0).round())
}

impl<'a> World<'a> {
    fn new(replay: &'a Replay, start: u64) -> Self {
        let limits = replay.requests.map(|_, request| amount(request as f64 * replay.limit_ratio.max(1.0)));
        let own = ContainerResources { requests: replay.requests, limits };
        let mut pod = PodFacts::new("pod", vec![ContainerFacts::new("container", own)]);
        pod.started = Some(time(start));
        Self {
            replay,
            // One pod stands for all, and it may be changed.
            rules: VerticalRules { min_replicas: 1, ..VerticalRules::default() },
            recommender: Recommender::new(replay.settings),
            id: ContainerId::new("pod", "container"),
            pod,
            next_update: start,
            started: start,
        }
    }

    fn own(&self) -> ContainerResources {
        self.pod.containers[0].spec
    }

    /// The container uses what it needs, or as much as it gets.
    fn live(&mut self, sample: &Sample) -> Moment {
        let (own, at, policy) = (self.own(), time(sample.seconds), &self.replay.policy);
        let wanted = millis(sample.cpu_cores);
        let used = own.limits.cpu_millis.map_or(wanted, |limit| wanted.min(limit));
        // Two samples of one second: the second says nothing new.
        let _ = self.recommender.cpu_used(&self.id, at, used);
        if used < wanted {
            self.recommender.cpu_throttled(&self.id, at, used);
        }
        let mut killed = false;
        if let Some(bytes) = sample.memory_bytes.map(amount) {
            let limit = own.limits.memory_bytes.unwrap_or(i64::MAX);
            let _ = self.recommender.memory_used(&self.id, at, bytes.min(limit), policy);
            killed = bytes > limit;
            if killed {
                let _ =
                    self.recommender.oom_killed(&self.id, at, own.requests.amount(Resource::Memory), policy);
                let ran_for = Duration::from_secs(sample.seconds.saturating_sub(self.started));
                self.pod.containers[0].last_termination = Some(Termination { oom_killed: true, ran_for });
                self.started = sample.seconds;
            }
        }
        let lost_cores = (wanted - used) as f64 / 1000.0;
        Moment { sample: *sample, requests: own.requests, lost_cores, killed }
    }

    /// Recommends, decides and changes, once a minute. Says whether something changed.
    fn update(&mut self, seconds: u64) -> bool {
        if seconds < self.next_update {
            return false;
        }
        self.next_update = seconds + EVERY.as_secs();
        let recommended = self.recommender.recommend(&self.replay.policy, &self.rules);
        let groups = [(Configured::Replicas(1), vec![self.pod.clone()])];
        let round = Round {
            policy: &self.replay.policy,
            recommended: &recommended,
            ranges: &LimitRanges::default(),
            rules: &self.rules,
            groups: &groups,
            infeasible: &BTreeMap::new(),
        };
        let plan = round.plan(time(seconds));
        let Some(Action::Resize(new)) = plan.into_iter().next().map(|update| update.action) else {
            return false;
        };
        let Some((_, new)) = new.first() else { return false };
        let own = &mut self.pod.containers[0];
        let (requests, limits) = (new.requests.or(own.spec.requests), new.limits.or(own.spec.limits));
        own.spec = ContainerResources { requests, limits };
        true
    }
}

impl Sums {
    fn add(&mut self, moment: &Moment) {
        let requested = moment.requests.amount(Resource::Cpu) as f64 / 1000.0;
        self.samples += 1;
        self.cpu_demand += moment.sample.cpu_cores;
        self.cpu_used += moment.sample.cpu_cores.min(requested);
        self.cpu_requested += requested;
        self.cpu_lost += moment.lost_cores;
        self.throttled_samples += usize::from(moment.lost_cores > 0.0);
        self.ooms += usize::from(moment.killed);
        if let Some(bytes) = moment.sample.memory_bytes {
            let requested = moment.requests.amount(Resource::Memory) as f64;
            self.memory_samples += 1;
            self.memory_used += bytes.min(requested);
            self.memory_requested += requested;
        }
    }

    fn report(self, course: Vec<Moment>) -> Report {
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let samples = self.samples.max(1) as f64;
        let has_memory = self.memory_samples > 0;
        Report {
            samples: self.samples,
            cpu_demand_cores: self.cpu_demand / samples,
            cpu_request_cores: self.cpu_requested / samples,
            cpu_slack: share(self.cpu_requested - self.cpu_used, self.cpu_requested),
            cpu_throttled: share(self.cpu_lost, self.cpu_demand),
            cpu_throttled_time: self.throttled_samples as f64 / samples,
            memory_request_bytes: has_memory.then(|| self.memory_requested / samples),
            memory_slack: has_memory
                .then(|| share(self.memory_requested - self.memory_used, self.memory_requested)),
            ooms: has_memory.then_some(self.ooms),
            changes: self.changes,
            course,
        }
    }
}
