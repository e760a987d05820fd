//! Why: one variant for each sentence the engine can say.
//!
//! Typed, so that conditions, tests and dashboards match no strings. [`Reason::code`] is stable and is Kubernetes' or
//! KEDA's word where one exists; `Display` is one plain sentence with its numbers and units (`sentence.rs`).

mod objective;
mod sentence;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::behavior::ScalingPolicy;
use crate::metric::MetricTarget;
use crate::milli::Milli;
use crate::name::{MetricName, Name, PoolName};
use crate::rules::Tolerance;
use crate::time::{Time, seconds};

pub use objective::ObjectiveReason;

/// Why a step was taken, or why a metric asked for what it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reason {
    /// More is measured than wanted.
    AboveTarget(Measured),
    /// Less is measured than wanted.
    BelowTarget(Measured),
    /// The source says that nothing happened, which counts as no load.
    NoLoad(Measured),
    /// The source gave a negative number, which counts as zero: there is no less than no load.
    NegativeValue {
        /// What zero asks for.
        measured: Measured,
        /// The number.
        reading: Milli,
    },
    /// What is measured is near enough to what is wanted.
    WithinTolerance {
        /// What was measured.
        measured: Measured,
        /// How near is near enough.
        tolerance: Tolerance,
    },
    /// The pods that were not measured could turn the result around, so it is not acted on.
    UnmeasuredPodsDecide(Measured),
    /// The metric feeds the formula and asks for nothing itself.
    FormulaInput {
        /// The metric.
        metric: MetricName,
        /// What it reads.
        value: Milli,
    },
    /// The metric can't be used, so it asks for nothing and nothing may be taken away.
    MetricUnavailable(Unavailable),
    /// A trigger failed for so long that its fallback counts.
    FallbackExists {
        /// The trigger.
        metric: MetricName,
        /// Consecutive failures.
        failures: u32,
        /// As many as may pass.
        threshold: u32,
        /// Falls back to these.
        replicas: u32,
        /// Its last failure.
        error: String,
    },
    /// The target was set to zero by hand, which switches a HorizontalPodAutoscaler off.
    ScalingDisabled,
    /// The scale subresource names no pods.
    SelectorRequired,
    /// The scale subresource's selector can't be parsed.
    InvalidSelector {
        /// The parser's words.
        error: String,
    },
    /// The pods are another autoscaler's too.
    AmbiguousSelector {
        /// The selector.
        selector: String,
        /// The autoscalers.
        autoscalers: Vec<String>,
    },
    /// The scale subresource could not be read.
    FailedGetScale {
        /// Why.
        error: String,
    },
    /// A trigger is above its activation threshold.
    ScalerActive {
        /// The trigger, or the composite metric.
        metric: MetricName,
        /// What it reads.
        value: Milli,
        /// Active above this.
        threshold: Milli,
    },
    /// A trigger reads its fallback, which counts as active.
    ActiveByFallback {
        /// The trigger.
        metric: MetricName,
    },
    /// Requests wait for a first pod.
    RequestsWaiting {
        /// How many.
        requests: u32,
    },
    /// An annotation says that the target is in use.
    ForceActivation,
    /// Nothing but cpu and memory, which can't be measured without pods: the target is always in use.
    ResourceTriggersOnly,
    /// No trigger is active, for long enough.
    ScalerNotActive {
        /// When one last was; none if never.
        last_active: Option<Time>,
    },
    /// No trigger is active, not yet for long enough.
    ScalerCooldown {
        /// When it ends.
        until: Time,
    },
    /// No trigger is active, and one can't be read: nothing says that the target is not in use.
    TriggerError {
        /// The trigger.
        metric: MetricName,
    },
    /// More was recommended not long ago.
    ScaleDownStabilized {
        /// The highest recommendation in the window.
        highest: u32,
        /// When it was last made.
        seen_at: Time,
        /// How long it counts.
        #[serde(with = "seconds")]
        window: Duration,
        /// Nothing is taken away after that either: `scaleDown.selectPolicy` is `Disabled`.
        #[serde(default)]
        disabled: bool,
    },
    /// Less was recommended not long ago.
    ScaleUpStabilized {
        /// The lowest recommendation in the window.
        lowest: u32,
        /// When it was last made.
        seen_at: Time,
        /// How long it counts.
        #[serde(with = "seconds")]
        window: Duration,
    },
    /// As many as may be added now.
    ScaleUpLimit(Pace),
    /// As many as may be taken away now.
    ScaleDownLimit(Pace),
    /// The lower bound.
    TooFewReplicas {
        /// The bound.
        min: u32,
    },
    /// The upper bound.
    TooManyReplicas {
        /// The bound.
        max: u32,
    },
    /// An annotation holds the target.
    ScaledObjectPaused {
        /// At how many replicas; none for the current ones.
        replicas: Option<u32>,
    },
    /// What the objective asks for.
    Objective(ObjectiveReason),
    /// The pool has no room for all that its targets want.
    CapacityExhausted {
        /// The pool.
        pool: PoolName,
        /// Room in all.
        capacity: u32,
        /// What this target wanted.
        wanted: u32,
    },
}

/// A measurement beside what is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The metric.
    pub metric: MetricName,
    /// What it reads: percent for a Utilization, the average of the pods or the whole target's amount otherwise.
    pub value: Milli,
    /// What is wanted.
    pub target: MetricTarget,
    /// Over what the value was measured, which is also what it is compared with.
    pub over: Over,
    /// What each pod is to request, where its size changes too: a Utilization is measured against that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sized_request: Option<Milli>,
    /// The replicas it needs.
    pub replicas: u32,
}

