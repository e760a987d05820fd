//! What a scaler that knows the future would pay: the yardstick of all others.
//!
//! At each second so many replicas are needed as keep the objective at the true rate in a steady state. A replica that is
//! not needed for less than its start-up time is cheaper kept than started again, so gaps that short are bridged, replica
//! by replica (a morphological closing, which is optimal for each of them). Each start pays for its start-up.

use flyball_engine::queueing::Queue;

use crate::load::Load;
use crate::profile::Profile;

/// A load given by single requests has no rate; it is their mean over so many seconds around.
const SMOOTH_SECONDS: usize = 30;

/// The plan of a clairvoyant.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimum {
    /// Replicas that serve, second by second.
    pub replicas: Vec<u32>,
    /// What they cost, start-ups included.
    pub replica_seconds: f64,
}

/// The replicas needed at a rate: the fewest that keep the objective, which `late` of the requests may miss.
pub fn needed(profile: &Profile, rate: f64, objective: f64, late: f64) -> u32 {
    let service = profile.service.mean().as_secs_f64();
    let cv = profile.service.variation().sqrt();
    // A request may wait for what the bound leaves after a service that is long, as far as there is any room at all.
    let wait_max = (objective / service - (1.0 + 1.65 * cv.min(1.0))).max(0.05);
    let variation = 0.5 * (1.0 + profile.service.variation());
    let servers = Queue { offered: rate * service, wait_max, risk: late, variation }.servers();
    servers.div_ceil(profile.concurrency)
}

impl Optimum {
    /// The plan for a load between these bounds.
    pub fn of(
        load: &Load,
        is_times: bool,
        profile: &Profile,
        objective: f64,
        late: f64,
        bounds: (u32, u32),
    ) -> Self {
        let mut rates = load.per_second();
        if is_times {
            rates = smoothed(&rates, SMOOTH_SECONDS);
        }
        let mut last = (f64::NAN, 0);
        let need = rates.iter().map(|rate| {
            if last.0 != *rate {
                last = (*rate, needed(profile, *rate, objective, late).clamp(bounds.0, bounds.1));
            }
            last.1
        });
        let startup = profile.startup.as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a start-up in seconds")]
        let replicas = closed(&need.collect::<Vec<_>>(), startup.ceil() as usize);
        let serving: f64 = replicas.iter().map(|replicas| f64::from(*replicas)).sum();
        let starts: f64 = replicas.windows(2).map(|pair| f64::from(pair[1].saturating_sub(pair[0]))).sum();
        Self { replicas, replica_seconds: serving + starts * startup }
    }
}

/// A mean over a window around each second.
fn smoothed(rates: &[f64], window: usize) -> Vec<f64> {
    let mut sums = vec![0.0];
    let mut sum = 0.0;
    for rate in rates {
        sum += rate;
        sums.push(sum);
    }
    (0..rates.len())
        .map(|at| {
            let (from, to) = (at.saturating_sub(window / 2), (at + window / 2).min(rates.len()));
            (sums[to] - sums[from]) / (to - from).max(1) as f64
        })
        .collect()
}

/// Bridges gaps shorter than `gap`: the lowest of what the highest in each window is.
fn closed(need: &[u32], gap: usize) -> Vec<u32> {
    // After the end nothing is needed.
    let (mut need, length) = (need.to_vec(), need.len());
    need.resize(length + gap, 0);
    let high = extreme(&need, gap, |new, old| new >= old);
    let mut low = extreme(&high.iter().rev().copied().collect::<Vec<_>>(), gap, |new, old| new <= old);
    low.reverse();
    low.truncate(length);
    low
}

/// Of each second and the `gap` before it, the one that outdoes all others.
fn extreme(values: &[u32], gap: usize, outdoes: impl Fn(u32, u32) -> bool) -> Vec<u32> {
    let mut best: std::collections::VecDeque<usize> = std::collections::VecDeque::new();
    let mut result = Vec::with_capacity(values.len());
    for (at, value) in values.iter().enumerate() {
        while best.back().is_some_and(|last| outdoes(*value, values[*last])) {
            best.pop_back();
        }
        best.push_back(at);
        while best.front().is_some_and(|first| first + gap < at) {
            best.pop_front();
        }
        result.push(values[best[0]]);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn short_gaps_are_bridged_and_long_ones_are_not() {
        for (need, gap, kept) in [
            (vec![1, 3, 1, 3, 1], 1, vec![1, 3, 3, 3, 1]),
            (vec![3, 1, 1, 1, 3], 2, vec![3, 1, 1, 1, 3]),
            (vec![3, 1, 1, 3], 2, vec![3, 3, 3, 3]),
            (vec![], 3, vec![]),
        ] {
            assert_eq!(closed(&need, gap), kept, "{need:?}");
        }
    }

    #[test]
    fn a_constant_load_costs_what_it_needs() {
        let load = Load::parse("constant:130/s", Duration::from_secs(600)).expect("a load");
        let optimum = Optimum::of(&load, false, &Profile::default(), 0.72, 0.01, (1, 100));
        assert!((21..=22).contains(&optimum.replicas[300]), "{}", optimum.replicas[300]);
        assert_eq!(optimum.replica_seconds, 600.0 * f64::from(optimum.replicas[0]));
    }
}
