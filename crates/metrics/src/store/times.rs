//! Timestamps of chunks, shared: the series of a target have the same ones.

use std::collections::VecDeque;
use std::sync::Arc;

use super::bits::{BitReader, BitWriter};
use super::codecs::DeltaCodec;

/// Timestamps that were stored last: most likely the next series has them too.
#[derive(Default)]
pub(super) struct RecentTimes(VecDeque<Known>);

struct Known {
    times_ms: Vec<i64>,
    packed: Arc<[u8]>,
    /// What these began with, if they are longer than others were.
    before: Option<Arc<[u8]>>,
}

/// Two targets that are scraped at the same time, with series that began at different times, or of which some are written out
/// late, are still found.
const RECENT_TIMES: usize = 32;

impl RecentTimes {
    /// The timestamps as a chunk keeps them.
    pub(super) fn of(&mut self, times_ms: impl ExactSizeIterator<Item = i64> + Clone) -> Arc<[u8]> {
        let same = |known: &&Known| {
            known.times_ms.len() == times_ms.len() && known.times_ms.iter().copied().eq(times_ms.clone())
        };
        match self.0.iter().find(same) {
            Some(known) => Arc::clone(&known.packed),
            None => self.keep(times_ms.collect(), None),
        }
    }

    /// `count` timestamps of a chunk, and more behind them.
    pub(super) fn longer(
        &mut self,
        before: &Arc<[u8]>,
        count: usize,
        more_ms: impl ExactSizeIterator<Item = i64> + Clone,
    ) -> Arc<[u8]> {
        let same = |known: &&Known| {
            known.before.as_ref().is_some_and(|other| Arc::ptr_eq(other, before))
                && known.times_ms.get(count..).is_some_and(|rest| rest.iter().copied().eq(more_ms.clone()))
        };
        match self.0.iter().find(same) {
            Some(known) => Arc::clone(&known.packed),
            None => {
                let (mut bits, mut codec) = (BitReader::new(before), DeltaCodec::default());
                let times_ms = (0..count).map(|_| codec.read(&mut bits)).chain(more_ms).collect();
                self.keep(times_ms, Some(Arc::clone(before)))
            }
        }
    }

    /// The same timestamps, those of others if they have them too.
    pub(super) fn share(&mut self, packed: Arc<[u8]>) -> Arc<[u8]> {
        let known = self.0.iter().find(|known| known.packed[..] == packed[..]);
        match known.map(|known| Arc::clone(&known.packed)) {
            Some(known) => known,
            None => self.push(Known { times_ms: Vec::new(), packed, before: None }),
        }
    }

    fn keep(&mut self, times_ms: Vec<i64>, before: Option<Arc<[u8]>>) -> Arc<[u8]> {
        let (mut bits, mut codec) = (BitWriter::default(), DeltaCodec::default());
        times_ms.iter().for_each(|time_ms| codec.write(*time_ms, &mut bits));
        self.push(Known { times_ms, packed: bits.into_bytes().into(), before })
    }

    fn push(&mut self, known: Known) -> Arc<[u8]> {
        let packed = Arc::clone(&known.packed);
        self.0.truncate(RECENT_TIMES - 1);
        self.0.push_front(known);
        packed
    }
}
