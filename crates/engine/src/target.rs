//! One target: what is known of it, and the pipeline from facts to a decision, in one function ([`Target::evaluate`]).
//!
//! The order of the stages is their meaning, so it is written out. Each stage's rules stand at the top of its file.

use std::time::Duration;

use crate::activate::{self, Activated};
use crate::decision::{Decision, Stage, Step};
use crate::demand::Demand;
use crate::memory::{Memory, Recommendation, Recommendations};
use crate::metric::MetricSource;
use crate::name::{MetricName, TargetId};
use crate::observation::{Reading, Scale, Selector};
use crate::pod::Pod;
use crate::policy::{Pause, Policy};
use crate::reason::Reason;
use crate::recommend::reading::Kept;
use crate::recommend::total::Counts;
use crate::recommend::{self, View};
use crate::rules::ZeroRule;
use crate::time::Time;
use crate::vertical::joint::Replicas;
use crate::vertical::{ContainerSize, Sizing, WantedCpu};
use crate::{pace, stabilize, turning_point};

/// More often would only turn noise into decisions.
const EVALUATE_EVERY_MIN: Duration = Duration::from_millis(100);

/// What is known of one target.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    policy: Policy,
    memory: Memory,
    /// The scale subresource as last read; none until it was first read.
    scale: Option<Scale>,
    /// Why it could not be read the last time.
    scale_error: Option<String>,
    /// By name.
    pods: Vec<Pod>,
    ready: u32,
    /// In the order of the policy's metrics.
    readings: Vec<Kept>,
    waiting: u32,
    /// The latest measurement of its requests.
    demand: Option<Result<Box<Demand>, String>>,
    /// None where nobody sizes its replicas.
    sizing: Option<Box<Sizing>>,
    evaluated_at: Option<Time>,
}

