//! What a user asked for: the merged meaning of a HorizontalPodAutoscaler or a ScaledObject.
//!
//! A policy that exists makes sense: its parts are built by constructors that refuse what Kubernetes' validation and
//! KEDA's webhook refuse, and what can't be wrong is a plain field.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::behavior::{Behavior, PolicyKind, ScalingPolicy, ScalingRules, SelectPolicy};
use crate::formula::Formula;
use crate::metric::{Metric, MetricTarget};
use crate::name::{Name, PoolName};
use crate::objective::{Objective, Objectives};
use crate::policy_error::{METRICS_MAX, PolicyError};
use crate::rules::{NoBehavior, Rules};
use crate::time::{Time, optional_seconds, seconds};

/// The name KEDA gives to the metric that a formula computes.
pub const COMPOSITE_METRIC_NAME: &str = "composite-metric";

/// How one target is scaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Between how many replicas.
    pub bounds: Bounds,
    /// By which metrics.
    pub metrics: Metrics,
    /// What is promised; the replicas that it needs are found from the target's requests ([`Slo`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<Slo>,
    /// How fast; none means what [`Rules::no_behavior`] says.
    pub behavior: Option<Behavior>,
    /// When between zero (or idle) and one: a ScaledObject. None for a plain HorizontalPodAutoscaler.
    pub activation: Option<Activation>,
    /// Whether it stands still.
    pub pause: Pause,
    /// What to do when a trigger keeps failing.
    pub fallback: Option<Fallback>,
    /// The pool it shares with others, if it does.
    pub share: Option<Share>,
    /// How often it is evaluated; one second, unless told otherwise, and at most ten times a second.
    #[serde(with = "seconds")]
    pub evaluate_every: Duration,
    /// The controller's settings.
    pub rules: Rules,
}

impl Policy {
    /// A plain autoscaler by our own rules, evaluated every second.
    pub fn new(bounds: Bounds, metrics: Metrics) -> Self {
        Self {
            bounds,
            metrics,
            slo: None,
            behavior: None,
            activation: None,
            pause: Pause::No,
            fallback: None,
            share: None,
            evaluate_every: Duration::from_secs(1),
            rules: Rules::default(),
        }
    }

    /// One that keeps an objective, without any metric beside it. It may order all that it needs at once, and decides
    /// itself how long replicas are held.
    pub fn for_objective(bounds: Bounds, slo: Slo) -> Self {
        let metrics = Metrics { list: Vec::new(), composite: None };
        Self { slo: Some(slo), behavior: Some(Slo::behavior()), ..Self::new(bounds, metrics) }
    }

    /// The fewest replicas of a target that is in use: never zero for a ScaledObject (KEDA's `GetHPAMinReplicas`).
    pub fn min_active(&self) -> u32 {
        if self.activation.is_some() { self.bounds.min().max(1) } else { self.bounds.min() }
    }

    /// The `behavior` that holds; none when the older way does, which has no history.
    pub(crate) fn effective_behavior(&self) -> Option<Cow<'_, Behavior>> {
        match (&self.behavior, self.rules.no_behavior) {
            (Some(behavior), _) => Some(Cow::Borrowed(behavior)),
            (None, NoBehavior::Defaults) => Some(Cow::Owned(Behavior::default())),
            (None, NoBehavior::Legacy { .. }) => None,
        }
    }

    /// The replicas of a target that is not in use.
    pub fn min_inactive(&self) -> u32 {
        self.bounds.idle().unwrap_or(self.bounds.min())
    }
}

/// `minReplicas`, `maxReplicas`, and `idleReplicaCount` of a ScaledObject: idle < min ≤ max, max > 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedBounds")]
pub struct Bounds {
    min: u32,
    max: u32,
    idle: Option<u32>,
}

#[derive(Deserialize)]
struct UncheckedBounds {
    min: u32,
    max: u32,
    #[serde(default)]
    idle: Option<u32>,
}

impl Bounds {
    /// Between `min` and `max`; `idle` replicas while not in use, if that differs from `min`.
    ///
    /// # Errors
    ///
    /// `max` zero or over 2³¹ - 1, `min` over `max`, `idle` not below `min`. An idle of 0 with a min of 0 says the
    /// same thing twice and is taken, as KEDA takes it.
    pub fn new(min: u32, max: u32, idle: Option<u32>) -> Result<Self, PolicyError> {
        if max == 0 || i32::try_from(max).is_err() {
            return Err(PolicyError::Max { max });
        }
        if min > max {
            return Err(PolicyError::MinOverMax { min, max });
        }
        match idle {
            Some(idle) if idle >= min.max(1) => Err(PolicyError::IdleNotBelowMin { idle, min }),
            _ => Ok(Self { min, max, idle: idle.filter(|idle| *idle < min) }),
        }
    }

    /// The fewest replicas.
    pub fn min(self) -> u32 {
        self.min
    }

