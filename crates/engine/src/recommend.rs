//! Each metric says how many replicas it needs; the highest wins (`computeReplicasForMetrics`).
//!
//! A metric that can't be used asks for nothing. If none can be used, or if the others ask for fewer replicas than
//! there are, the current replicas are kept: **no data is not no load**, and only a value may scale in. The others may
//! still scale out.
//!
//! A trigger that failed more often than its fallback allows asks for the fallback's replicas instead, by the same
//! arithmetic (KEDA `pkg/fallback`); cpu and memory never fall back. With a formula, the External metrics feed it and the
//! composite metric asks in their place; if one of them falls back, so does the composite.

pub(crate) mod per_pod;
pub(crate) mod reading;
pub(crate) mod total;

use crate::decision::{CurrentMetric, Proposal};
use crate::metric::{Metric, MetricSource, MetricTarget};
use crate::milli::Milli;
use crate::name::Name;
use crate::pod::Pod;
use crate::policy::{COMPOSITE_METRIC_NAME, Composite, Fallback, FallbackBehavior, Policy, Tolerance};
use crate::reason::{Cause, Measured, Over, Reason, Unavailable};
use crate::time::Time;
use reading::{Kept, Usable};
use total::Counts;

/// What the arithmetic of one metric comes to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) replicas: u32,
    pub(crate) verdict: Verdict,
    pub(crate) value: Milli,
    pub(crate) over: Over,
    pub(crate) current: CurrentMetric,
}

/// How it came to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// By the measured ratio.
    Measured,
    /// The ratio is within the tolerance.
    Tolerated,
    /// The unmeasured pods could turn it around.
    Unmeasured,
}

/// Rounds up to whole replicas: NaN and less than none are none, and the end is Kubernetes' largest integer.
pub(crate) fn ceil(replicas: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    let whole = replicas.ceil().clamp(0.0, f64::from(i32::MAX)) as u32;
    whole
}

/// Everything the metrics are judged by.
pub(crate) struct View<'a> {
    pub(crate) now: Time,
    pub(crate) policy: &'a Policy,
    pub(crate) counts: Counts,
    /// By name.
    pub(crate) pods: &'a [Pod],
    /// In the order of the policy's metrics.
    pub(crate) readings: &'a [Kept],
}

/// What the metrics say together.
pub(crate) struct Recommended {
    /// In the policy's order, the composite metric before the others.
    pub(crate) proposals: Vec<Proposal>,
    /// The replicas to go on with; none to keep the current ones.
    pub(crate) replicas: Option<u32>,
    /// Why: the winner's reason, or that of the first metric that can't be used.
    pub(crate) reason: Reason,
}

/// Asks every metric and takes the highest.
pub(crate) fn recommend(view: &View<'_>) -> Recommended {
    let mut proposals = Vec::with_capacity(view.readings.len() + 1);
    if let Some(composite) = view.policy.metrics.composite() {
        proposals.push(propose_composite(view, composite));
    }
    for (metric, kept) in view.policy.metrics.list().iter().zip(view.readings) {
        proposals.push(propose(view, metric, kept));
    }
    let broken = proposals.iter().find(|p| p.is_unavailable());
    let (replicas, deciding) = match (highest(&proposals), broken) {
        (Some((replicas, winner)), None) => (Some(replicas), winner),
        (Some((replicas, winner)), Some(_)) if replicas >= view.counts.spec => (Some(replicas), winner),
        (_, Some(broken)) => (None, broken),
        // Only a policy without metrics has neither, and there is none.
        (None, None) => (None, &proposals[0]),
    };
    let reason = deciding.reason.clone();
    Recommended { proposals, replicas, reason }
}

/// The highest proposal; the first of several, unless they ask for none at all.
fn highest(proposals: &[Proposal]) -> Option<(u32, &Proposal)> {
    let mut best: Option<(u32, &Proposal)> = None;
    for proposal in proposals {
        if let Some(replicas) = proposal.replicas
            && best.is_none_or(|(highest, _)| highest == 0 || replicas > highest)
        {
            best = Some((replicas, proposal));
        }
    }
    best
}

