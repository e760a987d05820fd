//! Adding, subtracting and scaling histograms.
//!
//! Two histograms meet at the coarser of their schemas, at a bucket around zero that is wide enough for both and cuts no
//! bucket with observations, and (custom bounds) at the bounds that both have.

use std::sync::Arc;

use super::{Buckets, NativeHistogram, ResetHint, Schema, bounds};
use crate::kahan::KahanSum;

/// A sum of histograms that keeps what rounding loses.
pub(crate) type HistogramSum = NativeHistogram<KahanSum>;

/// A count or a sum of counts.
pub(crate) trait Number: Copy {
    fn of(value: f64) -> Self;
    fn add(&mut self, other: Self);
    fn is_zero(self) -> bool;
}

impl Number for f64 {
    fn of(value: f64) -> f64 {
        value
    }

    fn add(&mut self, other: f64) {
        *self += other;
    }

    fn is_zero(self) -> bool {
        self == 0.0
    }
}

impl Number for KahanSum {
    fn of(value: f64) -> KahanSum {
        KahanSum::starting_at(value)
    }

    fn add(&mut self, other: KahanSum) {
        KahanSum::add(self, other.sum);
        if other.compensation != 0.0 {
            KahanSum::add(self, other.compensation);
        }
    }

    fn is_zero(self) -> bool {
        self.sum == 0.0 && self.compensation == 0.0
    }
}

/// Exponential and custom buckets can't be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
pub struct MixedSchemas;

/// What had to be given up to add two histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// One hint says that the counter started anew, and the other that it didn't.
    pub hints_collide: bool,
    /// The custom bounds differ; only those that both have were kept.
    pub bounds_reconciled: bool,
}

/// The index of the bucket of a coarser schema that holds a bucket.
pub(super) fn coarser_index(index: i32, from: i8, to: i8) -> i32 {
    (index.wrapping_sub(1) >> (from - to)).wrapping_add(1)
}

impl NativeHistogram {
    /// The same numbers, to add to.
    pub(crate) fn lifted<N: Number>(&self) -> NativeHistogram<N> {
        NativeHistogram {
            reset_hint: self.reset_hint,
            schema: self.schema.clone(),
            zero_threshold: self.zero_threshold,
            zero_count: N::of(self.zero_count),
            count: N::of(self.count),
            sum: N::of(self.sum),
            positive: self.positive.map(N::of),
            negative: self.negative.map(N::of),
        }
    }

    /// Subtracts another histogram.
    pub fn sub(&mut self, other: &NativeHistogram) -> Result<Added, MixedSchemas> {
        let mut negated = other.clone();
        negated.each_count(|count| *count = -*count);
        self.add(&negated)
    }

    /// Multiplies every count. A counter that shrinks below zero is none.
    pub fn scale(&mut self, factor: f64) {
        self.each_count(|count| *count *= factor);
        if factor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
    }

    /// Divides every count; by zero, nothing is left of the buckets.
    pub fn divide(&mut self, divisor: f64) {
        self.each_count(|count| *count /= divisor);
        if divisor == 0.0 {
            (self.positive, self.negative) = (Buckets::default(), Buckets::default());
        } else if divisor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
    }
}

impl HistogramSum {
    /// Whether a sum is infinite.
    pub(crate) fn overflows(&self) -> bool {
        let infinite = |buckets: &Buckets<KahanSum>| buckets.iter().any(|(_, sum)| sum.sum.is_infinite());
        [self.zero_count, self.count, self.sum].iter().any(|sum| sum.sum.is_infinite())
            || infinite(&self.positive)
            || infinite(&self.negative)
    }

    /// The sums, rounded.
    pub(crate) fn total(&self) -> NativeHistogram {
        let total = |sum: KahanSum| sum.sum + sum.compensation;
        NativeHistogram {
            reset_hint: self.reset_hint,
            schema: self.schema.clone(),
            zero_threshold: self.zero_threshold,
            zero_count: total(self.zero_count),
            count: total(self.count),
            sum: total(self.sum),
            positive: self.positive.map(total),
            negative: self.negative.map(total),
        }
    }
}

#[allow(private_bounds, reason = "a count is a float or a sum of floats; nobody else makes other kinds")]
impl<N: Number> NativeHistogram<N> {
    /// Calls `f` with the count, the sum and the count of each bucket.
    pub(crate) fn each_count(&mut self, mut f: impl FnMut(&mut N)) {
        if !self.schema.is_custom() {
            f(&mut self.zero_count);
        }
        [&mut self.count, &mut self.sum].into_iter().for_each(&mut f);
        self.positive.counts_mut().chain(self.negative.counts_mut()).for_each(f);
    }

