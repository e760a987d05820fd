//! Functions of which a window's first and last samples, their count and the counter's restarts are all that is needed:
//! `rate` and its like, and plain selectors. A new sample, and one that leaves, cost a few instructions each.
//!
//! The values are bit for bit those of the functions over whole windows, because the same additions are made in the same order.

use std::collections::{BTreeMap, VecDeque};

use super::ring::{Rings, Span};
use crate::promql::functions::window::Timing;
use crate::promql::grid::ABSENT;
use crate::sample::Sample;

/// What is computed from the edges of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EdgeFunction {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Count,
    Present,
    First,
    Last,
    Resets,
    /// A plain selector: the newest sample, unless it is a stale marker.
    Newest,
}

impl EdgeFunction {
    /// Whether a restart of the counter matters.
    fn counts_restarts(self) -> bool {
        matches!(self, EdgeFunction::Rate | EdgeFunction::Increase | EdgeFunction::Resets)
    }

    /// The function with this name, if its edges are enough.
    pub(super) fn of(name: &str) -> Option<EdgeFunction> {
        Some(match name {
            "rate" => EdgeFunction::Rate,
            "increase" => EdgeFunction::Increase,
            "delta" => EdgeFunction::Delta,
            "irate" => EdgeFunction::Irate,
            "idelta" => EdgeFunction::Idelta,
            "count_over_time" => EdgeFunction::Count,
            "present_over_time" => EdgeFunction::Present,
            "first_over_time" => EdgeFunction::First,
            "last_over_time" => EdgeFunction::Last,
            "resets" => EdgeFunction::Resets,
            _ => return None,
        })
    }
}

/// The windows of all series of a selector.
#[derive(Debug)]
pub(super) struct Edges {
    function: EdgeFunction,
    rings: Rings,
    rows: Vec<Edge>,
    /// Restarts inside the windows: the count of the sample after the restart, and the value before it.
    restarts: BTreeMap<u32, VecDeque<(u32, f64)>>,
    /// The samples did not fit; nothing here is right until all is read again.
    is_full: bool,
}

/// One window: what came into its ring and is not yet, is, and is no longer inside.
#[derive(Clone, Copy, Debug)]
struct Edge {
    first: Sample,
    last: Sample,
    /// The samples inside.
    inside: Span,
    /// The count of all that came in, those after the window's end included.
    tail: u32,
    /// The time of the sample after the window's end.
    next_ms: i64,
}

const EMPTY: Edge = Edge {
    first: Sample { timestamp_ms: i64::MAX, value: 0.0 },
    last: Sample { timestamp_ms: i64::MIN, value: 0.0 },
    inside: Span { start: 0, end: 0 },
    tail: 0,
    next_ms: i64::MAX,
};

impl Edge {
    fn held(&self) -> Span {
        Span { start: self.inside.start, end: self.tail }
    }
}

impl Edges {
    pub(super) fn new(function: EdgeFunction) -> Edges {
        let (rings, rows, restarts) = Default::default();
        Edges { function, rings, rows, restarts, is_full: false }
    }

    /// Forgets everything, to be filled again with `rows` series.
    pub(super) fn clear(&mut self, rows: usize) {
        *self = Edges::new(self.function);
        self.make_room(rows);
    }

    /// Makes room for `rows` series.
    pub(super) fn make_room(&mut self, rows: usize) {
        let edges = &self.rows;
        let held = |row: usize| edges.get(row).map_or(Span::default(), Edge::held);
        self.is_full |= !self.rings.reserve_rows(rows, held);
        self.rows.resize(rows.max(self.rows.len()), EMPTY);
    }

