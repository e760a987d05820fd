//! Knative's pod autoscaler (KPA) by its documented rules (knative/serving `pkg/autoscaler/scaling`), as a peer.
//!
//! Concurrency is averaged over a stable window of a minute and a panic window of a tenth of it. Each average divided by
//! the target of one pod, rounded up, is what is wanted, within the rates of scaling. Twice as many wanted by the panic
//! window as are ready is a panic: then replicas only grow, and it lasts until a stable window has passed without another
//! one. Pods that start are not counted, which is KPA's rule and not a mistake here.

use std::collections::VecDeque;

/// KPA's settings, by their names in `config-autoscaler`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KpaConfig {
    /// `containerConcurrency`, or `container-concurrency-target-default` (100) where a container takes any number.
    pub total: f64,
    /// `container-concurrency-target-percentage`, 0.7.
    pub utilization: f64,
    /// `stable-window` in seconds, 60.
    pub stable_window: u64,
    /// `panic-window-percentage`, 10.
    pub panic_percent: f64,
    /// `panic-threshold-percentage` as a ratio, 2.
    pub panic_threshold: f64,
    /// `max-scale-up-rate`, 1000.
    pub max_up_rate: f64,
    /// `max-scale-down-rate`, 2.
    pub max_down_rate: f64,
    /// `target-burst-capacity`, 211; -1 keeps the activator in the path, 0 only at zero.
    pub burst_capacity: f64,
    /// `scale-down-delay` in seconds, 0.
    pub down_delay: u64,
    /// `activation-scale`, 1.
    pub activation_scale: u32,
    /// The revision is reachable; one that is not may go to nothing at once.
    pub reachable: bool,
    /// `min-scale`.
    pub min: u32,
    /// `max-scale`; 0 is none.
    pub max: u32,
}

impl Default for KpaConfig {
    fn default() -> Self {
        Self {
            total: 100.0,
            utilization: 0.7,
            stable_window: 60,
            panic_percent: 10.0,
            panic_threshold: 2.0,
            max_up_rate: 1000.0,
            max_down_rate: 2.0,
            burst_capacity: 211.0,
            down_delay: 0,
            activation_scale: 1,
            reachable: true,
            min: 0,
            max: 0,
        }
    }
}

/// What was decided at one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KpaDecision {
    /// Pods wanted, within the bounds.
    pub desired: u32,
    /// It panics.
    pub panicking: bool,
    /// Spare room beyond the burst capacity, in requests; below zero the activator buffers.
    pub excess_burst: i64,
}

/// One revision.
#[derive(Clone, Debug)]
pub struct Kpa {
    config: KpaConfig,
    /// Concurrency of each second of the stable window, the newest last: second and value.
    buckets: VecDeque<(u64, f64)>,
    /// Since when it panics, in seconds.
    panics_since: Option<u64>,
    max_panic_pods: u32,
    /// What was wanted, for the delay of scaling down.
    wanted: VecDeque<(u64, u32)>,
}

/// No target is lower: `minimum target`.
const TARGET_MIN: f64 = 0.01;

impl Kpa {
    /// A revision of which so many pods are ready: with more than one it starts in panic, which protects a restart.
    pub fn new(config: KpaConfig, now: u64, ready: u32) -> Self {
        let panics = ready > 1;
        Self {
            config,
            buckets: VecDeque::new(),
            panics_since: panics.then_some(now),
            max_panic_pods: if panics { ready } else { 0 },
            wanted: VecDeque::new(),
        }
    }

    /// Takes in the concurrency of one second. A second that is not later than the last one replaces it.
    pub fn observe(&mut self, second: u64, concurrency: f64) {
        if !concurrency.is_finite() || concurrency < 0.0 {
            return;
        }
        if self.buckets.back().is_some_and(|(last, _)| *last >= second) {
            self.buckets.pop_back();
        }
        self.buckets.push_back((second, concurrency));
        let window = self.config.stable_window.max(1);
        while self.buckets.front().is_some_and(|(first, _)| first + window <= second) {
            self.buckets.pop_front();
        }
    }

