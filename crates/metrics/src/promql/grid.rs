//! Intermediate results: series down, evaluation steps across.
//!
//! All values of a vector expression stand in one flat array, so a query allocates per expression and not per sample. Where
//! a series has no sample at a step, the array holds [`ABSENT`]: the stale marker, which no arithmetic produces and no selector
//! lets through. Where it has a native histogram, the array holds a marker too, and the histogram is in a second array
//! that a grid of floats does not have.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::error::QueryError;
use super::value::SampleValue;
use crate::histogram::NativeHistogram;
use crate::labels::{Labels, METRIC_NAME};
use crate::sample::{ELSEWHERE_NAN_BITS, STALE_NAN, is_stale_nan};

/// No sample here.
pub(super) const ABSENT: f64 = STALE_NAN;
/// A native histogram here.
const HISTOGRAM: f64 = f64::from_bits(ELSEWHERE_NAN_BITS);

/// Whether there is a sample, of either kind.
pub(super) fn present(value: f64) -> bool {
    !is_stale_nan(value)
}

/// Whether there is a sample that is a float.
pub(super) fn is_float(value: f64) -> bool {
    // The two markers differ in their last bit only.
    value.to_bits() | 1 != ELSEWHERE_NAN_BITS
}

/// Whether the metric name still belongs to a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Kept,
    /// Gone: nothing sees it any more. The labels still hold it, because most series need no copy without it.
    Dropped,
    /// Goes when the query ends (`delayed_name_removal`).
    DropsLast,
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) labels: Labels,
    pub(super) name: Name,
}

impl Row {
    pub(super) fn new(labels: Labels) -> Row {
        Row { labels, name: Name::Kept }
    }

    /// A label as expressions see it.
    pub(super) fn get(&self, name: &str) -> &str {
        if self.name == Name::Dropped && is_metadata(name) { "" } else { self.labels.get(name) }
    }

    /// The labels as expressions see them.
    pub(super) fn visible(&self) -> Labels {
        if self.name == Name::Dropped { self.labels.without_name() } else { self.labels.clone() }
    }
}

fn is_metadata(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    pub(super) steps: usize,
    /// Whether all rows are known to be different series of one metric: then nothing needs to look at their names.
    pub(super) one_metric: bool,
    pub(super) rows: Vec<Row>,
    pub(super) values: Vec<f64>,
    /// By the place of the marker; may end before `values` do.
    histograms: Vec<Option<Arc<NativeHistogram>>>,
}

impl Grid {
    pub(super) fn new(steps: usize) -> Grid {
        Grid { steps, one_metric: false, rows: Vec::new(), values: Vec::new(), histograms: Vec::new() }
    }

    /// A new row without samples; returns its values.
    pub(super) fn push(&mut self, row: Row) -> &mut [f64] {
        self.rows.push(row);
        self.one_metric = false;
        let start = self.values.len();
        self.values.resize(start + self.steps, ABSENT);
        &mut self.values[start..]
    }

