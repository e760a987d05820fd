//! Classic histograms: quantiles and fractions of cumulative buckets.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::labels::{BUCKET_LABEL, Labels};
use crate::promql::grid::{Grid, Name, Row, is_float};
use crate::text::parse_value;

/// Relative differences below this are rounding, not a broken histogram (Prometheus: `smallDeltaTolerance`).
const SMALL_DELTA: f64 = 1e-12;

/// A bucket: how many observations are at most `bound`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::promql) struct Bucket {
    pub(in crate::promql) bound: f64,
    pub(in crate::promql) count: f64,
}

/// The buckets of one histogram among the rows of a grid, sorted by bound.
pub(in crate::promql) struct ClassicHistogram {
    pub(in crate::promql) row: Row,
    /// Bounds and the rows that hold their counts.
    buckets: Vec<(f64, usize)>,
}

/// Rows without a number in `le`, and the text they have there.
pub(in crate::promql) type BadBucket = (usize, String);

/// Sorts bucket rows by the histogram they belong to: all labels but `le`.
pub(in crate::promql) fn group(grid: &Grid) -> (Vec<ClassicHistogram>, Vec<BadBucket>) {
    let mut histograms: Vec<ClassicHistogram> = Vec::new();
    let mut bad = Vec::new();
    let mut known: HashMap<(Labels, bool), usize> = HashMap::new();
    for (i, row) in grid.rows.iter().enumerate() {
        let le = row.get(BUCKET_LABEL);
        let Some(bound) = parse_value(le) else {
            if grid.row(i).iter().any(|value| is_float(*value)) {
                bad.push((i, le.to_owned()));
            }
            continue;
        };
        let labels = row.visible().without(&[BUCKET_LABEL]);
        let histogram = *known.entry((labels.clone(), row.name == Name::Kept)).or_insert_with(|| {
            histograms.push(ClassicHistogram { row: Row { labels, name: row.name }, buckets: Vec::new() });
            histograms.len() - 1
        });
        histograms[histogram].buckets.push((bound, i));
    }
    for histogram in &mut histograms {
        histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    (histograms, bad)
}

impl ClassicHistogram {
    /// The row of one of its buckets.
    pub(in crate::promql) fn any_row(&self) -> usize {
        self.buckets.first().map_or(0, |(_, row)| *row)
    }

    /// The rows of its buckets.
    pub(in crate::promql) fn bucket_rows(&self) -> impl Iterator<Item = usize> {
        self.buckets.iter().map(|(_, row)| *row)
    }

    /// The buckets at a step, sorted, those with equal bounds added up.
    pub(in crate::promql) fn at(&self, grid: &Grid, step: usize, buckets: &mut Vec<Bucket>) {
        buckets.clear();
        for (bound, row) in &self.buckets {
            let count = grid.value(*row, step);
            if !is_float(count) {
                continue;
            }
            match buckets.last_mut().filter(|last| last.bound == *bound) {
                Some(last) => last.count += count,
                None => buckets.push(Bucket { bound: *bound, count }),
            }
        }
    }
}

fn ends_in_infinity(buckets: &[Bucket]) -> bool {
    buckets.last().is_some_and(|last| last.bound == f64::INFINITY)
}

/// What was done to counts to make them rise: the lowest and the highest bound of a changed bucket, and the largest change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::promql) struct Changed {
    pub(in crate::promql) bounds: (f64, f64),
    pub(in crate::promql) difference: f64,
}

/// The φ-quantile, and what had to be done to the counts for it.
pub(in crate::promql) fn quantile(q: f64, buckets: &mut [Bucket]) -> (f64, Option<Changed>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if !(0.0..=1.0).contains(&q) {
        return (if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY }, None);
    }
    if !ends_in_infinity(buckets) {
        return (f64::NAN, None);
    }
    let changed = force_monotonic(buckets);
    (monotonic_quantile(q, buckets), changed)
}

