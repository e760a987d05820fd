//! CPU and memory use of pods and nodes, from the cumulative numbers that kubelets report. Pure.
//!
//! The rules are metrics-server's: CPU is the growth of a counter over a window, memory the last working set, a
//! container that restarted starts anew, and a pod whose numbers are incomplete has none. The window differs:
//! metrics-server rates between its last two scrapes, 15 s or more apart. Here nodes are read every second, and the rate is
//! between the newest reading and the one [`WINDOW`] before it: a load step shows within two seconds, and the
//! scheduler's slices of 100 ms do not.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// CPU use is the mean over this time; less right after a container has started.
pub(crate) const WINDOW: Duration = Duration::from_secs(5);
/// A point closer to the start of its container than this says nothing yet about its use.
const WINDOW_MIN_MS: i64 = 500;
/// Less than this is not the CPU of a start.
const QUIET_NANOCORES: u64 = 10_000_000;
/// What has not been reported for this long is forgotten: five readings. metrics-server forgets after one, but at a
/// fifteenth of the pace.
const FORGET_AFTER_MS: i64 = 5_000;

/// One reading of a container's or node's counters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) at_ms: i64,
    /// When the counter started from zero; 0 where it is not known (nodes).
    pub(crate) start_ms: i64,
    pub(crate) cpu_seconds: f64,
    pub(crate) memory_bytes: f64,
}

/// What was used, over which window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Use {
    pub(crate) at_ms: i64,
    pub(crate) window_ms: i64,
    pub(crate) cpu_nanocores: u64,
    pub(crate) memory_bytes: u64,
    /// Its CPU has not fallen since the container started.
    pub(crate) starting: bool,
}

/// A pod, as namespace and name.
pub(crate) type PodKey = (String, String);

/// The recent readings of every container and node.
#[derive(Debug, Default)]
pub(crate) struct UsageLog {
    containers: BTreeMap<PodKey, BTreeMap<String, Readings>>,
    nodes: BTreeMap<String, Readings>,
}

impl UsageLog {
    /// Takes in a reading of one container.
    pub(crate) fn record_container(&mut self, pod: PodKey, container: &str, point: Point) {
        self.containers.entry(pod).or_default().entry(container.to_owned()).or_default().record(point);
    }

    /// Takes in a reading of one node.
    pub(crate) fn record_node(&mut self, node: &str, point: Point) {
        self.nodes.entry(node.to_owned()).or_default().record(point);
    }

    /// Forgets what has not been reported for a while.
    pub(crate) fn forget_old(&mut self, now_ms: i64) {
        let recent = |readings: &Readings| readings.newest_ms() > now_ms - FORGET_AFTER_MS;
        self.containers.retain(|_, containers| {
            containers.retain(|_, readings| recent(readings));
            !containers.is_empty()
        });
        self.nodes.retain(|_, readings| recent(readings));
    }

    /// The use of each container of a pod; `None` while any of them has none yet.
    pub(crate) fn pod(&self, pod: &PodKey) -> Option<BTreeMap<&str, Use>> {
        let containers = self.containers.get(pod)?;
        containers.iter().map(|(name, readings)| Some((name.as_str(), readings.used()?))).collect()
    }

    /// Every pod with a known use.
    pub(crate) fn pods(&self) -> impl Iterator<Item = (&PodKey, BTreeMap<&str, Use>)> {
        self.containers.keys().filter_map(|pod| Some((pod, self.pod(pod)?)))
    }

    /// Every node with a known use.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, Use)> {
        self.nodes.iter().filter_map(|(node, readings)| Some((node.as_str(), readings.used()?)))
    }
}

/// The readings of the last window, oldest first, all since the last restart, and the course of the CPU since then.
#[derive(Debug, Default)]
struct Readings {
    points: VecDeque<Point>,
    /// The most CPU that was used over a window since the restart.
    peak_nanocores: u64,
    /// It has fallen to half of that, or to nothing worth mentioning, over a whole window: the start is over.
    fallen: bool,
}

impl Readings {
    fn record(&mut self, point: Point) {
        if let Some(last) = self.points.back() {
            if point.at_ms <= last.at_ms {
                return;
            }
            if point.start_ms != last.start_ms || point.cpu_seconds < last.cpu_seconds {
                *self = Readings::default();
            }
        }
        self.points.push_back(point);
        let window_ms = WINDOW.as_millis() as i64;
        while self.points.get(1).is_some_and(|second| point.at_ms - second.at_ms >= window_ms) {
            self.points.pop_front();
        }
        self.follow_start();
    }

    /// A start uses much, and then less; what is used after that is load. A window that is not full is no fall: the
    /// program may not have begun.
    fn follow_start(&mut self) {
        let Some(used) = self.used() else { return };
        self.peak_nanocores = self.peak_nanocores.max(used.cpu_nanocores);
        let low = used.cpu_nanocores <= self.peak_nanocores / 2 || used.cpu_nanocores < QUIET_NANOCORES;
        self.fallen |= low && used.window_ms >= WINDOW.as_millis() as i64;
    }

