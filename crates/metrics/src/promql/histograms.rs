//! Quantiles and fractions of histograms, of classic ones (a row for each bucket) and native ones (a sample each).
//!
//! Where a classic and a native histogram have the same labels at the same step, neither has a result.

use std::collections::HashMap;

use super::annotations::{Forced, Note};
use super::ast::Expr;
use super::error::QueryError;
use super::eval::{Buckets, Evaluator, Times};
use super::functions::histogram::{self, Bucket, ClassicHistogram};
use super::functions::label::string_argument;
use super::grid::{Grid, Name, Row, is_float, present, same_labelset};
use crate::histogram::{self as native, NanObservations, NativeHistogram};
use crate::labels::{Labels, METRIC_NAME};
use crate::text::format_open_metrics;

type Result<T> = std::result::Result<T, QueryError>;

/// A value of a histogram at a step.
trait Estimate {
    fn classic<'a>(&self, step: usize, buckets: &mut [Bucket], metric: &'a str) -> (f64, Option<Note<'a>>);
    fn native<'a>(
        &self,
        step: usize,
        histogram: &NativeHistogram,
        metric: &'a str,
    ) -> (f64, Option<Note<'a>>);
}

/// `histogram_quantile`: φ at each step.
struct Quantile<'q> {
    q: &'q [f64],
    times: Times,
}

impl Estimate for Quantile<'_> {
    fn classic<'a>(&self, step: usize, buckets: &mut [Bucket], metric: &'a str) -> (f64, Option<Note<'a>>) {
        let (value, changed) = histogram::quantile(self.q[step], buckets);
        let at_ms = self.times.at(step);
        let note = changed.map(|histogram::Changed { bounds, difference }| Note::ForcedMonotonicity {
            metric,
            forced: Forced { bounds, difference, times_ms: (at_ms, at_ms), count: 1 },
        });
        (value, note)
    }

    fn native<'a>(
        &self,
        step: usize,
        histogram: &NativeHistogram,
        metric: &'a str,
    ) -> (f64, Option<Note<'a>>) {
        let (value, nan) = native::quantile(self.q[step], histogram);
        let note = nan.map(|nan| match nan {
            NanObservations::IsResult => Note::NanObservationsAreResult { metric },
            NanObservations::SkewResult => Note::NanObservationsSkewResult { metric },
        });
        (value, note)
    }
}

/// `histogram_fraction`: the bounds at each step.
struct Fraction {
    lower: Vec<f64>,
    upper: Vec<f64>,
}

impl Estimate for Fraction {
    fn classic<'a>(&self, step: usize, buckets: &mut [Bucket], _: &'a str) -> (f64, Option<Note<'a>>) {
        (histogram::fraction(self.lower[step], self.upper[step], buckets), None)
    }

    fn native<'a>(
        &self,
        step: usize,
        histogram: &NativeHistogram,
        metric: &'a str,
    ) -> (f64, Option<Note<'a>>) {
        let (value, nan) = native::fraction(self.lower[step], self.upper[step], histogram);
        (value, nan.then_some(Note::NanObservationsNotInFraction { metric }))
    }
}

