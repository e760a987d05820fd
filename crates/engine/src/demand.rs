//! What a target's requests were in the last stretch of time: the facts that an objective is judged by.
//!
//! Whoever measures gives what there is. The rate is the one number that is always needed; each of the others makes the
//! capacity of a replica known better.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{Time, seconds};

/// More buckets than any histogram of latencies has.
pub const BUCKETS_MAX: usize = 1000;

/// One measurement of a target's requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    /// The end of the stretch that was measured.
    pub at: Time,
    /// How long the stretch was.
    #[serde(with = "seconds")]
    pub window: Duration,
    /// Requests that arrived, a second.
    pub rate: f64,
    /// Requests in the system at its end, waiting ones included.
    #[serde(default)]
    pub in_flight: Option<f64>,
    /// How long requests took that were answered in it.
    #[serde(default)]
    pub latency: Option<Latency>,
    /// The share of requests that failed (0–1).
    #[serde(default)]
    pub errors: Option<f64>,
    /// What the replicas used together.
    #[serde(default)]
    pub cpu: Option<CpuUse>,
}

/// How long requests took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Latency {
    /// A histogram's growth: upper bounds in seconds, ascending, each with the requests at or below it; the last one is
    /// infinite or counts all.
    Histogram {
        /// Bound and count.
        buckets: Vec<(f64, f64)>,
        /// The sum of all latencies in seconds, if known.
        sum: Option<f64>,
    },
    /// The share of requests over the objective's bound (0–1).
    Over {
        /// The share.
        share: f64,
        /// Of how many requests.
        count: f64,
        /// Their mean latency in seconds, if known.
        mean: Option<f64>,
    },
    /// One quantile.
    Quantile {
        /// Which (0–1).
        quantile: f64,
        /// Its latency in seconds.
        seconds: f64,
    },
}

/// CPU of all replicas together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CpuUse {
    /// Cores in use.
    pub used: f64,
    /// Cores that one replica may use: its limit, or its request where it has none.
    pub per_replica: f64,
}

/// Latencies as far as an objective asks for them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Judged {
    /// The share over the bound (0–1).
    pub(crate) over: f64,
    /// Requests; none where that is not known.
    pub(crate) count: Option<f64>,
    /// Mean latency in seconds.
    pub(crate) mean: Option<f64>,
}

impl Demand {
    /// Why it can't be used: a number that is none, or below zero.
    pub(crate) fn fault(&self) -> Option<String> {
        let named = [
            ("the arrival rate", Some(self.rate)),
            ("requests in flight", self.in_flight),
            ("the share of errors", self.errors),
            ("CPU in use", self.cpu.map(|cpu| cpu.used)),
            ("CPU of a replica", self.cpu.map(|cpu| cpu.per_replica)),
        ];
        let wrong = named.iter().find_map(|(name, value)| {
            let value = (*value)?;
            (!value.is_finite() || value < 0.0).then(|| format!("{name} reads {value}, which is no amount"))
        });
        wrong.or_else(|| self.latency.as_ref().and_then(Latency::fault))
    }
}

impl Latency {
    fn fault(&self) -> Option<String> {
        let amount = |value: f64| value.is_finite() && value >= 0.0;
        let is_right = match self {
            Self::Histogram { buckets, sum } => {
                let rising = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
                let amounts = buckets.iter().all(|(bound, count)| !bound.is_nan() && amount(*count));
                !buckets.is_empty()
                    && buckets.len() <= BUCKETS_MAX
                    && rising
                    && amounts
                    && sum.is_none_or(amount)
            }
            Self::Over { share, count, mean } => {
                (0.0..=1.0).contains(share) && amount(*count) && mean.is_none_or(amount)
            }
            Self::Quantile { quantile, seconds } => (0.0..=1.0).contains(quantile) && amount(*seconds),
        };
        (!is_right).then(|| {
            "the latencies are no distribution: counts must be amounts, and rise with their bounds".to_owned()
        })
    }

