//! What the start timestamps of samples say about a counter: when it restarted, and where it was zero.
//!
//! The rules are those of Prometheus 3.14 (promql, `use-start-timestamps`).

use crate::store::{StartTimes, UNKNOWN_START_MS};

/// The start timestamps of a series' samples; none where a query does not use them.
#[derive(Clone, Copy, Default)]
pub(super) struct Starts<'a>(pub(super) Option<&'a StartTimes>);

impl Starts<'_> {
    /// Whether no sample has one.
    pub(super) fn is_empty(self) -> bool {
        self.0.is_none()
    }

    /// The start of the sample at a time; zero if it has none.
    pub(super) fn at(self, timestamp_ms: i64) -> i64 {
        self.0.map_or(UNKNOWN_START_MS, |starts| starts.at(timestamp_ms))
    }

    /// Whether the counter restarted between two samples that follow one another.
    ///
    /// A start at the time of the sample before it is a restart in a series of deltas, of which every sample has its own start.
    /// A cumulative counter whose start nobody knows begins with a sample that has none, or its own time, and
    /// gives the time of that one as the start of all others (OpenTelemetry); that is no restart.
    pub(super) fn is_restart(self, previous_ms: i64, current_ms: i64) -> bool {
        let start_ms = self.at(current_ms);
        if start_ms == UNKNOWN_START_MS || start_ms >= current_ms || start_ms < previous_ms {
            return false;
        }
        let previous_start_ms = self.at(previous_ms);
        start_ms > previous_ms || previous_start_ms != UNKNOWN_START_MS && previous_start_ms < previous_ms
    }

    /// Whether a sample claims to count since a time that the sample before it has counted already.
    pub(super) fn is_overlap(self, previous_ms: i64, current_ms: i64) -> bool {
        let start_ms = self.at(current_ms);
        start_ms != UNKNOWN_START_MS && start_ms < previous_ms && start_ms != self.at(previous_ms)
    }

    /// When the counter was zero before a window's first sample, if that is in the window, which begins after `after_ms`.
    pub(super) fn zero_ms(self, after_ms: i64, first_ms: i64) -> Option<i64> {
        let start_ms = self.at(first_ms);
        (start_ms != UNKNOWN_START_MS && start_ms > after_ms && start_ms < first_ms).then_some(start_ms)
    }
}
