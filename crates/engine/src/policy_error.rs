//! Why a policy makes no sense: what its constructors refuse. Where it stands in a manifest is known to who read it.

use thiserror::Error;

use crate::name::{MetricName, Name};

/// More metrics than any autoscaler has; each costs time at every evaluation.
pub const METRICS_MAX: usize = 256;

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
    /// The formula asks for a Resource metric, which has no value of its own: it is a share of what pods request.
    #[error(
        "the formula uses `{name}`, a cpu or memory trigger, and those feed no formula: they ask for replicas \
         beside it; for usage in a formula, read it with a prometheus trigger"
    )]
    FormulaResource {
        /// The name.
        name: Name,
    },
    /// The formula declares a variable that would hide a trigger.
    #[error("the formula declares `{name}` with `let`, and a trigger has that name")]
    FormulaVariable {
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
