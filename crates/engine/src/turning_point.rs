//! What would have to change: the nearest value at which a metric would ask for more replicas than are recommended,
//! and the one at which the deciding metric would ask for fewer.
//!
//! Both say what that metric alone would do, all else equal. What stabilization, pace and pauses would make of it at this
//! moment is added by the pipeline, in the steps of the point. Neither leads beyond the
//! bounds, and between idle and in use it is the activation threshold that has to be passed. A metric asks
//! for its value divided by what one replica takes, rounded up, but keeps the replicas there are within the tolerance.
//! Where pods could not be measured, or are not all ready, there is no such value: it depends on them too.

use crate::decision::{Proposal, Side, TurningPoint};
use crate::metric::MetricTarget;
use crate::milli::Milli;
use crate::reason::{Measured, Over, Reason};
use crate::recommend::{Recommended, View, ceil};
use crate::rules::Tolerance;

/// The nearest of all metrics for more, then that of the metric that decided for fewer.
pub(crate) fn nearest(view: &View<'_>, recommended: &Recommended) -> Vec<TurningPoint> {
    let Some(highest) = recommended.replicas else { return Vec::new() };
    let (tolerance, limits) = (view.tolerance(), Limits::of(view, &recommended.proposals));
    let best = limits.within(highest);
    let mut more: Option<(f64, TurningPoint)> = None;
    let mut fewer = None;
    // What the metrics but the highest ask for, and how many ask for the most.
    let (mut others, mut winners) = (0, 0);
    for (index, proposal) in recommended.proposals.iter().enumerate() {
        match proposal.replicas {
            Some(replicas) if replicas < highest => others = others.max(replicas),
            Some(_) => winners += 1,
            None => {}
        }
        let Some(line) = Line::of(proposal, view.counts.spec, tolerance) else { continue };
        let above = limits.more(&line, best, limits.threshold(view, index));
        let distance = above.value.as_f64() / line.measured.value.as_f64();
        if more.as_ref().is_none_or(|(nearest, _)| distance < *nearest) {
            more = Some((distance, above));
        }
        if proposal.replicas == Some(highest) {
            fewer = line.fewer_than(best);
        }
    }
    let more = more.map(|(_, point)| point).filter(|_| best < limits.max);
    let fewer = fewer.filter(|_| winners == 1 && others < best && best > limits.min);
    let fewer =
        fewer.map(|fewer| TurningPoint { replicas: fewer.replicas.max(others).max(limits.min), ..fewer });
    let idle = limits.idle(view, recommended).filter(|_| best <= limits.min);
    more.into_iter().chain(fewer).chain(idle).collect()
}

/// What a metric can't lead beyond, whatever it reads.
struct Limits {
    min: u32,
    max: u32,
    /// The replicas out of use, where they differ.
    floor: Option<u32>,
    /// It is out of use, and nothing says otherwise.
    is_idle: bool,
}

impl Limits {
    fn of(view: &View<'_>, proposals: &[Proposal]) -> Self {
        let (policy, min) = (view.policy, view.policy.min_active());
        let floor = policy.activation.as_ref().map(|_| policy.min_inactive()).filter(|floor| *floor < min);
        let is_active = proposals.iter().any(|proposal| proposal.active == Some(true));
        let is_idle = !is_active && floor.is_some_and(|floor| view.counts.spec <= floor);
        Self { min, max: policy.bounds.max(), floor, is_idle }
    }

    /// What becomes of a recommendation.
    fn within(&self, recommended: u32) -> u32 {
        match self.floor.filter(|_| self.is_idle) {
            Some(floor) => floor,
            None => recommended.max(self.min).min(self.max),
        }
    }

    /// Above which value a proposal makes the target active, if it has a say in that.
    fn threshold(&self, view: &View<'_>, proposal: usize) -> Option<f64> {
        self.floor?;
        let metrics = &view.policy.metrics;
        match metrics.composite() {
            Some(composite) => (proposal == 0).then(|| composite.activation_target()),
            None => metrics.list().get(proposal).filter(|m| m.activates()).map(|m| m.activation_threshold),
        }
    }