fn propose(view: &View<'_>, metric: &Metric, kept: &Kept) -> Proposal {
    let feeds_formula = view.policy.metrics.composite().is_some() && metric.activates();
    let usable = kept.usable(view.now, metric);
    let failures = kept.failures(view.now, metric, view.policy);
    let active = match usable {
        Ok(Usable::Total(value)) if metric.activates() => Some(value > metric.activation_threshold),
        _ => None,
    };
    let proposal = |replicas, reason, current| Proposal {
        metric: metric.name().clone(),
        replicas,
        reason,
        current,
        active,
        failures,
    };
    match (usable, fallback(view, metric, failures)) {
        (Ok(Usable::Total(value)), _) if feeds_formula => {
            let value = Milli::from_reading(value);
            proposal(None, Reason::FormulaInput { metric: metric.name().clone(), value }, None)
        }
        (Ok(Usable::Total(value)), _) => {
            let tolerance = view.tolerance();
            let outcome =
                total::replicas(Milli::from_reading(value), metric.target(), view.counts, tolerance);
            outcome.proposal(metric.name(), metric.target(), tolerance, active, failures)
        }
        (Ok(Usable::PerPod(table)), _) => {
            let tolerance = view.tolerance();
            let (source, target) = (metric.source(), metric.target());
            match per_pod::replicas(view, source, target, table, tolerance) {
                Ok(outcome) => outcome.proposal(metric.name(), target, tolerance, active, failures),
                Err(error) => proposal(None, unavailable(view, metric, kept, Cause::Failed(error)), None),
            }
        }
        (Err(cause), Some(fallback)) => {
            let reason = Reason::FallbackExists {
                metric: metric.name().clone(),
                failures,
                threshold: fallback.failure_threshold,
                replicas: fallback.replicas_from(view.counts.spec),
                error: cause.to_string(),
            };
            match fallback_outcome(fallback, metric.target(), view) {
                _ if feeds_formula => proposal(None, reason, None),
                Some(outcome) => proposal(Some(outcome.replicas), reason, Some(outcome.current)),
                None => proposal(None, unavailable(view, metric, kept, cause), None),
            }
        }
        (Err(cause), None) => proposal(None, unavailable(view, metric, kept, cause), None),
    }
}

/// The formula over the triggers. One that can't be read makes it unknown, unless the policy's fallback says what to
/// do: a value for the whole composite, or `nil` for the trigger.
fn propose_composite(view: &View<'_>, composite: &Composite) -> Proposal {
    let name = Name::from(COMPOSITE_METRIC_NAME);
    let inputs =
        view.policy.metrics.list().iter().zip(view.readings).filter(|(metric, _)| metric.activates());
    let mut nil = false;
    for (metric, kept) in inputs {
        let Err(cause) = kept.usable(view.now, metric) else { continue };
        let failures = kept.failures(view.now, metric, view.policy);
        match fallback(view, metric, failures) {
            Some(fallback) if fallback.behavior == FallbackBehavior::ScalingModifiers => nil = true,
            Some(fallback) => {
                return composite_fallback(view, composite, name, fallback, metric, failures, cause);
            }
            None => return Proposal::without(name, unavailable(view, metric, kept, cause)),
        }
    }
    let value = composite.formula().compute(|wanted| view.formula_input(wanted));
    let tolerance = view.tolerance();
    let failed = |cause: String| {
        let external = Name::from("External");
        let unavailable = Unavailable {
            metric: name.clone(),
            source_type: external,
            since: view.now,
            cause: Cause::Failed(cause),
        };
        Proposal::without(name.clone(), Reason::MetricUnavailable(unavailable))
    };
    match (value, view.policy.fallback) {
        (Ok(Some(value)), _) if !value.is_finite() => failed(format!("the formula comes to {value}")),
        (Ok(Some(value)), _) => {
            let active = Some(value > composite.activation_target());
            let outcome =
                total::replicas(Milli::from_reading(value), composite.target(), view.counts, tolerance);
            outcome.proposal(&name, composite.target(), tolerance, active, 0)
        }
        (Ok(None), Some(fallback)) if nil => match fallback_outcome(&fallback, composite.target(), view) {
            Some(outcome) => {
                let active = Some(true);
                outcome.proposal(&name, composite.target(), tolerance, active, 0)
            }
            None => failed("no trigger has a value, and no pod is ready".to_owned()),
        },
        (Ok(None), _) => failed("the formula comes to nil".to_owned()),
        (Err(error), _) => failed(format!("the formula can't be computed: {error}")),
    }
}

fn composite_fallback(
    view: &View<'_>,
    composite: &Composite,
    name: Name,
    fallback: &Fallback,
    metric: &Metric,
    failures: u32,
    cause: Cause,
) -> Proposal {
    let reason = Reason::FallbackExists {
        metric: metric.name().clone(),
        failures,
        threshold: fallback.failure_threshold,
        replicas: fallback.replicas_from(view.counts.spec),
        error: cause.to_string(),
    };
    let outcome = fallback_outcome(fallback, composite.target(), view);
    Proposal {
        metric: name,
        replicas: outcome.as_ref().map(|outcome| outcome.replicas),
        reason,
        current: outcome.map(|outcome| outcome.current),
        active: Some(true),
        failures,
    }
}