fn monotonic_quantile(q: f64, buckets: &[Bucket]) -> f64 {
    let [finite @ .., last] = buckets else { return f64::NAN };
    let Some(highest) = finite.last() else { return f64::NAN };
    if last.count == 0.0 {
        return f64::NAN;
    }
    let rank = q * last.count;
    // Counts that are NaN are passed over, as in Prometheus.
    let below = |bucket: &Bucket| matches!(bucket.count.partial_cmp(&rank), None | Some(Ordering::Less));
    let at = finite.partition_point(below);
    if at == finite.len() {
        return highest.bound;
    }
    if at == 0 {
        let Bucket { bound, count } = finite[0];
        return if bound <= 0.0 { bound } else { bound * (rank / count) };
    }
    let (below, bucket) = (finite[at - 1], finite[at]);
    below.bound + (bucket.bound - below.bound) * ((rank - below.count) / (bucket.count - below.count))
}

/// Removes decreases; tells of those that were more than rounding.
fn force_monotonic(buckets: &mut [Bucket]) -> Option<Changed> {
    let mut changed: Option<Changed> = None;
    let mut previous = buckets.first()?.count;
    for bucket in &mut buckets[1..] {
        let current = bucket.count;
        if current == previous {
            continue;
        }
        let rounding =
            (previous - current).abs() / (previous.abs() + current.abs()).min(f64::MAX) < SMALL_DELTA;
        if !rounding && current < previous {
            let known =
                changed.get_or_insert(Changed { bounds: (bucket.bound, bucket.bound), difference: 0.0 });
            // Bounds rise.
            known.bounds.1 = bucket.bound;
            known.difference = known.difference.max(previous - current);
        }
        if rounding || current < previous {
            bucket.count = previous;
        } else {
            previous = current;
        }
    }
    changed
}

/// The share of observations between two bounds.
pub(in crate::promql) fn fraction(lower: f64, upper: f64, buckets: &[Bucket]) -> f64 {
    let Some(total) = buckets.last().map(|bucket| bucket.count).filter(|_| ends_in_infinity(buckets)) else {
        return f64::NAN;
    };
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank = |value: f64| rank_of(value, buckets).unwrap_or(total).min(total);
    (rank(upper) - rank(lower)) / total
}

/// How many observations are at most `value`, interpolated inside its bucket; `None` above all buckets.
fn rank_of(value: f64, buckets: &[Bucket]) -> Option<f64> {
    let mut rank = 0.0;
    for (i, bucket) in buckets.iter().enumerate() {
        let lower = match i {
            0 if bucket.bound > 0.0 => 0.0,
            0 => f64::NEG_INFINITY,
            _ => buckets[i - 1].bound,
        };
        if lower >= value {
            return Some(rank);
        }
        if bucket.bound > value {
            // Nothing can be said about where in an endless bucket the observations are.
            let inside = if lower.is_infinite() { 1.0 } else { (value - lower) / (bucket.bound - lower) };
            return Some(rank + (bucket.count - rank) * inside);
        }
        rank = bucket.count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(rows: &[(f64, f64)]) -> Vec<Bucket> {
        rows.iter().map(|(bound, count)| Bucket { bound: *bound, count: *count }).collect()
    }

    #[test]
    fn quantiles_interpolate_inside_their_bucket() {
        let inf = f64::INFINITY;
        type Row<'a> = (f64, &'a [(f64, f64)], f64);
        let rows: [Row<'_>; 5] = [
            (0.5, &[(1.0, 10.0), (2.0, 20.0), (inf, 20.0)], 1.0),
            (0.75, &[(1.0, 10.0), (2.0, 20.0), (inf, 20.0)], 1.5),
            (0.99, &[(1.0, 10.0), (inf, 20.0)], 1.0),
            (0.1, &[(-1.0, 10.0), (inf, 20.0)], -1.0),
            (0.25, &[(1.0, 10.0), (inf, 20.0)], 0.5),
        ];
        for (q, input, expected) in rows {
            assert_eq!(quantile(q, &mut buckets(input)), (expected, None), "{q} of {input:?}");
        }
        assert!(quantile(0.5, &mut buckets(&[(1.0, 1.0)])).0.is_nan(), "no +Inf bucket");
        assert!(quantile(0.5, &mut buckets(&[(inf, 1.0)])).0.is_nan(), "one bucket");
        assert!(quantile(0.5, &mut buckets(&[(1.0, 0.0), (inf, 0.0)])).0.is_nan(), "no observations");
        let changed = quantile(0.5, &mut buckets(&[(1.0, 3.0), (2.0, 2.0), (inf, 3.0)])).1;
        assert_eq!(changed, Some(Changed { bounds: (2.0, 2.0), difference: 1.0 }), "not monotonic");
    }
}