    /// Takes the newest row back if it has no sample.
    pub(super) fn pop_if_empty(&mut self) {
        let start = self.values.len().saturating_sub(self.steps);
        if !self.values[start..].iter().any(|v| present(*v)) {
            self.rows.pop();
            self.values.truncate(start);
            self.histograms.truncate(start);
        }
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.steps..(row + 1) * self.steps]
    }

    pub(super) fn value(&self, row: usize, step: usize) -> f64 {
        self.values[row * self.steps + step]
    }

    pub(super) fn set(&mut self, row: usize, step: usize, value: f64) {
        self.values[row * self.steps + step] = value;
    }

    pub(super) fn set_histogram(&mut self, row: usize, step: usize, histogram: Arc<NativeHistogram>) {
        let at = row * self.steps + step;
        self.values[at] = HISTOGRAM;
        if self.histograms.len() <= at {
            self.histograms.resize(at + 1, None);
        }
        self.histograms[at] = Some(histogram);
    }

    /// Whether there may be histograms in this grid.
    pub(super) fn has_histograms(&self) -> bool {
        !self.histograms.is_empty()
    }

    /// The histogram at a place, if the sample there is one.
    pub(super) fn histogram(&self, row: usize, step: usize) -> Option<&Arc<NativeHistogram>> {
        self.histogram_at(row * self.steps + step)
    }

    fn histogram_at(&self, at: usize) -> Option<&Arc<NativeHistogram>> {
        if self.values[at].to_bits() == ELSEWHERE_NAN_BITS { self.histograms.get(at)?.as_ref() } else { None }
    }

    /// The sample at a place.
    pub(super) fn cell(&self, row: usize, step: usize) -> Option<SampleValue> {
        let value = self.value(row, step);
        match self.histogram(row, step) {
            Some(histogram) => Some(SampleValue::Histogram(histogram.clone())),
            None => present(value).then_some(SampleValue::Float(value)),
        }
    }

    /// The samples of a row with their steps.
    pub(super) fn cells(&self, row: usize) -> impl Iterator<Item = (usize, SampleValue)> {
        (0..self.steps).filter_map(move |step| Some((step, self.cell(row, step)?)))
    }

    pub(super) fn set_cell(&mut self, row: usize, step: usize, cell: SampleValue) {
        match cell {
            SampleValue::Float(value) => self.set(row, step, value),
            SampleValue::Histogram(histogram) => self.set_histogram(row, step, histogram),
        }
    }

    /// How many numbers the histograms have.
    pub(super) fn histogram_weight(&self) -> usize {
        self.histograms.iter().flatten().map(|histogram| histogram.weight()).sum()
    }

    /// Without rows that have no sample.
    pub(super) fn without_empty_rows(self) -> Grid {
        let has_sample = |row: usize| self.row(row).iter().any(|value| present(*value));
        if (0..self.rows.len()).all(has_sample) {
            return self;
        }
        let mut kept = Grid::new(self.steps);
        for row in (0..self.rows.len()).filter(|row| has_sample(*row)) {
            kept.push(self.rows[row].clone());
            self.cells(row).for_each(|(step, cell)| kept.set_cell(kept.rows.len() - 1, step, cell));
        }
        Grid { one_metric: self.one_metric, ..kept }
    }

    /// A grid of one step, spread over several.
    pub(super) fn repeated(self, steps: usize) -> Grid {
        let values = self.values.iter().flat_map(|value| std::iter::repeat_n(*value, steps)).collect();
        let histograms = self.histograms.iter();
        let histograms =
            histograms.flat_map(|histogram| std::iter::repeat_n(histogram.clone(), steps)).collect();
        Grid { steps, values, histograms, ..self }
    }

    /// Whether any series has a sample at a step.
    pub(super) fn any_at(&self, step: usize) -> bool {
        (0..self.rows.len()).any(|row| present(self.value(row, step)))
    }

    /// Applies `f` to each float and drops the histograms.
    pub(super) fn map(&mut self, f: impl Fn(f64) -> f64) {
        self.map_at(|_, value| f(value));
    }

    /// Applies `f` to each float, with its step, and drops the histograms.
    pub(super) fn map_at(&mut self, f: impl Fn(usize, f64) -> f64) {
        self.drop_histograms();
        let steps = self.steps.max(1);
        for (i, value) in self.values.iter_mut().enumerate().filter(|(_, v)| present(**v)) {
            *value = f(i % steps, *value);
        }
    }

    /// Leaves the floats only.
    pub(super) fn drop_histograms(&mut self) {
        if self.has_histograms() {
            self.values.iter_mut().filter(|v| !is_float(**v)).for_each(|value| *value = ABSENT);
            self.histograms.clear();
        }
    }

    /// Applies `f` to each histogram and drops the floats.
    pub(super) fn map_histograms(&mut self, f: impl Fn(&NativeHistogram) -> f64) {
        for at in 0..self.values.len() {
            self.values[at] = self.histogram_at(at).map_or(ABSENT, |histogram| f(histogram));
        }
        self.histograms.clear();
    }

    /// Changes the sign of each sample.
    pub(super) fn negate(&mut self) {
        self.values.iter_mut().filter(|v| is_float(**v)).for_each(|value| *value = -*value);
        self.histograms.iter_mut().flatten().for_each(|histogram| Arc::make_mut(histogram).scale(-1.0));
    }

    /// Drops the metric names: at once, where series that become equal are joined, or when the query ends.
    pub(super) fn drop_names(self, delayed: bool) -> Result<Grid, QueryError> {
        let grid = self.without_names(delayed);
        // Series of one metric stay different without its name.
        if delayed || grid.one_metric { Ok(grid) } else { grid.settle_names()?.join_equal() }
    }

    /// Drops the metric names, and leaves series as they are that become equal.
    pub(super) fn without_names(mut self, delayed: bool) -> Grid {
        let name = if delayed { Name::DropsLast } else { Name::Dropped };
        self.rows.iter_mut().for_each(|row| row.name = name);
        self
    }

    /// An error if two series are equal, whether or not they have samples at the same steps.
    pub(super) fn all_different(self) -> Result<Grid, QueryError> {
        if self.one_metric {
            return Ok(self);
        }
        let mut seen = HashSet::with_capacity(self.rows.len());
        let different = self.rows.iter().all(|row| seen.insert(row.visible()));
        if different { Ok(self) } else { Err(same_labelset()) }
    }

    /// Takes the names out of the labels where they are dropped.
    fn settle_names(mut self) -> Result<Grid, QueryError> {
        for row in self.rows.iter_mut().filter(|row| row.name != Name::Kept) {
            *row = Row::new(row.labels.without_name());
        }
        Ok(self)
    }

    /// The end of a query: names that were to go are gone, equal series are joined.
    pub(super) fn finish(self) -> Result<Grid, QueryError> {
        self.settle_names()?.join_equal()
    }

    /// Joins series with equal labels; an error if two of them have a sample at one step.
    pub(super) fn join_equal(self) -> Result<Grid, QueryError> {
        let mut seen: HashMap<Labels, usize> = HashMap::with_capacity(self.rows.len());
        let unique = self.rows.iter().enumerate().all(|(i, row)| seen.insert(row.visible(), i).is_none());
        if unique {
            return Ok(self);
        }
        let mut joined = Grid::new(self.steps);
        seen.clear();
        for (i, row) in self.rows.iter().enumerate() {
            let target = *seen.entry(row.visible()).or_insert_with(|| {
                joined.push(row.clone());
                joined.rows.len() - 1
            });
            for (step, cell) in self.cells(i) {
                if present(joined.value(target, step)) {
                    return Err(same_labelset());
                }
                joined.set_cell(target, step, cell);
            }
        }
        Ok(joined)
    }
}

/// Prometheus' error for two samples of one series at one time.
pub(super) fn same_labelset() -> QueryError {
    QueryError::Execution("vector cannot contain metrics with the same labelset".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_told_apart() {
        let quiet = (ABSENT + 0.0).to_bits();
        assert!(quiet != ABSENT.to_bits(), "arithmetic makes no markers");
        for (value, is_present, float) in [
            (ABSENT, false, false),
            (HISTOGRAM, true, false),
            (f64::NAN, true, true),
            (0.0, true, true),
            (f64::INFINITY, true, true),
        ] {
            assert_eq!((present(value), is_float(value)), (is_present, float), "{value}");
        }
    }
}