    /// Where it begins to ask for more than `best`; from idle it takes a value above the activation threshold, too.
    fn more(&self, line: &Line<'_>, best: u32, threshold: Option<f64>) -> TurningPoint {
        let point = line.more_than(best);
        let point = match threshold.filter(|threshold| self.is_idle && *threshold > point.value.as_f64()) {
            Some(threshold) => line.point(Side::Above, threshold, line.stairs_above(threshold)),
            None => point,
        };
        TurningPoint { replicas: point.replicas.max(self.min).min(self.max), ..point }
    }

    /// Where the one trigger that keeps the target in use no longer does.
    fn idle(&self, view: &View<'_>, recommended: &Recommended) -> Option<TurningPoint> {
        let floor = self.floor.filter(|_| !self.is_idle)?;
        let mut active =
            recommended.proposals.iter().enumerate().filter(|(_, proposal)| proposal.active == Some(true));
        let (Some((index, only)), None) = (active.next(), active.next()) else { return None };
        let value = Milli::from_f64(self.threshold(view, index)?);
        let (metric, side) = (only.metric.clone(), Side::AtMost);
        Some(TurningPoint { metric, side, value, replicas: floor, steps: Vec::new() })
    }
}

/// A metric's replicas over its value: a staircase with a landing around the replicas there are.
struct Line<'a> {
    measured: &'a Measured,
    /// The value that one replica takes.
    per_replica: f64,
    /// From where to where nothing changes, and the replicas there; none when there are none yet.
    landing: Option<(f64, f64, u32)>,
}

impl<'a> Line<'a> {
    fn of(proposal: &'a Proposal, current: u32, tolerance: Tolerance) -> Option<Self> {
        let measured = match &proposal.reason {
            Reason::AboveTarget(measured)
            | Reason::BelowTarget(measured)
            | Reason::NoLoad(measured)
            | Reason::NegativeValue { measured, .. }
            | Reason::WithinTolerance { measured, .. } => measured,
            _ => return None,
        };
        let target = match measured.target {
            MetricTarget::Utilization(percent) => f64::from(percent),
            MetricTarget::AverageValue(amount) | MetricTarget::Value(amount) => amount.as_f64(),
        };
        let landing = |on_target: f64, replicas| {
            Some((on_target * (1.0 - tolerance.down), on_target * (1.0 + tolerance.up), replicas))
        };
        let (per_replica, landing) = match measured.over {
            Over::Replicas(0) => (target, None),
            Over::Replicas(replicas) => (target, landing(target * f64::from(replicas), replicas)),
            Over::Ready(ready) | Over::Pods { ready, missing: 0, unready: 0, starting: 0 }
                if ready == current && ready > 0 =>
            {
                (target / f64::from(ready), landing(target, current))
            }
            Over::Ready(_) | Over::Pods { .. } => return None,
        };
        Some(Self { measured, per_replica, landing })
    }

    /// Where it begins to ask for more than `best`.
    fn more_than(&self, best: u32) -> TurningPoint {
        let step = self.per_replica * f64::from(best);
        match self.landing {
            Some((low, _, landing)) if landing > best && step >= low => {
                self.point(Side::AtLeast, low, landing)
            }
            Some((_, high, landing)) if landing <= best && step < high => {
                self.point(Side::Above, high, self.stairs_above(high))
            }
            _ => self.point(Side::Above, step, best.saturating_add(1)),
        }
    }

    /// Where it begins to ask for fewer than `best`, if that is possible.
    fn fewer_than(&self, best: u32) -> Option<TurningPoint> {
        let fewer = best.checked_sub(1)?;
        let step = self.per_replica * f64::from(fewer);
        Some(match self.landing {
            Some((_, high, landing)) if landing < best && step <= high => {
                self.point(Side::AtMost, high, landing)
            }
            Some((low, _, landing)) if landing >= best && step >= low => {
                self.point(Side::Below, low, ceil(low / self.per_replica - ROUNDING))
            }
            _ => self.point(Side::AtMost, step, fewer),
        })
    }

    /// The first whole number of replicas beyond a value.
    fn stairs_above(&self, value: f64) -> u32 {
        ceil((value / self.per_replica + ROUNDING).floor() + 1.0)
    }

    fn point(&self, side: Side, value: f64, replicas: u32) -> TurningPoint {
        let (metric, value) = (self.measured.metric.clone(), Milli::from_f64(value));
        TurningPoint { metric, side, value, replicas, steps: Vec::new() }
    }
}

/// A hair below a whole number is that number, give or take the rounding of the division.
const ROUNDING: f64 = 1e-9;
