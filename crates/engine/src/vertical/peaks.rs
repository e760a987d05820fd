//! Memory: one peak for each container and interval (`pkg/recommender/model/container.go`).
//!
//! Memory can't be throttled, so its highest value counts, not its distribution. An interval starts with a container's
//! first sample, and its peak is stamped with the interval's *end*. An OOM kill counts as a sample above what the
//! container had asked for: by 20 %, by 100 MiB at least. What an earlier kill added is no base for the next, or several
//! kills at one request would run away.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::resources::scale_amount;
use crate::time::{Time, seconds};

/// How memory peaks are gathered; a container policy may say otherwise (gate `PerVPAConfig`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemorySettings {
    /// `--memory-aggregation-interval`: one peak counts in each.
    #[serde(with = "seconds")]
    pub interval: Duration,
    /// `--memory-aggregation-interval-count`: a history without samples for so many intervals is forgotten.
    pub interval_count: u32,
    /// `--oom-bump-up-ratio`.
    pub oom_bump_up_ratio: f64,
    /// `--oom-min-bump-up-bytes`.
    pub oom_min_bump_up_bytes: i64,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(86_400),
            interval_count: 8,
            oom_bump_up_ratio: 1.2,
            oom_min_bump_up_bytes: 100 * 1024 * 1024,
        }
    }
}

impl MemorySettings {
    /// What a container would have needed that was killed with a request of `requested` and was seen to use `peak`.
    pub fn needed_after_oom(&self, requested: i64, peak: i64) -> i64 {
        let used = requested.max(peak).max(0);
        used.saturating_add(self.oom_min_bump_up_bytes.max(0)).max(scale_amount(used, self.oom_bump_up_ratio))
    }

    /// Never zero: an interval has a length.
    fn interval(&self) -> Duration {
        self.interval.max(Duration::from_secs(1))
    }

    /// Whether a history is so old that it is forgotten.
    pub fn expired(&self, age: Duration) -> bool {
        age >= self.interval().saturating_mul(self.interval_count.max(1))
    }
}

/// The peak of the current interval of one running container.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct MemoryPeak {
    interval_end: Option<Time>,
    last_sample: Option<Time>,
    used: i64,
    oom: i64,
}

/// A change of the peaks that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeakChange {
    /// The peak that no longer counts.
    pub replaced_bytes: Option<i64>,
    /// The one that does.
    pub peak_bytes: i64,
    /// The end of the interval of both.
    pub interval_end: Time,
}

/// A sample that lies before the last one, or is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected;

impl MemoryPeak {
    /// The highest value of the interval, kills included, and the interval's end.
    pub(crate) fn current(&self) -> Option<(i64, Time)> {
        Some((self.used.max(self.oom), self.interval_end?)).filter(|(peak, _)| *peak != 0)
    }

    /// The highest use of the interval, kills left out.
    pub(crate) fn used_bytes(&self) -> i64 {
        self.used
    }

    /// A container used so much.
    pub(crate) fn used(
        &mut self,
        at: Time,
        bytes: i64,
        settings: &MemorySettings,
    ) -> Result<Option<PeakChange>, Rejected> {
        if bytes < 0 || self.last_sample.is_some_and(|last| at < last) {
            return Err(Rejected);
        }
        Ok(self.record(at, bytes, false, settings))
    }

    /// A container was killed although it had asked for so much.
    pub(crate) fn killed(
        &mut self,
        at: Time,
        requested: i64,
        settings: &MemorySettings,
    ) -> Result<Option<PeakChange>, Rejected> {
        if self.last_sample.is_some_and(|last| at + settings.interval() < last) {
            return Err(Rejected);
        }
        Ok(self.record(at, settings.needed_after_oom(requested, self.used), true, settings))
    }

    fn record(&mut self, at: Time, bytes: i64, oom: bool, settings: &MemorySettings) -> Option<PeakChange> {
        self.last_sample = Some(at);
        let end = self.interval_end.unwrap_or(at);
        let mut replaced_bytes = None;
        if at < end {
            let peak = self.used.max(self.oom);
            if peak == 0 || bytes <= peak {
                return None;
            }
            replaced_bytes = Some(peak);
        } else {
            let interval = settings.interval();
            let passed = at.since(end).as_millis() / interval.as_millis();
            let passed = u32::try_from(passed).unwrap_or(u32::MAX);
            self.interval_end = Some(end + interval.saturating_mul(passed) + interval);
            (self.used, self.oom) = (0, 0);
        }
        if oom {
            self.oom = bytes
        } else {
            self.used = bytes
        }
        Some(PeakChange { replaced_bytes, peak_bytes: bytes, interval_end: self.interval_end.unwrap_or(end) })
    }
}