impl Evaluator<'_> {
    pub(super) fn histogram_quantile(&self, args: &[Expr]) -> Result<Grid> {
        let (q, grid) = (self.scalar(&args[0])?, self.histograms_of(&args[1])?);
        self.warn_of_quantiles(&q, &args[0]);
        self.over_histograms(&grid, &args[1], &Quantile { q: &q, times: self.times })
    }

    pub(super) fn histogram_fraction(&self, args: &[Expr]) -> Result<Grid> {
        let (lower, upper) = (self.scalar(&args[0])?, self.scalar(&args[1])?);
        self.over_histograms(&self.histograms_of(&args[2])?, &args[2], &Fraction { lower, upper })
    }

    fn histograms_of(&self, arg: &Expr) -> Result<Grid> {
        self.with_buckets(Buckets::Needed).vector(arg)
    }

    /// Several quantiles at once, each with its φ in a label.
    pub(super) fn histogram_quantiles(&self, args: &[Expr]) -> Result<Grid> {
        let (label, valid) = string_argument(&args[1]);
        if !valid || label.is_empty() {
            return Err(QueryError::Execution(format!("invalid label name {label:?}")));
        }
        let input = self.histograms_of(&args[0])?;
        let mut rows: HashMap<Labels, usize> = HashMap::new();
        let mut result = self.grid(0)?;
        for arg in &args[2..] {
            let q = self.scalar(arg)?;
            self.warn_of_quantiles(&q, arg);
            let quantiles = self.over_histograms(&input, &args[0], &Quantile { q: &q, times: self.times })?;
            self.charge(quantiles.values.len())?;
            if self.options.delayed_name_removal && self.times.is_instant() {
                // Series may be equal until the query ends.
                rows.clear();
            }
            for (i, row) in quantiles.rows.iter().enumerate() {
                for (step, value) in quantiles.row(i).iter().enumerate().filter(|(_, value)| present(**value))
                {
                    let labels = row.labels.with(&label, &format_open_metrics(q[step]));
                    let target = *rows.entry(labels.clone()).or_insert_with(|| {
                        result.push(Row { labels, name: row.name });
                        result.rows.len() - 1
                    });
                    if present(result.value(target, step)) {
                        return Err(same_labelset());
                    }
                    result.set(target, step, *value);
                }
            }
        }
        Ok(result)
    }

    /// Applies an estimate to each histogram of a vector at each step.
    fn over_histograms(&self, grid: &Grid, arg: &Expr, estimate: &impl Estimate) -> Result<Grid> {
        let (classic, bad) = histogram::group(grid);
        for (row, le) in bad {
            let metric = self.metric_of(&grid.rows[row]);
            self.note(arg.told_at(), Note::BadBucketLabel { metric, le: &le });
        }
        let mut result = self.grid(classic.len())?;
        let conflicts = self.native_rows(grid, &classic, arg, estimate, &mut result)?;
        let mut buckets = Vec::new();
        for (i, histogram) in classic.iter().enumerate() {
            let metric = self.metric_of(&grid.rows[histogram.any_row()]);
            for (step, target) in result.push(histogram.row.clone()).iter_mut().enumerate() {
                histogram.at(grid, step, &mut buckets);
                if buckets.is_empty() || conflicts.contains(&(i, step)) {
                    continue;
                }
                let (value, note) = estimate.classic(step, &mut buckets, metric);
                note.into_iter().for_each(|note| self.note(arg.told_at(), note));
                *target = value;
            }
            result.pop_if_empty();
        }
        result.drop_names(self.options.delayed_name_removal)
    }

    /// The results of native histograms; returns which classic histograms have the labels of one of them, and at which steps.
    fn native_rows(
        &self,
        grid: &Grid,
        classic: &[ClassicHistogram],
        arg: &Expr,
        estimate: &impl Estimate,
        result: &mut Grid,
    ) -> Result<Vec<(usize, usize)>> {
        let mut conflicts = Vec::new();
        if !grid.has_histograms() {
            return Ok(conflicts);
        }
        let by_labels: HashMap<(&Labels, bool), usize> =
            classic.iter().enumerate().map(|(i, h)| ((&h.row.labels, h.row.name == Name::Kept), i)).collect();
        for (i, row) in grid.rows.iter().enumerate() {
            let metric = self.metric_of(row);
            let labels = row.visible();
            let twin = by_labels.get(&(&labels, row.name == Name::Kept)).copied();
            self.charge(self.times.count)?;
            result.push(row.clone());
            let at = result.rows.len() - 1;
            for step in 0..self.times.count {
                let Some(histogram) = grid.histogram(i, step) else { continue };
                if let Some(twin) = twin.filter(|twin| classic[*twin].is_at(grid, step)) {
                    self.note(arg.told_at(), Note::MixedClassicAndNative { metric });
                    conflicts.push((twin, step));
                    continue;
                }
                let (value, note) = estimate.native(step, histogram, metric);
                note.into_iter().for_each(|note| self.note(arg.told_at(), note));
                result.set(at, step, value);
            }
            result.pop_if_empty();
        }
        Ok(conflicts)
    }

    /// The name that annotations tell: names that go at each operator are not told, as in Prometheus.
    fn metric_of<'r>(&self, row: &'r Row) -> &'r str {
        if self.options.delayed_name_removal { row.get(METRIC_NAME) } else { "" }
    }
}

impl ClassicHistogram {
    /// Whether any of its buckets has a count at a step.
    fn is_at(&self, grid: &Grid, step: usize) -> bool {
        self.bucket_rows().any(|row| is_float(grid.value(row, step)))
    }
}
