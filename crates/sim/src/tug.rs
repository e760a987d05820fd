//! Both axes of one target under a load: as upstream has it, where the two know nothing of each other, or by one decision.
//!
//! The replicas share the load evenly, as far as their CPU limits go. New pods are ready after a start-up time.
//!
//! - *Upstream*: the HorizontalPodAutoscaler decides every 15 seconds by kube-controller-manager's rules and its defaults;
//!   the VerticalPodAutoscaler recommends and updates once a minute by its own, and evicts: the successor gets what is
//!   recommended.
//! - *Flyball*: the engine decides both every 15 seconds, by our rules, from samples of that age. Sizes change in place.
//!
//! A fight shows as an axis that turns round although the load stays as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_engine::vertical::{
    Action, Configured, ContainerFacts, ContainerId, ContainerRecommendation, ContainerResources,
    ContainerSizing, LimitRanges, PodFacts, Recommender, RecommenderSettings, Resource, Resources, Round,
    Sizing, UpdateMode, VerticalPolicy, VerticalRules,
};
use flyball_engine::{
    ContainerRequests, Engine, Milli, Name, NoBehavior, Observation, Pod, PodRequests, PodValue, Policy,
    Readiness, Reading, Rules, Scale, Selector, TargetId, Time, ZeroRule,
};
use serde::Serialize;

/// kube-controller-manager's sync period.
const TICK: Duration = Duration::from_secs(15);
/// VPA's components run once a minute.
const TICKS_PER_UPDATE: u64 = 4;
/// Any time will do.
const START: Time = Time::from_seconds(1_800_000_000);
const CONTAINER: &str = "model";

/// By whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Two autoscalers.
    Upstream,
    /// One decision.
    Flyball,
}

/// A load that stays for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// In millicores, of all replicas together.
    pub load_millis: i64,
    /// How long, in seconds.
    pub seconds: u64,
}

/// A target and its load.
#[derive(Clone, Debug)]
pub struct Tug {
    /// How many replicas.
    pub horizontal: Policy,
    /// How large.
    pub vertical: VerticalPolicy,
    /// What a container has at first.
    pub resources: ContainerResources,
    /// What each replica uses of memory, in bytes.
    pub memory_bytes: i64,
    /// From a pod's creation until it is ready.
    pub startup: Duration,
    /// One after the other.
    pub phases: Vec<Phase>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TugReport {
    /// By whose rules.
    pub side: Side,
    /// Each load.
    pub phases: Vec<PhaseReport>,
    /// Every 15 seconds.
    #[serde(skip)]
    pub course: Vec<Tick>,
}

/// One load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseReport {
    /// The load.
    pub phase: Phase,
    /// How often the number of replicas turned round.
    pub replica_turns: usize,
    /// How often the size of replicas turned round.
    pub size_turns: usize,
    /// Pods that were replaced to be resized.
    pub evictions: usize,
    /// The share of the load that was throttled (0–1).
    pub throttled: f64,
    /// Replicas at its end.
    pub replicas: u32,
    /// The CPU request of a replica at its end, in millicores.
    pub request_millis: i64,
}

/// One moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tick {
    /// Since the start.
    pub seconds: u64,
    /// The load, in millicores.
    pub load_millis: i64,
    /// How many replicas are wanted.
    pub replicas: u32,
    /// The mean CPU request of those that exist, in millicores.
    pub request_millis: i64,
    /// The load that no replica took, in millicores.
    pub throttled_millis: i64,
    /// Pods that were replaced to be resized.
    pub evictions: usize,
}

impl Tug {
    /// Plays all phases.
    pub fn play(&self, side: Side) -> TugReport {
        let mut world = World::new(self, side);
        let load_millis = self.phases.first().map_or(0, |phase| phase.load_millis);
        let mut report = TugReport { side, phases: Vec::new(), course: vec![world.picture(load_millis)] };
        for phase in &self.phases {
            let from = report.course.len() - 1;
            for _ in 0..phase.seconds / TICK.as_secs() {
                report.course.push(world.tick(phase.load_millis));
            }
            report.phases.push(PhaseReport::of(*phase, &report.course[from..]));
        }
        report
    }
}

impl PhaseReport {
    fn of(phase: Phase, ticks: &[Tick]) -> Self {
        // The first is what the load found.
        let (last, after) = (ticks.last(), &ticks[1.min(ticks.len())..]);
        let throttled: i64 = after.iter().map(|tick| tick.throttled_millis).sum();
        let load: i64 = after.iter().map(|tick| tick.load_millis).sum();
        Self {
            phase,
            replica_turns: turns(ticks.iter().map(|tick| i64::from(tick.replicas))),
            size_turns: turns(ticks.iter().map(|tick| tick.request_millis)),
            evictions: after.iter().map(|tick| tick.evictions).sum(),
            throttled: throttled as f64 / load.max(1) as f64,
            replicas: last.map_or(0, |tick| tick.replicas),
            request_millis: last.map_or(0, |tick| tick.request_millis),
        }
    }
}

