//! When series were sampled. The series of a target are scraped together, so they share their times, and what follows from
//! those: which samples are inside the window, and how far it has to be stretched.

use super::ring::{Rings, Span};
use crate::promql::functions::window::Timing;

/// A row that belongs to no clock.
pub(super) const NO_CLOCK: u32 = u32::MAX;

/// What the times of some series' samples say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// The samples inside the window.
    pub(super) inside: Span,
    /// The samples that came into the window with its last move, behind others.
    pub(super) entered: Span,
    /// The count of all samples that came in, those after the window's end included.
    pub(super) tail: u32,
    pub(super) timing: Timing,
    /// The time of the last of them.
    newest_ms: i64,
    rows: u32,
    /// Samples that rows of this clock do not have.
    missing: u32,
}

impl Clock {
    fn held(&self) -> Span {
        Span { start: self.inside.start, end: self.tail }
    }

    /// Moves the window to `(after_ms, to_ms]`; where only the newest sample counts, all others go.
    fn advance(&mut self, time_ms: impl Fn(u32) -> i64, (after_ms, to_ms): (i64, i64), newest_only: bool) {
        let inside = &mut self.inside;
        self.entered.start = inside.end.wrapping_add(u32::from(inside.len() == 0));
        while inside.end != self.tail && time_ms(inside.end) <= to_ms {
            inside.end = inside.end.wrapping_add(1);
        }
        let any_behind = inside.end.wrapping_sub(self.entered.start) as i32 > 0;
        self.entered.end = if any_behind { inside.end } else { self.entered.start };
        while inside.len() > 0 && (time_ms(inside.start) <= after_ms || (newest_only && inside.len() > 1)) {
            inside.start = inside.start.wrapping_add(1);
        }
        if inside.len() > 1 {
            let last_ms =
                if inside.end == self.tail { self.newest_ms } else { time_ms(inside.end.wrapping_sub(1)) };
            self.timing = Timing::of(time_ms(inside.start), last_ms, inside.len(), (after_ms, to_ms));
        }
    }
}

/// All clocks. A series that misses a sample of its clock, or has one of its own, gets another one.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    all: Vec<Clock>,
    times_ms: Rings<i64>,
    /// The times did not fit.
    is_full: bool,
    free: Vec<u32>,
    /// The clock that was made last: most likely the next series runs by it too.
    newest: u32,
    /// From which clock it was split off, and at which count.
    split: Option<(u32, u32)>,
}

impl Clocks {
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) fn get(&self, clock: u32) -> &Clock {
        &self.all[clock as usize]
    }

    /// The time of a sample that is held.
    pub(super) fn time_ms(&self, clock: u32, at: u32) -> i64 {
        self.times_ms.get(clock as usize, at)
    }

    pub(super) fn advance(&mut self, after_ms: i64, to_ms: i64, newest_only: bool) {
        let times_ms = &self.times_ms;
        for (number, clock) in self.all.iter_mut().enumerate() {
            clock.advance(|at| times_ms.get(number, at), (after_ms, to_ms), newest_only);
        }
    }

    /// Whether some row misses samples of its clock: each of them is to be split off before the windows move.
    pub(super) fn any_missing(&mut self) -> bool {
        // What was split off before may have gone on since.
        self.split = None;
        self.all.iter().any(|clock| clock.missing > 0)
    }

    /// Whether the sample at the count `tail` of one of a clock's rows has this time. The first row that has it tells the others.
    pub(super) fn tick(&mut self, number: u32, tail: u32, time_ms: i64) -> bool {
        let clock = &mut self.all[number as usize];
        if tail == clock.tail {
            clock.missing += clock.rows - 1;
            self.push(number, time_ms);
            return true;
        }
        let known_ms = match tail.wrapping_add(1) == clock.tail {
            true => clock.newest_ms,
            false => self.times_ms.get(number as usize, tail),
        };
        clock.missing -= u32::from(known_ms == time_ms);
        known_ms == time_ms
    }

    fn push(&mut self, number: u32, time_ms: i64) {
        let clock = self.all[number as usize];
        if clock.held().len() == self.times_ms.places() {
            let all = &self.all;
            self.is_full |=
                !self.times_ms.grow(|number| all.get(number).map_or(Span::default(), Clock::held));
        }
        if !self.is_full {
            self.times_ms.set(number as usize, clock.tail, time_ms);
        }
        let clock = &mut self.all[number as usize];
        (clock.tail, clock.newest_ms) = (clock.tail.wrapping_add(1), time_ms);
    }

    /// A clock with these times, for one more row.
    pub(super) fn join(&mut self, times_ms: impl Iterator<Item = i64> + Clone) -> u32 {
        self.split = None;
        let same = self.all.get(self.newest as usize).is_some_and(|clock| {
            let held = (0..clock.held().len() as u32).map(|at| clock.inside.start.wrapping_add(at));
            // What is inside already was looked at when it came in, by the rows that were there.
            clock.rows > 0
                && clock.inside.len() == 0
                && held.map(|at| self.time_ms(self.newest, at)).eq(times_ms.clone())
        });
        if same {
            self.all[self.newest as usize].rows += 1;
            return self.newest;
        }
        let number = self.add(Clock::default());
        times_ms.for_each(|time_ms| self.push(number, time_ms));
        number
    }

    /// A clock with the first of a clock's times, up to the count `tail`, for one of its rows, which has come so far.
    pub(super) fn split(&mut self, from: u32, tail: u32) -> u32 {
        let known = self.split == Some((from, tail));
        self.split = Some((from, tail));
        if known {
            self.leave(from, tail);
            let newest = &mut self.all[self.newest as usize];
            newest.rows += 1;
            newest.missing += newest.tail.wrapping_sub(tail);
            return self.newest;
        }
        let inside = self.get(from).inside;
        let apart = self.add(Clock { inside, tail: inside.start, ..Clock::default() });
        for place in 0..(Span { start: inside.start, end: tail }).len() as u32 {
            self.push(apart, self.time_ms(from, inside.start.wrapping_add(place)));
        }
        self.leave(from, tail);
        apart
    }

    /// A row that has come so far is gone.
    pub(super) fn leave(&mut self, clock: u32, tail: u32) {
        let Some(left) = self.all.get_mut(clock as usize) else { return };
        left.rows -= 1;
        left.missing -= left.tail.wrapping_sub(tail);
        if left.rows == 0 {
            self.free.push(clock);
            self.split = None;
        }
    }

    fn add(&mut self, clock: Clock) -> u32 {
        let clock = Clock { rows: 1, ..clock };
        self.newest = match self.free.pop() {
            Some(free) => {
                self.all[free as usize] = clock;
                free
            }
            None => {
                self.all.push(clock);
                let all = &self.all;
                let held = |number: usize| all.get(number).map_or(Span::default(), Clock::held);
                self.is_full |= !self.times_ms.reserve_rows(self.all.len(), held);
                // There are no more of them than rows.
                u32::try_from(self.all.len() - 1).unwrap_or(NO_CLOCK)
            }
        };
        self.newest
    }

    pub(super) fn bytes(&self) -> usize {
        self.times_ms.bytes() + self.all.capacity() * size_of::<Clock>()
    }
}
