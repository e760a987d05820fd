//! What one replica can carry, learned from what it carries.
//!
//! Two numbers: how long a request takes that does not wait (`service`), and how many run at once without slowing each
//! other (`places`). With CPU known, the work of a request is CPU over requests, and places are what a replica's CPU has
//! room for. Without it, the service time is what requests take when few are in flight, and places are what has been seen
//! to go well, and a quarter more: safe before it knows.
//!
//! Both are medians of stretches of ten seconds, so that no single measurement moves them. A miss of the objective that
//! they do not explain lowers `trim`, which divides what a replica is taken to carry; it comes back slowly.

use serde::{Deserialize, Serialize};

use super::ring::Ring;

/// A stretch is a measurement when so many requests were answered in it.
const REQUESTS_MIN: f64 = 20.0;
/// Stretches that the medians are over: two and a half minutes.
const STRETCHES: usize = 15;
/// Stretches of which the fastest fifth tells the service time: five minutes.
const LATENCIES: usize = 30;
/// More places than is seen to go well are tried, at most by this factor.
const EXPLORE: f64 = 1.25;
/// So many deviations of a count of late requests are chance.
const CHANCE: f64 = 3.0;
/// More requests at once than any replica runs.
const PLACES_MAX: f64 = 10_000.0;
/// What is left of a replica's capacity at an unexplained miss.
const TRIM_DOWN: f64 = 0.93;
/// What comes back in a good stretch.
const TRIM_UP: f64 = 1.003;
const TRIM_MIN: f64 = 0.25;

/// What one replica can carry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Capacity {
    /// Seconds of work of a request, by CPU over the cores of one place.
    work: Ring,
    /// Cores at work for each request in the system, while few wait.
    cores: Ring,
    /// Mean latencies, in seconds.
    latency: Ring,
    /// The most requests at once in one replica that went well, in three stretches of the last ones.
    carried: Ring,
    trim: f64,
    /// Unexplained misses in a row.
    misses: u32,
    /// Cores that one replica may use.
    limit: Option<f64>,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            work: Ring::new(STRETCHES),
            cores: Ring::new(STRETCHES),
            latency: Ring::new(LATENCIES),
            carried: Ring::new(STRETCHES),
            trim: 1.0,
            misses: 0,
            limit: None,
        }
    }
}

/// What a stretch of time showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stretch {
    /// Seconds.
    pub(crate) seconds: f64,
    /// Requests answered.
    pub(crate) completed: f64,
    /// Of these, over the objective.
    pub(crate) over: f64,
    /// Sum of latencies of those with a mean, in seconds; and how many those are.
    pub(crate) latency: (f64, f64),
    /// Core-seconds; none without CPU.
    pub(crate) cpu: Option<f64>,
    /// Cores one replica may use.
    pub(crate) limit: Option<f64>,
    /// Requests in the system, on average.
    pub(crate) in_flight: f64,
    /// Replicas that served, on average.
    pub(crate) ready: f64,
}

/// What one replica is taken to carry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Carries {
    /// Seconds of a request that does not wait.
    pub(crate) service: f64,
    /// Requests at once.
    pub(crate) places: f64,
}

impl Stretch {
    /// More requests were late than are allowed, and by more than chance.
    pub(crate) fn misses(&self, allowed: f64) -> bool {
        let expected = self.completed * allowed;
        self.completed >= REQUESTS_MIN && self.over > expected + CHANCE * expected.sqrt()
    }
}

impl Capacity {
    /// What one replica is taken to carry; none before there was a measurement.
    pub(crate) fn carries(&self) -> Option<Carries> {
        let base = self.latency.quantile(0.2);
        let (service, places) = match (self.work.median(), self.limit, base) {
            (Some(work), Some(limit), _) if work > 0.0 && limit > 0.0 => {
                // Cores that a request keeps busy; more than one request's worth of a replica is one place.
                let cores = self.cores.median().unwrap_or(limit).clamp(limit / PLACES_MAX, limit);
                let places = (limit / cores + 0.3).floor().clamp(1.0, PLACES_MAX);
                (work * places / limit, places)
            }
            (_, _, Some(base)) if base > 0.0 => {
                let carried = self.carried.quantile(0.9).unwrap_or(1.0).max(1.0);
                (base, (carried * EXPLORE).min(PLACES_MAX))
            }
            _ => return None,
        };
        Some(Carries { service: service / self.trim, places })
    }

