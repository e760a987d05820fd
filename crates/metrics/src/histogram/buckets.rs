//! The buckets of one side of a histogram: index and count of each, in the order of the indices.

use super::arithmetic::Number;
use super::{HistogramError, NativeHistogram, Schema, bounds};

/// A run of buckets, as exposition formats tell of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The gap to the run before it; of the first run, the index of its first bucket.
    pub offset: i32,
    /// How many buckets.
    pub length: u32,
}

/// A bucket with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// The lower bound.
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
    /// Whether observations of the lower bound are in it.
    pub lower_inclusive: bool,
    /// Whether observations of the upper bound are in it.
    pub upper_inclusive: bool,
    /// Observations in it.
    pub count: f64,
}

/// Buckets by rising index. A bucket may be there with no observations, and it may be missing, which means the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets<N = f64>(Vec<(i32, N)>);

impl<N> Default for Buckets<N> {
    fn default() -> Self {
        Buckets(Vec::new())
    }
}

impl<N: Copy> Buckets<N> {
    /// Index and count of each bucket.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (i32, N)> + Clone {
        self.0.iter().copied()
    }

    /// Whether there are no buckets.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many buckets there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes of memory.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(i32, N)>()
    }

    pub(super) fn counts_mut(&mut self) -> impl Iterator<Item = &mut N> {
        self.0.iter_mut().map(|(_, count)| count)
    }

    /// The same buckets with other counts.
    pub(super) fn map<M>(&self, f: impl Fn(N) -> M) -> Buckets<M> {
        Buckets(self.0.iter().map(|(index, count)| (*index, f(*count))).collect())
    }
}

#[allow(private_bounds, reason = "a count is a float or a sum of floats; nobody else makes other kinds")]
impl<N: Number> Buckets<N> {
    /// Drops empty buckets.
    pub(super) fn compact(&mut self) {
        self.0.retain(|(_, count)| !count.is_zero());
    }

    /// Drops the buckets whose index doesn't satisfy `keep`.
    pub(super) fn retain(&mut self, keep: impl Fn(i32) -> bool) {
        self.0.retain(|(index, _)| keep(*index));
    }

    /// Adds the buckets of `other`, each to the one with its index.
    pub(super) fn add(&mut self, other: impl Iterator<Item = (i32, N)>) {
        let mut merged: Vec<(i32, N)> = Vec::with_capacity(self.0.len());
        let mut own = self.0.drain(..).peekable();
        for (index, count) in other {
            while let Some(before) = own.next_if(|(own_index, _)| *own_index < index) {
                merged.push(before);
            }
            match own.next_if(|(own_index, _)| *own_index == index) {
                Some((_, mut sum)) => {
                    sum.add(count);
                    merged.push((index, sum));
                }
                None => merged.push((index, count)),
            }
        }
        merged.extend(own);
        self.0 = merged;
    }

    /// Moves each bucket to another index, which must not fall; counts that meet are added.
    pub(super) fn merge_by(&mut self, index: impl Fn(i32) -> i32) {
        let mut merged: Vec<(i32, N)> = Vec::with_capacity(self.0.len());
        for (old, count) in &self.0 {
            let target = index(*old);
            match merged.last_mut().filter(|(last, _)| *last == target) {
                Some((_, sum)) => sum.add(*count),
                None => merged.push((target, *count)),
            }
        }
        self.0 = merged;
    }
}

impl Buckets {
    /// Buckets from spans and the count of each bucket in them.
    pub fn from_spans(spans: &[Span], counts: &[f64]) -> Result<Buckets, HistogramError> {
        let needed = spans.iter().map(|span| span.length as usize).fold(0, usize::saturating_add);
        if needed != counts.len() {
            return Err(HistogramError::SpansMismatch { needed, got: counts.len() });
        }
        let mut buckets = Vec::with_capacity(counts.len());
        let mut counts = counts.iter();
        let mut next = 0i64;
        for (i, span) in spans.iter().enumerate() {
            if i > 0 && span.offset < 0 {
                return Err(HistogramError::NegativeOffset(i + 1, span.offset));
            }
            next += i64::from(span.offset);
            for count in counts.by_ref().take(span.length as usize) {
                let index = i32::try_from(next).map_err(|_| HistogramError::SpanTooFar(i + 1))?;
                buckets.push((index, *count));
                next += 1;
            }
        }
        Ok(Buckets(buckets))
    }

    /// Buckets from spans and, for each bucket, the difference to the one before it: the form of whole counts.
    pub fn from_deltas(spans: &[Span], deltas: &[i64]) -> Result<Buckets, HistogramError> {
        let absolute = deltas.iter().scan(0i64, |count, delta| {
            *count = count.saturating_add(*delta);
            Some(*count as f64)
        });
        Buckets::from_spans(spans, &absolute.collect::<Vec<_>>())
    }

    /// The spans of these buckets, and their counts.
    pub fn to_spans(&self) -> (Vec<Span>, Vec<f64>) {
        let mut spans: Vec<Span> = Vec::new();
        let mut next = 0;
        for (index, _) in &self.0 {
            match spans.last_mut() {
                Some(span) if *index == next => span.length += 1,
                _ => spans.push(Span { offset: index.wrapping_sub(next), length: 1 }),
            }
            next = index.wrapping_add(1);
        }
        (spans, self.0.iter().map(|(_, count)| *count).collect())
    }

    /// Buckets at these indices, which must rise.
    pub(crate) fn from_rising(buckets: Vec<(i32, f64)>) -> Buckets {
        debug_assert!(buckets.is_sorted_by(|a, b| a.0 < b.0));
        Buckets(buckets)
    }

    pub(super) fn check_counts(&self, side: &'static str) -> Result<(), HistogramError> {
        match self.0.iter().position(|(_, count)| *count < 0.0) {
            Some(at) => Err(HistogramError::NegativeBucket(side, at + 1, self.0[at].1)),
            None => Ok(()),
        }
    }
}

impl NativeHistogram {
    /// The buckets of positive values, or all custom buckets, from the lowest.
    pub fn positive_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> {
        self.positive.iter().map(|(index, count)| positive_bucket(&self.schema, index, count))
    }

    /// The buckets of negative values, from the highest.
    pub fn negative_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> {
        self.negative.iter().map(|(index, count)| {
            let mirrored = positive_bucket(&self.schema, index, count);
            Bucket {
                lower: -mirrored.upper,
                upper: -mirrored.lower,
                lower_inclusive: true,
                upper_inclusive: false,
                count,
            }
        })
    }

    /// The bucket around zero.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    /// All buckets from the lowest to the highest; one that overlaps the bucket around zero begins where that ends.
    pub fn buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> {
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        let outside_zero = |mut bucket: Bucket| {
            if bucket.upper < 0.0 && bucket.upper > -self.zero_threshold {
                bucket.upper = -self.zero_threshold;
            } else if bucket.lower > 0.0 && bucket.lower < self.zero_threshold {
                bucket.lower = self.zero_threshold;
            }
            bucket
        };
        let negative = self.negative_buckets().rev().map(outside_zero);
        negative.chain(zero).chain(self.positive_buckets().map(outside_zero))
    }
}

fn positive_bucket(schema: &Schema, index: i32, count: f64) -> Bucket {
    let lower_inclusive = schema.is_custom() && index == 0;
    let lower = bounds::upper(schema, index.saturating_sub(1));
    Bucket { lower, upper: bounds::upper(schema, index), lower_inclusive, upper_inclusive: true, count }
}