    /// Adds another histogram.
    pub fn add(&mut self, other: &NativeHistogram) -> Result<Added, MixedSchemas> {
        if self.schema.is_custom() != other.schema.is_custom() {
            return Err(MixedSchemas);
        }
        let hints_collide = self.join_hints(other.reset_hint);
        let mut other: NativeHistogram<N> = other.lifted();
        let bounds_reconciled = match (&self.schema, &other.schema) {
            (Schema::Custom(own), Schema::Custom(others)) if own != others => {
                let shared: Arc<[f64]> = shared_bounds(own, others);
                self.keep_bounds(&shared);
                other.keep_bounds(&shared);
                true
            }
            (Schema::Exponential(own), Schema::Exponential(others)) => {
                let coarser = *own.min(others);
                self.join_zero_buckets(&mut other);
                self.reduce_to(coarser);
                other.reduce_to(coarser);
                false
            }
            _ => false,
        };
        self.zero_count.add(other.zero_count);
        self.count.add(other.count);
        self.sum.add(other.sum);
        let outside_zero = |(index, _): &(i32, N)| match &self.schema {
            Schema::Exponential(_) => bounds::upper(&self.schema, *index) > self.zero_threshold,
            Schema::Custom(_) => true,
        };
        self.positive.add(other.positive.iter().skip_while(|bucket| !outside_zero(bucket)));
        self.negative.add(other.negative.iter().skip_while(|bucket| !outside_zero(bucket)));
        Ok(Added { hints_collide, bounds_reconciled })
    }

    /// The hint of a sum; tells whether the two contradict each other.
    fn join_hints(&mut self, other: ResetHint) -> bool {
        let own = self.reset_hint;
        let collide = matches!(
            (own, other),
            (ResetHint::Reset, ResetHint::NotReset) | (ResetHint::NotReset, ResetHint::Reset)
        );
        self.reset_hint = match (own, other) {
            (own, other) if own == other => own,
            (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => ResetHint::Gauge,
            _ => ResetHint::Unknown,
        };
        collide
    }

    /// Widens the buckets around zero of both until they are the same and cut no bucket with observations.
    fn join_zero_buckets(&mut self, other: &mut NativeHistogram<N>) {
        while self.zero_threshold != other.zero_threshold {
            if self.zero_threshold > other.zero_threshold {
                other.widen_zero_bucket(self.zero_threshold);
            } else {
                self.widen_zero_bucket(other.zero_threshold);
            }
            if self.zero_threshold.is_nan() || other.zero_threshold.is_nan() {
                return;
            }
        }
    }

    /// Widens the bucket around zero to at least `threshold`, and further where that would cut a bucket with observations.
    pub(super) fn widen_zero_bucket(&mut self, threshold: f64) {
        let mut threshold = threshold;
        // Widening for a bucket of one side may cut one of the other side.
        loop {
            let cut =
                [&self.positive, &self.negative].into_iter().find_map(|side| self.cut_at(side, threshold));
            match cut {
                Some(upper) if upper > threshold => threshold = upper,
                _ => break,
            }
        }
        let schema = self.schema.clone();
        let inside = |index: i32| bounds::upper(&schema, index.saturating_sub(1)) < threshold;
        for side in [&mut self.positive, &mut self.negative] {
            for (_, count) in side.iter().filter(|(index, _)| inside(*index)) {
                self.zero_count.add(count);
            }
            side.retain(|index| !inside(index));
            side.compact();
        }
        self.zero_threshold = threshold;
    }

    /// The upper bound of the bucket with observations that a threshold lies in.
    fn cut_at(&self, side: &Buckets<N>, threshold: f64) -> Option<f64> {
        let with_bounds = side.iter().map(|(index, count)| {
            let lower = bounds::upper(&self.schema, index.saturating_sub(1));
            (lower, bounds::upper(&self.schema, index), count)
        });
        let mut cut = with_bounds.filter(|(lower, upper, _)| *lower < threshold && *upper > threshold);
        cut.find(|(_, _, count)| !count.is_zero()).map(|(_, upper, _)| upper)
    }

    /// Merges buckets until they are those of a coarser schema.
    pub fn reduce_to(&mut self, to: i8) {
        let Schema::Exponential(from) = self.schema else { return };
        if to >= from {
            return;
        }
        self.positive.merge_by(|index| coarser_index(index, from, to));
        self.negative.merge_by(|index| coarser_index(index, from, to));
        self.schema = Schema::Exponential(to);
    }

    /// Merges custom buckets until they end at these of their bounds only.
    pub(super) fn keep_bounds(&mut self, kept: &Arc<[f64]>) {
        let schema = self.schema.clone();
        self.positive.merge_by(|index| {
            let upper = bounds::upper(&schema, index);
            kept.partition_point(|bound| *bound < upper) as i32
        });
        self.schema = Schema::Custom(kept.clone());
    }
}

/// The bounds that are in both lists.
pub(super) fn shared_bounds(a: &[f64], b: &[f64]) -> Arc<[f64]> {
    let in_b = |bound: &f64| b.get(b.partition_point(|other| other < bound)) == Some(bound);
    a.iter().copied().filter(in_b).collect()
}
