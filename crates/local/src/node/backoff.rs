//! How long a crashed container waits before it is started again.
//!
//! The kubelet's rule: the first restart comes at once, the next after 10 s, then twice as long each time up to 5 min; a
//! run of 10 min or more clears the score (`MaxContainerBackOff`, `backOffPeriod`, `flowcontrol.Backoff`).

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(300);
const CLEARED_AFTER: Duration = Duration::from_secs(600);

/// The score of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct BackOff(Option<Duration>);

impl BackOff {
    /// The wait after a run of this length; zero for the first.
    pub(crate) fn after(&mut self, run: Duration) -> Duration {
        if run >= CLEARED_AFTER {
            self.0 = None;
        }
        let wait = self.0.unwrap_or(Duration::ZERO);
        self.0 = Some(if wait.is_zero() { FIRST } else { (wait * 2).min(MAX) });
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_five_minutes_and_is_cleared_by_a_long_run() {
        let mut score = BackOff::default();
        let mut waits = |runs: &[u64]| -> Vec<u64> {
            runs.iter().map(|run| score.after(Duration::from_secs(*run)).as_secs()).collect()
        };
        assert_eq!(waits(&[1; 8]), [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(waits(&[599, 600, 1]), [300, 0, 10]);
    }
}
