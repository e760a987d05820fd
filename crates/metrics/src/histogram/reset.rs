//! Whether a counter started anew between two histograms.

use std::collections::BTreeMap;

use super::arithmetic::shared_bounds;
use super::{Buckets, NativeHistogram, ResetHint, Schema, bounds};

impl NativeHistogram {
    /// Whether the counter started anew after `previous`: the hint says so, or something was counted there that is not here.
    ///
    /// A coarser schema or a wider bucket around zero may come without a restart; a finer schema, a narrower bucket around
    /// zero, or one that cuts a bucket with observations may not.
    pub fn detect_reset(&self, previous: &NativeHistogram) -> bool {
        match self.reset_hint {
            ResetHint::Reset => true,
            ResetHint::NotReset => false,
            ResetHint::Unknown | ResetHint::Gauge => self.count < previous.count || self.lost(previous),
        }
    }

    /// The hint that Prometheus' storage gives this sample if `previous` is the sample before it: only in a row of counters
    /// with the same buckets, and no restart, a query need not look again.
    pub(crate) fn stored_hint(&self, previous: Option<&NativeHistogram>) -> ResetHint {
        if self.reset_hint == ResetHint::Gauge {
            return ResetHint::Gauge;
        }
        let continues = |previous: &NativeHistogram| {
            previous.reset_hint != ResetHint::Gauge
                && self.reset_hint != ResetHint::Reset
                && self.schema == previous.schema
                && self.zero_threshold == previous.zero_threshold
                && self.count >= previous.count
                && !self.lost(previous)
        };
        if previous.is_some_and(continues) { ResetHint::NotReset } else { ResetHint::Unknown }
    }

    /// Whether a bucket of `previous` has more observations than the same bucket here.
    fn lost(&self, previous: &NativeHistogram) -> bool {
        match (&self.schema, &previous.schema) {
            (Schema::Custom(own), Schema::Custom(others)) if own != others => {
                let shared = shared_bounds(own, others);
                let counts = |histogram: &NativeHistogram| -> BTreeMap<i32, f64> {
                    let mut histogram = histogram.clone();
                    histogram.keep_bounds(&shared);
                    histogram.positive.iter().collect()
                };
                let (now, before) = (counts(self), counts(previous));
                let fell = |index: &i32| {
                    let [now, before] =
                        [&now, &before].map(|counts| counts.get(index).copied().unwrap_or(0.0));
                    now < before
                };
                now.keys().chain(before.keys()).any(fell)
            }
            (Schema::Custom(_), Schema::Custom(_)) => fell(previous.positive.iter(), &self.positive),
            (Schema::Exponential(own), Schema::Exponential(others)) if own <= others => {
                self.lost_exponential(previous, *own)
            }
            _ => true,
        }
    }

    fn lost_exponential(&self, previous: &NativeHistogram, schema: i8) -> bool {
        if self.zero_threshold < previous.zero_threshold {
            return true;
        }
        if self.zero_threshold == previous.zero_threshold && self.schema == previous.schema {
            return self.zero_count < previous.zero_count
                || fell(previous.positive.iter(), &self.positive)
                || fell(previous.negative.iter(), &self.negative);
        }
        let mut widened = previous.clone();
        widened.widen_zero_bucket(self.zero_threshold);
        if widened.zero_threshold != self.zero_threshold || self.zero_count < widened.zero_count {
            return true;
        }
        let mut coarser = previous.clone();
        coarser.reduce_to(schema);
        let outside_zero =
            |(index, _): &(i32, f64)| bounds::upper(&self.schema, *index) > self.zero_threshold;
        fell(coarser.positive.iter().filter(outside_zero), &self.positive)
            || fell(coarser.negative.iter().filter(outside_zero), &self.negative)
    }
}

/// Whether a count is smaller now. A bucket that isn't there any more matters if it had observations.
fn fell(previous: impl Iterator<Item = (i32, f64)>, current: &Buckets) -> bool {
    let mut current = current.iter().peekable();
    for (index, before) in previous {
        while current.next_if(|(other, _)| *other < index).is_some() {}
        let fell = match current.peek() {
            Some((other, now)) if *other == index => *now < before,
            _ => before != 0.0,
        };
        if fell {
            return true;
        }
    }
    false
}
