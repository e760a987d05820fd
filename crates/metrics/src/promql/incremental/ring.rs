//! The values (or times) of many series, each as a ring: new ones come in at one end, old ones leave at the other.
//!
//! The rings stand beside each other, place by place: first the first place of every ring, then the second. Series that
//! are scraped together move through their rings together, so that a round over all of them reads memory from front to
//! back and not one line of cache for each series.

/// Memory of all rings of one selector: 15,000 series with eight minutes of samples, one each second. A selector that needs
/// more is evaluated as if it were new each time.
const BYTES_MAX: usize = 64 << 20;
/// Places of a new ring.
const PLACES_MIN: usize = 2;

/// See the module's documentation. Counts of values only grow; a ring's place is the count modulo the places.
#[derive(Debug, Default)]
pub(super) struct Rings<T> {
    values: Vec<T>,
    /// A power of two.
    places: usize,
    /// Rings for which there is room.
    rows: usize,
}

/// How far a ring has come: the counts of values that left it, and that came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) fn len(self) -> usize {
        self.end.wrapping_sub(self.start) as usize
    }
}

impl<T: Copy + Default> Rings<T> {
    /// Makes room for `rows` rings; `held` tells how far each has come. `false` if that is more than may be.
    pub(super) fn reserve_rows(&mut self, rows: usize, held: impl Fn(usize) -> Span) -> bool {
        if rows <= self.rows {
            return true;
        }
        // Some more, because pods start one after the other.
        let roomy = rows + rows / 8;
        self.resize(self.places.max(PLACES_MIN), roomy, &held)
            || self.resize(self.places.max(PLACES_MIN), rows, &held)
    }

    /// Makes each ring twice as long. `false` if that is more than may be.
    pub(super) fn grow(&mut self, held: impl Fn(usize) -> Span) -> bool {
        self.resize((self.places * 2).max(PLACES_MIN), self.rows, &held)
    }

    fn resize(&mut self, places: usize, rows: usize, held: &dyn Fn(usize) -> Span) -> bool {
        let count = places.saturating_mul(rows);
        if count.saturating_mul(size_of::<T>()) > BYTES_MAX {
            return false;
        }
        let mut next = Rings { values: vec![T::default(); count], places, rows };
        for row in 0..self.rows {
            let Span { start, end } = held(row);
            let mut at = start;
            while at != end {
                let place = next.place(row, at);
                next.values[place] = self.get(row, at);
                at = at.wrapping_add(1);
            }
        }
        *self = next;
        true
    }

    /// How many values fit into one ring.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    fn place(&self, row: usize, at: u32) -> usize {
        (at as usize & (self.places - 1)) * self.rows + row
    }

    pub(super) fn get(&self, row: usize, at: u32) -> T {
        self.values[self.place(row, at)]
    }

    pub(super) fn set(&mut self, row: usize, at: u32, value: T) {
        let place = self.place(row, at);
        self.values[place] = value;
    }

    pub(super) fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<T>()
    }
}
