//! Functions of which a window's first and last samples, their count and the counter's restarts are all that is needed:
//! `rate` and its like, and plain selectors. A new sample, and one that leaves, cost a few instructions each.
//!
//! The values are bit for bit those of the functions over whole windows, because the same additions are made in the same order.
//! What depends on times alone is worked out once for all series of a target (`clock`).

use std::collections::{BTreeMap, VecDeque};

use super::clock::{Clock, Clocks, NO_CLOCK};
use super::ring::{Rings, Span};
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
    clocks: Clocks,
    rings: Rings<f64>,
    rows: Vec<Edge>,
    /// Restarts inside the windows: the count of the sample after the restart, and the value before it.
    restarts: BTreeMap<u32, VecDeque<(u32, f64)>>,
    /// The samples did not fit; nothing here is right until all is read again.
    is_full: bool,
}

/// A series: by which clock it was sampled, and the count of its samples that came in.
#[derive(Clone, Copy, Debug)]
struct Edge {
    clock: u32,
    tail: u32,
    has_restarts: bool,
}

const EMPTY: Edge = Edge { clock: NO_CLOCK, tail: 0, has_restarts: false };

impl Edge {
    /// The samples in its ring.
    fn held(&self, clocks: &Clocks) -> Span {
        match self.clock {
            NO_CLOCK => Span::default(),
            clock => Span { start: clocks.get(clock).inside.start, end: self.tail },
        }
    }
}

impl Edges {
    pub(super) fn new(function: EdgeFunction) -> Edges {
        let (clocks, rings, rows, restarts) = Default::default();
        Edges { function, clocks, rings, rows, restarts, is_full: false }
    }

    /// Forgets everything, to be filled again with `rows` series.
    pub(super) fn clear(&mut self, rows: usize) {
        *self = Edges::new(self.function);
        self.make_room(rows);
    }

    /// Makes room for `rows` series.
    pub(super) fn make_room(&mut self, rows: usize) {
        let (edges, clocks) = (&self.rows, &self.clocks);
        let held = |row: usize| edges.get(row).map_or(Span::default(), |edge| edge.held(clocks));
        self.is_full |= !self.rings.reserve_rows(rows, held);
        self.rows.resize(rows.max(self.rows.len()), EMPTY);
    }

    /// Makes room for longer windows.
    fn grow(&mut self) -> bool {
        let (edges, clocks) = (&self.rows, &self.clocks);
        let held = |row: usize| edges.get(row).map_or(Span::default(), |edge| edge.held(clocks));
        self.is_full |= !self.rings.grow(held);
        !self.is_full
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full || self.clocks.is_full()
    }

    fn wants(&self, sample: &Sample) -> bool {
        self.function == EdgeFunction::Newest || !sample.is_stale_marker()
    }

    /// Takes the samples of a series in, instead of those that it had.
    pub(super) fn fill(&mut self, row: u32, samples: &[Sample]) {
        let old = std::mem::replace(&mut self.rows[row as usize], EMPTY);
        self.clocks.leave(old.clock, old.tail);
        self.restarts.remove(&row);
        let wanted: Vec<&Sample> = samples.iter().filter(|sample| self.wants(sample)).collect();
        while self.rings.places() < wanted.len() {
            if !self.grow() {
                return;
            }
        }
        let clock = self.clocks.join(wanted.iter().map(|sample| sample.timestamp_ms));
        let mut tail = self.clocks.get(clock).inside.start;
        for sample in wanted {
            self.rings.set(row as usize, tail, sample.value);
            tail = tail.wrapping_add(1);
        }
        self.rows[row as usize] = Edge { clock, tail, has_restarts: false };
    }

    /// Takes a sample in; it is inside the window once that reaches it.
    pub(super) fn push(&mut self, row: u32, sample: Sample) {
        if !self.wants(&sample) || self.is_full() {
            return;
        }
        let Edge { mut clock, tail, .. } = self.rows[row as usize];
        if clock == NO_CLOCK {
            return self.fill(row, &[sample]);
        }
        while !self.clocks.tick(clock, tail, sample.timestamp_ms) {
            clock = self.clocks.split(clock, tail);
            self.rows[row as usize].clock = clock;
        }
        let start = self.clocks.get(clock).inside.start;
        if (Span { start, end: tail }).len() == self.rings.places() && !self.grow() {
            return;
        }
        self.rings.set(row as usize, tail, sample.value);
        self.rows[row as usize].tail = tail.wrapping_add(1);
    }

    /// Moves all windows to `(after_ms, to_ms]`; a plain selector keeps its newest sample until it is too old.
    fn advance(&mut self, after_ms: i64, to_ms: i64) {
        if self.clocks.any_missing() {
            for edge in self.rows.iter_mut().filter(|edge| edge.clock != NO_CLOCK) {
                if edge.tail != self.clocks.get(edge.clock).tail {
                    edge.clock = self.clocks.split(edge.clock, edge.tail);
                }
            }
        }
        self.clocks.advance(after_ms, to_ms, self.function == EdgeFunction::Newest);
    }