    /// The mean over the buckets of a window that exist; none without any.
    fn average(&self, now: u64, window: u64) -> Option<f64> {
        let inside = self.buckets.iter().filter(|(second, _)| second + window > now && *second <= now);
        let (count, sum) = inside.fold((0_u32, 0.0), |(count, sum), (_, value)| (count + 1, sum + value));
        (count > 0).then(|| sum / f64::from(count))
    }

    /// Decides at `now`, in seconds. None without data: it stays as it is.
    pub fn decide(&mut self, now: u64, ready_pods: u32) -> Option<KpaDecision> {
        let config = self.config;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "part of a window of an hour at most"
        )]
        let panic_window =
            ((config.stable_window as f64 * config.panic_percent / 100.0).round() as u64).max(1);
        let stable = self.average(now, config.stable_window)?;
        let panic = self.average(now, panic_window)?;
        let target = (config.total * config.utilization).max(TARGET_MIN);
        let ready = f64::from(ready_pods.max(1));
        let max_up = (ready * config.max_up_rate).ceil();
        let max_down = if config.reachable { (ready / config.max_down_rate).floor() } else { 0.0 };
        let wanted_by = |average: f64| {
            let raw = (average / target).ceil();
            let wanted = raw.max(max_down).min(max_up);
            // The activation scale is for demand; without any it keeps no pod.
            if raw > 0.0 { wanted.max(f64::from(config.activation_scale)) } else { wanted }
        };
        let (stable_pods, panic_pods) = (wanted_by(stable), wanted_by(panic));
        self.judge_panic(now, (panic / target).ceil().min(max_up) / ready >= config.panic_threshold);
        let mut desired = whole(stable_pods);
        if self.panics_since.is_some() {
            desired = whole(stable_pods.max(panic_pods)).max(self.max_panic_pods);
            self.max_panic_pods = desired;
        }
        desired = self.delayed(now, desired);
        let bounded = if config.max > 0 { desired.min(config.max) } else { desired }.max(config.min);
        Some(KpaDecision {
            desired: bounded,
            panicking: self.panics_since.is_some(),
            excess_burst: self.excess_burst(f64::from(ready_pods), panic),
        })
    }

    fn judge_panic(&mut self, now: u64, is_over: bool) {
        match self.panics_since {
            _ if is_over => self.panics_since = Some(now),
            Some(since) if since + self.config.stable_window < now => {
                self.panics_since = None;
                self.max_panic_pods = 0;
            }
            _ => {}
        }
    }

    /// The most that was wanted within the delay.
    fn delayed(&mut self, now: u64, desired: u32) -> u32 {
        let delay = self.config.down_delay;
        if delay == 0 {
            return desired;
        }
        self.wanted.push_back((now, desired));
        while self.wanted.front().is_some_and(|(at, _)| at + delay <= now) {
            self.wanted.pop_front();
        }
        self.wanted.iter().map(|(_, wanted)| *wanted).max().unwrap_or(desired)
    }

    fn excess_burst(&self, ready: f64, panic: f64) -> i64 {
        let burst = self.config.burst_capacity;
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        match burst {
            burst if burst < 0.0 => -1,
            0.0 => 0,
            burst => (ready * self.config.total - burst - panic).floor() as i64,
        }
    }
}