    /// Forgets the samples of one series.
    pub(super) fn clear_row(&mut self, row: u32) {
        self.rows[row as usize] = EMPTY;
        self.restarts.remove(&row);
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Takes a sample in; it is inside the window once that reaches it.
    pub(super) fn push(&mut self, row: u32, sample: Sample) {
        let skipped = self.function != EdgeFunction::Newest && sample.is_stale_marker();
        if skipped || self.is_full {
            return;
        }
        if self.rows[row as usize].held().len() == self.rings.places() {
            let edges = &self.rows;
            if !self.rings.grow(|row| edges.get(row).map_or(Span::default(), Edge::held)) {
                self.is_full = true;
                return;
            }
        }
        let edge = &mut self.rows[row as usize];
        self.rings.set(row as usize, edge.tail, sample);
        edge.tail = edge.tail.wrapping_add(1);
        edge.next_ms = edge.next_ms.min(sample.timestamp_ms);
    }

    /// Moves one window to `(after_ms, to_ms]`; a plain selector keeps its newest sample until it is too old.
    fn advance(&mut self, row: u32, after_ms: i64, to_ms: i64) {
        let edge = &mut self.rows[row as usize];
        if edge.next_ms <= to_ms {
            let restarts = self.function.counts_restarts().then_some(&mut self.restarts);
            edge.take_in(&self.rings, row, to_ms, restarts);
        }
        let newest_only = self.function == EdgeFunction::Newest;
        if edge.first.timestamp_ms <= after_ms || (newest_only && edge.inside.len() > 1) {
            edge.let_go(&self.rings, row, after_ms, newest_only, &mut self.restarts);
        }
    }

    /// The value of each row for the window `(after_ms, to_ms]`, in `order`; returns how many samples are inside.
    pub(super) fn values(
        &mut self,
        order: &[u32],
        after_ms: i64,
        to_ms: i64,
        values: &mut Vec<f64>,
    ) -> usize {
        let mut samples = 0;
        let mut look = Look::at(after_ms, to_ms);
        values.clear();
        for row in order {
            self.advance(*row, after_ms, to_ms);
            samples += self.rows[*row as usize].inside.len();
            values.push(self.value(*row, &mut look));
        }
        samples
    }

    fn value(&self, row: u32, look: &mut Look) -> f64 {
        let edge = &self.rows[row as usize];
        let count = edge.inside.len();
        if count == 0 {
            return ABSENT;
        }
        match self.function {
            EdgeFunction::Newest | EdgeFunction::Last => edge.last.value,
            EdgeFunction::First => edge.first.value,
            EdgeFunction::Count => count as f64,
            EdgeFunction::Present => 1.0,
            EdgeFunction::Resets => self.restarts.get(&row).map_or(0, VecDeque::len) as f64,
            _ if count < 2 => ABSENT,
            EdgeFunction::Rate => {
                let (increase, factor) = self.extrapolated(row, look, true);
                increase * (factor / look.seconds)
            }
            EdgeFunction::Increase => {
                let (increase, factor) = self.extrapolated(row, look, true);
                increase * factor
            }
            EdgeFunction::Delta => {
                let (increase, factor) = self.extrapolated(row, look, false);
                increase * factor
            }
            EdgeFunction::Irate => {
                let (previous, last) = (self.before_last(row), edge.last);
                let increase =
                    if last.value < previous.value { last.value } else { last.value - previous.value };
                increase / ((last.timestamp_ms - previous.timestamp_ms) as f64 / 1_000.0)
            }
            EdgeFunction::Idelta => edge.last.value - self.before_last(row).value,
        }
    }

    fn before_last(&self, row: u32) -> Sample {
        self.rings.get(row as usize, self.rows[row as usize].inside.end.wrapping_sub(2))
    }

    /// The increase between the samples, and the factor that stretches it to the whole window.
    fn extrapolated(&self, row: u32, look: &mut Look, is_counter: bool) -> (f64, f64) {
        let edge = &self.rows[row as usize];
        let first = edge.first.value;
        let mut increase = edge.last.value - first;
        if is_counter && !self.restarts.is_empty() {
            for (_, before) in self.restarts.get(&row).into_iter().flatten() {
                increase += before;
            }
        }
        let counts_from_zero = is_counter && increase > 0.0 && first >= 0.0;
        (increase, look.timing(edge).stretch(counts_from_zero.then(|| first / increase)))
    }

    pub(super) fn bytes(&self) -> usize {
        self.rings.bytes() + self.rows.capacity() * size_of::<Edge>()
    }
}

/// A look at all windows: where they are, and the timing of the last one, which often is that of the next.
struct Look {
    bounds_ms: (i64, i64),
    seconds: f64,
    known: (i64, i64, usize),
    timing: Timing,
}

impl Look {
    fn at(after_ms: i64, to_ms: i64) -> Look {
        let seconds = (to_ms - after_ms) as f64 / 1_000.0;
        Look { bounds_ms: (after_ms, to_ms), seconds, known: (0, 0, 0), timing: Timing::default() }
    }

    fn timing(&mut self, edge: &Edge) -> &Timing {
        let times = (edge.first.timestamp_ms, edge.last.timestamp_ms, edge.inside.len());
        if self.known != times {
            self.timing = Timing::of(times.0, times.1, times.2, self.bounds_ms);
            self.known = times;
        }
        &self.timing
    }
}

type Restarts = BTreeMap<u32, VecDeque<(u32, f64)>>;

impl Edge {
    /// Takes the samples up to `to_ms` inside.
    fn take_in(&mut self, rings: &Rings, row: u32, to_ms: i64, mut restarts: Option<&mut Restarts>) {
        while self.next_ms <= to_ms {
            let sample = rings.get(row as usize, self.inside.end);
            if self.inside.len() == 0 {
                self.first = sample;
            } else if sample.value < self.last.value
                && let Some(restarts) = &mut restarts
            {
                restarts.entry(row).or_default().push_back((self.inside.end, self.last.value));
            }
            self.last = sample;
            self.inside.end = self.inside.end.wrapping_add(1);
            self.next_ms = match self.inside.end == self.tail {
                true => i64::MAX,
                false => rings.get(row as usize, self.inside.end).timestamp_ms,
            };
        }
    }

    /// Lets the samples up to `after_ms` go, and all but the newest where only that counts.
    fn let_go(&mut self, rings: &Rings, row: u32, after_ms: i64, newest_only: bool, restarts: &mut Restarts) {
        while self.inside.len() > 0
            && (self.first.timestamp_ms <= after_ms || (newest_only && self.inside.len() > 1))
        {
            self.inside.start = self.inside.start.wrapping_add(1);
            if let Some(own) = restarts.get_mut(&row)
                && own.front().is_some_and(|(at, _)| *at == self.inside.start)
            {
                own.pop_front();
                if own.is_empty() {
                    restarts.remove(&row);
                }
            }
            self.first = match self.inside.len() {
                0 => EMPTY.first,
                _ => rings.get(row as usize, self.inside.start),
            };
        }
    }
}