    /// What misses that were not foreseen have left of it (0.25–1).
    pub(crate) fn trim(&self) -> f64 {
        self.trim
    }

    /// Learns from a stretch. `explained`: waiting work or too few replicas are why requests took long.
    pub(crate) fn learn(&mut self, stretch: &Stretch, allowed: f64, explained: bool) {
        if stretch.completed < REQUESTS_MIN || stretch.ready < 1.0 || stretch.seconds <= 0.0 {
            return;
        }
        let in_each = stretch.in_flight / stretch.ready;
        if let (Some(cpu), Some(limit)) = (stretch.cpu, stretch.limit.filter(|limit| *limit > 0.0)) {
            self.limit = Some(limit);
            self.work.push(cpu / stretch.completed);
            let working = cpu / stretch.seconds;
            if stretch.in_flight > 0.0 && working / stretch.ready < 0.9 * limit {
                self.cores.push(working / stretch.in_flight);
            }
        }
        if stretch.latency.1 > 0.0 && !explained {
            self.latency.push(stretch.latency.0 / stretch.latency.1);
        }
        if !stretch.misses(allowed) {
            self.misses = 0;
            self.carried.push(in_each);
            self.trim = (self.trim * TRIM_UP).min(1.0);
        } else if !explained {
            // One stretch may be chance; the second one in a row is not.
            self.misses += 1;
            if self.misses >= 2 {
                self.trim = (self.trim * TRIM_DOWN).max(TRIM_MIN);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(completed: f64, latency: f64, cpu: Option<f64>) -> Stretch {
        Stretch {
            seconds: 10.0,
            completed,
            over: 0.0,
            latency: (latency * completed, completed),
            cpu,
            limit: cpu.map(|_| 1.0),
            in_flight: completed / 10.0 * latency,
            ready: 4.0,
        }
    }

    #[test]
    fn a_replica_is_known_by_its_cpu_or_by_its_latency() {
        for (latency, cpu, service, places) in [
            // 20 requests a second of 0.1 s on one core each.
            (0.1, Some(20.0), 0.1, 1.0),
            // Requests that wait for something else nine tenths of their time.
            (1.0, Some(20.0), 1.0, 10.0),
            // No CPU: what goes well is half a request at once in each; one and a quarter is tried.
            (0.1, None, 0.1, 1.25),
        ] {
            let mut capacity = Capacity::default();
            assert_eq!(capacity.carries(), None);
            for _ in 0..20 {
                capacity.learn(&stretch(200.0, latency, cpu), 0.05, false);
            }
            let carries = capacity.carries().expect("it has learned");
            assert!((carries.service / service - 1.0).abs() < 0.01, "{carries:?}");
            assert!((carries.places - places).abs() < 1e-9, "{carries:?}");
        }
    }

    #[test]
    fn one_outlier_moves_nothing() {
        for outlier in
            [stretch(200.0, 50.0, Some(4000.0)), stretch(200.0, 0.0, Some(0.0)), stretch(2e9, 0.1, Some(1.0))]
        {
            let mut capacity = Capacity::default();
            for _ in 0..15 {
                capacity.learn(&stretch(200.0, 0.1, Some(20.0)), 0.05, false);
            }
            let before = capacity.carries().expect("it has learned");
            capacity.learn(&Stretch { over: outlier.completed, ..outlier }, 0.05, false);
            let after = capacity.carries().expect("it has learned");
            assert!((after.service / before.service - 1.0).abs() < 0.01, "{before:?} {after:?}");
            assert_eq!(after.places, before.places);
        }
    }

    #[test]
    fn a_second_miss_in_a_row_counts_and_heals_slowly() {
        let mut capacity = Capacity::default();
        let missed = Stretch { over: 100.0, ..stretch(200.0, 0.1, Some(20.0)) };
        capacity.learn(&missed, 0.05, true);
        capacity.learn(&missed, 0.05, false);
        assert_eq!(capacity.trim(), 1.0);
        capacity.learn(&missed, 0.05, false);
        assert_eq!(capacity.trim(), TRIM_DOWN);
        (0..1000).for_each(|_| capacity.learn(&missed, 0.05, false));
        assert_eq!(capacity.trim(), TRIM_MIN);
        (0..1000).for_each(|_| capacity.learn(&stretch(200.0, 0.1, Some(20.0)), 0.05, false));
        assert_eq!(capacity.trim(), 1.0);
    }
}