/// How often a course of numbers turned round.
pub fn turns(course: impl IntoIterator<Item = i64>) -> usize {
    let (mut turns, mut direction, mut last) = (0, 0, None::<i64>);
    for value in course {
        let sign = last.map_or(0, |last| (value - last).signum());
        if sign != 0 {
            turns += usize::from(direction == -sign);
            direction = sign;
        }
        last = Some(value);
    }
    turns
}

/// One pod.
#[derive(Clone, Debug)]
struct Replica {
    name: Name,
    created: Time,
    own: ContainerResources,
}

struct World<'a> {
    tug: &'a Tug,
    side: Side,
    engine: Engine,
    recommender: Recommender,
    rules: VerticalRules,
    pods: Vec<Replica>,
    wanted: u32,
    made: u64,
    ticks: u64,
    recommended: Vec<ContainerRecommendation>,
    /// What new pods get.
    template: ContainerResources,
}

fn target() -> TargetId {
    TargetId::new("Deployment", "default", "model")
}

fn upstream(policy: &Policy) -> Policy {
    let rules = Rules { zero: ZeroRule::OneStep, no_behavior: NoBehavior::Defaults, ..Rules::hpa() };
    Policy { rules, ..policy.clone() }
}

impl<'a> World<'a> {
    fn new(tug: &'a Tug, side: Side) -> Self {
        let (policy, rules, settings) = match side {
            Side::Upstream => {
                (upstream(&tug.horizontal), VerticalRules::upstream(), RecommenderSettings::default())
            }
            Side::Flyball => {
                (tug.horizontal.clone(), VerticalRules::default(), RecommenderSettings::flyball())
            }
        };
        let mut engine = Engine::new();
        engine.observe(START, Observation::Policy { target: target(), policy: Box::new(policy) });
        let mut world = Self {
            tug,
            side,
            engine,
            recommender: Recommender::new(settings),
            rules,
            pods: Vec::new(),
            wanted: tug.horizontal.bounds.min().max(1),
            made: 0,
            ticks: 0,
            recommended: Vec::new(),
            template: tug.resources,
        };
        world.fill(START - Duration::from_secs(3600));
        world
    }

    fn now(&self) -> Time {
        START + TICK * u32::try_from(self.ticks).unwrap_or(u32::MAX)
    }

    fn is_ready(&self, pod: &Replica) -> bool {
        self.now().since(pod.created) >= self.tug.startup
    }

    /// As many pods as are wanted; the youngest go first.
    fn fill(&mut self, created: Time) {
        self.pods.truncate(self.wanted as usize);
        while self.pods.len() < self.wanted as usize {
            let name = format!("model-{:06}", self.made).into();
            self.made += 1;
            self.pods.push(Replica { name, created, own: self.admitted() });
        }
    }

    /// What a new pod gets.
    fn admitted(&self) -> ContainerResources {
        let container = ContainerFacts::new(CONTAINER, self.template);
        let ranges = LimitRanges::default();
        let vertical = &self.tug.vertical;
        let changes = flyball_engine::vertical::changes(
            &[container],
            &self.recommended,
            vertical,
            &ranges,
            &self.rules,
        );
        let new = changes.first().map(|change| change.new).unwrap_or_default();
        let (requests, limits) =
            (new.requests.or(self.template.requests), new.limits.or(self.template.limits));
        ContainerResources { requests, limits }
    }

    fn tick(&mut self, load_millis: i64) -> Tick {
        self.ticks += 1;
        let now = self.now();
        let used = self.use_cpu(load_millis);
        self.sample(&used);
        self.tell_engine(&used);
        let decision = self.engine.evaluate(now).pop();
        let mut evictions = 0;
        if let Some(decision) = decision {
            match self.side {
                Side::Flyball => {
                    if let Some(size) = decision.sizes.first() {
                        self.recommended = vec![size.desired.clone()];
                        self.resize(size.requests());
                    }
                }
                Side::Upstream if self.ticks.is_multiple_of(TICKS_PER_UPDATE) => {
                    self.recommended = self.recommender.recommend(&self.tug.vertical, &self.rules);
                    evictions = self.evict();
                }
                Side::Upstream => {}
            }
            if decision.rescales() {
                let (from, to) = (decision.current, decision.desired);
                self.wanted = to;
                self.engine.observe(now, Observation::Rescaled { target: target(), from, to, error: None });
            }
        }
        self.fill(now);
        let served: i64 = used.iter().map(|(_, millis)| millis).sum();
        Tick { throttled_millis: (load_millis - served).max(0), evictions, ..self.picture(load_millis) }
    }

    fn picture(&self, load_millis: i64) -> Tick {
        let requested: i64 = self.pods.iter().map(|pod| pod.own.requests.amount(Resource::Cpu)).sum();
        Tick {
            seconds: self.ticks * TICK.as_secs(),
            load_millis,
            replicas: self.wanted,
            request_millis: requested / i64::try_from(self.pods.len().max(1)).unwrap_or(1),
            throttled_millis: 0,
            evictions: 0,
        }
    }

