//! `load_with_nhcb`: classic histograms once more as native ones with custom bounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use flyball_metrics::histogram::{Buckets, CUSTOM_SCHEMA, NativeHistogram, Schema, Span};
use flyball_metrics::{BUCKET_LABEL, Labels, METRIC_NAME};

use super::case::parse_number;
use super::load::Item;

type Points = BTreeMap<i64, Item>;

/// The parts of a classic histogram at a time.
#[derive(Default)]
struct Classic {
    /// Bounds and cumulative counts.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// The native histograms of the classic ones in a block.
pub(crate) fn convert(block: &BTreeMap<Labels, Points>) -> Result<BTreeMap<Labels, Points>, String> {
    let mut all: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
    for (labels, points) in block {
        let name = labels.metric_name();
        let suffix = ["_bucket", "_count", "_sum"].into_iter().find(|suffix| name.ends_with(suffix));
        let Some(suffix) = suffix else { continue };
        let base = &name[..name.len() - suffix.len()];
        let classic = all.entry(labels.with(BUCKET_LABEL, "").with(METRIC_NAME, base)).or_default();
        let le = parse_number(labels.get(BUCKET_LABEL));
        for (time, item) in points {
            let Item::Float(value) = item else { continue };
            let at = classic.entry(*time).or_default();
            match (suffix, le) {
                ("_bucket", Some(le)) => at.buckets.push((le, *value)),
                ("_count", _) => at.count = Some(*value),
                ("_sum", _) => at.sum = *value,
                _ => {}
            }
        }
    }
    all.retain(|_, points| !points.is_empty());
    let native = |points: BTreeMap<i64, Classic>| -> Result<Points, String> {
        points.into_iter().map(|(time, classic)| Ok((time, classic.into_native()?))).collect()
    };
    all.into_iter().map(|(labels, points)| Ok((labels, native(points)?))).collect()
}

impl Classic {
    fn into_native(mut self) -> Result<Item, String> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        // One bound may be written in two ways; the first counts.
        self.buckets.dedup_by_key(|(bound, _)| *bound);
        let highest = self.buckets.last().copied();
        let count = self.count.or(highest.map(|(_, count)| count)).unwrap_or(0.0);
        if highest.is_none_or(|(bound, _)| bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        if self.buckets.last().is_some_and(|(_, last)| *last != count) {
            return Err("count and highest bucket differ".into());
        }
        let bounds: Vec<f64> =
            self.buckets.iter().map(|(bound, _)| *bound).filter(|b| b.is_finite()).collect();
        let before = std::iter::once(0.0).chain(self.buckets.iter().map(|(_, count)| *count));
        let counts: Vec<f64> =
            self.buckets.iter().zip(before).map(|((_, count), before)| count - before).collect();
        let span = Span { offset: 0, length: counts.len() as u32 };
        let schema = Schema::new(CUSTOM_SCHEMA, &bounds).map_err(|error| error.to_string())?;
        let positive = Buckets::from_spans(&[span], &counts).map_err(|error| error.to_string())?;
        let mut histogram =
            NativeHistogram { count, sum: self.sum, positive, ..NativeHistogram::empty(schema) };
        histogram.compact();
        Ok(Item::Histogram(Arc::new(histogram), false))
    }
}