/// Over what a value was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Over {
    /// The pods that count, leaving out those without a value and those not ready.
    Pods {
        /// Pods that count.
        ready: u32,
        /// Pods without a value.
        missing: u32,
        /// Pods that are not ready yet.
        unready: u32,
        /// Pods that are ready, as far as is known, and whose use is that of their start.
        #[serde(default)]
        starting: u32,
    },
    /// The whole target, wanted per replica.
    Replicas(u32),
    /// The whole target, wanted in all; the ready pods are multiplied by the ratio.
    Ready(u32),
}

/// Why a metric can't be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unavailable {
    /// The metric.
    pub metric: MetricName,
    /// Its type, as `autoscaling/v2` writes it.
    pub source_type: Name,
    /// Since when it has been so.
    pub since: Time,
    /// What is wrong.
    pub cause: Cause,
}

/// What is wrong with a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Cause {
    /// It has not been read yet.
    NotRead,
    /// The source has no such series.
    Missing(String),
    /// The source says that its answer is not whole, and what there is of it asks for no more replicas.
    Partial {
        /// What there is of it.
        value: Milli,
        /// The source's words.
        why: String,
    },
    /// Its last value is too old.
    Stale {
        /// The value.
        last: Milli,
        /// Its time.
        at: Time,
        /// Why there is no newer one; empty where nothing is known but its age.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
    },
    /// The source failed, or what it gave can't be used.
    Failed(String),
    /// Its type is not known.
    UnknownType,
}

/// How far the replicas may go at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// As far as this.
    pub allowed: u32,
    /// By which rule.
    pub rule: PaceRule,
}

/// Which rule sets the pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaceRule {
    /// One of `behavior`'s policies.
    Policy {
        /// The policy.
        policy: ScalingPolicy,
        /// How many of its replicas the changes in its period have used; below zero when they went the other way.
        used: i64,
        /// How many are left.
        #[serde(default)]
        left: u32,
        /// When the oldest of these changes is over, and more are left; none if there is none.
        #[serde(default)]
        more_at: Option<Time>,
    },
    /// No `behavior`: at each evaluation at most so many times as many.
    Legacy,
    /// `selectPolicy: Disabled`.
    Disabled,
}

impl Reason {
    /// CamelCase and stable: the `reason` of conditions and events, a metric label, an anchor in the documentation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AboveTarget(_) => "AboveTarget",
            Self::BelowTarget(_) => "BelowTarget",
            Self::NoLoad(_) => "NoLoad",
            Self::NegativeValue { .. } => "NegativeValue",
            Self::WithinTolerance { .. } => "WithinTolerance",
            Self::UnmeasuredPodsDecide(_) => "UnmeasuredPodsDecide",
            Self::FormulaInput { .. } => "FormulaInput",
            Self::MetricUnavailable(unavailable) => unavailable.code(),
            Self::FallbackExists { .. } => "FallbackExists",
            Self::ScalingDisabled => "ScalingDisabled",
            Self::SelectorRequired | Self::InvalidSelector { .. } => "InvalidSelector",
            Self::AmbiguousSelector { .. } => "AmbiguousSelector",
            Self::FailedGetScale { .. } => "FailedGetScale",
            Self::ScalerActive { .. } | Self::ActiveByFallback { .. } => "ScalerActive",
            Self::RequestsWaiting { .. } => "RequestsWaiting",
            Self::ForceActivation => "ForceActivation",
            Self::ResourceTriggersOnly => "ScalerActive",
            Self::ScalerNotActive { .. } => "ScalerNotActive",
            Self::ScalerCooldown { .. } => "ScalerCooldown",
            Self::TriggerError { .. } => "TriggerError",
            Self::ScaleDownStabilized { .. } => "ScaleDownStabilized",
            Self::ScaleUpStabilized { .. } => "ScaleUpStabilized",
            Self::ScaleUpLimit(_) => "ScaleUpLimit",
            Self::ScaleDownLimit(_) => "ScaleDownLimit",
            Self::TooFewReplicas { .. } => "TooFewReplicas",
            Self::TooManyReplicas { .. } => "TooManyReplicas",
            Self::ScaledObjectPaused { .. } => "ScaledObjectPaused",
            Self::Objective(objective) => objective.code(),
            Self::CapacityExhausted { .. } => "CapacityExhausted",
        }
    }
}

impl Unavailable {
    /// `MetricMissing`, `MetricPartial` and `MetricStale` are ours; a failure has the HorizontalPodAutoscaler's word for its type.
    pub fn code(&self) -> &'static str {
        match &self.cause {
            Cause::NotRead | Cause::Missing(_) => "MetricMissing",
            Cause::Partial { .. } => "MetricPartial",
            Cause::Stale { .. } => "MetricStale",
            Cause::Failed(_) | Cause::UnknownType => self.hpa_reason(),
        }
    }

    /// The HorizontalPodAutoscaler's word, which does not tell the causes apart.
    pub fn hpa_reason(&self) -> &'static str {
        match self.source_type.as_str() {
            "Resource" => "FailedGetResourceMetric",
            "ContainerResource" => "FailedGetContainerResourceMetric",
            "Pods" => "FailedGetPodsMetric",
            "Object" => "FailedGetObjectMetric",
            "External" => "FailedGetExternalMetric",
            _ => "InvalidMetricSourceType",
        }
    }
}