    /// The most replicas; at least one.
    pub fn max(self) -> u32 {
        self.max
    }

    /// Replicas while not in use, where that is fewer than the minimum.
    pub fn idle(self) -> Option<u32> {
        self.idle
    }
}

impl TryFrom<UncheckedBounds> for Bounds {
    type Error = PolicyError;

    fn try_from(bounds: UncheckedBounds) -> Result<Self, PolicyError> {
        Self::new(bounds.min, bounds.max, bounds.idle)
    }
}

/// The metrics of a policy, with distinct names, and the formula over them if there is one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedMetrics")]
pub struct Metrics {
    list: Vec<Metric>,
    composite: Option<Composite>,
}

#[derive(Deserialize)]
struct UncheckedMetrics {
    list: Vec<Metric>,
    #[serde(default)]
    composite: Option<Composite>,
}

impl Metrics {
    /// These metrics; the highest recommendation counts. With a `composite`, the External ones only feed its formula.
    ///
    /// # Errors
    ///
    /// None at all, more than [`METRICS_MAX`], two of one name, a formula that uses a name no External metric has or
    /// declares one that some has.
    pub fn new(list: Vec<Metric>, composite: Option<Composite>) -> Result<Self, PolicyError> {
        if list.is_empty() || list.len() > METRICS_MAX {
            return Err(PolicyError::MetricCount { count: list.len() });
        }
        let mut names: Vec<&Name> = list.iter().map(Metric::name).collect();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(PolicyError::MetricTwice { metric: pair[0].clone() });
        }
        if let Some(composite) = &composite {
            check_names(&composite.formula, &list)?;
        }
        Ok(Self { list, composite })
    }

    /// In the order they were written.
    pub fn list(&self) -> &[Metric] {
        &self.list
    }

    /// The formula over them.
    pub fn composite(&self) -> Option<&Composite> {
        self.composite.as_ref()
    }
}

/// A formula uses names of External metrics only, and takes none of them for a variable.
fn check_names(formula: &Formula, list: &[Metric]) -> Result<(), PolicyError> {
    let has = |name: &Name, external: bool| {
        list.iter().any(|m| m.activates() == external && m.formula_name.as_ref() == Some(name))
    };
    if let Some(name) = formula.names().iter().find(|name| !has(name, true)) {
        let name = name.clone();
        return Err(match has(&name, false) {
            true => PolicyError::FormulaResource { name },
            false => PolicyError::FormulaName { name },
        });
    }
    match formula.variables().iter().find(|name| has(name, true)) {
        Some(name) => Err(PolicyError::FormulaVariable { name: name.clone() }),
        None => Ok(()),
    }
}

impl TryFrom<UncheckedMetrics> for Metrics {
    type Error = PolicyError;

    fn try_from(metrics: UncheckedMetrics) -> Result<Self, PolicyError> {
        // As `Policy::for_objective` has it.
        if metrics.list.is_empty() && metrics.composite.is_none() {
            return Ok(Self { list: Vec::new(), composite: None });
        }
        Self::new(metrics.list, metrics.composite)
    }
}

/// `advanced.scalingModifiers`: one metric computed from the triggers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedComposite")]
pub struct Composite {
    formula: Formula,
    target: MetricTarget,
    activation_target: f64,
}

#[derive(Deserialize)]
struct UncheckedComposite {
    formula: Formula,
    target: MetricTarget,
    #[serde(default)]
    activation_target: f64,
}

impl Composite {
    /// A composite metric: active above `activation_target`, strictly.
    ///
    /// # Errors
    ///
    /// A target of zero or less, or a Utilization.
    pub fn new(formula: Formula, target: MetricTarget, activation_target: f64) -> Result<Self, PolicyError> {
        let metric = Name::from(COMPOSITE_METRIC_NAME);
        match target {
            MetricTarget::Utilization(_) => Err(PolicyError::MetricTargetType {
                metric,
                source_type: "External".to_owned(),
                target_type: target.type_name(),
            }),
            MetricTarget::AverageValue(amount) | MetricTarget::Value(amount) if amount.get() <= 0 => {
                Err(PolicyError::MetricTarget { metric })
            }
            _ => Ok(Self { formula, target, activation_target }),
        }
    }

    /// How it is computed.
    pub fn formula(&self) -> &Formula {
        &self.formula
    }

    /// How much of it is wanted.
    pub fn target(&self) -> MetricTarget {
        self.target
    }

    /// Active above this, strictly.
    pub fn activation_target(&self) -> f64 {
        self.activation_target
    }
}

impl TryFrom<UncheckedComposite> for Composite {
    type Error = PolicyError;

    fn try_from(composite: UncheckedComposite) -> Result<Self, PolicyError> {
        Self::new(composite.formula, composite.target, composite.activation_target)
    }
}

