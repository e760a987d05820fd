//! What would have to change: the nearest value above which a metric would ask for more replicas than it was decided
//! to want, and the nearest below which the deciding metric would ask for fewer.
//!
//! Both say what that metric alone would do, all else equal; stabilization, pace and bounds come after. Where pods
//! could not be measured there is no such value: it depends on them too.

use crate::decision::{Side, TurningPoint};
use crate::metric::MetricTarget;
use crate::milli::Milli;
use crate::policy::Tolerance;
use crate::reason::{Measured, Over, Reason};
use crate::recommend::{Recommended, View, ceil};

/// The nearest above of all metrics, then the nearest below of the one that decided.
pub(crate) fn nearest(view: &View<'_>, recommended: &Recommended) -> Vec<TurningPoint> {
    let Some(best) = recommended.replicas else { return Vec::new() };
    let tolerance = view.tolerance();
    let measured = recommended.proposals.iter().filter_map(|p| measured(&p.reason)).filter_map(Line::of);
    let mut points = Vec::with_capacity(2);
    let mut nearest = f64::INFINITY;
    let mut others_best = 0;
    for line in measured {
        let above = line.above(best, tolerance);
        let distance = above / line.value();
        if distance < nearest || points.is_empty() {
            nearest = distance;
            points.clear();
            points.push(line.point(Side::Above, above, line.replicas_above(above)));
        }
        if line.measured.replicas < best {
            others_best = others_best.max(line.measured.replicas);
        }
    }
    let winners = || recommended.proposals.iter().filter(|p| p.replicas == Some(best));
    if let (Some(winner), 1) = (winners().next(), winners().count())
        && let Some(line) = measured_line(winner)
        && let Some(below) = line.below(best, tolerance)
    {
        points.push(TurningPoint { replicas: below.replicas.max(others_best), ..below });
    }
    points
}

fn measured_line(proposal: &crate::Proposal) -> Option<Line<'_>> {
    measured(&proposal.reason).and_then(Line::of)
}

fn measured(reason: &Reason) -> Option<&Measured> {
    match reason {
        Reason::AboveTarget(measured)
        | Reason::BelowTarget(measured)
        | Reason::WithinTolerance { measured, .. } => Some(measured),
        _ => None,
    }
}

/// A metric as a straight line: replicas are its value times a slope, but for the tolerance around one value.
struct Line<'a> {
    measured: &'a Measured,
    /// The value that asks for one replica, in the metric's unit.
    per_replica: f64,
    /// The value right on target; none when nothing exists that it could be compared with.
    on_target: Option<f64>,
}

impl<'a> Line<'a> {
    fn of(measured: &'a Measured) -> Option<Self> {
        let target = match measured.target {
            MetricTarget::Utilization(percent) => f64::from(percent),
            MetricTarget::AverageValue(amount) | MetricTarget::Value(amount) => amount.as_f64(),
        };
        let (per_replica, on_target) = match measured.over {
            Over::Replicas(0) => (target, None),
            Over::Replicas(replicas) => (target, Some(target * f64::from(replicas))),
            Over::Ready(ready) | Over::Pods { ready, missing: 0, unready: 0 } if ready > 0 => {
                (target / f64::from(ready), Some(target))
            }
            Over::Ready(_) | Over::Pods { .. } => return None,
        };
        Some(Self { measured, per_replica, on_target })
    }

    fn value(&self) -> f64 {
        self.measured.value.as_f64()
    }

    /// Above this it asks for more than `best`.
    fn above(&self, best: u32, tolerance: Tolerance) -> f64 {
        let by_count = self.per_replica * f64::from(best);
        self.on_target.map_or(by_count, |on_target| by_count.max(on_target * (1.0 + tolerance.up)))
    }

    /// The first whole number of replicas beyond a value.
    fn replicas_above(&self, value: f64) -> u32 {
        // A hair below a whole number is that number, give or take the rounding of the division.
        ceil((value / self.per_replica + 1e-9).floor() + 1.0)
    }

    /// At or below which value it asks for fewer than `best`.
    fn below(&self, best: u32, tolerance: Tolerance) -> Option<TurningPoint> {
        let fewer = best.checked_sub(1)?;
        let by_count = self.per_replica * f64::from(fewer);
        match self.on_target.map(|on_target| on_target * (1.0 - tolerance.down)) {
            Some(tolerated) if tolerated <= by_count => {
                let replicas = ceil(tolerated / self.per_replica - 1e-9);
                Some(self.point(Side::Below, tolerated, replicas))
            }
            _ => Some(self.point(Side::AtMost, by_count, fewer)),
        }
    }

    fn point(&self, side: Side, value: f64, replicas: u32) -> TurningPoint {
        TurningPoint { metric: self.measured.metric.clone(), side, value: Milli::from_f64(value), replicas }
    }
}
