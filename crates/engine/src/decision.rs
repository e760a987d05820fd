//! A decision: the chain of steps from the current to the desired replicas, each with its reason.
//!
//! **The reason is the computation.** There is no second place where a sentence is made up afterwards: explanations,
//! conditions, events, dashboards and tests all read this. Decisions are kept by whoever asked for them, so they are
//! compact: numbers and shared names, no text but the words of a source that failed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::milli::Milli;
use crate::name::{MetricName, TargetId};
use crate::reason::Reason;
use crate::time::Time;
use crate::vertical::ContainerSize;

/// What was decided for one target at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The workload.
    pub target: TargetId,
    /// When.
    pub at: Time,
    /// `spec.replicas` as last seen.
    pub current: u32,
    /// `spec.replicas` to set; the same as `current` to keep it.
    pub desired: u32,
    /// How `current` became `desired`: never empty, each step starts where the last one ended.
    pub steps: Vec<Step>,
    /// What each metric asked for, in the policy's order; with a formula, the composite metric comes first and the
    /// triggers that feed it ask for nothing. Empty when nothing was measured: paused, out of bounds, switched off.
    pub proposals: Vec<Proposal>,
    /// Whether the target is in use; none for a plain HorizontalPodAutoscaler.
    pub activity: Option<Activity>,
    /// The nearest value at which a metric would ask for more, then the one at which the deciding metric would ask for
    /// fewer.
    pub turning_points: Vec<TurningPoint>,
    /// What each container of a replica is to request; empty where nobody sizes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<ContainerSize>,
}

impl Decision {
    /// The step that says most: the last one that changed the number, or else the last one.
    ///
    /// The number that leaves the pipeline was set by it; a later step only agreed.
    pub fn deciding_step(&self) -> Option<&Step> {
        self.steps.iter().rev().find(|step| step.from != step.to).or(self.steps.last())
    }

    /// Whether the replicas are to change.
    pub fn rescales(&self) -> bool {
        self.current != self.desired
    }
}

impl fmt::Display for Decision {
    /// One line for the outcome, one for each step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} → {}", self.at, self.target, self.current, self.desired)?;
        for step in &self.steps {
            write!(f, "\n  {step}")?;
        }
        for size in &self.sizes {
            for step in &size.desired.steps {
                write!(f, "\n  {:<9} {} {step}", "size", size.desired.container)?;
            }
        }
        Ok(())
    }
}

/// One step of the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Which stage took it.
    pub stage: Stage,
    /// Replicas before.
    pub from: u32,
    /// Replicas after; the same when the stage kept a number that would otherwise have changed.
    pub to: u32,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9} {} → {}  {}: {}", self.stage, self.from, self.to, self.reason.code(), self.reason)
    }
}

/// The stages, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Each metric says how many replicas it needs; the highest wins.
    Recommend,
    /// Between zero (or idle) and in use.
    Activate,
    /// A wish must last.
    Stabilize,
    /// Not too fast.
    Pace,
    /// Minimum, maximum, pause.
    Bound,
    /// When a pool is too small for all.
    Share,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Recommend => "recommend",
            Self::Activate => "activate",
            Self::Stabilize => "stabilize",
            Self::Pace => "pace",
            Self::Bound => "bound",
            Self::Share => "share",
        })
    }
}

/// What one metric asked for, whether it won or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// The metric.
    pub metric: MetricName,
    /// How many replicas it needs; none when that can't be said, or when it only feeds a formula.
    pub replicas: Option<u32>,
    /// Why that many, or why it can't be said.
    pub reason: Reason,
    /// What it reads, as `status.currentMetrics` shows it.
    pub current: Option<CurrentMetric>,
    /// Above its activation threshold; none when it has no say in that, or when it is not known.
    pub active: Option<bool>,
    /// Consecutive failures, one counted in each polling interval.
    pub failures: u32,
}

/// `status.currentMetrics[].current`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CurrentMetric {
    /// Of a resource: percent of the requests, and the average of the measured pods.
    Utilization {
        /// `averageUtilization`.
        percent: i32,
        /// `averageValue`.
        average: Milli,
    },
    /// `averageValue`.
    AverageValue(Milli),
    /// `value`.
    Value(Milli),
}

/// Whether a target is in use, as KEDA's scale loop sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// In use, not in use, or not known because a trigger can't be read and none is active.
    pub state: ActivityState,
    /// At least one trigger can't be read.
    pub failing: bool,
    /// At least one trigger reads its fallback.
    pub fallback: bool,
    /// When it was last in use.
    pub last_active: Option<Time>,
}

/// In use or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActivityState {
    /// A trigger is above its activation threshold, requests wait, or cpu and memory are all there is.
    Active,
    /// An annotation says so.
    Forced,
    /// Every trigger is at or below its threshold, and that long enough.
    Inactive,
    /// The same, and not yet long enough.
    CoolingDown,
    /// None is active and at least one can't be read.
    Unknown,
}

impl Activity {
    /// In use.
    pub fn is_active(&self) -> bool {
        matches!(self.state, ActivityState::Active | ActivityState::Forced)
    }
}

/// At which value a metric alone would ask for another number of replicas, all else equal, and what would become of that
/// at this moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurningPoint {
    /// The metric.
    pub metric: MetricName,
    /// Whether it has to be above or below `value`.
    pub side: Side,
    /// In the metric's unit; percent for a Utilization.
    pub value: Milli,
    /// The replicas it would then ask for.
    pub replicas: u32,
    /// What the later stages would make of them now; empty where they would let them pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// On which side of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// Above, strictly.
    Above,
    /// At it or above.
    AtLeast,
    /// Below, strictly.
    Below,
    /// At it or below.
    AtMost,
}

impl fmt::Display for TurningPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Above => "above",
            Side::AtLeast => "at least",
            Side::Below => "below",
            Side::AtMost => "at most",
        };
        let Self { metric, value, replicas, steps, .. } = self;
        match steps.iter().rev().find(|step| step.from != step.to) {
            None => write!(f, "with {metric} {side} {value} it goes to {replicas}"),
            Some(Step { to, reason, .. }) => {
                write!(f, "with {metric} {side} {value} it asks for {replicas}, and gets {to}: {reason}")
            }
        }
    }
}