/// The fallback, if this metric has failed often enough for it.
fn fallback<'a>(view: &View<'a>, metric: &Metric, failures: u32) -> Option<&'a Fallback> {
    let fallback = view.policy.fallback.as_ref()?;
    (metric.activates() && failures > fallback.failure_threshold).then_some(fallback)
}

/// What the fallback's replicas come to by the metric's own arithmetic; none if it needs ready pods and has none.
fn fallback_outcome(fallback: &Fallback, target: MetricTarget, view: &View<'_>) -> Option<Outcome> {
    let replicas = i64::from(fallback.replicas_from(view.counts.spec));
    let value = match target {
        MetricTarget::AverageValue(wanted) => wanted.get().saturating_mul(replicas),
        MetricTarget::Value(wanted) => {
            wanted.get().saturating_mul(replicas).checked_div(view.counts.ready.into())?
        }
        MetricTarget::Utilization(_) => return None,
    };
    Some(total::replicas(Milli::new(value), target, view.counts, view.tolerance()))
}

fn unavailable(view: &View<'_>, metric: &Metric, kept: &Kept, cause: Cause) -> Reason {
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

impl View<'_> {
    /// `behavior`'s tolerances, where given, before the controller's.
    pub(crate) fn tolerance(&self) -> Tolerance {
        let own = self.policy.behavior.as_ref();
        let controller = self.policy.rules.tolerance;
        Tolerance {
            down: own.and_then(|own| own.scale_down.tolerance()).unwrap_or(controller.down),
            up: own.and_then(|own| own.scale_up.tolerance()).unwrap_or(controller.up),
        }
    }

    /// What a formula gets for a name; none for a trigger without a value.
    fn formula_input(&self, name: &Name) -> Option<f64> {
        let metrics = self.policy.metrics.list();
        let index = metrics.iter().position(|m| m.activates() && m.formula_name.as_ref() == Some(name))?;
        match self.readings[index].usable(self.now, &metrics[index]) {
            Ok(Usable::Total(value)) => Some(value),
            _ => None,
        }
    }
}

impl Fallback {
    /// How many replicas it means while there are `current` ones.
    pub(crate) fn replicas_from(&self, current: u32) -> u32 {
        match self.behavior {
            FallbackBehavior::Static | FallbackBehavior::ScalingModifiers => self.replicas,
            FallbackBehavior::CurrentReplicas => current,
            FallbackBehavior::CurrentReplicasIfHigher => current.max(self.replicas),
            FallbackBehavior::CurrentReplicasIfLower => current.min(self.replicas),
        }
    }
}

impl Outcome {
    fn proposal(
        self,
        metric: &Name,
        target: MetricTarget,
        tolerance: Tolerance,
        active: Option<bool>,
        failures: u32,
    ) -> Proposal {
        let wanted = match target {
            MetricTarget::Utilization(percent) => i64::from(percent) * 1000,
            MetricTarget::AverageValue(amount) | MetricTarget::Value(amount) => amount.get(),
        };
        let above = match self.over {
            Over::Replicas(replicas) => {
                i128::from(self.value.get()) > i128::from(wanted) * i128::from(replicas)
            }
            Over::Pods { .. } | Over::Ready(_) => self.value.get() > wanted,
        };
        let measured = Measured {
            metric: metric.clone(),
            value: self.value,
            target,
            over: self.over,
            replicas: self.replicas,
        };
        let reason = match self.verdict {
            Verdict::Measured if above => Reason::AboveTarget(measured),
            Verdict::Measured => Reason::BelowTarget(measured),
            Verdict::Tolerated => Reason::WithinTolerance { measured, tolerance },
            Verdict::Unmeasured => Reason::UnmeasuredPodsDecide(measured),
        };
        let (replicas, current) = (Some(self.replicas), Some(self.current));
        Proposal { metric: metric.clone(), replicas, reason, current, active, failures }
    }
}

impl Proposal {
    fn without(metric: Name, reason: Reason) -> Self {
        Self { metric, replicas: None, reason, current: None, active: None, failures: 0 }
    }

    /// The metric can't be used.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.reason, Reason::MetricUnavailable(_))
            || matches!(self.reason, Reason::FallbackExists { .. })
                && self.replicas.is_none()
                && self.active.is_some()
    }
}