    /// What each ready pod uses: an even share of the load, as far as its limit goes.
    fn use_cpu(&self, load_millis: i64) -> Vec<(Name, i64)> {
        let ready: Vec<&Replica> = self.pods.iter().filter(|pod| self.is_ready(pod)).collect();
        let count = i64::try_from(ready.len().max(1)).unwrap_or(1);
        let share = |pod: &&Replica| {
            let limit = pod.own.limits.cpu_millis.unwrap_or(i64::MAX);
            (pod.name.clone(), (load_millis / count).min(limit))
        };
        ready.iter().map(share).collect()
    }

    fn sample(&mut self, used: &[(Name, i64)]) {
        if self.side == Side::Upstream && !self.ticks.is_multiple_of(TICKS_PER_UPDATE) {
            return;
        }
        let now = self.now();
        for (pod, millis) in used {
            let id = ContainerId::new(pod.clone(), CONTAINER);
            // Each time is new, so that nothing is refused.
            let _ = self.recommender.cpu_used(&id, now, *millis);
            let _ = self.recommender.memory_used(&id, now, self.tug.memory_bytes, &self.tug.vertical);
        }
        self.recommender.retain_pods(&self.pods.iter().map(|pod| pod.name.clone()).collect());
    }

    fn tell_engine(&mut self, used: &[(Name, i64)]) {
        let now = self.now();
        let pods = self.pods.iter().map(|pod| self.engine_pod(pod)).collect();
        let values = used.iter().map(|(pod, millis)| PodValue {
            pod: pod.clone(),
            value: Milli::new(*millis),
            at: now,
            window: TICK,
            starting: false,
        });
        let reading = Reading::PerPod { values: values.collect(), at: now };
        let scale =
            Scale { spec_replicas: self.wanted, status_replicas: self.wanted, selector: Selector::Valid };
        let sizing = (self.side == Side::Flyball).then(|| self.sizing()).flatten();
        let mut facts = vec![
            Observation::Scale { target: target(), scale },
            Observation::Pods { target: target(), pods },
            Observation::Sizing { target: target(), sizing: sizing.map(Box::new) },
        ];
        for metric in self.tug.horizontal.metrics.list() {
            let (target, metric) = (target(), metric.name().clone());
            facts.push(Observation::Metric { target, metric, reading: reading.clone() });
        }
        facts.into_iter().for_each(|fact| self.engine.observe(now, fact));
    }

    fn engine_pod(&self, pod: &Replica) -> Pod {
        let millis = pod.own.requests.amount(Resource::Cpu);
        let requests = [(Name::from("cpu"), Milli::new(millis))].into_iter().collect();
        let container = ContainerRequests { name: CONTAINER.into(), requests };
        let ready = self.is_ready(pod);
        Pod {
            name: pod.name.clone(),
            phase: flyball_engine::Phase::Running,
            deleting: false,
            started: Some(pod.created),
            ready: Some(Readiness { ready, since: pod.created + self.tug.startup }),
            requests: PodRequests { containers: vec![container], ..PodRequests::default() },
        }
    }

    /// What the engine is told of the size of replicas.
    fn sizing(&self) -> Option<Sizing> {
        let recommended = self.recommender.recommend(&self.tug.vertical, &self.rules).into_iter().next()?;
        let own = self.tug.vertical.container(&recommended.container);
        let container = ContainerSizing {
            requests: self.template.requests,
            min_allowed: own.min_allowed,
            max_allowed: own.max_allowed,
            recommended,
        };
        Some(Sizing { containers: vec![container], room_cpu_millis: None })
    }

    /// All pods at once, in place; limits keep their proportion.
    fn resize(&mut self, requests: Resources) {
        let container = ContainerFacts::new(CONTAINER, self.template);
        let values = self.tug.vertical.container(&CONTAINER.into()).values;
        let (new, _) = flyball_engine::vertical::container_resources(
            &container,
            Some(&requests),
            values,
            &Resources::default(),
            false,
        );
        let limits = new.limits.or(self.template.limits);
        self.template = ContainerResources { requests: new.requests.or(self.template.requests), limits };
        for pod in &mut self.pods {
            pod.own = self.template;
        }
    }

    /// The updater's round: pods that are evicted come back with what is recommended.
    fn evict(&mut self) -> usize {
        let facts = |pod: &Replica| {
            let mut facts = PodFacts::new(pod.name.clone(), vec![ContainerFacts::new(CONTAINER, pod.own)]);
            facts.pending = !self.is_ready(pod);
            facts.started = Some(pod.created);
            facts
        };
        let groups = [(Configured::Replicas(self.wanted), self.pods.iter().map(facts).collect())];
        let policy = VerticalPolicy { mode: UpdateMode::Recreate, ..self.tug.vertical.clone() };
        let round = Round {
            policy: &policy,
            recommended: &self.recommended,
            ranges: &LimitRanges::default(),
            rules: &self.rules,
            groups: &groups,
            infeasible: &BTreeMap::new(),
        };
        let plan = round.plan(self.now());
        let evicted: Vec<Name> = plan
            .into_iter()
            .filter(|update| update.action == Action::Evict)
            .map(|update| update.pod)
            .collect();
        self.pods.retain(|pod| !evicted.contains(&pod.name));
        evicted.len()
    }
}
