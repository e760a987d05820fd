//! Quantiles and fractions of native histograms.
//!
//! Observations are thought to be spread evenly inside custom buckets and the bucket around zero, and evenly on a logarithmic
//! scale inside exponential buckets. Observations that are NaN are counted and are in no bucket.

use super::{Bucket, NativeHistogram};

/// What observations of NaN did to an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NanObservations {
    /// The result is among them.
    IsResult,
    /// The result is higher than it would be without them.
    SkewResult,
}

impl NativeHistogram {
    /// A bucket around zero with only one side populated reaches to that side only.
    fn one_sided_zero(&self, bucket: &mut Bucket) {
        if self.negative.is_empty() && !self.positive.is_empty() {
            bucket.lower = 0.0;
        } else if self.positive.is_empty() && !self.negative.is_empty() {
            bucket.upper = 0.0;
        }
    }
}

/// The φ-quantile of the observations (Prometheus: `HistogramQuantile`).
pub fn quantile(q: f64, histogram: &NativeHistogram) -> (f64, Option<NanObservations>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    // From the nearer end; but observations of NaN are missing at the upper end.
    if histogram.sum.is_nan() || q < 0.5 {
        search(histogram, histogram.buckets(), q * histogram.count, true)
    } else {
        search(histogram, histogram.buckets().rev(), (1.0 - q) * histogram.count, false)
    }
}

fn search(
    histogram: &NativeHistogram,
    mut buckets: impl Iterator<Item = Bucket>,
    rank: f64,
    upwards: bool,
) -> (f64, Option<NanObservations>) {
    let mut count = 0.0;
    let mut found =
        Bucket { lower: 0.0, upper: 0.0, lower_inclusive: false, upper_inclusive: false, count: 0.0 };
    for bucket in buckets.by_ref().filter(|bucket| bucket.count != 0.0) {
        count += bucket.count;
        found = bucket;
        if count >= rank {
            break;
        }
    }
    let linear = histogram.schema.is_custom();
    if linear && found.lower == f64::NEG_INFINITY {
        if found.upper <= 0.0 {
            return (found.upper, None);
        }
        found.lower = 0.0;
    } else if linear && found.upper == f64::INFINITY {
        return (found.lower, None);
    } else if !linear && found.lower < 0.0 && found.upper > 0.0 {
        histogram.one_sided_zero(&mut found);
    }
    // Rounding can make the buckets' sum larger than the count.
    count = count.min(histogram.count);
    if count < rank {
        let nan = histogram.sum.is_nan();
        return if nan { (f64::NAN, Some(NanObservations::IsResult)) } else { (found.upper, None) };
    }
    let rank_inside = if upwards { rank - (count - found.count) } else { count - rank };
    let mut nan = None;
    if histogram.sum.is_nan() {
        // Prometheus looks for missing observations with the variable that holds the bucket, and goes on with the last one.
        for bucket in buckets {
            count += bucket.count;
            found = bucket;
        }
        nan = (count < histogram.count).then_some(NanObservations::SkewResult);
    }
    (interpolate(&found, rank_inside / found.count, linear), nan)
}

/// The value at a share of a bucket.
fn interpolate(bucket: &Bucket, share: f64, linear: bool) -> f64 {
    if linear || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * share;
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        (lower + (upper - lower) * share).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - share)).exp2()
    }
}

/// The share of observations between two values, and whether NaN observations make it smaller (Prometheus: `HistogramFraction`).
pub fn fraction(lower: f64, upper: f64, histogram: &NativeHistogram) -> (f64, bool) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, false);
    }
    if lower >= upper {
        return (0.0, false);
    }
    let in_buckets = histogram.buckets().map(|bucket| bucket.count).sum::<f64>();
    let (total, nan) = if histogram.sum.is_nan() {
        (in_buckets, in_buckets < histogram.count)
    } else {
        (histogram.count, false)
    };
    let rank = |value: f64| rank_of(value, histogram).filter(|rank| *rank <= total).unwrap_or(total);
    ((rank(upper) - rank(lower)) / histogram.count, nan)
}

/// How many observations are below a value; `None` when it is above all buckets.
fn rank_of(value: f64, histogram: &NativeHistogram) -> Option<f64> {
    let mut rank = 0.0;
    for mut bucket in histogram.buckets() {
        let around_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if around_zero {
            histogram.one_sided_zero(&mut bucket);
        }
        if bucket.lower >= value {
            return Some(rank);
        }
        if bucket.upper > value {
            let linear = histogram.schema.is_custom() || around_zero;
            // Where in an endless bucket the observations are is not known: they count as below.
            let endless = linear && bucket.lower == f64::NEG_INFINITY;
            let below = if endless {
                bucket.count
            } else {
                rank + bucket.count * bucket.fraction_below(value, linear)
            };
            return Some(below);
        }
        rank += bucket.count;
    }
    None
}
