//! `behavior` of an autoscaler: how fast it may go, and how long it must want to (`autoscaling/v2`
//! `HorizontalPodAutoscalerBehavior`, KEP-853; limits from Kubernetes' validation).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy_error::PolicyError;
use crate::time::{optional_seconds, seconds};

/// The longest stabilization window that Kubernetes admits.
pub const STABILIZATION_WINDOW_MAX: Duration = Duration::from_secs(3600);
/// The longest period of a scaling policy that Kubernetes admits.
pub const PERIOD_MAX: Duration = Duration::from_secs(1800);

/// Both directions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Behavior {
    /// `scaleUp`.
    pub scale_up: ScalingRules,
    /// `scaleDown`.
    pub scale_down: ScalingRules,
}

/// The rules of one direction: `HPAScalingRules`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedRules")]
pub struct ScalingRules {
    #[serde(with = "optional_seconds")]
    stabilization_window: Option<Duration>,
    select: SelectPolicy,
    policies: Vec<ScalingPolicy>,
    tolerance: Option<f64>,
}

/// The same before [`ScalingRules::new`] has looked at it.
#[derive(Deserialize)]
struct UncheckedRules {
    #[serde(default, with = "optional_seconds")]
    stabilization_window: Option<Duration>,
    select: SelectPolicy,
    policies: Vec<ScalingPolicy>,
    #[serde(default)]
    tolerance: Option<f64>,
}

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SelectPolicy {
    /// The one that allows the most change.
    Max,
    /// The one that allows the least change.
    Min,
    /// No change in this direction.
    Disabled,
}

/// No more than `value` pods or percent in any `period`: `HPAScalingPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingPolicy {
    /// Pods or percent.
    pub kind: PolicyKind,
    /// How many; above zero.
    pub value: u32,
    /// In which time; a second to half an hour.
    #[serde(with = "seconds")]
    pub period: Duration,
}

/// What a scaling policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyKind {
    /// Replicas.
    Pods,
    /// Hundredths of the replicas at the start of the period.
    Percent,
}

impl ScalingRules {
    /// Rules for one direction.
    ///
    /// `stabilization_window` none means the controller's own: zero up, five minutes down. `tolerance` none means the
    /// controller's own, a tenth.
    ///
    /// # Errors
    ///
    /// A window over an hour, no policy, a policy over zero pods or with a period outside a second to half an hour,
    /// a tolerance below zero.
    pub fn new(
        stabilization_window: Option<Duration>,
        select: SelectPolicy,
        policies: Vec<ScalingPolicy>,
        tolerance: Option<f64>,
    ) -> Result<Self, PolicyError> {
        if stabilization_window.is_some_and(|window| window > STABILIZATION_WINDOW_MAX) {
            return Err(PolicyError::StabilizationWindow);
        }
        if policies.is_empty() {
            return Err(PolicyError::NoScalingPolicy);
        }
        if policies.iter().any(|policy| policy.value == 0) {
            return Err(PolicyError::ScalingPolicyValue);
        }
        let allowed = Duration::from_secs(1)..=PERIOD_MAX;
        if policies.iter().any(|policy| !allowed.contains(&policy.period)) {
            return Err(PolicyError::ScalingPolicyPeriod);
        }
        if tolerance.is_some_and(|tolerance| !(tolerance >= 0.0 && tolerance.is_finite())) {
            return Err(PolicyError::Tolerance);
        }
        Ok(Self { stabilization_window, select, policies, tolerance })
    }

    /// What applies upwards when nothing is said: 4 pods or 100 % in 15 s, whichever is more, without waiting.
    pub fn default_up() -> Self {
        let period = Duration::from_secs(15);
        Self {
            stabilization_window: Some(Duration::ZERO),
            select: SelectPolicy::Max,
            policies: vec![
                ScalingPolicy { kind: PolicyKind::Pods, value: 4, period },
                ScalingPolicy { kind: PolicyKind::Percent, value: 100, period },
            ],
            tolerance: None,
        }
    }

    /// What applies downwards when nothing is said: 100 % in 15 s, after the controller's window (five minutes).
    pub fn default_down() -> Self {
        let period = Duration::from_secs(15);
        Self {
            stabilization_window: None,
            select: SelectPolicy::Max,
            policies: vec![ScalingPolicy { kind: PolicyKind::Percent, value: 100, period }],
            tolerance: None,
        }
    }

    /// How long a wish must last; none means the controller's own time.
    pub fn stabilization_window(&self) -> Option<Duration> {
        self.stabilization_window
    }

    /// Which policy counts.
    pub fn select(&self) -> SelectPolicy {
        self.select
    }

    /// The policies, at least one.
    pub fn policies(&self) -> &[ScalingPolicy] {
        &self.policies
    }

    /// How far from the target is still on target; none means the controller's own.
    pub fn tolerance(&self) -> Option<f64> {
        self.tolerance
    }

    /// The longest period of any policy: how long a change of replicas must be remembered.
    pub fn period_max(&self) -> Duration {
        self.policies.iter().map(|policy| policy.period).max().unwrap_or_default()
    }
}

impl TryFrom<UncheckedRules> for ScalingRules {
    type Error = PolicyError;

    fn try_from(rules: UncheckedRules) -> Result<Self, PolicyError> {
        Self::new(rules.stabilization_window, rules.select, rules.policies, rules.tolerance)
    }
}

impl Default for Behavior {
    fn default() -> Self {
        Self { scale_up: ScalingRules::default_up(), scale_down: ScalingRules::default_down() }
    }
}
