//! Functions that look at every sample of a window, such as `max_over_time`: computed again, from the store, for the
//! windows in which something has changed, and for those alone.

use crate::promql::functions::window::Window;
use crate::promql::grid::ABSENT;
use crate::promql::starts::Starts;
use crate::sample::Sample;
use crate::store::{SeriesRef, Store};

use super::members::Members;

/// Functions whose value depends on the samples of the window alone, and not on the time.
const TIMELESS: [&str; 13] = [
    "avg_over_time",
    "changes",
    "deriv",
    "mad_over_time",
    "max_over_time",
    "min_over_time",
    "quantile_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];

/// Whether a function's value may be kept until its window changes.
pub(super) fn is_timeless(name: &str) -> bool {
    TIMELESS.contains(&name)
}

/// What computes such a function.
pub(super) type WindowFunction = fn(&Window<'_>) -> Option<f64>;

/// The values of all series of a selector, each with what would change it.
#[derive(Debug)]
pub(super) struct Windows {
    function: WindowFunction,
    /// The scalar arguments.
    parameters: Vec<f64>,
    rows: Vec<Cached>,
    scratch: Vec<Sample>,
    alive: Vec<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Cached {
    value: f64,
    /// Samples inside the window.
    samples: usize,
    /// The first of them.
    first_ms: i64,
    /// The first sample after the window.
    next_ms: i64,
    is_stale: bool,
}

const UNKNOWN: Cached =
    Cached { value: ABSENT, samples: 0, first_ms: i64::MAX, next_ms: i64::MAX, is_stale: true };

impl Windows {
    pub(super) fn new(function: WindowFunction, parameters: Vec<f64>) -> Windows {
        Windows { function, parameters, rows: Vec::new(), scratch: Vec::new(), alive: Vec::new() }
    }

    pub(super) fn make_room(&mut self, rows: usize) {
        self.rows.resize(rows.max(self.rows.len()), UNKNOWN);
    }

    /// The samples of a series are not what they were.
    pub(super) fn forget(&mut self, row: u32) {
        self.rows[row as usize] = UNKNOWN;
    }

    /// The value of each member for the window `(after_ms, to_ms]`; returns how many samples are inside.
    pub(super) fn values(
        &mut self,
        store: &Store,
        members: &Members,
        (after_ms, to_ms): (i64, i64),
        values: &mut Vec<f64>,
    ) -> usize {
        let mut samples = 0;
        values.clear();
        for row in members.order() {
            let cached = self.rows[*row as usize];
            if cached.is_stale || cached.first_ms <= after_ms || cached.next_ms <= to_ms {
                let series = store.series(members.id(*row));
                self.rows[*row as usize] =
                    series.map_or(UNKNOWN, |series| self.compute(series, after_ms, to_ms));
            }
            let cached = self.rows[*row as usize];
            samples += cached.samples;
            values.push(cached.value);
        }
        samples
    }

    fn compute(&mut self, series: SeriesRef<'_>, after_ms: i64, to_ms: i64) -> Cached {
        let all = series.samples(after_ms, i64::MAX, &mut self.scratch);
        self.alive.clear();
        self.alive.extend(all.iter().filter(|sample| !sample.is_stale_marker()));
        let inside = self.alive.partition_point(|sample| sample.timestamp_ms <= to_ms);
        let (samples, later) = self.alive.split_at(inside);
        let window = Window {
            samples,
            histograms: &[],
            starts: Starts::default(),
            metric: "",
            tell: &|_| {},
            end_ms: to_ms,
            range_ms: to_ms - after_ms,
            extension: None,
            now_ms: to_ms,
            parameters: &self.parameters,
        };
        let value = if samples.is_empty() { None } else { (self.function)(&window) };
        Cached {
            value: value.unwrap_or(ABSENT),
            samples: samples.len(),
            first_ms: samples.first().map_or(i64::MAX, |sample| sample.timestamp_ms),
            next_ms: later.first().map_or(i64::MAX, |sample| sample.timestamp_ms),
            is_stale: false,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Cached>()
            + (self.scratch.capacity() + self.alive.capacity()) * size_of::<Sample>()
    }
}
