//! Sums that keep what rounding loses (Kahan, in Neumaier's form), rounded exactly as Prometheus rounds them.

/// A sum and the part of it that the sum's own digits can't hold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct KahanSum {
    pub(crate) sum: f64,
    pub(crate) compensation: f64,
}

impl KahanSum {
    pub(crate) fn starting_at(sum: f64) -> KahanSum {
        KahanSum { sum, compensation: 0.0 }
    }

    pub(crate) fn add(&mut self, increment: f64) {
        let total = self.sum + increment;
        if total.is_infinite() {
            self.compensation = 0.0;
        } else if self.sum.abs() >= increment.abs() {
            self.compensation += (self.sum - total) + increment;
        } else {
            self.compensation += (increment - total) + self.sum;
        }
        self.sum = total;
    }

    pub(crate) fn total(&self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.compensation }
    }
}
