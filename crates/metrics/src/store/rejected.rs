//! Why samples are refused, and how often they were.

use super::Store;

/// Why a sample was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Older than the newest sample of its series.
    #[error("out of order sample")]
    OutOfOrder,
    /// As old as the newest sample of its series, with another value.
    #[error("duplicate sample for timestamp")]
    DuplicateTimestamp,
    /// Older than the store keeps samples.
    #[error("out of bounds")]
    TooOld,
    /// Too far in the future.
    #[error("out of bounds")]
    TooNew,
    /// The store holds as many series as it may.
    #[error("series limit reached")]
    TooManySeries,
    /// The series was evicted; ask for its id again.
    #[error("unknown series")]
    UnknownSeries,
}

/// How many samples were refused since the store was made, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejections {
    /// See [`Rejected::OutOfOrder`].
    pub out_of_order: u64,
    /// See [`Rejected::DuplicateTimestamp`].
    pub duplicate_timestamp: u64,
    /// See [`Rejected::TooOld`].
    pub too_old: u64,
    /// See [`Rejected::TooNew`].
    pub too_new: u64,
    /// See [`Rejected::TooManySeries`].
    pub too_many_series: u64,
    /// Samples that were taken and dropped again before their age, because there were more than `samples_max` or `bytes_max`.
    pub dropped_over_samples_max: u64,
}

impl Store {
    /// Counts a refusal.
    pub(crate) fn reject(&mut self, why: Rejected) -> Rejected {
        match why {
            Rejected::OutOfOrder => self.rejections.out_of_order += 1,
            Rejected::DuplicateTimestamp => self.rejections.duplicate_timestamp += 1,
            Rejected::TooOld => self.rejections.too_old += 1,
            Rejected::TooNew => self.rejections.too_new += 1,
            Rejected::TooManySeries => self.rejections.too_many_series += 1,
            Rejected::UnknownSeries => {}
        }
        why
    }

    /// Refused samples by reason.
    pub fn rejections(&self) -> Rejections {
        self.rejections
    }
}
