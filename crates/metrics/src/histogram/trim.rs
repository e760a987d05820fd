//! The operators `</` and `>/`: what a histogram would be without the observations above, or below, a value.
//!
//! Observations are thought to be spread inside their bucket: evenly with custom bounds and around zero, else evenly on a
//! logarithmic scale. Of a bucket that reaches to infinity nothing is known, so it stays or goes as a whole.

use super::{Bucket, Buckets, NativeHistogram};

/// Which observations stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those below the value.
    Below,
    /// Those above the value.
    Above,
}

/// How many observations of a bucket stay, and their estimated mean.
type Kept = (f64, f64);

impl NativeHistogram {
    /// Drops the observations on the other side of `value`; count and sum are estimated anew if any go.
    pub fn trim(&mut self, value: f64, side: Side) {
        let linear = self.schema.is_custom();
        let kept = |buckets: &mut dyn Iterator<Item = Bucket>, positive: bool| -> Vec<Option<Kept>> {
            let keep =
                |bucket: Bucket| (bucket.count != 0.0).then(|| keep(&bucket, value, side, positive, linear));
            buckets.map(keep).collect()
        };
        let positive = kept(&mut self.positive_buckets(), true);
        let negative = kept(&mut self.negative_buckets(), false);
        let mut total = Total::default();
        total.take(&mut self.positive, &positive);
        total.take(&mut self.negative, &negative);
        if self.zero_count > 0.0 {
            let has = |kept: &[Option<Kept>]| kept.iter().any(Option::is_some);
            let (count, mean) = keep_zero(&self.zero_bucket(), value, side, has(&negative), has(&positive));
            total.add(self.zero_count, (count, mean));
            self.zero_count = count;
        }
        if total.trimmed {
            (self.count, self.sum) = (total.count, total.sum);
            self.compact();
        }
    }
}

/// What stays of a histogram.
#[derive(Default)]
struct Total {
    count: f64,
    sum: f64,
    trimmed: bool,
}

impl Total {
    fn add(&mut self, before: f64, (count, mean): Kept) {
        self.count += count;
        self.sum += mean * count;
        self.trimmed |= before != count;
    }

    fn take(&mut self, buckets: &mut Buckets, kept: &[Option<Kept>]) {
        for (count, kept) in buckets.counts_mut().zip(kept) {
            if let Some(kept) = kept {
                self.add(*count, *kept);
                *count = kept.0;
            }
        }
    }
}

fn keep(bucket: &Bucket, value: f64, side: Side, positive: bool, linear: bool) -> Kept {
    let (all, some) = match side {
        Side::Below => (bucket.upper <= value, bucket.lower < value),
        Side::Above => (bucket.lower >= value, bucket.upper > value),
    };
    if all {
        (bucket.count, middle(bucket.lower, bucket.upper, positive, linear))
    } else if !some {
        (0.0, 0.0)
    } else if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
        keep_endless(bucket, value, side)
    } else {
        let below = bucket.count * bucket.fraction_below(value, linear);
        match side {
            Side::Below => (below, middle(bucket.lower, value, positive, linear)),
            Side::Above => (bucket.count - below, middle(value, bucket.upper, positive, linear)),
        }
    }
}

/// What stays of a bucket that reaches to infinity and has the value in it.
fn keep_endless(bucket: &Bucket, value: f64, side: Side) -> Kept {
    let Bucket { lower, upper, count, .. } = *bucket;
    let finite = |bound: f64| if bound.is_infinite() { 0.0 } else { bound };
    if lower > f64::NEG_INFINITY {
        return match side {
            Side::Below => (0.0, finite(lower)),
            Side::Above if value >= lower => (count, value),
            Side::Above => (0.0, finite(lower)),
        };
    }
    // The first custom bucket is thought to begin at 0 if it ends above.
    match side {
        Side::Below if value > 0.0 && upper > 0.0 && upper.is_finite() => {
            (count * value / upper, value / 2.0)
        }
        Side::Below if upper <= 0.0 => (count, value),
        Side::Above if value >= 0.0 && upper.is_finite() => {
            (count * (1.0 - value / upper), (value + upper) / 2.0)
        }
        _ => (0.0, finite(upper)),
    }
}

/// What stays of the bucket around zero, which reaches to that side only on which there are observations.
fn keep_zero(zero: &Bucket, value: f64, side: Side, has_negative: bool, has_positive: bool) -> Kept {
    let lower = if has_positive && !has_negative { 0.0 } else { zero.lower };
    let upper = if has_negative && !has_positive { 0.0 } else { zero.upper };
    let all = (zero.count, (lower + upper) / 2.0);
    match side {
        Side::Below if value <= lower => (0.0, 0.0),
        Side::Below if value >= upper => all,
        Side::Below => (zero.count * ((value - lower) / (upper - lower)), (lower + value) / 2.0),
        Side::Above if value <= lower => all,
        Side::Above if value >= upper => (0.0, 0.0),
        Side::Above => (zero.count * ((upper - value) / (upper - lower)), (value + upper) / 2.0),
    }
}

/// The estimated mean of observations between two bounds.
fn middle(lower: f64, upper: f64, positive: bool, linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) if linear => (lower + upper) / 2.0,
        (false, false) => {
            let mean = (lower * upper).abs().sqrt();
            if positive { mean } else { -mean }
        }
    }
}

impl Bucket {
    /// The share of the bucket's width that lies below a value inside it: `linear`, or on a logarithmic scale.
    pub(super) fn fraction_below(&self, value: f64, linear: bool) -> f64 {
        if linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let [lower, upper, at] = [self.lower, self.upper, value].map(|bound| bound.abs().log2());
        if value > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
    }
}
