//! Intermediate results: series down, evaluation steps across.
//!
//! All values of a vector expression stand in one flat array, so a query allocates per expression and not per sample. Where a series has no
//! sample at a step, the array holds [`ABSENT`]: the stale marker, which no arithmetic produces and no selector lets through.

use std::collections::HashMap;

use super::error::QueryError;
use crate::labels::{Labels, METRIC_NAME};
use crate::sample::{STALE_NAN, is_stale_nan};

/// No sample here.
pub(super) const ABSENT: f64 = STALE_NAN;

/// Whether there is a sample.
pub(super) fn present(value: f64) -> bool {
    !is_stale_nan(value)
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
}

impl Grid {
    pub(super) fn new(steps: usize) -> Grid {
        Grid { steps, one_metric: false, rows: Vec::new(), values: Vec::new() }
    }

    /// A new row without samples; returns its values.
    pub(super) fn push(&mut self, row: Row) -> &mut [f64] {
        self.rows.push(row);
        self.one_metric = false;
        let start = self.values.len();
        self.values.resize(start + self.steps, ABSENT);
        &mut self.values[start..]
    }

    /// Takes the newest row back.
    pub(super) fn pop(&mut self) {
        self.rows.pop();
        self.values.truncate(self.rows.len() * self.steps);
    }

    /// Takes the newest row back if it has no sample.
    pub(super) fn pop_if_empty(&mut self) {
        let start = self.values.len().saturating_sub(self.steps);
        if !self.values[start..].iter().any(|v| present(*v)) {
            self.pop();
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

    /// Whether any series has a sample at a step.
    pub(super) fn any_at(&self, step: usize) -> bool {
        (0..self.rows.len()).any(|row| present(self.value(row, step)))
    }

    /// Applies `f` to each sample.
    pub(super) fn map(&mut self, f: impl Fn(f64) -> f64) {
        for value in self.values.iter_mut().filter(|v| present(**v)) {
            *value = f(*value);
        }
    }

    /// Drops the metric names: at once, where series that become equal are joined, or when the query ends.
    pub(super) fn drop_names(mut self, delayed: bool) -> Result<Grid, QueryError> {
        if delayed {
            self.rows.iter_mut().for_each(|row| row.name = Name::DropsLast);
            return Ok(self);
        }
        self.rows.iter_mut().for_each(|row| row.name = Name::Dropped);
        // Series of one metric stay different without its name.
        if self.one_metric { Ok(self) } else { self.settle_names()?.join_equal() }
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
            for (step, value) in self.row(i).iter().enumerate().filter(|(_, v)| present(**v)) {
                if present(joined.value(target, step)) {
                    return Err(same_labelset());
                }
                joined.set(target, step, *value);
            }
        }
        Ok(joined)
    }
}

/// Prometheus' error for two samples of one series at one time.
pub(super) fn same_labelset() -> QueryError {
    QueryError::Execution("vector cannot contain metrics with the same labelset".into())
}
