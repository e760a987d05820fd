//! How often a container used how much: weights in buckets that grow by 5 % (`pkg/recommender/util/histogram.go`).
//!
//! A percentile is the *end* of its bucket, so every value is rounded up by at most 5 %. A bucket whose weight is
//! under `epsilon` counts as empty. Saved, the largest weight becomes 10000 and the others are rounded to that scale.
//!
//! Powers are computed by repeated squaring, as Go does for whole exponents, so that bucket borders agree to the last
//! bit on every machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::time::Time;

/// The weight of the heaviest bucket in a checkpoint.
const CHECKPOINT_WEIGHT_MAX: f64 = 10_000.0;

/// More buckets than any layout needs; each costs eight bytes in every histogram.
const BUCKETS_MAX: usize = 10_000;

/// Where the borders of the buckets are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Buckets {
    growth: Growth,
    count: usize,
    epsilon: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Growth {
    Linear { size: f64 },
    Exponential { first: f64, ratio: f64 },
}

/// `base` to a whole power, with Go's rounding.
pub(crate) fn power(base: f64, exponent: i32) -> f64 {
    let (mut result, mut square, mut rest) = (1.0, base, exponent.unsigned_abs());
    while rest > 0 {
        if rest & 1 == 1 {
            result *= square;
        }
        square *= square;
        rest >>= 1;
    }
    if exponent < 0 { 1.0 / result } else { result }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float to integer casts saturate"
)]
fn index(position: f64) -> usize {
    position as usize
}

impl Buckets {
    /// Buckets of one size up to `max`.
    pub fn linear(max: f64, size: f64, epsilon: f64) -> Self {
        let count = index((max / size).ceil()).saturating_add(1).min(BUCKETS_MAX);
        Self { growth: Growth::Linear { size }, count, epsilon }
    }

    /// Buckets up to `max`, the first of size `first`, each `ratio` times as large as the one before.
    pub fn exponential(max: f64, first: f64, ratio: f64, epsilon: f64) -> Self {
        let position = ((max * (ratio - 1.0) / first + 1.0).ln() / ratio.ln()).ceil();
        let count = index(position).saturating_add(1).min(BUCKETS_MAX);
        Self { growth: Growth::Exponential { first, ratio }, count, epsilon }
    }

    /// VPA's for CPU, in cores: from 10m to 1000 cores.
    pub fn cpu() -> Self {
        Self::exponential(1000.0, 0.01, 1.05, EPSILON)
    }

    /// VPA's for memory, in bytes: from 10 MB to 1 TB.
    pub fn memory() -> Self {
        Self::exponential(1e12, 1e7, 1.05, EPSILON)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The bucket of a value; what is not a number falls into the first.
    pub fn find(&self, value: f64) -> usize {
        let position = match self.growth {
            Growth::Linear { size } => value / size,
            Growth::Exponential { first, .. } if value < first => 0.0,
            Growth::Exponential { first, ratio } => (value * (ratio - 1.0) / first + 1.0).ln() / ratio.ln(),
        };
        index(position).min(self.count - 1)
    }

    /// Where a bucket starts.
    pub fn start(&self, bucket: usize) -> f64 {
        match self.growth {
            Growth::Linear { size } => bucket as f64 * size,
            Growth::Exponential { .. } if bucket == 0 => 0.0,
            Growth::Exponential { first, ratio } => {
                let exponent = i32::try_from(bucket).unwrap_or(i32::MAX);
                first * (power(ratio, exponent) - 1.0) / (ratio - 1.0)
            }
        }
    }
}

/// The smallest weight that counts: a CPU sample's weight of 0.1, a thousandth of it.
const EPSILON: f64 = 0.001 * 0.1;

/// Weights in buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    buckets: Buckets,
    weights: Box<[f64]>,
    total: f64,
    /// The first bucket that is not empty, or the last of all.
    lowest: usize,
    /// The last bucket that is not empty, or the first of all.
    highest: usize,
}

/// A histogram as VPA keeps it in a VerticalPodAutoscalerCheckpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HistogramCheckpoint {
    /// Relative to when the weights decay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_timestamp: Option<Time>,
    /// By bucket; the heaviest has 10000, those that would have zero are left out.
    pub bucket_weights: BTreeMap<i64, u32>,
    /// The true weight of all.
    pub total_weight: f64,
}

/// Why a checkpoint can't be read.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CheckpointError {
    /// `totalWeight` makes no sense.
    #[error("cannot load checkpoint with weight {0}: it must be zero or more, and finite")]
    Weight(f64),
    /// A bucket that this histogram does not have.
    #[error("checkpoint has bucket {bucket}, where the histogram has buckets 0 to {}", .count - 1)]
    Bucket {
        /// Its index.
        bucket: i64,
        /// How many there are.
        count: usize,
    },
    /// Written by another version of VPA.
    #[error("unsupported checkpoint version {0:?}, where \"v3\" is known")]
    Version(String),
    /// Samples that end before they begin.
    #[error("lastSampleStart {last} lies before firstSampleStart {first}")]
    Times {
        /// `firstSampleStart`.
        first: Time,
        /// `lastSampleStart`.
        last: Time,
    },
}

impl Histogram {
    /// An empty one.
    pub fn new(buckets: Buckets) -> Self {
        let weights = vec![0.0; buckets.count].into_boxed_slice();
        Self { buckets, weights, total: 0.0, lowest: buckets.count - 1, highest: 0 }
    }

