//! Sums, means, deviations, quantiles and regression, rounded exactly as Prometheus rounds them.

use std::cmp::Ordering;

use crate::kahan::KahanSum;
use crate::sample::Sample;

/// Hyperbolic sine. Far out it is half the exponential, which is infinite where the sine is not yet (Go: math.Sinh).
pub(super) fn sinh(value: f64) -> f64 {
    if value.abs() > 21.0 { (value.abs().exp() * 0.5).copysign(value) } else { value.sinh() }
}

/// Hyperbolic cosine, with the same limit.
pub(super) fn cosh(value: f64) -> f64 {
    if value.abs() > 21.0 { value.abs().exp() * 0.5 } else { value.cosh() }
}

/// A mean: of the sum while that stays finite, then incremental.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mean {
    sum: KahanSum,
    count: f64,
    incremental: bool,
}

impl Mean {
    pub(super) fn of_first(value: f64) -> Mean {
        Mean { sum: KahanSum::starting_at(value), count: 1.0, incremental: false }
    }

    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut sum = self.sum;
            sum.add(value);
            if !sum.sum.is_infinite() {
                self.sum = sum;
                return;
            }
            self.incremental = true;
            self.sum.sum /= self.count - 1.0;
            self.sum.compensation /= self.count - 1.0;
        }
        let share = (self.count - 1.0) / self.count;
        self.sum = KahanSum { sum: share * self.sum.sum, compensation: share * self.sum.compensation };
        self.sum.add(value / self.count);
    }

    pub(super) fn mean(&self) -> f64 {
        if self.incremental {
            self.sum.sum + self.sum.compensation
        } else {
            self.sum.sum / self.count + self.sum.compensation / self.count
        }
    }
}

/// Mean and variance in one pass (Welford).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Variance {
    count: f64,
    mean: KahanSum,
    squares: KahanSum,
}

impl Variance {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - (self.mean.sum + self.mean.compensation);
        self.mean.add(delta / self.count);
        self.squares.add(delta * (value - (self.mean.sum + self.mean.compensation)));
    }

    /// The population variance.
    pub(super) fn variance(&self) -> f64 {
        (self.squares.sum + self.squares.compensation) / self.count
    }
}

/// Orders values with NaN first.
pub(super) fn nan_first(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// The φ-quantile of values, interpolated; sorts them.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| nan_first(*a, *b));
    let last = values.len() - 1;
    let rank = q * last as f64;
    let lower = (rank.floor() as usize).min(last);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[(lower + 1).min(last)] * weight
}

/// Slope per second and value at `at_ms` of the line through samples (least squares).
pub(super) fn linear_regression(samples: &[Sample], at_ms: i64) -> (f64, f64) {
    let Some(first) = samples.first() else { return (f64::NAN, f64::NAN) };
    if samples.iter().all(|s| s.value == first.value) {
        return if first.value.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first.value) };
    }
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [KahanSum::default(); 4];
    for sample in samples {
        let x = (sample.timestamp_ms - at_ms) as f64 / 1_000.0;
        x_sum.add(x);
        y_sum.add(sample.value);
        xy_sum.add(x * sample.value);
        xx_sum.add(x * x);
    }
    let n = samples.len() as f64;
    let [x, y, xy, xx] = [x_sum, y_sum, xy_sum, xx_sum].map(|sum| sum.sum + sum.compensation);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// The larger of two; NaN if one is NaN, but infinity if one is that (Go's `math.Max`).
pub(super) fn max(a: f64, b: f64) -> f64 {
    match (a == f64::INFINITY || b == f64::INFINITY, a.is_nan() || b.is_nan()) {
        (true, _) => f64::INFINITY,
        (false, true) => f64::NAN,
        (false, false) => a.max(b),
    }
}

/// The smaller of two; NaN if one is NaN, but minus infinity if one is that (Go's `math.Min`).
pub(super) fn min(a: f64, b: f64) -> f64 {
    -max(-a, -b)
}
