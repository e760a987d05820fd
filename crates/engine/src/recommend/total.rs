//! Replicas from a metric of the whole target: an Object or External metric (`replica_calculator.go`).
//!
//! `Value`: the ratio of value to target, times the ready pods. `AverageValue`: the value shared out so that each
//! replica has what is wanted; the replicas that exist are compared with the tolerance, surge pods included.

use crate::decision::CurrentMetric;
use crate::metric::MetricTarget;
use crate::milli::Milli;
use crate::reason::Over;
use crate::recommend::{Outcome, Verdict, ceil};
use crate::rules::Tolerance;

/// The replicas of a target, as the three places that count them have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// `spec.replicas`.
    pub(crate) spec: u32,
    /// `status.replicas`.
    pub(crate) status: u32,
    /// Pods that the selector lists.
    pub(crate) pods: u32,
    /// Those of them that run and are ready.
    pub(crate) ready: u32,
}

/// How many replicas this value asks for.
///
/// # Errors
///
/// It is to be multiplied by the ready pods, and the selector lists no pod at all.
pub(crate) fn replicas(
    value: Milli,
    target: MetricTarget,
    counts: Counts,
    tolerance: Tolerance,
) -> Result<Outcome, String> {
    match target {
        MetricTarget::Value(wanted) => by_value(value, wanted, counts, tolerance),
        MetricTarget::AverageValue(wanted) => Ok(by_average(value, wanted, counts, tolerance)),
        // Refused by `Metric::new`; a percentage of nothing is no load.
        MetricTarget::Utilization(_) => by_value(value, Milli::new(i64::MAX), counts, tolerance),
    }
}

fn by_value(value: Milli, wanted: Milli, counts: Counts, tolerance: Tolerance) -> Result<Outcome, String> {
    let ratio = value.get() as f64 / wanted.get() as f64;
    let (replicas, verdict) = if counts.spec == 0 {
        (ceil(ratio), Verdict::Measured)
    } else if tolerance.holds(ratio) {
        (counts.spec, Verdict::Tolerated)
    } else if counts.pods == 0 {
        let nobody = "no pods returned by selector while calculating replica count";
        return Err(format!("unable to calculate ready pods: {nobody}"));
    } else {
        (ceil(ratio * f64::from(counts.ready)), Verdict::Measured)
    };
    let base = if counts.spec == 0 { 1 } else { counts.ready };
    Ok(Outcome {
        replicas,
        verdict,
        value,
        over: Over::Ready(base),
        current: CurrentMetric::Value(value),
        sized_request: None,
    })
}

fn by_average(value: Milli, wanted: Milli, counts: Counts, tolerance: Tolerance) -> Outcome {
    let ratio = value.get() as f64 / (wanted.get() as f64 * f64::from(counts.status));
    let (replicas, verdict) = if tolerance.holds(ratio) {
        (counts.status, Verdict::Tolerated)
    } else {
        (ceil(value.get() as f64 / wanted.get() as f64), Verdict::Measured)
    };
    let current = CurrentMetric::AverageValue(per_pod(value, counts.status));
    Outcome { replicas, verdict, value, over: Over::Replicas(counts.status), current, sized_request: None }
}

/// What the status shows: the value of one replica, rounded up, and zero when there is none.
fn per_pod(value: Milli, replicas: u32) -> Milli {
    if replicas == 0 {
        return Milli::default();
    }
    #[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
    Milli::new((value.get() as f64 / f64::from(replicas)).ceil() as i64)
}
