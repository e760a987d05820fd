//! What one metric of the policy asks for.

use crate::decision::Proposal;
use crate::metric::{Metric, MetricSource, MetricTarget};
use crate::milli::Milli;
use crate::name::Name;
use crate::reason::{Cause, Reason, Unavailable};
use crate::recommend::reading::{Kept, Usable};
use crate::recommend::{Judgement, View, fallback, per_pod, total};

/// Asks the metric.
pub(super) fn propose(view: &View<'_>, metric: &Metric, kept: &Kept) -> Proposal {
    let failures = kept.failures(view.now, metric, view.policy);
    let usable = kept.usable(view.now, metric);
    let active = match usable {
        Ok(Usable::Total(value)) if metric.activates() => Some(value.max(0.0) > metric.activation_threshold),
        // What is missing of it could be above the threshold.
        Ok(Usable::Partial(value, _)) if metric.activates() => {
            (value.max(0.0) > metric.activation_threshold).then_some(true)
        }
        Ok(Usable::Idle) if metric.activates() => Some(0.0 > metric.activation_threshold),
        _ => None,
    };
    let feeds_formula = view.policy.metrics.composite().is_some() && metric.activates();
    let judgement = match usable {
        Err(cause) => without_value(view, metric, kept, cause, failures, feeds_formula),
        Ok(Usable::PerPod(table)) => {
            match per_pod::replicas(view, metric.source(), metric.target(), table, view.tolerance()) {
                Ok(outcome) => outcome.judge(metric.name(), metric.target(), view.tolerance()),
                Err(error) => Judgement::none(unavailable(view, metric, kept, Cause::Failed(error))),
            }
        }
        Ok(Usable::Total(value)) => with_total(view, metric, kept, value, feeds_formula),
        Ok(Usable::Partial(value, why)) => {
            let judgement = with_total(view, metric, kept, value, feeds_formula);
            match judgement.replicas {
                Some(replicas) if replicas <= view.counts.spec => {
                    let cause = Cause::Partial { value: Milli::from_f64(value), why: why.to_owned() };
                    without_value(view, metric, kept, cause, failures, feeds_formula)
                }
                _ => judgement,
            }
        }
        Ok(Usable::Idle) => {
            let mut judgement = with_total(view, metric, kept, 0.0, feeds_formula);
            if let Reason::BelowTarget(measured) = judgement.reason {
                judgement.reason = Reason::NoLoad(measured);
            }
            judgement
        }
    };
    let Judgement { replicas, reason, current } = judgement;
    Proposal { metric: metric.name().clone(), replicas, reason, current, active, failures }
}

fn with_total(view: &View<'_>, metric: &Metric, kept: &Kept, value: f64, feeds_formula: bool) -> Judgement {
    let (amount, reading) = (Milli::from_reading(value), Milli::from_f64(value));
    if feeds_formula {
        return Judgement::none(Reason::FormulaInput { metric: metric.name().clone(), value: reading });
    }
    let tolerance = view.tolerance();
    match total::replicas(amount, metric.target(), view.counts, tolerance) {
        Ok(outcome) => {
            let mut judgement = outcome.judge(metric.name(), metric.target(), tolerance);
            if let Reason::BelowTarget(measured) = &judgement.reason
                && reading < Milli::default()
            {
                judgement.reason = Reason::NegativeValue { measured: measured.clone(), reading };
            }
            judgement
        }
        Err(error) => Judgement::none(unavailable(view, metric, kept, Cause::Failed(error))),
    }
}

/// The fallback, if it is time for it, or nothing.
fn without_value(
    view: &View<'_>,
    metric: &Metric,
    kept: &Kept,
    cause: Cause,
    failures: u32,
    feeds_formula: bool,
) -> Judgement {
    let Some(fallback) = fallback::due(view, metric, failures) else {
        return Judgement::none(unavailable(view, metric, kept, cause));
    };
    let reason = fallback::reason(view, fallback, metric, failures, &cause);
    if feeds_formula {
        return Judgement::none(reason);
    }
    match fallback::outcome(view, fallback, metric.target()) {
        Some(outcome) => {
            Judgement { replicas: Some(outcome.replicas), reason, current: Some(outcome.current) }
        }
        None => Judgement::none(unavailable(view, metric, kept, cause)),
    }
}

/// Why the metric can't be used.
pub(super) fn unavailable(view: &View<'_>, metric: &Metric, kept: &Kept, cause: Cause) -> Reason {
    let cause = match (metric.source(), cause) {
        (MetricSource::Unknown { .. }, _) => Cause::UnknownType,
        // The original's inner sentence; the outer one belongs to the status.
        (
            MetricSource::Resource { resource } | MetricSource::ContainerResource { resource, .. },
            Cause::Failed(error),
        ) => {
            let what = match metric.target() {
                MetricTarget::Utilization(_) => "utilization",
                MetricTarget::AverageValue(_) | MetricTarget::Value(_) => "usage",
            };
            Cause::Failed(format!("failed to get {resource} {what}: {error}"))
        }
        (_, cause) => cause,
    };
    Reason::MetricUnavailable(Unavailable {
        metric: metric.name().clone(),
        source_type: Name::from(metric.source().type_name()),
        since: kept.unavailable_since(view.now, metric).unwrap_or(view.now),
        cause,
    })
}

impl Proposal {
    /// The metric can't be used, and so nothing may be taken away.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.reason, Reason::MetricUnavailable(_))
    }

    /// The metric can't be used because there is no such series, or none any more.
    pub fn is_missing(&self) -> bool {
        let Reason::MetricUnavailable(unavailable) = &self.reason else { return false };
        matches!(unavailable.cause, Cause::NotRead | Cause::Missing(_) | Cause::Stale { .. })
    }
}