impl Target {
    pub(crate) fn new(now: Time, policy: Policy) -> Self {
        let readings = vec![Kept::nothing(now); policy.metrics.list().len()];
        Self {
            policy,
            memory: Memory::default(),
            scale: None,
            scale_error: None,
            pods: Vec::new(),
            ready: 0,
            readings,
            waiting: 0,
            demand: None,
            sizing: None,
            evaluated_at: None,
        }
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Its replicas as last seen.
    pub(crate) fn current(&self) -> u32 {
        self.scale.as_ref().map_or(0, |scale| scale.spec_replicas)
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// When it is to be evaluated next; none until its scale is known.
    pub(crate) fn due(&self) -> Option<Time> {
        if self.scale.is_none() && self.scale_error.is_none() {
            return None;
        }
        let every = self.policy.evaluate_every.max(EVALUATE_EVERY_MIN);
        Some(self.evaluated_at.map_or(Time::default(), |at| at + every))
    }

    /// Makes it due at once.
    pub(crate) fn hurry(&mut self) {
        self.evaluated_at = None;
    }

    /// Replaces the policy; readings of metrics that stay are kept.
    pub(crate) fn set_policy(&mut self, now: Time, policy: Policy) {
        let mut readings = Vec::with_capacity(policy.metrics.list().len());
        for metric in policy.metrics.list() {
            let same = self.policy.metrics.list().iter().position(|old| old.name() == metric.name());
            let mut kept = same.map_or_else(|| Kept::nothing(now), |index| self.readings[index].clone());
            kept.join(metric, &self.pods);
            readings.push(kept);
        }
        (self.policy, self.readings) = (policy, readings);
        self.hurry();
    }

    pub(crate) fn set_memory(&mut self, memory: Memory) {
        self.memory = memory;
    }

    pub(crate) fn set_scale(&mut self, scale: Scale) {
        (self.scale, self.scale_error) = (Some(scale), None);
    }

    pub(crate) fn set_scale_error(&mut self, error: String) {
        self.scale_error = Some(error);
    }

    pub(crate) fn set_pods(&mut self, mut pods: Vec<Pod>) {
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        self.ready = u32::try_from(pods.iter().filter(|pod| pod.is_ready()).count()).unwrap_or(u32::MAX);
        self.pods = pods;
        for (metric, kept) in self.policy.metrics.list().iter().zip(&mut self.readings) {
            kept.join(metric, &self.pods);
        }
    }

    pub(crate) fn set_reading(&mut self, now: Time, name: &MetricName, reading: Reading) {
        let metrics = self.policy.metrics.list();
        if let Some(index) = metrics.iter().position(|metric| metric.name() == name) {
            self.readings[index].take(now, reading, &metrics[index], &self.pods);
        }
    }

    /// Requests wait for a first pod. The first ones make it due at once.
    pub(crate) fn set_waiting(&mut self, requests: u32) {
        if self.waiting == 0 && requests > 0 {
            self.hurry();
        }
        self.waiting = requests;
    }

    pub(crate) fn set_demand(&mut self, demand: Result<Box<Demand>, String>) {
        self.demand = Some(demand);
    }

    pub(crate) fn set_sizing(&mut self, sizing: Option<Box<Sizing>>) {
        self.sizing = sizing;
    }

    /// A decision was carried out: the change counts for the pace.
    pub(crate) fn rescaled(&mut self, now: Time, from: u32, to: u32) {
        if let Some(scale) = &mut self.scale {
            scale.spec_replicas = to;
        }
        let by_itself = from > 0 && to == 0 && self.policy.bounds.min() == 0 && self.has_outside_metric();
        let remembers_zero = self.policy.rules.zero == ZeroRule::Hpa { scale_to_zero: true };
        self.memory.scaled_to_zero = remembers_zero.then_some(by_itself);
        let Some(behavior) = self.policy.effective_behavior() else { return };
        if to > from {
            self.memory.scale_ups.store(now, to - from, &behavior.scale_up);
        } else if to < from {
            self.memory.scale_downs.store(now, from - to, &behavior.scale_down);
        }
    }

    /// The pipeline. None while the scale has not been read.
    pub(crate) fn evaluate(&mut self, id: &TargetId, now: Time) -> Option<Decision> {
        self.evaluated_at = Some(now);
        if let Some(error) = &self.scale_error {
            return Some(self.keep(id, now, Reason::FailedGetScale { error: error.clone() }));
        }
        let scale = self.scale.as_ref()?;
        let counts = Counts {
            spec: scale.spec_replicas,
            status: scale.status_replicas,
            pods: u32::try_from(self.pods.len()).unwrap_or(u32::MAX),
            ready: self.ready,
        };
        let current = counts.spec;
        let initial = || Recommendations::new(vec![Recommendation { replicas: current, at: now }]);
        self.memory.recommendations.get_or_insert_with(initial);
        if let Some((to, stage, reason)) = self.standstill(current) {
            return Some(Chain::new(current).then(stage, to, reason).decide(id, now));
        }
        if let Some(reason) = invalid(&scale.selector) {
            return Some(self.keep(id, now, reason));
        }

        let mut view = View {
            now,
            policy: &self.policy,
            counts,
            pods: &self.pods,
            readings: &self.readings,
            sizes: Vec::new(),
        };
        if let Some(sizing) = self.sizing.as_ref().filter(|_| current > 0) {
            view.sizes = size(&view, sizing, &mut self.memory.wanted_cpu);
        }
        let asked = recommend::objective(&view, self.demand.as_ref(), &mut self.memory.slo);
        let mut recommended = recommend::recommend(&view, asked);
        let mut turning_points = turning_point::nearest(&view, &recommended);
        let sizes = std::mem::take(&mut view.sizes);
        let mut chain = Chain::new(current);
        for (to, reason) in std::mem::take(&mut recommended.before) {
            chain.push(Stage::Recommend, to, reason);
        }
        chain = chain.then(Stage::Recommend, recommended.replicas.unwrap_or(current), recommended.reason);
        let proposals = &recommended.proposals;

        let activated = match &self.policy.activation {
            Some(activation) => {
                let (waiting, memory) = (self.waiting, &mut self.memory);
                Some(activate::step(&view, activation, proposals, waiting, recommended.replicas, memory))
            }
            None => None,
        };
        let Course { wish, min, at_once, starts } =
            Course::of(&mut chain, &self.policy, recommended.replicas, &activated);

        if let Some(wish) = wish.filter(|_| !at_once) {
            let (to, reason) = stabilize::step(now, current, chain.to, wish, &self.policy, &mut self.memory);
            chain = chain.limit(Stage::Stabilize, to, reason, starts.then_some(min));
            let (to, reason) = pace::step(now, current, chain.to, min, &self.policy, &self.memory);
            chain = chain.limit(Stage::Pace, to, reason, starts.then_some(min));
        }
        chain = chain.bound(min, self.policy.bounds.max(), self.policy.pause);
        for point in &mut turning_points {
            point.steps = self.stages_after(now, current, point.replicas);
        }
        let mut decision = chain.decide(id, now);
        decision.proposals = recommended.proposals;
        decision.activity = activated.map(|activated| activated.activity);
        decision.turning_points = turning_points;
        decision.sizes = sizes;
        Some(decision)
    }

    /// What the stages after the recommendation would make of so many replicas at this moment, if the metrics asked for
    /// them: what a turning point really leads to.
    fn stages_after(&self, now: Time, current: u32, replicas: u32) -> Vec<Step> {
        let (policy, memory) = (&self.policy, &self.memory);
        let min_active = policy.min_active();
        let goes_idle = replicas < min_active;
        let starts = current < min_active && !goes_idle;
        let min = if goes_idle { policy.min_inactive() } else { min_active };
        let mut chain = Chain { to: replicas, ..Chain::new(current) };
        let cooled = policy.activation.as_ref().map(|own| match memory.last_active {
            Some(at) => at + own.cooldown,
            None => own.created + own.initial_cooldown,
        });
        if let Some(until) = cooled.filter(|until| goes_idle && current > min && *until > now) {
            chain.push(Stage::Activate, min_active, Reason::ScalerCooldown { until });
        }
        let at_once = policy.rules.zero == ZeroRule::OneStep && (goes_idle || starts);
        if !at_once {
            let at_least = starts.then_some(min);
            let (to, reason) = stabilize::limit(now, current, chain.to, policy, memory);
            chain = chain.limit(Stage::Stabilize, to, reason, at_least);
            let (to, reason) = pace::step(now, current, chain.to, min, policy, memory);
            chain = chain.limit(Stage::Pace, to, reason, at_least);
        }
        chain.bound(min, policy.bounds.max(), policy.pause).steps
    }

    /// Where nothing is measured: a pause, and for the HorizontalPodAutoscaler a target at zero or out of bounds.
    fn standstill(&self, current: u32) -> Option<(u32, Stage, Reason)> {
        match self.policy.pause {
            Pause::AtCurrent => {
                return Some((current, Stage::Bound, Reason::ScaledObjectPaused { replicas: None }));
            }
            Pause::AtReplicas(to) => {
                return Some((to, Stage::Bound, Reason::ScaledObjectPaused { replicas: Some(to) }));
            }
            Pause::No | Pause::Directions { .. } => {}
        }
        let ZeroRule::Hpa { scale_to_zero } = self.policy.rules.zero else { return None };
        let (min, max) = (self.policy.bounds.min(), self.policy.bounds.max());
        let may_leave_zero = scale_to_zero
            && self.memory.scaled_to_zero == Some(true)
            && (min != 0 || self.has_outside_metric());
        if current == 0 {
            (!may_leave_zero).then_some((0, Stage::Recommend, Reason::ScalingDisabled))
        } else if current > max {
            Some((max, Stage::Bound, Reason::TooManyReplicas { max }))
        } else if current < min {
            Some((min, Stage::Bound, Reason::TooFewReplicas { min }))
        } else {
            None
        }
    }

    /// One that can be measured without pods.
    fn has_outside_metric(&self) -> bool {
        let outside = |source: &MetricSource| {
            matches!(source, MetricSource::Object { .. } | MetricSource::External { .. })
        };
        self.policy.metrics.list().iter().any(|metric| outside(metric.source()))
    }

    /// A decision to leave everything as it is.
    fn keep(&self, id: &TargetId, now: Time, reason: Reason) -> Decision {
        let current = self.current();
        Chain::new(current).then(Stage::Recommend, current, reason).decide(id, now)
    }
}

/// The size of each replica, before replicas are counted: utilization is measured against what they will request.
fn size(view: &View<'_>, sizing: &Sizing, wanted: &mut WantedCpu) -> Vec<ContainerSize> {
    let replicas = Replicas { current: view.counts.spec, min: view.policy.min_active() };
    sizing.decide(view.now, replicas, &view.cpu_load(), view.policy.rules.downscale_stabilization, wanted)
}

/// Why a selector is of no use.
fn invalid(selector: &Selector) -> Option<Reason> {
    match selector {
        Selector::Valid => None,
        Selector::Missing => Some(Reason::SelectorRequired),
        Selector::Invalid { error } => Some(Reason::InvalidSelector { error: error.clone() }),
        Selector::Ambiguous { selector, autoscalers } => {
            Some(Reason::AmbiguousSelector { selector: selector.clone(), autoscalers: autoscalers.clone() })
        }
    }
}

/// How the stages after activation are to treat the replicas.
struct Course {
    wish: Option<u32>,
    min: u32,
    at_once: bool,
    starts: bool,
}

impl Course {
    fn of(
        chain: &mut Chain,
        policy: &Policy,
        recommended: Option<u32>,
        activated: &Option<Activated>,
    ) -> Self {
        let Some(activated) = activated else {
            return Self { wish: recommended, min: policy.bounds.min(), at_once: false, starts: false };
        };
        let mut wish = recommended;
        if let Some((to, reason)) = &activated.step {
            chain.push(Stage::Activate, *to, reason.clone());
            wish = Some(*to);
        }
        Self {
            wish: activated.wish.or(wish),
            min: activated.min,
            at_once: activated.at_once,
            starts: activated.starts,
        }
    }
}

/// The chain of steps as it grows. It is connected because only `push` makes steps.
struct Chain {
    current: u32,
    to: u32,
    steps: Vec<Step>,
}

impl Chain {
    fn new(current: u32) -> Self {
        Self { current, to: current, steps: Vec::with_capacity(4) }
    }

    fn push(&mut self, stage: Stage, to: u32, reason: Reason) {
        self.steps.push(Step { stage, from: self.to, to, reason });
        self.to = to;
    }

    fn then(mut self, stage: Stage, to: u32, reason: Reason) -> Self {
        self.push(stage, to, reason);
        self
    }

    /// A stage that may hold the replicas back, but not below `at_least`.
    fn limit(self, stage: Stage, to: u32, reason: Option<Reason>, at_least: Option<u32>) -> Self {
        let to = to.max(at_least.unwrap_or(0).min(self.to));
        match reason {
            Some(reason) if to != self.to => self.then(stage, to, reason),
            _ => self,
        }
    }

    /// Minimum and maximum, and then the pauses in one direction, which not even they overrule.
    fn bound(mut self, min: u32, max: u32, pause: Pause) -> Self {
        if self.to < min {
            self.push(Stage::Bound, min, Reason::TooFewReplicas { min });
        } else if self.to > max {
            self.push(Stage::Bound, max, Reason::TooManyReplicas { max });
        }
        if self.to < self.current && pause.holds_in() || self.to > self.current && pause.holds_out() {
            self.push(Stage::Bound, self.current, Reason::ScaledObjectPaused { replicas: None });
        }
        self
    }

    fn decide(self, target: &TargetId, at: Time) -> Decision {
        Decision {
            target: target.clone(),
            at,
            current: self.current,
            desired: self.to,
            steps: self.steps,
            proposals: Vec::new(),
            activity: None,
            turning_points: Vec::new(),
            sizes: Vec::new(),
        }
    }
}