/// When a ScaledObject goes between zero (or idle) and in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Activation {
    /// `cooldownPeriod`: how long after it was last active it may go to zero or idle.
    #[serde(with = "seconds")]
    pub cooldown: Duration,
    /// `initialCooldownPeriod`: the same after its creation, as long as it never was active.
    #[serde(with = "seconds")]
    pub initial_cooldown: Duration,
    /// `pollingInterval`: one failure is counted in each, for the fallback.
    #[serde(with = "seconds")]
    pub polling_interval: Duration,
    /// The object's `creationTimestamp`.
    pub created: Time,
    /// The annotation `autoscaling.keda.sh/force-activation`: active whatever the triggers say.
    pub forced: bool,
}

impl Default for Activation {
    /// KEDA's defaults, created at the epoch.
    fn default() -> Self {
        Self {
            cooldown: Duration::from_secs(300),
            initial_cooldown: Duration::ZERO,
            polling_interval: Duration::from_secs(30),
            created: Time::default(),
            forced: false,
        }
    }
}

/// The pause annotations of a ScaledObject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pause {
    /// None.
    #[default]
    No,
    /// `autoscaling.keda.sh/paused`: stays at its current replicas.
    AtCurrent,
    /// `autoscaling.keda.sh/paused-replicas`: goes to that many and stays there.
    AtReplicas(u32),
    /// `autoscaling.keda.sh/paused-scale-in` and `-scale-out`: stands still in one direction, or in both.
    Directions {
        /// Never fewer.
        scale_in: bool,
        /// Never more.
        scale_out: bool,
    },
}

impl Pause {
    /// Nothing may be taken away.
    pub fn holds_in(self) -> bool {
        matches!(self, Self::Directions { scale_in: true, .. })
    }

    /// Nothing may be added.
    pub fn holds_out(self) -> bool {
        matches!(self, Self::Directions { scale_out: true, .. })
    }
}

/// `fallback` of a ScaledObject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// A trigger falls back after more consecutive failures than this, counted once in a polling interval.
    pub failure_threshold: u32,
    /// To how many replicas.
    pub replicas: u32,
    /// Which of these and the current ones.
    pub behavior: FallbackBehavior,
}

/// `fallback.behavior`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FallbackBehavior {
    /// Always `replicas`.
    #[default]
    Static,
    /// Always the current ones.
    CurrentReplicas,
    /// The current ones if they are more than `replicas`.
    CurrentReplicasIfHigher,
    /// The current ones if they are fewer than `replicas`.
    CurrentReplicasIfLower,
    /// The formula is told `nil` for what failed; `replicas` only when nothing is left.
    ScalingModifiers,
}

/// The name of the metric under which an objective asks for replicas.
pub const SLO_METRIC_NAME: &str = "slo";

/// How often the rate may exceed what replicas are held for, unless told otherwise.
const RISK: f64 = 0.02;

/// What is promised to the users of a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    /// The promise.
    pub objectives: Objectives,
    /// How often more may arrive than there are replicas for (0–1, neither end).
    pub risk: f64,
    /// From the order of a replica until it serves; none: it is measured.
    #[serde(default, with = "optional_seconds", skip_serializing_if = "Option::is_none")]
    pub startup: Option<Duration>,
}

impl Slo {
    /// The promise, with everything else found.
    pub fn new(objectives: Objectives) -> Self {
        Self { objectives, risk: RISK, startup: None }
    }

    /// The bound on latency in seconds, and the share of requests that may exceed it. Without one, there is none.
    pub(crate) fn bound(&self) -> (f64, f64) {
        self.objectives.latency().unwrap_or((f64::MAX, 0.01))
    }

    /// The share of errors that is promised not to be exceeded.
    pub(crate) fn errors(&self) -> Option<f64> {
        self.objectives.list().iter().find_map(|objective| match objective {
            Objective::Errors { share } => Some(*share),
            Objective::Share { .. } | Objective::Mean { .. } => None,
        })
    }

    /// As many at once as are needed, and no window: the recommender bounds growth, and holds what it may need again.
    fn behavior() -> Behavior {
        let period = Duration::from_secs(1);
        let up = vec![
            ScalingPolicy { kind: PolicyKind::Percent, value: 900, period },
            ScalingPolicy { kind: PolicyKind::Pods, value: 10, period },
        ];
        let down = vec![ScalingPolicy { kind: PolicyKind::Percent, value: 100, period }];
        let rules = |policies| ScalingRules::new(Some(Duration::ZERO), SelectPolicy::Max, policies, None);
        match (rules(up), rules(down)) {
            (Ok(scale_up), Ok(scale_down)) => Behavior { scale_up, scale_down },
            // These rules are within Kubernetes' limits, which a test holds.
            _ => Behavior::default(),
        }
    }
}

/// The pool of nodes or accelerators that a target shares with others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Which pool.
    pub pool: PoolName,
    /// Who gets room first when there is too little: higher before lower.
    pub priority: i32,
}
