//! The replicas of a trigger that keeps failing (KEDA `pkg/fallback`).
//!
//! They are turned back into a value that the metric's own arithmetic turns into these replicas, as KEDA does, so that
//! tolerance has the same say as for a measured value.

use crate::metric::{Metric, MetricTarget};
use crate::milli::Milli;
use crate::policy::{Fallback, FallbackBehavior};
use crate::reason::{Cause, Reason};
use crate::recommend::{Outcome, View, total};

/// The fallback, if this metric has failed often enough for it; cpu and memory never have.
pub(super) fn due<'a>(view: &View<'a>, metric: &Metric, failures: u32) -> Option<&'a Fallback> {
    let fallback = view.policy.fallback.as_ref()?;
    (metric.activates() && failures > fallback.failure_threshold).then_some(fallback)
}

/// Why the fallback counts.
pub(super) fn reason(
    view: &View<'_>,
    fallback: &Fallback,
    metric: &Metric,
    failures: u32,
    cause: &Cause,
) -> Reason {
    Reason::FallbackExists {
        metric: metric.name().clone(),
        failures,
        threshold: fallback.failure_threshold,
        replicas: fallback.replicas_from(view.counts.spec),
        error: cause.to_string(),
    }
}

/// What its replicas come to; none if they are to be shared out over ready pods and there are none.
pub(super) fn outcome(view: &View<'_>, fallback: &Fallback, target: MetricTarget) -> Option<Outcome> {
    let replicas = i64::from(fallback.replicas_from(view.counts.spec));
    let value = match target {
        MetricTarget::AverageValue(wanted) => wanted.get().saturating_mul(replicas),
        MetricTarget::Value(wanted) => {
            wanted.get().saturating_mul(replicas).checked_div(view.counts.ready.into())?
        }
        MetricTarget::Utilization(_) => return None,
    };
    total::replicas(Milli::new(value), target, view.counts, view.tolerance()).ok()
}

impl Fallback {
    /// How many replicas it means while there are `current` ones.
    fn replicas_from(&self, current: u32) -> u32 {
        match self.behavior {
            FallbackBehavior::Static | FallbackBehavior::ScalingModifiers => self.replicas,
            FallbackBehavior::CurrentReplicas => current,
            FallbackBehavior::CurrentReplicasIfHigher => current.max(self.replicas),
            FallbackBehavior::CurrentReplicasIfLower => current.min(self.replicas),
        }
    }
}
