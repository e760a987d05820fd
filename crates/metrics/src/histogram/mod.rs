//! Native histograms: a distribution as one sample, with many buckets that cost nothing while they are empty.
//!
//! Buckets are exponential (each power of two in 2^schema parts, positive and negative values apart, a bucket around zero) or
//! have custom bounds (schema -53, what classic histograms are converted to). Counts are floats, because queries make fractions
//! of them; whole counts below 2^53 stay exact. The rules are Prometheus' (model/histogram).
//!
//! The counts of a [`NativeHistogram`] are numbers; those of a sum over many of them carry what rounding loses. Both are the
//! same type with another number in it, so addition is written once.

mod arithmetic;
mod bounds;
mod buckets;
mod estimate;
mod mean;
mod reset;
mod text;
mod trim;

use std::sync::Arc;

pub(crate) use arithmetic::HistogramSum;
pub use arithmetic::{Added, MixedSchemas};
pub use buckets::{Bucket, Buckets, Span};
pub use estimate::{NanObservations, fraction, quantile};
pub(crate) use mean::HistogramMean;
pub use trim::Side;

/// The schema number of custom bounds.
pub const CUSTOM_SCHEMA: i32 = -53;
/// Exponential schemas that there are: 2^(2^4) to 2^(2^-8) from bound to bound.
pub const EXPONENTIAL_SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;

/// Where buckets end.
#[derive(Clone, Debug, PartialEq)]
pub enum Schema {
    /// Each power of two in 2^schema buckets; -4 to 8.
    Exponential(i8),
    /// At these upper bounds, which rise; what is above the last one has a bucket too.
    Custom(Arc<[f64]>),
}

impl Schema {
    /// The schema with a number; `custom_bounds` are those of schema -53.
    pub fn new(number: i32, custom_bounds: &[f64]) -> Result<Schema, HistogramError> {
        match i8::try_from(number) {
            _ if number == CUSTOM_SCHEMA => Ok(Schema::Custom(custom_bounds.into())),
            Ok(_) if !custom_bounds.is_empty() => Err(HistogramError::BoundsOfExponential),
            Ok(schema) if EXPONENTIAL_SCHEMAS.contains(&number) => Ok(Schema::Exponential(schema)),
            _ => Err(HistogramError::Schema(number)),
        }
    }

    /// The number of the schema.
    pub fn number(&self) -> i32 {
        match self {
            Schema::Exponential(schema) => i32::from(*schema),
            Schema::Custom(_) => CUSTOM_SCHEMA,
        }
    }

    /// The bounds of custom buckets; none for exponential ones.
    pub fn custom_bounds(&self) -> &[f64] {
        match self {
            Schema::Exponential(_) => &[],
            Schema::Custom(bounds) => bounds,
        }
    }

    /// Whether the buckets have custom bounds.
    pub fn is_custom(&self) -> bool {
        matches!(self, Schema::Custom(_))
    }
}

/// What is known about a restart of the counter between a histogram and the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ResetHint {
    /// It has to be found out from the counts.
    #[default]
    Unknown,
    /// It started anew.
    Reset,
    /// It went on.
    NotReset,
    /// It is no counter.
    Gauge,
}

/// A native histogram. See the module's documentation.
#[derive(Clone, Debug, PartialEq)]
pub struct NativeHistogram<N = f64> {
    /// Whether the counter started anew with this sample.
    pub reset_hint: ResetHint,
    /// Where buckets end.
    pub schema: Schema,
    /// The bucket around zero reaches this far to both sides; 0 with custom bounds.
    pub zero_threshold: f64,
    /// Observations in the bucket around zero.
    pub zero_count: N,
    /// All observations.
    pub count: N,
    /// The sum of all observed values.
    pub sum: N,
    /// Buckets of positive values; with custom bounds, all buckets.
    pub positive: Buckets<N>,
    /// Buckets of negative values, by the absolute value of their bounds.
    pub negative: Buckets<N>,
}

impl NativeHistogram {
    /// A histogram without observations.
    pub fn empty(schema: Schema) -> NativeHistogram {
        NativeHistogram {
            reset_hint: ResetHint::Unknown,
            schema,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: 0.0,
            sum: 0.0,
            positive: Buckets::default(),
            negative: Buckets::default(),
        }
    }

    /// Whether this sample says that its series ended.
    pub fn is_stale_marker(&self) -> bool {
        crate::sample::is_stale_nan(self.sum)
    }

    /// Whether all numbers are the same bit by bit. Empty buckets and the hint don't count.
    pub fn same_data(&self, other: &NativeHistogram) -> bool {
        let bits = |histogram: &NativeHistogram| {
            [histogram.zero_threshold, histogram.zero_count, histogram.count, histogram.sum].map(f64::to_bits)
        };
        let populated = |buckets: &Buckets| -> Vec<(i32, u64)> {
            let populated = buckets.iter().filter(|(_, count)| *count != 0.0);
            populated.map(|(index, count)| (index, count.to_bits())).collect()
        };
        let same = |a: &Buckets, b: &Buckets| populated(a) == populated(b);
        self.schema == other.schema
            && bits(self) == bits(other)
            && same(&self.positive, &other.positive)
            && same(&self.negative, &other.negative)
    }