    /// Nothing weighs enough to count.
    pub fn is_empty(&self) -> bool {
        self.weights[self.lowest] < self.buckets.epsilon
    }

    /// The weight of all samples.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// The weight of one bucket; zero if there is none.
    pub fn weight(&self, bucket: usize) -> f64 {
        self.weights.get(bucket).copied().unwrap_or(0.0)
    }

    /// Adds a sample. A negative weight counts as none.
    pub fn add(&mut self, value: f64, weight: f64) {
        let (bucket, weight) = (self.buckets.find(value), weight.max(0.0));
        self.weights[bucket] += weight;
        self.total += weight;
        if self.weights[bucket] >= self.buckets.epsilon {
            self.lowest = self.lowest.min(bucket);
            self.highest = self.highest.max(bucket);
        }
    }

    /// Takes a sample away again.
    pub fn subtract(&mut self, value: f64, weight: f64) {
        let (bucket, weight) = (self.buckets.find(value), weight.max(0.0));
        let less =
            |from: f64| Some(from - weight).filter(|rest| *rest >= self.buckets.epsilon).unwrap_or(0.0);
        (self.total, self.weights[bucket]) = (less(self.total), less(self.weights[bucket]));
        self.tighten();
    }

    /// Adds all samples of another one with the same buckets.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.buckets, other.buckets, "only histograms with the same buckets can be merged");
        for bucket in other.lowest..=other.highest {
            self.weights[bucket] += other.weights[bucket];
        }
        self.total += other.total;
        self.lowest = self.lowest.min(other.lowest);
        self.highest = self.highest.max(other.highest);
    }

    /// Multiplies every weight.
    pub(crate) fn scale(&mut self, factor: f64) {
        for bucket in self.lowest..=self.highest {
            self.weights[bucket] *= factor;
        }
        self.total *= factor;
        self.tighten();
    }

    /// The end of the bucket up to which lies this share (0–1) of the weight; 0 when empty.
    pub fn percentile(&self, share: f64) -> f64 {
        if self.is_empty() {
            return 0.0;
        }
        let bucket = self.percentile_bucket(share);
        self.buckets.start((bucket + 1).min(self.buckets.count - 1))
    }

    fn percentile_bucket(&self, share: f64) -> usize {
        let threshold = share * self.total;
        let mut sum = 0.0;
        for bucket in self.lowest..self.highest {
            sum += self.weights[bucket];
            if sum >= threshold {
                return bucket;
            }
        }
        self.highest
    }

    /// The weights as a checkpoint has them.
    pub fn save(&self) -> HistogramCheckpoint {
        let heaviest = self.weights.iter().copied().fold(0.0, f64::max);
        let scaled = |weight: f64| -> u32 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and 10000"
            )]
            let scaled = (weight * (CHECKPOINT_WEIGHT_MAX / heaviest)).round() as u32;
            scaled
        };
        let mut bucket_weights = BTreeMap::new();
        for bucket in self.lowest..=self.highest {
            let weight = scaled(self.weights[bucket]);
            if weight > 0 {
                bucket_weights.insert(i64::try_from(bucket).unwrap_or(i64::MAX), weight);
            }
        }
        HistogramCheckpoint { reference_timestamp: None, bucket_weights, total_weight: self.total }
    }

    /// Adds what a checkpoint holds.
    ///
    /// # Errors
    ///
    /// A total weight below zero or without end, or a bucket that does not exist. Nothing is changed then.
    pub fn load(&mut self, checkpoint: &HistogramCheckpoint) -> Result<(), CheckpointError> {
        let total = checkpoint.total_weight;
        if !(total.is_finite() && total >= 0.0) {
            return Err(CheckpointError::Weight(total));
        }
        let count = self.buckets.count;
        let mut weights = Vec::with_capacity(checkpoint.bucket_weights.len());
        for (&bucket, &weight) in &checkpoint.bucket_weights {
            match usize::try_from(bucket) {
                Ok(found) if found < count => weights.push((found, f64::from(weight))),
                _ => return Err(CheckpointError::Bucket { bucket, count }),
            }
        }
        let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
        if sum > 0.0 {
            self.fill(&weights, total / sum);
            self.total += total;
        }
        Ok(())
    }

    fn fill(&mut self, weights: &[(usize, f64)], ratio: f64) {
        for &(bucket, weight) in weights {
            self.weights[bucket] += weight * ratio;
            self.lowest = self.lowest.min(bucket);
            self.highest = self.highest.max(bucket);
        }
        // A bucket at the edge may have come back below epsilon, which would make all of it look empty.
        self.tighten();
    }

    /// Moves the ends inwards over buckets that became empty.
    fn tighten(&mut self) {
        let epsilon = self.buckets.epsilon;
        while self.weights[self.lowest] < epsilon && self.lowest < self.buckets.count - 1 {
            self.lowest += 1;
        }
        while self.weights[self.highest] < epsilon && self.highest > 0 {
            self.highest -= 1;
        }
    }

    /// Whether all weights agree up to rounding.
    pub fn resembles(&self, other: &Self) -> bool {
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1e-3);
        (self.buckets, self.lowest, self.highest) == (other.buckets, other.lowest, other.highest)
            && self.weights.iter().zip(&other.weights).all(near)
    }
}
