//! What a user asked for: the merged meaning of a HorizontalPodAutoscaler or a ScaledObject.
//!
//! A policy that exists makes sense: its parts are built by constructors that refuse what Kubernetes' validation and
//! KEDA's webhook refuse, and what can't be wrong is a plain field.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::behavior::Behavior;
use crate::formula::Formula;
use crate::metric::{Metric, MetricTarget};
use crate::name::{MetricName, Name, PoolName};
use crate::time::{Time, seconds};

/// More metrics than any autoscaler has; each costs time at every evaluation.
pub const METRICS_MAX: usize = 256;

/// The name KEDA gives to the metric that a formula computes.
pub const COMPOSITE_METRIC_NAME: &str = "composite-metric";

/// How one target is scaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Between how many replicas.
    pub bounds: Bounds,
    /// By which metrics.
    pub metrics: Metrics,
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
    /// How often it is evaluated; one second, unless told otherwise.
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
            behavior: None,
            activation: None,
            pause: Pause::No,
            fallback: None,
            share: None,
            evaluate_every: Duration::from_secs(1),
            rules: Rules::default(),
        }
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
    /// None at all, more than [`METRICS_MAX`], two of one name, a formula that uses a name no External metric has.
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
            let known =
                |name: &Name| list.iter().any(|m| m.activates() && m.formula_name.as_ref() == Some(name));
            if let Some(name) = composite.formula.names().iter().find(|name| !known(name)) {
                return Err(PolicyError::FormulaName { name: name.clone() });
            }
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

impl TryFrom<UncheckedMetrics> for Metrics {
    type Error = PolicyError;

    fn try_from(metrics: UncheckedMetrics) -> Result<Self, PolicyError> {
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

/// The pool of nodes or accelerators that a target shares with others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Which pool.
    pub pool: PoolName,
    /// Who gets room first when there is too little: higher before lower.
    pub priority: i32,
}

/// Settings of the controller rather than of one autoscaler: kube-controller-manager's flags and feature gates, and
/// where our rules differ from the originals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// What zero replicas mean.
    pub zero: ZeroRule,
    /// What holds when a policy has no `behavior`.
    pub no_behavior: NoBehavior,
    /// `--horizontal-pod-autoscaler-downscale-stabilization`.
    #[serde(with = "seconds")]
    pub downscale_stabilization: Duration,
    /// `--horizontal-pod-autoscaler-cpu-initialization-period`.
    #[serde(with = "seconds")]
    pub cpu_initialization: Duration,
    /// `--horizontal-pod-autoscaler-initial-readiness-delay`.
    #[serde(with = "seconds")]
    pub initial_readiness_delay: Duration,
    /// `--horizontal-pod-autoscaler-tolerance`, both ways.
    pub tolerance: Tolerance,
}

/// What zero replicas mean, and how they are left and reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ZeroRule {
    /// Ours: one loop from 0 to N. A target in use starts with as many replicas as are needed; one that is not goes
    /// down by its stabilization window and policies like any other.
    OneLoop,
    /// KEDA's: up to the minimum at first, and from any number to zero or idle at once.
    OneStep,
    /// The HorizontalPodAutoscaler's: a target at zero is switched off, unless the autoscaler itself brought it there
    /// (KEP-2021; needs the gate `HPAScaleToZero`). Out of bounds, it goes straight to the bound.
    Hpa {
        /// `HPAScaleToZero`.
        scale_to_zero: bool,
    },
}

/// What holds when a policy has no `behavior`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum NoBehavior {
    /// The defaults of `behavior`.
    Defaults,
    /// kube-controller-manager's older way: at each evaluation at most `factor` times as many, or `minimum`. Depends
    /// on how often it is evaluated, so it fits the 15 s loop only.
    Legacy {
        /// `scaleUpLimitFactor`, 2.
        factor: f64,
        /// `scaleUpLimitMinimum`, 4.
        minimum: f64,
    },
}

/// How far the ratio of value to target may be from 1 without a correction, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// Below 1.
    pub down: f64,
    /// Above 1.
    pub up: f64,
}

impl Tolerance {
    /// Whether this ratio asks for no correction. NaN does not: there is nothing it is close to.
    pub fn holds(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

impl Rules {
    /// kube-controller-manager's defaults.
    pub const fn hpa() -> Self {
        Self {
            zero: ZeroRule::Hpa { scale_to_zero: true },
            no_behavior: NoBehavior::Legacy { factor: 2.0, minimum: 4.0 },
            downscale_stabilization: Duration::from_secs(300),
            cpu_initialization: Duration::from_secs(300),
            initial_readiness_delay: Duration::from_secs(30),
            tolerance: Tolerance { down: 0.1, up: 0.1 },
        }
    }
}

impl Default for Rules {
    /// Ours: the same numbers, one loop from 0 to N, and the pace of `behavior`'s defaults.
    fn default() -> Self {
        Self { zero: ZeroRule::OneLoop, no_behavior: NoBehavior::Defaults, ..Self::hpa() }
    }
}

/// Why a policy makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// No upper bound, or one beyond Kubernetes' integers.
    #[error("max replicas is {max}; it must be between 1 and 2147483647")]
    Max {
        /// As written.
        max: u32,
    },
    /// The bounds are crossed.
    #[error("min replicas {min} is more than max replicas {max}")]
    MinOverMax {
        /// The lower.
        min: u32,
        /// The upper.
        max: u32,
    },
    /// Idle means fewer than the minimum.
    #[error("idle replicas {idle} must be fewer than min replicas {min}")]
    IdleNotBelowMin {
        /// Replicas while not in use.
        idle: u32,
        /// The lower bound.
        min: u32,
    },
    /// Nothing to decide by, or too much.
    #[error("{count} metrics; there must be between 1 and {METRICS_MAX}")]
    MetricCount {
        /// How many there are.
        count: usize,
    },
    /// Readings could not be told apart.
    #[error("metric `{metric}` is defined twice; give each its own name")]
    MetricTwice {
        /// The name.
        metric: MetricName,
    },
    /// Nothing can be divided by it.
    #[error("the target of metric `{metric}` must be greater than zero")]
    MetricTarget {
        /// The metric.
        metric: MetricName,
    },
    /// Not every source has every kind of target.
    #[error("metric `{metric}` of type {source_type} can't have a target of type {target_type}")]
    MetricTargetType {
        /// The metric.
        metric: MetricName,
        /// Its type.
        source_type: String,
        /// The target's type.
        target_type: &'static str,
    },
    /// The formula asks for something that is not measured.
    #[error("the formula uses `{name}`, and no trigger has that name")]
    FormulaName {
        /// The name.
        name: Name,
    },
    /// `stabilizationWindowSeconds`.
    #[error("the stabilization window must be at most 3600 seconds")]
    StabilizationWindow,
    /// `policies`.
    #[error("must specify at least one Policy")]
    NoScalingPolicy,
    /// `policies[].value`.
    #[error("the value of a scaling policy must be greater than zero")]
    ScalingPolicyValue,
    /// `policies[].periodSeconds`.
    #[error("the period of a scaling policy must be between 1 and 1800 seconds")]
    ScalingPolicyPeriod,
    /// `tolerance`.
    #[error("the tolerance must be zero or greater")]
    Tolerance,
}
