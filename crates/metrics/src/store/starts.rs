//! Since when the samples of a series count: their start timestamps.
//!
//! A counter keeps its start until it restarts, so a start is kept once for all samples that follow one another with it. A
//! series without any pays an empty pointer.

use std::collections::VecDeque;

use super::save::take;

/// The start of a sample that came without one.
pub(crate) const UNKNOWN_START_MS: i64 = 0;

/// The start timestamps of a series.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StartTimes {
    /// In the order of `from_ms`; neighbours differ in their starts.
    runs: VecDeque<Run>,
}

/// Samples that follow one another and have the same start.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    /// The time of the first of them.
    from_ms: i64,
    start_ms: i64,
}

impl StartTimes {
    /// The start of the sample at a time; [`UNKNOWN_START_MS`] if it has none.
    pub(crate) fn at(&self, timestamp_ms: i64) -> i64 {
        let begun = self.runs.partition_point(|run| run.from_ms <= timestamp_ms);
        begun.checked_sub(1).map_or(UNKNOWN_START_MS, |run| self.runs[run].start_ms)
    }

    /// Takes the start of a sample that is later than all others.
    pub(super) fn push(&mut self, timestamp_ms: i64, start_ms: i64) {
        let last_ms = self.runs.back().map_or(UNKNOWN_START_MS, |run| run.start_ms);
        if start_ms != last_ms {
            self.runs.push_back(Run { from_ms: timestamp_ms, start_ms });
        }
    }

    /// Forgets what ended before the oldest sample that is left.
    pub(super) fn evict(&mut self, oldest_ms: Option<i64>) {
        let oldest_ms = oldest_ms.unwrap_or(i64::MAX);
        while self.runs.get(1).is_some_and(|next| next.from_ms <= oldest_ms) {
            self.runs.pop_front();
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run>()
    }

    /// Whether anything began after a time.
    pub(super) fn has_news(&self, after_ms: i64) -> bool {
        self.runs.back().is_some_and(|run| run.from_ms > after_ms)
    }

    /// Appends what began after a time.
    pub(super) fn save(&self, after_ms: i64, out: &mut Vec<u8>) {
        let first = self.runs.partition_point(|run| run.from_ms <= after_ms);
        out.extend(((self.runs.len() - first) as u32).to_le_bytes());
        for run in self.runs.range(first..) {
            out.extend(run.from_ms.to_le_bytes());
            out.extend(run.start_ms.to_le_bytes());
        }
    }

    /// Reads what `save` wrote, and keeps what is later than all that is there, the samples up to `newest_ms` included.
    pub(super) fn load(&mut self, from: &mut &[u8], newest_ms: Option<i64>) -> Option<()> {
        for _ in 0..u32::from_le_bytes(take(from)?) {
            let (from_ms, start_ms) = (i64::from_le_bytes(take(from)?), i64::from_le_bytes(take(from)?));
            let last_ms = self.runs.back().map(|last| last.from_ms);
            if last_ms.max(newest_ms) < Some(from_ms) {
                self.push(from_ms, start_ms);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(samples: &[(i64, i64)]) -> StartTimes {
        let mut starts = StartTimes::default();
        samples.iter().for_each(|(timestamp_ms, start_ms)| starts.push(*timestamp_ms, *start_ms));
        starts
    }

    #[test]
    fn a_start_is_kept_once_until_it_changes() {
        let starts = starts(&[(1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 0), (7, 1), (8, 7)]);
        let read: Vec<i64> = (0..10).map(|timestamp_ms| starts.at(timestamp_ms)).collect();
        assert_eq!(read, [0, 0, 0, 1, 1, 1, 0, 1, 7, 7]);
        assert_eq!(starts.runs.len(), 4);
    }

    #[test]
    fn starts_go_with_the_last_of_their_samples() {
        let mut starts = starts(&[(2, 1), (4, 3), (6, 5)]);
        starts.evict(Some(3));
        assert_eq!((starts.at(3), starts.runs.len()), (1, 3));
        starts.evict(Some(4));
        assert_eq!((starts.at(3), starts.at(4), starts.runs.len()), (0, 3, 2));
        starts.evict(None);
        assert_eq!((starts.at(5), starts.at(6)), (0, 5));
    }

    #[test]
    fn a_series_without_starts_pays_a_pointer() {
        assert_eq!(size_of::<Option<Box<StartTimes>>>(), size_of::<usize>());
        assert!(size_of::<crate::store::series::Series>() <= 96);
    }
}