    /// The value of each row for the window `(after_ms, to_ms]`, in `order`; returns how many samples are inside.
    pub(super) fn values(
        &mut self,
        order: &[u32],
        after_ms: i64,
        to_ms: i64,
        values: &mut Vec<f64>,
    ) -> usize {
        self.advance(after_ms, to_ms);
        let seconds = (to_ms - after_ms) as f64 / 1_000.0;
        let mut samples = 0;
        values.clear();
        values.reserve(order.len());
        for row in order {
            let clock = match self.rows[*row as usize].clock {
                NO_CLOCK => {
                    values.push(ABSENT);
                    continue;
                }
                clock => self.clocks.get(clock),
            };
            if self.function.counts_restarts() {
                let edge = &mut self.rows[*row as usize];
                note_restarts(&self.rings, *row, clock, edge, &mut self.restarts);
            }
            samples += clock.inside.len();
            values.push(self.value(*row, clock, seconds));
        }
        samples
    }

    fn value(&self, row: u32, clock: &Clock, seconds: f64) -> f64 {
        let count = clock.inside.len();
        if count == 0 {
            return ABSENT;
        }
        let last_at = clock.inside.end.wrapping_sub(1);
        let at = |at: u32| self.rings.get(row as usize, at);
        let before_last = || at(last_at.wrapping_sub(1));
        match self.function {
            EdgeFunction::Newest | EdgeFunction::Last => at(last_at),
            EdgeFunction::First => at(clock.inside.start),
            EdgeFunction::Count => count as f64,
            EdgeFunction::Present => 1.0,
            EdgeFunction::Resets => self.restarts.get(&row).map_or(0, VecDeque::len) as f64,
            _ if count < 2 => ABSENT,
            EdgeFunction::Rate => {
                let (increase, factor) = self.extrapolated(row, clock, true);
                increase * (factor / seconds)
            }
            EdgeFunction::Increase => {
                let (increase, factor) = self.extrapolated(row, clock, true);
                increase * factor
            }
            EdgeFunction::Delta => {
                let (increase, factor) = self.extrapolated(row, clock, false);
                increase * factor
            }
            EdgeFunction::Irate => {
                let (previous, last) = (before_last(), at(last_at));
                let increase = if last < previous { last } else { last - previous };
                let time_ms = |at: u32| self.clocks.time_ms(self.rows[row as usize].clock, at);
                let apart_ms = time_ms(last_at) - time_ms(last_at.wrapping_sub(1));
                increase / (apart_ms as f64 / 1_000.0)
            }
            EdgeFunction::Idelta => at(last_at) - before_last(),
        }
    }

    /// The increase between the samples, and the factor that stretches it to the whole window.
    fn extrapolated(&self, row: u32, clock: &Clock, is_counter: bool) -> (f64, f64) {
        let first = self.rings.get(row as usize, clock.inside.start);
        let mut increase = self.rings.get(row as usize, clock.inside.end.wrapping_sub(1)) - first;
        if is_counter && self.rows[row as usize].has_restarts {
            for (_, before) in self.restarts.get(&row).into_iter().flatten() {
                increase += before;
            }
        }
        let counts_from_zero = is_counter && increase > 0.0 && first >= 0.0;
        (increase, clock.timing.stretch(counts_from_zero.then(|| first / increase)))
    }

    pub(super) fn bytes(&self) -> usize {
        self.clocks.bytes() + self.rings.bytes() + self.rows.capacity() * size_of::<Edge>()
    }
}

/// Notes the restarts that came into a window, and forgets those that left it.
fn note_restarts(
    rings: &Rings<f64>,
    row: u32,
    clock: &Clock,
    edge: &mut Edge,
    restarts: &mut BTreeMap<u32, VecDeque<(u32, f64)>>,
) {
    let mut at = clock.entered.start;
    while at != clock.entered.end {
        let before = rings.get(row as usize, at.wrapping_sub(1));
        if rings.get(row as usize, at) < before {
            restarts.entry(row).or_default().push_back((at, before));
            edge.has_restarts = true;
        }
        at = at.wrapping_add(1);
    }
    if !edge.has_restarts {
        return;
    }
    let start = clock.inside.start;
    let own = restarts.entry(row).or_default();
    // Counts are compared by their distance: they may begin again from zero.
    while own.front().is_some_and(|(at, _)| at.wrapping_sub(start) as i32 <= 0) {
        own.pop_front();
    }
    if own.is_empty() {
        restarts.remove(&row);
        edge.has_restarts = false;
    }
}
