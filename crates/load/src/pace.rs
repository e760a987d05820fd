//! Decides when a rate-limited worker (`-q`) sends next: at equally spaced ticks, the first one period after the start,
//! as with hey's ticker.
//!
//! Of the ticks that pass while a response is pending only the last counts, so a slow server never gets a burst.
//! A phase of length L at rate R has the ticks up to and including L, that is R × L of them.

use std::time::Duration;

/// How late a tick may be and still count. The runtime's timers have a resolution of one millisecond: without slack, no
/// worker could send more than a thousand requests per second.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// Due times of one worker, counted from the phase's start.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Ticks per second.
    rate: f64,
    /// Number of the next tick, from 1.
    next: u64,
}

impl Pace {
    pub(crate) fn new(rate: f64) -> Self {
        Pace { rate, next: 1 }
    }

    /// Returns when the next request is due, which may be before `now`.
    pub(crate) fn next(&mut self, now: Duration) -> Duration {
        let passed = (now.saturating_sub(TIMER_SLACK).as_secs_f64() * self.rate) as u64;
        let tick = self.next.max(passed);
        self.next = tick + 1;
        due(tick, self.rate)
    }
}

/// Returns when request `index` of an open rate is due, rounded to the nanosecond so that `7 / 0.7` is ten seconds.
pub(crate) fn due(index: u64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(index as f64 / rate).unwrap_or(Duration::MAX)
}

/// Returns how many requests of an open rate are due from 0 up to, but not including, `length`.
pub(crate) fn count_before(length: Duration, rate: f64) -> u64 {
    let count = (length.as_secs_f64() * rate).ceil() as u64;
    // Rounding may put the product slightly above a whole number.
    if count > 0 && due(count - 1, rate) >= length { count - 1 } else { count }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the times of sending in milliseconds, with responses that take `answer`.
    fn sent(rate: f64, length: Duration, answer: Duration) -> Vec<u128> {
        let (mut pace, mut now, mut sent) = (Pace::new(rate), Duration::ZERO, Vec::new());
        loop {
            let due = pace.next(now);
            if due > length || now > length {
                return sent;
            }
            now = now.max(due);
            sent.push(now.as_millis());
            now += answer;
        }
    }

    #[test]
    fn ticks() {
        let ms = Duration::from_millis;
        for (rate, length, answer, wanted) in [
            (10.0, 500, 1, &[100, 200, 300, 400, 500][..]),
            (10.0, 499, 1, &[100, 200, 300, 400]),
            (10.0, 800, 250, &[100, 350, 600]),
            (4.0, 1000, 0, &[250, 500, 750, 1000]),
            (0.5, 1999, 0, &[]),
        ] {
            assert_eq!(sent(rate, ms(length), ms(answer)), wanted, "{rate}/s for {length} ms");
        }
    }

    /// Requests of an open rate start at 0, a worker's ticks one period later; only the latter include the end.
    #[test]
    fn counts() {
        for (length_seconds, rate, open, ticks) in [
            (10, 0.7, 7, 7),
            (100, 0.29, 29, 29),
            (10, 1.1, 11, 11),
            (1, 0.5, 1, 0),
            (3, 100.0, 300, 300),
            (0, 5.0, 0, 0),
        ] {
            let length = Duration::from_secs(length_seconds);
            let counts = (count_before(length, rate), sent(rate, length, Duration::ZERO).len());
            assert_eq!(counts, (open, ticks), "{rate}/s for {length:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_more_than_the_rate(rate in 0.1f64..5000.0, millis in 1u64..1000, answer_micros in 1u64..1_000_000) {
            let length = Duration::from_millis(millis);
            let times = sent(rate, length, Duration::from_micros(answer_micros));
            proptest::prop_assert!(times.len() as f64 <= rate * length.as_secs_f64() + 1e-6);
            proptest::prop_assert!(times.is_sorted());
        }
    }
}