    /// The share over a bound of so many seconds, of which `allowed` may be. None without requests.
    pub(crate) fn judge(&self, bound: f64, allowed: f64) -> Option<Judged> {
        match self {
            Self::Histogram { buckets, sum } => {
                let total = buckets.last()?.1;
                if total <= 0.0 {
                    return None;
                }
                let over = 1.0 - below(buckets, bound) / total;
                Some(Judged { over, count: Some(total), mean: sum.map(|sum| sum / total) })
            }
            Self::Over { share, count, mean } => {
                (*count > 0.0).then_some(Judged { over: *share, count: Some(*count), mean: *mean })
            }
            // A quantile says on which side of the bound the share lies, if it is the one that is promised or a higher one.
            Self::Quantile { quantile, seconds } => {
                let over = if *seconds > bound { (1.0 - quantile).max(allowed * 1.01) } else { 0.0 };
                Some(Judged { over, count: None, mean: None })
            }
        }
    }
}

/// Requests at or below a bound, evenly spread within a bucket.
fn below(buckets: &[(f64, f64)], bound: f64) -> f64 {
    let (mut from, mut before) = (0.0, 0.0);
    for &(to, count) in buckets {
        if bound < to {
            let within = if to.is_finite() { (bound - from) / (to - from) } else { 0.0 };
            return before + (count - before) * within.clamp(0.0, 1.0);
        }
        (from, before) = (to, count);
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_over_a_bound() {
        let histogram = |list: &[(f64, f64)]| Latency::Histogram { buckets: list.to_vec(), sum: Some(5.0) };
        for (latency, over) in [
            (histogram(&[(0.05, 50.0), (0.1, 90.0), (f64::INFINITY, 100.0)]), Some(0.1)),
            (histogram(&[(0.05, 50.0), (0.15, 90.0), (f64::INFINITY, 100.0)]), Some(0.3)),
            (histogram(&[(0.05, 50.0), (f64::INFINITY, 100.0)]), Some(0.5)),
            (histogram(&[(0.05, 0.0), (f64::INFINITY, 0.0)]), None),
            (Latency::Over { share: 0.2, count: 10.0, mean: None }, Some(0.2)),
            (Latency::Over { share: 0.2, count: 0.0, mean: None }, None),
            (Latency::Quantile { quantile: 0.95, seconds: 0.2 }, Some(0.0505)),
            (Latency::Quantile { quantile: 0.95, seconds: 0.1 }, Some(0.0)),
        ] {
            let judged = latency.judge(0.1, 0.05).map(|judged| (judged.over * 1e4).round() / 1e4);
            assert_eq!(judged, over, "{latency:?}");
        }
    }

    #[test]
    fn what_is_no_measurement_is_said() {
        let right = Demand {
            at: Time::from_seconds(1),
            window: Duration::from_secs(1),
            rate: 1.0,
            in_flight: None,
            latency: None,
            errors: None,
            cpu: None,
        };
        assert_eq!(right.fault(), None);
        let bad = |buckets: Vec<(f64, f64)>| Some(Latency::Histogram { buckets, sum: None });
        for (demand, why) in [
            (Demand { rate: f64::NAN, ..right.clone() }, "the arrival rate reads NaN"),
            (Demand { rate: -1.0, ..right.clone() }, "the arrival rate reads -1"),
            (Demand { in_flight: Some(f64::INFINITY), ..right.clone() }, "requests in flight reads inf"),
            (
                Demand { cpu: Some(CpuUse { used: -0.1, per_replica: 1.0 }), ..right.clone() },
                "CPU in use reads -0.1",
            ),
            (Demand { latency: bad(vec![]), ..right.clone() }, "no distribution"),
            (Demand { latency: bad(vec![(1.0, 5.0), (2.0, 3.0)]), ..right.clone() }, "no distribution"),
            (Demand { latency: bad(vec![(1.0, f64::NAN)]), ..right.clone() }, "no distribution"),
        ] {
            let fault = demand.fault().expect(why);
            assert!(fault.contains(why), "{fault}");
        }
    }
}