    /// How many numbers it has.
    pub(crate) fn weight(&self) -> usize {
        3 + self.positive.len() + self.negative.len()
    }

    /// Whether it has buckets without a count.
    pub(crate) fn has_empty_buckets(&self) -> bool {
        self.positive.iter().chain(self.negative.iter()).any(|(_, count)| count == 0.0)
    }

    /// Drops empty buckets.
    pub fn compact(&mut self) {
        self.positive.compact();
        self.negative.compact();
    }

    /// Whether counts, bounds and fields fit together, by the rules and in the words of Prometheus (`FloatHistogram.Validate`).
    pub fn validate(&self) -> Result<(), HistogramError> {
        match &self.schema {
            Schema::Exponential(schema) if !EXPONENTIAL_SCHEMAS.contains(&i32::from(*schema)) => {
                return Err(HistogramError::Schema(i32::from(*schema)));
            }
            Schema::Exponential(_) => {
                self.negative.check_counts("negative")?;
                if self.zero_count < 0.0 {
                    return Err(HistogramError::NegativeZeroCount(self.zero_count));
                }
            }
            Schema::Custom(bounds) => self.check_custom(bounds)?,
        }
        if self.count < 0.0 {
            return Err(HistogramError::NegativeCount(self.count));
        }
        self.positive.check_counts("positive")
    }

    fn check_custom(&self, bounds: &[f64]) -> Result<(), HistogramError> {
        if bounds.iter().any(|bound| bound.is_nan()) {
            return Err(HistogramError::NanBound);
        }
        if let Some(pair) = bounds.windows(2).find(|pair| pair[1] <= pair[0]) {
            return Err(HistogramError::BoundsNotRising(pair[0], pair[1]));
        }
        if bounds.last() == Some(&f64::INFINITY) {
            return Err(HistogramError::InfiniteBound);
        }
        let (first, last) = (self.positive.iter().next(), self.positive.iter().next_back());
        if let Some((first, _)) = first.filter(|(first, _)| *first < 0) {
            return Err(HistogramError::NegativeOffset(1, first));
        }
        if let Some((last, _)) = last.filter(|(last, _)| *last as usize > bounds.len()) {
            return Err(HistogramError::TooFewBounds { bounds: bounds.len(), needed: last as usize + 1 });
        }
        if self.zero_count != 0.0 {
            return Err(HistogramError::CustomWith("zero count of 0"));
        }
        if self.zero_threshold != 0.0 {
            return Err(HistogramError::CustomWith("zero threshold of 0"));
        }
        if !self.negative.is_empty() {
            return Err(HistogramError::CustomWith("no negative buckets"));
        }
        Ok(())
    }

    /// Bytes of memory, without those of the bounds, which histograms share.
    pub fn heap_bytes(&self) -> usize {
        size_of::<NativeHistogram>() + self.positive.heap_bytes() + self.negative.heap_bytes()
    }
}

/// Why numbers are no histogram.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HistogramError {
    /// An unknown schema number.
    #[error(
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema {0}"
    )]
    Schema(i32),
    /// Custom bounds without schema -53.
    #[error("histogram with exponential schema must not have custom bounds")]
    BoundsOfExponential,
    /// Spans tell of other buckets than there are.
    #[error(
        "spans need {needed} buckets, have {got} buckets: histogram spans specify different number of buckets than provided"
    )]
    SpansMismatch {
        /// Buckets in the spans.
        needed: usize,
        /// Buckets with a count.
        got: usize,
    },
    /// A span (counted from 1) that begins before the one before it ends.
    #[error("span number {0} with offset {1}: histogram has a span whose offset is negative")]
    NegativeOffset(usize, i32),
    /// A span that reaches beyond every number.
    #[error("span number {0} ends beyond the last bucket that there can be")]
    SpanTooFar(usize),
    /// A bucket (counted from 1) with fewer than no observations.
    #[error(
        "{0} side: bucket number {1} has observation count of {2}: histogram has a bucket whose observation count is negative"
    )]
    NegativeBucket(&'static str, usize, f64),
    /// The bucket around zero with fewer than no observations.
    #[error(
        "zero bucket has observation count of {0}: histogram has a bucket whose observation count is negative"
    )]
    NegativeZeroCount(f64),
    /// Fewer than no observations.
    #[error("observation count is {0}: histogram's observation count is negative")]
    NegativeCount(f64),
    /// A custom bound that is no number.
    #[error("custom buckets: histogram custom bounds must not be NaN")]
    NanBound,
    /// A custom bound that isn't above the one before it.
    #[error(
        "custom buckets: previous bound is {0:.6} and current is {1:.6}: histogram custom bounds must be in strictly increasing order"
    )]
    BoundsNotRising(f64, f64),
    /// A last custom bound of infinity, which is implied.
    #[error(
        "custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite"
    )]
    InfiniteBound,
    /// Buckets beyond the last bound.
    #[error(
        "custom buckets: only {bounds} custom bounds defined which is insufficient to cover total span length of {needed}: histogram custom bounds are too few"
    )]
    TooFewBounds {
        /// Bounds that there are.
        bounds: usize,
        /// Buckets up to the last one.
        needed: usize,
    },
    /// Fields that custom buckets don't have.
    #[error("custom buckets: must have {0}")]
    CustomWith(&'static str),
}

#[cfg(test)]
mod tests;
