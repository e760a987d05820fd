//! What the store forgets: samples that are old or too many, and series that have none.

use std::sync::Arc;

use super::{Slot, Store};

/// One series in so many is forgotten when there are too many, if it has ended: looking for them takes a while.
const FORGOTTEN_AT_ONCE: usize = 20;
/// A series that ended before this time, seen from an eviction, is compressed whole: rolling updates leave many.
const REST_AFTER_MS: i64 = 5 * 60 * 1_000;

impl Store {
    /// Drops what is older than the retention, then the oldest samples over `samples_max`, then empty series.
    pub fn evict(&mut self, now_ms: i64) {
        let retention_ms = i64::try_from(self.options.retention.as_millis()).unwrap_or(i64::MAX);
        let cutoff_ms = now_ms.saturating_sub(retention_ms);
        self.cutoff_ms = Some(cutoff_ms);
        self.exemplars.evict(cutoff_ms);
        for slot in &mut self.slots {
            self.pages.write_out_old(slot, cutoff_ms, &mut self.room);
            let Some(series) = &mut slot.series else { continue };
            let dropped =
                if series.has_before(cutoff_ms) { Arc::make_mut(series).evict(cutoff_ms) } else { 0 };
            self.samples -= dropped;
            // What only saves memory is left for the next time while somebody reads.
            if let Some(series) = Arc::get_mut(series) {
                series.floats.share(&mut self.room);
                if series.has_ended() && series.newest_ms() < Some(now_ms.saturating_sub(REST_AFTER_MS)) {
                    series.rest(&mut self.room);
                }
            }
            if dropped > 0 {
                self.followers.tell_dropped(&slot.followed_by, series.oldest_ms());
            }
        }
        self.pages.forget_written();
        self.drop_over_samples_max();
        self.drop_over_bytes_max();
        for slot in 0..self.slots.len() {
            if self.slots[slot].series.as_ref().is_some_and(|series| series.is_empty()) {
                self.remove(slot);
            }
        }
    }

    /// Takes the oldest samples from every series in turn until the bytes fit.
    fn drop_over_bytes_max(&mut self) {
        let before = self.samples;
        let mut excess = self.size().bytes.saturating_sub(self.options.bytes_max);
        while excess > 0 {
            let excess_before = excess;
            for slot in &mut self.slots {
                if excess == 0 {
                    break;
                }
                self.pages.write_out(slot, &mut self.room);
                let Some(series) = slot.series.as_mut().map(Arc::make_mut) else { continue };
                let bytes = series.heap_bytes();
                self.samples -= series.drop_oldest();
                excess = excess.saturating_sub(bytes.saturating_sub(series.heap_bytes()));
                self.followers.tell_dropped(&slot.followed_by, series.oldest_ms());
            }
            // What is left is labels and index, which `series_max` bounds.
            if excess == excess_before {
                break;
            }
        }
        self.rejections.dropped_over_samples_max += (before - self.samples) as u64;
    }

    /// Takes chunks from every series in turn until the samples fit: no target can push out another's history alone.
    fn drop_over_samples_max(&mut self) {
        while self.samples > self.options.samples_max {
            let before = self.samples;
            for slot in &mut self.slots {
                let excess = self.samples.saturating_sub(self.options.samples_max);
                if excess == 0 {
                    break;
                }
                self.pages.write_out(slot, &mut self.room);
                let Some(series) = slot.series.as_mut().map(Arc::make_mut) else { continue };
                self.samples -= series.drop_oldest();
                self.followers.tell_dropped(&slot.followed_by, series.oldest_ms());
            }
            self.rejections.dropped_over_samples_max += (before - self.samples) as u64;
        }
    }

    /// Makes room for new series: those that ended longest ago go. `false`: all are alive.
    pub(super) fn forget_ended(&mut self) -> bool {
        if self.all_alive {
            return false;
        }
        let ended = |(slot, of): (usize, &Slot)| {
            let series = of.series.as_ref().filter(|series| series.has_ended())?;
            Some((series.newest_ms(), slot))
        };
        let mut ended: Vec<_> = self.slots.iter().enumerate().filter_map(ended).collect();
        ended.sort_unstable();
        ended.truncate((self.options.series_max / FORGOTTEN_AT_ONCE).max(1));
        for (_, slot) in &ended {
            let samples = self.slots[*slot].series.as_ref().map_or(0, |series| series.samples());
            self.samples -= samples;
            self.remove(*slot);
        }
        self.all_alive = ended.is_empty();
        !self.all_alive
    }

    /// Takes a series out.
    fn remove(&mut self, slot: usize) {
        self.pages.leave(&mut self.slots[slot], &mut self.room);
        let Some(series) = self.slots[slot].series.take() else { return };
        let number = u32::try_from(slot).unwrap_or(u32::MAX);
        self.followers.tell_gone(&std::mem::take(&mut self.slots[slot].followed_by));
        self.slots[slot].generation = self.slots[slot].generation.wrapping_add(1);
        self.index.remove(&series.labels, number);
        self.ids.remove(&series.labels);
        self.room.set_series(self.ids.len());
        self.free.push(number);
    }
}