fn whole(pods: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let whole = pods as u32;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ready pods, then concurrency of the stable window and of the last panic window; what is wanted, and whether it panics.
    type Steady = (u32, f64, f64, u32, bool);

    fn check(config: KpaConfig, table: &[Steady]) {
        for &(ready, stable, panic, desired, panicking) in table {
            // One ready pod does not start in panic, so that each line starts from the same state.
            let mut kpa = Kpa::new(config, 0, 1);
            for second in 0..config.stable_window {
                let last = config.stable_window - second <= config.stable_window / 10;
                // The stable average counts the panic window too.
                let rest = (stable * 60.0 - panic * 6.0) / 54.0;
                kpa.observe(second, if last { panic } else { rest });
            }
            let decision = kpa.decide(config.stable_window - 1, ready).expect("there is data");
            assert_eq!(
                (decision.desired, decision.panicking),
                (desired, panicking),
                "{ready} ready, {stable}, {panic}"
            );
        }
    }

    fn of(total: f64, utilization: f64) -> KpaConfig {
        KpaConfig { total, utilization, ..KpaConfig::default() }
    }

    #[test]
    fn pods_by_concurrency() {
        let table: &[Steady] = &[
            (1, 0.0, 0.0, 0, false),
            (2, 0.0, 0.0, 1, false),
            (3, 0.0, 0.0, 1, false),
            (10, 0.0, 0.0, 5, false),
            (1, 0.5, 0.5, 1, false),
            (1, 10.0, 10.0, 1, false),
            (2, 10.1, 10.1, 2, false),
            (2, 20.0, 20.0, 2, false),
            (3, 20.1, 20.1, 3, false),
            (4, 35.0, 35.0, 4, false),
            (5, 50.0, 50.0, 5, false),
            (6, 50.0, 50.0, 5, false),
            (9, 50.0, 50.0, 5, false),
            (12, 50.0, 50.0, 6, false),
            (20, 50.0, 50.0, 10, false),
            (7, 95.0, 95.0, 10, false),
        ];
        check(of(10.0, 1.0), table);
    }

    #[test]
    fn the_target_is_a_share_of_the_total() {
        let defaults = [(1, 70.0, 70.0, 1, false), (2, 70.1, 70.1, 2, false), (3, 175.0, 175.0, 3, false)];
        check(of(100.0, 0.7), &defaults);
        check(
            of(1.0, 0.7),
            &[(2, 1.39, 1.39, 2, false), (2, 1.5, 1.5, 3, false), (30, 20.9, 20.9, 30, false)],
        );
        // No target is below 0.01, whatever the share.
        check(of(0.001, 0.7), &[(2, 0.009, 0.009, 1, false), (2, 0.019, 0.019, 2, false)]);
    }

    #[test]
    fn twice_as_many_as_are_ready_is_a_panic() {
        let table: &[Steady] = &[
            (1, 10.0, 20.0, 2, true),
            (2, 20.0, 39.0, 4, true),
            (2, 19.5, 30.0, 2, false),
            (5, 49.5, 90.0, 5, false),
            (5, 50.0, 91.0, 10, true),
            (5, 50.0, 100.0, 10, true),
            (5, 50.0, 250.0, 25, true),
            (10, 49.5, 190.0, 5, false),
            (10, 50.0, 191.0, 20, true),
            (3, 30.0, 59.0, 6, true),
            (3, 29.5, 50.0, 3, false),
        ];
        check(of(10.0, 1.0), table);
    }

    #[test]
    fn the_rates_bound_both_ways() {
        let up = KpaConfig { max_up_rate: 2.0, ..of(1.0, 1.0) };
        check(up, &[(1, 100.0, 100.0, 2, true), (3, 100.0, 100.0, 6, true), (10, 15.0, 15.0, 15, false)]);
        // 100 times 1.1 is a little more than 110 in floating point, in Go as here.
        let slow = KpaConfig { max_up_rate: 1.1, ..of(1.0, 1.0) };
        check(
            slow,
            &[(1, 100.0, 100.0, 2, true), (10, 100.0, 100.0, 11, false), (100, 150.0, 150.0, 111, false)],
        );
        let down = KpaConfig { max_down_rate: 1.1, ..of(1.0, 1.0) };
        check(down, &[(10, 0.0, 0.0, 9, false), (1, 0.0, 0.0, 0, false), (100, 1.0, 1.0, 90, false)]);
        let unreachable = KpaConfig { reachable: false, ..of(1.0, 1.0) };
        check(unreachable, &[(10, 0.0, 0.0, 0, false), (10, 2.0, 2.0, 2, false)]);
    }

    #[test]
    fn bounds_and_activation_scale() {
        let bounded = KpaConfig { min: 2, max: 5, ..of(1.0, 1.0) };
        check(bounded, &[(1, 0.0, 0.0, 2, false), (4, 3.0, 3.0, 3, false), (5, 9.0, 9.0, 5, false)]);
        let activation = KpaConfig { activation_scale: 3, ..of(1.0, 1.0) };
        check(
            activation,
            &[
                (1, 0.0, 0.0, 0, false),
                (2, 0.5, 0.5, 3, false),
                (2, 3.0, 3.0, 3, false),
                (4, 4.0, 4.0, 4, false),
            ],
        );
    }

    /// A course: seconds and what happens at each; concurrency holds until it is changed.
    fn course(config: KpaConfig, start: u32, steps: &[(u64, f64, u32)], expected: &[(u64, u32, bool)]) {
        let mut kpa = Kpa::new(config, 0, start);
        let end = expected.last().map_or(0, |(second, _, _)| *second);
        for second in 0..=end {
            let (_, concurrency, ready) =
                steps.iter().rfind(|(from, _, _)| *from <= second).copied().expect("a step at 0");
            kpa.observe(second, concurrency);
            if second % 2 == 0 {
                let decision = kpa.decide(second, ready).expect("there is data");
                if let Some((_, desired, panicking)) = expected.iter().find(|(at, _, _)| *at == second) {
                    assert_eq!(
                        (decision.desired, decision.panicking),
                        (*desired, *panicking),
                        "at {second} s"
                    );
                }
            }
        }
    }

    #[test]
    fn a_panic_never_falls_and_ends_after_a_stable_window() {
        let config = of(1.0, 1.0);
        // Out of a quiet time; the peak of the panic window stays.
        course(
            config,
            1,
            &[(0, 1.0, 1), (60, 10.0, 1), (70, 2.0, 10)],
            &[
                (58, 1, false),
                (60, 3, true),
                (62, 6, true),
                (66, 10, true),
                (70, 10, true),
                (90, 10, true),
                (126, 10, true),
                (134, 5, false),
            ],
        );
        // Extended as long as twice as many are wanted.
        course(config, 1, &[(0, 1.0, 1), (60, 10.0, 3)], &[(62, 6, true), (100, 10, true), (200, 10, true)]);
        // A slow rise is none.
        course(
            config,
            1,
            &[(0, 1.0, 1), (60, 1.5, 2), (120, 2.0, 2), (180, 3.0, 2)],
            &[(58, 1, false), (178, 2, false), (240, 3, false)],
        );
    }

    #[test]
    fn it_starts_in_panic_with_more_than_one_pod() {
        course(of(1.0, 1.0), 5, &[(0, 0.0, 5)], &[(2, 5, true), (60, 5, true), (62, 2, false)]);
        course(of(1.0, 1.0), 1, &[(0, 0.0, 1)], &[(2, 0, false)]);
    }

    #[test]
    fn scaling_down_waits_for_its_delay() {
        let config = KpaConfig { down_delay: 30, stable_window: 10, ..of(1.0, 1.0) };
        course(
            config,
            1,
            &[(0, 4.0, 4), (20, 0.0, 4)],
            &[(20, 4, false), (36, 4, false), (48, 4, false), (60, 2, false)],
        );
    }

    #[test]
    fn a_window_that_is_filled_in_part_is_not_diluted() {
        let mut kpa = Kpa::new(of(1.0, 1.0), 0, 1);
        assert_eq!(kpa.decide(0, 1), None);
        kpa.observe(0, 1.9);
        assert_eq!(kpa.decide(0, 1).map(|decision| decision.desired), Some(2));
        for wrong in [f64::NAN, f64::INFINITY, -1.0] {
            kpa.observe(1, wrong);
        }
        assert_eq!(kpa.decide(1, 2).map(|decision| decision.desired), Some(2));
        assert_eq!(kpa.decide(1000, 2), None); // nothing is left of the window
    }

    #[test]
    fn excess_burst_capacity() {
        for (ready, burst, concurrency, excess) in [
            (1, 211.0, 0.0, -111),
            (3, 211.0, 50.0, 39),
            (3, 211.0, 89.5, -1),
            (10, 0.0, 999.0, 0),
            (10, -1.0, 0.0, -1),
            (0, 211.0, 10.0, -221),
            (4, 200.0, 100.0, 100),
        ] {
            let mut kpa = Kpa::new(KpaConfig { burst_capacity: burst, ..KpaConfig::default() }, 0, 1);
            kpa.observe(0, concurrency);
            assert_eq!(
                kpa.decide(0, ready).map(|decision| decision.excess_burst),
                Some(excess),
                "{ready} {burst}"
            );
        }
    }
}