    fn newest_ms(&self) -> i64 {
        self.points.back().map_or(i64::MIN, |point| point.at_ms)
    }

    fn used(&self) -> Option<Use> {
        let (last, first) = (self.points.back()?, self.points.front()?);
        let (base_ms, base_seconds) = match (first.at_ms < last.at_ms, last.start_ms > 0) {
            (true, _) => (first.at_ms, first.cpu_seconds),
            (false, true) => (last.start_ms, 0.0),
            (false, false) => return None,
        };
        let window_ms = last.at_ms - base_ms;
        if window_ms < WINDOW_MIN_MS || last.memory_bytes <= 0.0 || last.cpu_seconds <= 0.0 {
            return None;
        }
        let cores = (last.cpu_seconds - base_seconds) / (window_ms as f64 / 1000.0);
        Some(Use {
            at_ms: last.at_ms,
            window_ms,
            cpu_nanocores: (cores * 1e9).max(0.0) as u64,
            memory_bytes: last.memory_bytes as u64,
            starting: !self.fallen,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at_ms: i64, cpu_seconds: f64) -> Point {
        Point { at_ms, start_ms: 1_000, cpu_seconds, memory_bytes: 1024.0 }
    }

    /// Points as (milliseconds, CPU seconds) and the expected (window, millicores).
    fn check(points: &[(i64, f64)], expected: Option<(i64, u64)>) {
        let mut readings = Readings::default();
        points.iter().for_each(|&(at, cpu)| readings.record(point(at, cpu)));
        let found = readings.used().map(|used| (used.window_ms, used.cpu_nanocores / 1_000_000));
        assert_eq!(found, expected, "{points:?}");
    }

    #[test]
    fn rates_over_the_window() {
        check(&[], None);
        check(&[(1_200, 0.1)], None);
        check(&[(2_000, 0.0)], None); // nothing has run yet
        check(&[(2_000, 0.1)], Some((1_000, 100)));
        check(&[(2_000, 0.1), (3_000, 0.2)], Some((1_000, 100)));
        let steady: Vec<_> = (1..20).map(|i| (1_000 + i * 1_000, i as f64 * 0.05)).collect();
        check(&steady, Some((5_000, 50)));
    }

    #[test]
    fn a_start_is_over_once_its_use_has_fallen() {
        // Cores used in each second since the container began at 1 s; the seconds in which it was starting.
        let check = |cores: &[f64], starting: std::ops::Range<usize>| {
            let (mut readings, mut used, mut found) = (Readings::default(), 0.0, Vec::new());
            for (second, cores) in (2_i64..).zip(cores) {
                used += cores;
                readings.record(point(second * 1000, used));
                found.extend(readings.used().map(|used| used.starting));
            }
            let expected = (0..cores.len()).map(|second| starting.contains(&second)).collect::<Vec<_>>();
            assert_eq!(found, expected, "{cores:?}");
        };
        // A server starts for four seconds and idles: the mean over five seconds has fallen by half after the seventh.
        check(&[1.0, 1.0, 1.0, 1.0, 0.01, 0.01, 0.01, 0.01, 0.01], 0..6);
        // Load that comes later is load, however much it is.
        check(&[0.5, 0.1, 0.01, 0.01, 0.01, 0.01, 2.0, 2.0, 2.0, 2.0, 2.0], 0..5);
        // Load from the first second on, and none at all.
        check(&[1.0; 12], 0..12);
        check(&[0.001; 8], 0..5);
        // It waits before it starts.
        check(&[0.01, 0.01, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.01, 0.01], 0..9);
    }

    #[test]
    fn a_counter_that_falls_or_a_repeated_time_gives_no_nonsense() {
        check(&[(2_000, 5.0), (3_000, 0.1)], Some((2_000, 50)));
        check(&[(2_000, 0.1), (2_000, 9.0)], Some((1_000, 100)));
        check(&[(3_000, 0.2), (2_000, 0.1)], Some((2_000, 100)));
    }

    #[test]
    fn a_pod_needs_all_its_containers() {
        let mut log = UsageLog::default();
        let pod = ("default".to_owned(), "web-1".to_owned());
        log.record_container(pod.clone(), "app", point(2_000, 0.1));
        log.record_container(pod.clone(), "sidecar", point(1_100, 0.1));
        assert_eq!(log.pod(&pod), None);
        log.record_container(pod.clone(), "sidecar", point(2_100, 0.2));
        assert_eq!(log.pod(&pod).map(|containers| containers.len()), Some(2));
        log.forget_old(7_000);
        assert_eq!(log.pods().count(), 1, "five seconds are not over");
        log.forget_old(7_200);
        assert_eq!(log.pods().count(), 0);
    }
}
