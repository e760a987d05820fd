//! The sentences: numbers with their units, counts in words, times in full.

use std::fmt;
use std::time::Duration;

use super::{Cause, Measured, Over, Pace, PaceRule, Reason, Unavailable};
use crate::behavior::{PolicyKind, ScalingPolicy};
use crate::metric::MetricTarget;

/// `1 replica`, `2 replicas`.
pub(super) fn count(number: impl Into<i64>, thing: &str) -> String {
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
            Self::NoLoad(Measured { metric, replicas, .. }) => write!(
                f,
                "{metric} says that nothing happened in its window, which counts as no load, so {}",
                count(*replicas, "replica")
            ),
            Self::NegativeValue { measured: Measured { metric, replicas, .. }, reading } => write!(
                f,
                "{metric} reads {reading}, and a negative number counts as 0, so {}",
                count(*replicas, "replica")
            ),
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
            Self::ScaleDownStabilized { highest, seen_at, window, disabled } => {
                let (were, until) = (were(*highest), *seen_at + *window);
                write!(
                    f,
                    "{were} recommended at {seen_at}, which counts for {} until {until}",
                    Seconds(*window)
                )?;
                match disabled {
                    true => f.write_str(
                        "; after that it stays too: scale-in is disabled (selectPolicy: Disabled)",
                    ),
                    false => Ok(()),
                }
            }
            Self::ScaleUpStabilized { lowest, seen_at, window } => write!(
                f,
                "only {} recommended at {seen_at}, which counts for {} until {}",
                were(*lowest),
                Seconds(*window),
                *seen_at + *window
            ),
            Self::ScaleUpLimit(Pace { allowed, rule: PaceRule::Disabled }) => {
                write!(f, "no more than {allowed}: scale-out is disabled (selectPolicy: Disabled)")
            }
            Self::ScaleDownLimit(Pace { allowed, rule: PaceRule::Disabled }) => {
                write!(f, "no fewer than {allowed}: scale-in is disabled (selectPolicy: Disabled)")
            }
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
            Self::Objective(objective) => objective.fmt(f),
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
        let Self { metric, value, target, over, sized_request, .. } = self;
        match (over, target) {
            (Over::Pods { .. }, MetricTarget::Utilization(_)) if sized_request.is_some() => {
                let request = sized_request.unwrap_or_default();
                write!(
                    f,
                    "{metric} is at {value} % of the {request} that each pod is to request where {target} is wanted"
                )?;
            }
            (Over::Pods { .. }, MetricTarget::Utilization(_)) => {
                write!(f, "{metric} is at {value} % of what the pods requested where {target} is wanted")?;
            }
            (Over::Pods { .. }, _) => write!(f, "{metric} averages {value} where {target} is wanted")?,
            (Over::Replicas(_) | Over::Ready(_), _) => {
                write!(f, "{metric} reads {value} where {target} is wanted")?
            }
        }
        match *over {
            Over::Pods { ready, missing, unready, starting } => {
                write!(f, ", over {}", count(ready, "pod"))?;
                if missing > 0 {
                    write!(f, ", {missing} without a value")?;
                }
                if unready > 0 {
                    write!(f, ", {unready} not ready")?;
                }
                if starting > 0 {
                    write!(f, ", {starting} starting")?;
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
            Cause::Partial { value, why } => {
                write!(f, "{metric} has been read in part only since {since}, now {value}: {why}")
            }
            Cause::Stale { last, at, why } => {
                write!(f, "{metric} last read {last} at {at}, too long ago to act on")?;
                if why.is_empty() { Ok(()) } else { write!(f, ": {why}") }
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
            Self::Partial { value, why } => write!(f, "{value} is not all there is: {why}"),
            Self::Stale { last, at, why } => {
                write!(f, "the last value, {last}, is of {at}")?;
                if why.is_empty() { Ok(()) } else { write!(f, ": {why}") }
            }
            Self::Failed(error) => f.write_str(error),
            Self::UnknownType => f.write_str("unknown type"),
        }
    }
}

impl fmt::Display for PaceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy { policy, used, left, more_at } => {
                write!(f, "{policy}, of which {used} are used and {left} left")?;
                more_at.map_or(Ok(()), |at| write!(f, "; more from {at} on"))
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
pub(super) struct Seconds(pub(super) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

/// A ratio as a percentage with at most one decimal.
fn percent(ratio: f64) -> f64 {
    (ratio * 1000.0).round() / 10.0
}

fn were(replicas: u32) -> String {
    let verb = if replicas == 1 { "was" } else { "were" };
    format!("{} {verb}", count(replicas, "replica"))
}
