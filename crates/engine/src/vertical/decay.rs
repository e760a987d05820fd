//! A histogram that forgets: each half-life, a sample counts half as much (`decaying_histogram.go`).
//!
//! Instead of making old samples lighter, new ones are added heavier: by 2 to the power of their age before the
//! reference time. When that grows too large the reference moves on, by whole half-lives, and all weights shrink.

use std::time::Duration;

use super::histogram::{Buckets, CheckpointError, Histogram, HistogramCheckpoint};
use crate::time::Time;

/// The reference moves before a weight grows by more than 2 to this power.
const EXPONENT_MAX: f64 = 100.0;

/// From the year 1, from which Go rounds times, to the Unix epoch.
const YEAR_ONE_TO_EPOCH_MILLIS: i128 = 62_135_596_800_000;

/// A histogram whose samples lose half of their weight with each half-life.
#[derive(Clone, Debug, PartialEq)]
pub struct DecayingHistogram {
    histogram: Histogram,
    half_life: Duration,
    /// A multiple of the half-life; none until the first sample.
    reference: Option<Time>,
}

fn millis(time: Time) -> i128 {
    i128::from(time.as_millis())
}

impl DecayingHistogram {
    /// An empty one. A half-life of less than a millisecond counts as one.
    pub fn new(buckets: Buckets, half_life: Duration) -> Self {
        Self {
            histogram: Histogram::new(buckets),
            half_life: half_life.max(Duration::from_millis(1)),
            reference: None,
        }
    }

    /// Without its times.
    pub fn histogram(&self) -> &Histogram {
        &self.histogram
    }

    /// The end of the bucket up to which lies this share (0–1) of the weight; 0 when empty.
    pub fn percentile(&self, share: f64) -> f64 {
        self.histogram.percentile(share)
    }

    /// Nothing weighs enough to count.
    pub fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    /// Adds a sample taken at `at`.
    pub fn add(&mut self, value: f64, weight: f64, at: Time) {
        let factor = self.factor(at);
        self.histogram.add(value, weight * factor);
    }

    /// Takes a sample of `at` away again.
    pub fn subtract(&mut self, value: f64, weight: f64, at: Time) {
        let factor = self.factor(at);
        self.histogram.subtract(value, weight * factor);
    }

    /// Adds all samples of another one with the same buckets and half-life.
    pub fn merge(&mut self, other: &Self) {
        match (self.reference, other.reference) {
            (own, Some(theirs)) if own.is_none_or(|own| own < theirs) => self.shift(theirs),
            (Some(own), theirs) if theirs.is_none_or(|theirs| theirs < own) => {
                let mut other = other.clone();
                other.shift(own);
                return self.histogram.merge(&other.histogram);
            }
            _ => {}
        }
        self.histogram.merge(&other.histogram);
    }

    /// As a checkpoint has it.
    pub fn save(&self) -> HistogramCheckpoint {
        HistogramCheckpoint { reference_timestamp: self.reference, ..self.histogram.save() }
    }

    /// Adds what a checkpoint holds to an empty histogram.
    ///
    /// # Errors
    ///
    /// Those of [`Histogram::load`].
    pub fn load(&mut self, checkpoint: &HistogramCheckpoint) -> Result<(), CheckpointError> {
        self.histogram.load(checkpoint)?;
        self.reference = checkpoint.reference_timestamp;
        Ok(())
    }

    fn half_life_millis(&self) -> i128 {
        i128::try_from(self.half_life.as_millis()).unwrap_or(i128::MAX / 4).max(1)
    }

    /// How many half-lives `at` is after the reference.
    fn half_lives(&self, at: Time, reference: Time) -> f64 {
        (millis(at) - millis(reference)) as f64 / self.half_life_millis() as f64
    }

    /// How much heavier a sample of `at` is than one of the reference.
    fn factor(&mut self, at: Time) -> f64 {
        let near = |reference: &Time| self.half_lives(at, *reference) <= EXPONENT_MAX;
        let reference = match self.reference.filter(near) {
            Some(reference) => reference,
            None => {
                self.shift(at);
                self.reference.unwrap_or(at)
            }
        };
        self.half_lives(at, reference).exp2()
    }

    /// Moves the reference to the multiple of the half-life that is nearest to `at`.
    fn shift(&mut self, at: Time) {
        let half_life = self.half_life_millis();
        let since_year_one = millis(at) + YEAR_ONE_TO_EPOCH_MILLIS;
        let rounded = (since_year_one + half_life / 2).div_euclid(half_life) * half_life;
        let millis = u64::try_from(rounded - YEAR_ONE_TO_EPOCH_MILLIS).unwrap_or(0);
        let reference = Time::from_millis(millis);
        let factor = match self.reference {
            Some(old) => (self.half_lives(old, reference) + 0.5).floor().exp2(),
            None => 0.0,
        };
        self.histogram.scale(factor);
        self.reference = Some(reference);
    }

    /// Whether both hold the same up to rounding.
    pub fn resembles(&self, other: &Self) -> bool {
        self.reference == other.reference && self.histogram.resembles(&other.histogram)
    }
}
