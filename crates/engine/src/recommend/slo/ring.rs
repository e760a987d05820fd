//! The last so many numbers, in order.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The last so many numbers; older ones are forgotten.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ring {
    most: usize,
    values: VecDeque<f64>,
}

impl Ring {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, values: VecDeque::new() }
    }

    /// Takes in a number; what is none is left out.
    pub(crate) fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.values.push_back(value);
        while self.values.len() > self.most {
            self.values.pop_front();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn clear(&mut self) {
        self.values.clear();
    }

    /// The mean of the numbers around the one so many before the last; none where that is not kept.
    pub(crate) fn around(&self, before: usize, width: usize) -> Option<f64> {
        let middle = self.values.len().checked_sub(before + 1)?;
        let (from, to) = (middle.checked_sub(width)?, (middle + width).min(self.values.len() - 1));
        Some((from..=to).map(|index| self.values[index]).sum::<f64>() / (to - from + 1) as f64)
    }

    /// The mean of the last so many, or of all there are.
    pub(crate) fn mean(&self, last: usize) -> Option<f64> {
        let count = last.min(self.values.len());
        (count > 0).then(|| self.values.iter().rev().take(count).sum::<f64>() / count as f64)
    }

    /// From the newest to the oldest.
    pub(crate) fn newest(&self) -> impl Iterator<Item = f64> + '_ {
        self.values.iter().rev().copied()
    }

    pub(crate) fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// As [`quantile`](Self::quantile), but never the largest of several: one number moves nothing.
    pub(crate) fn all_but_one(&self, share: f64) -> Option<f64> {
        let count = self.values.len() as f64;
        self.quantile(if count >= 2.0 { share.min((count - 2.0) / (count - 1.0)) } else { share })
    }

    /// The smallest number that is not below this share of them.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let mut sorted: Vec<f64> = self.values.iter().copied().collect();
        let last = sorted.len().checked_sub(1)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index, bounded by `min`"
        )]
        let index = ((last as f64 * share).ceil().max(0.0) as usize).min(last);
        let (_, value, _) = sorted.select_nth_unstable_by(index, f64::total_cmp);
        Some(*value)
    }
}
