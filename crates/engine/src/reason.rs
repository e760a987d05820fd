//! Why: one variant for each sentence the engine can say.
//!
//! Typed, so that conditions, tests and dashboards match no strings. [`Reason::code`] is stable and is Kubernetes' or
//! KEDA's word where one exists; `Display` is one plain sentence with its numbers and units.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::behavior::{PolicyKind, ScalingPolicy};
use crate::metric::MetricTarget;
use crate::milli::Milli;
use crate::name::{MetricName, Name, PoolName};
use crate::policy::Tolerance;
use crate::time::{Time, seconds};

/// Why a step was taken, or why a metric asked for what it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reason {
    /// More is measured than wanted.
    AboveTarget(Measured),
    /// Less is measured than wanted.
    BelowTarget(Measured),
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
    /// Its last value is too old.
    Stale {
        /// The value.
        last: Milli,
        /// Its time.
        at: Time,
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
            Self::CapacityExhausted { .. } => "CapacityExhausted",
        }
    }
}

impl Unavailable {
    /// `MetricMissing` and `MetricStale` are ours; a failure has the HorizontalPodAutoscaler's word for its type.
    pub fn code(&self) -> &'static str {
        match &self.cause {
            Cause::NotRead | Cause::Missing(_) => "MetricMissing",
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

/// `1 replica`, `2 replicas`.
pub(crate) fn count(number: impl Into<i64>, thing: &str) -> String {
    let number = number.into();
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AboveTarget(measured) | Self::BelowTarget(measured) => {
                write!(f, "{measured}, so {}", count(measured.replicas, "replica"))
            }
            Self::WithinTolerance { measured, tolerance } => write!(
                f,
                "{measured}, within the tolerance of {} % up and {} % down, so it stays at {}",
                percent(tolerance.up),
                percent(tolerance.down),
                measured.replicas
            ),
            Self::UnmeasuredPodsDecide(measured) => write!(
                f,
                "{measured}; the pods without a value could turn that around, so it stays at {}",
                measured.replicas
            ),
            Self::FormulaInput { metric, value } => write!(f, "{metric} reads {value} and feeds the formula"),
            Self::MetricUnavailable(unavailable) => {
                write!(f, "{unavailable}; nothing is taken away without it")
            }
            Self::FallbackExists { metric, failures, threshold, replicas, error } => write!(
                f,
                "{metric} failed {failures} times in a row, more than the {threshold} that may pass ({error}), so its fallback of {} counts",
                count(*replicas, "replica")
            ),
            Self::ScalingDisabled => {
                f.write_str("the target was set to 0 replicas by hand, which switches its autoscaler off")
            }
            Self::SelectorRequired => {
                f.write_str("the target's scale subresource has no selector, so its pods are not known")
            }
            Self::InvalidSelector { error } => {
                write!(f, "the selector of the target's scale subresource can't be parsed: {error}")
            }
            Self::AmbiguousSelector { selector, autoscalers } => {
                write!(f, "the pods of {selector} belong to several autoscalers: {}", autoscalers.join(", "))
            }
            Self::FailedGetScale { error } => {
                write!(f, "the target's current replicas can't be read: {error}")
            }
            Self::ScalerActive { metric, value, threshold } => {
                write!(f, "{metric} reads {value}, above its activation threshold of {threshold}")
            }
            Self::ActiveByFallback { metric } => {
                write!(f, "{metric} reads its fallback, which counts as active")
            }
            Self::RequestsWaiting { requests } => {
                let verb = if *requests == 1 { "waits" } else { "wait" };
                write!(f, "{} {verb} for a first pod", count(*requests, "request"))
            }
            Self::ForceActivation => f.write_str("activation is being forced by annotation"),
            Self::ResourceTriggersOnly => {
                f.write_str("cpu and memory can't be measured without pods, so the target is always in use")
            }
            Self::ScalerNotActive { last_active: Some(at) } => {
                write!(f, "no trigger has been active since {at}")
            }
            Self::ScalerNotActive { last_active: None } => f.write_str("no trigger has ever been active"),
            Self::ScalerCooldown { until } => {
                write!(f, "no trigger is active; the cooldown lasts until {until}")
            }
            Self::TriggerError { metric } => {
                write!(f, "no trigger is active, but {metric} can't be read, so the target may be in use")
            }
            Self::ScaleDownStabilized { highest, seen_at, window } => write!(
                f,
                "{} were recommended at {seen_at}, which counts for {} until {}",
                count(*highest, "replica"),
                Seconds(*window),
                *seen_at + *window
            ),
            Self::ScaleUpStabilized { lowest, seen_at, window } => write!(
                f,
                "only {} were recommended at {seen_at}, which counts for {} until {}",
                count(*lowest, "replica"),
                Seconds(*window),
                *seen_at + *window
            ),
            Self::ScaleUpLimit(pace) => write!(f, "no more than {} now: {}", pace.allowed, pace.rule),
            Self::ScaleDownLimit(pace) => write!(f, "no fewer than {} now: {}", pace.allowed, pace.rule),
            Self::TooFewReplicas { min } => write!(f, "the minimum is {}", count(*min, "replica")),
            Self::TooManyReplicas { max } => write!(f, "the maximum is {}", count(*max, "replica")),
            Self::ScaledObjectPaused { replicas: None } => {
                f.write_str("paused by annotation at the current replicas")
            }
            Self::ScaledObjectPaused { replicas: Some(replicas) } => {
                write!(f, "paused by annotation at {}", count(*replicas, "replica"))
            }
            Self::CapacityExhausted { pool, capacity, wanted } => write!(
                f,
                "pool {pool} has room for {} in all, and the targets that share it want more; this one wanted {wanted}",
                count(*capacity, "replica")
            ),
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, value, target, over, .. } = self;
        match (over, target) {
            (Over::Pods { .. }, MetricTarget::Utilization(_)) => {
                write!(f, "{metric} is at {value} % of what the pods requested where {target} is wanted")?;
            }
            (Over::Pods { .. }, _) => write!(f, "{metric} averages {value} where {target} is wanted")?,
            (Over::Replicas(_) | Over::Ready(_), _) => {
                write!(f, "{metric} reads {value} where {target} is wanted")?
            }
        }
        match *over {
            Over::Pods { ready, missing, unready } => {
                write!(f, ", over {}", count(ready, "pod"))?;
                if missing > 0 {
                    write!(f, ", {missing} without a value")?;
                }
                if unready > 0 {
                    write!(f, ", {unready} not ready")?;
                }
                Ok(())
            }
            Over::Replicas(_) => Ok(()),
            Over::Ready(ready) => write!(f, " with {}", count(ready, "ready pod")),
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, source_type, since, cause } = self;
        match cause {
            Cause::NotRead => write!(f, "{metric} has not been read yet"),
            Cause::Missing(why) => write!(f, "{metric} has had no data since {since}: {why}"),
            Cause::Stale { last, at } => {
                write!(f, "{metric} last read {last} at {at}, too long ago to act on")
            }
            Cause::Failed(error) => write!(f, "{metric} has failed since {since}: {error}"),
            Cause::UnknownType => write!(
                f,
                "{metric} is of the unknown type {source_type:?}",
                source_type = source_type.as_str()
            ),
        }
    }
}

impl fmt::Display for Cause {
    /// In the words of the source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRead => f.write_str("not read yet"),
            Self::Missing(why) => f.write_str(why),
            Self::Stale { last, at } => write!(f, "the last value, {last}, is of {at}"),
            Self::Failed(error) => f.write_str(error),
            Self::UnknownType => f.write_str("unknown type"),
        }
    }
}

impl fmt::Display for PaceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy { policy, used } => {
                write!(f, "{policy}, of which {used} are used")
            }
            Self::Legacy => f.write_str("without behavior, replicas at most double at each evaluation"),
            Self::Disabled => f.write_str("selectPolicy is Disabled in this direction"),
        }
    }
}

impl fmt::Display for ScalingPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = Seconds(self.period);
        match self.kind {
            PolicyKind::Pods => write!(f, "{} in {period}", count(self.value, "pod")),
            PolicyKind::Percent => write!(f, "{} % in {period}", self.value),
        }
    }
}

/// `15 s`, `0.5 s`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

/// A ratio as a percentage with at most one decimal.
fn percent(ratio: f64) -> f64 {
    (ratio * 1000.0).round() / 10.0
}
