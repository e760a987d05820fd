//! The store: series with their newest samples, in memory, bounded, found by label.
//!
//! Appending follows Prometheus (reference: storage and TSDB head): a later sample is taken, the same sample again is
//! ignored, a sample that is older or contradicts the newest one is refused and counted. Nothing that is scraped can
//! make the store grow without bound: series, samples and age have limits ([`StoreOptions`]), and what goes over them is
//! refused or dropped, oldest first, and counted by reason ([`Rejections`]).
//!
//! The store reads no clock. [`Store::evict`] is told the time; call it about once a minute.

mod bits;
mod chunk;
mod codecs;
mod exemplars;
mod follow;
mod forget;
mod handle;
mod histogram_chunk;
mod index;
mod pages;
mod rejected;
mod samples;
mod save;
mod select;
mod series;
mod starts;
mod times;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::sample::{HistogramSample, STALE_NAN, Sample};
pub use exemplars::Exemplar;
use exemplars::Exemplars;
pub use follow::{Changes, FollowerId};
use follow::{FollowedBy, Followers};
pub use handle::{Lend, SeriesHandle};
pub(crate) use handle::{TooManySeries, label_values, select};
use index::Index;
pub(crate) use pages::PageId;
use pages::{Membership, Pages};
pub use rejected::{Rejected, Rejections};
use samples::Room;
pub use save::{DamagedFrame, FILE_HEADER, FRAME_HEADER_BYTES, Loading, Saving, frame_length};
pub use select::SeriesRef;
use series::{NOT_SAVED_MS, SampleRefused, Series};
pub(crate) use starts::{StartTimes, UNKNOWN_START_MS};

/// Metrics whose help, type and unit are kept; a target that invents names can't grow the store by them.
const METADATA_MAX: usize = 20_000;

/// The bounds of a [`Store`].
#[derive(Clone, Debug, PartialEq)]
pub struct StoreOptions {
    /// Samples older than this, before the time told to [`Store::evict`], are dropped. Default: one hour.
    pub retention: Duration,
    /// Series that may exist at once; further new ones are refused. Default: 250,000, what a thousand pods with 200 series each have, with room for a rolling update.
    pub series_max: usize,
    /// Samples that may exist at once, over all series (a histogram counts as one for each of its numbers); beyond it the oldest of the fullest series go. Default: 250 million.
    pub samples_max: usize,
    /// Bytes of memory that series, samples and index may take; beyond it the oldest samples go. Default: 250 MB, nine minutes
    /// of 200,000 series that are scraped every second.
    pub bytes_max: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            retention: Duration::from_secs(3_600),
            series_max: 250_000,
            samples_max: 250_000_000,
            bytes_max: 250_000_000,
        }
    }
}

/// A series of one [`Store`]; stays valid until the series is evicted, and is never given to another series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId {
    slot: u32,
    generation: u32,
}

impl SeriesId {
    /// Its place in the store: a small number, given again when the series is gone.
    pub(crate) fn place(self) -> usize {
        self.slot as usize
    }
}

/// What a metric is, as its target says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `counter`, `gauge`, `histogram`, …; empty when the target didn't say.
    pub kind: String,
    /// The unit (OpenMetrics only).
    pub unit: String,
    /// One sentence.
    pub help: String,
}

/// Sizes of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSize {
    /// Series at the moment.
    pub series: usize,
    /// Samples at the moment; a histogram counts as one for each of its numbers.
    pub samples: usize,
    /// Bytes of memory, estimated from the capacity of what is held.
    pub bytes: usize,
    /// What is compressed.
    pub chunks: ChunkSize,
}

/// Sizes of what is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkSize {
    /// Chunks.
    pub count: usize,
    /// Samples in them.
    pub samples: usize,
    /// Bytes of memory that they take, each with its share of the timestamps that it has in common with others.
    pub bytes: usize,
}

impl std::iter::Sum for ChunkSize {
    fn sum<I: Iterator<Item = ChunkSize>>(sizes: I) -> ChunkSize {
        sizes.fold(ChunkSize::default(), |a, b| ChunkSize {
            count: a.count + b.count,
            samples: a.samples + b.samples,
            bytes: a.bytes + b.bytes,
        })
    }
}

struct Slot {
    generation: u32,
    /// The page that repeats its newest value, if one does.
    membership: Membership,
    /// Shared with whoever reads it.
    series: Option<Arc<Series>>,
    /// Samples up to this time are in the file.
    saved_ms: i64,
    followed_by: FollowedBy,
}

/// All series. See the module's documentation.
#[derive(Default)]
pub struct Store {
    options: StoreOptions,
    slots: Vec<Slot>,
    free: Vec<u32>,
    ids: HashMap<Labels, SeriesId>,
    index: Index,
    metadata: BTreeMap<String, Metadata>,
    samples: usize,
    rejections: Rejections,
    /// Samples before this are out of bounds; moves with `evict`.
    cutoff_ms: Option<i64>,
    followers: Followers,
    exemplars: Exemplars,
    room: Room,
    pages: Pages,
    /// Nothing has ended since series were looked for that could be forgotten, in vain.
    all_alive: bool,
}

impl Store {
    /// An empty store.
    pub fn new(options: StoreOptions) -> Store {
        Store { options, ..Store::default() }
    }

    /// The series with these labels, created when it is new.
    pub fn series_id(&mut self, labels: &Labels) -> Result<SeriesId, Rejected> {
        if let Some(id) = self.ids.get(labels) {
            return Ok(*id);
        }
        if self.ids.len() >= self.options.series_max && !self.forget_ended() {
            return Err(self.reject(Rejected::TooManySeries));
        }
        let followed_by = self.followers.of_new_series(labels);
        let new = |generation| Slot {
            generation,
            membership: Membership::default(),
            series: Some(Arc::new(Series::new(labels.clone()))),
            saved_ms: NOT_SAVED_MS,
            followed_by,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = new(self.slots[slot as usize].generation);
                slot
            }
            None => {
                self.slots.push(new(0));
                // `series_max` is far below 2³².
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let id = SeriesId { slot, generation: self.slots[slot as usize].generation };
        self.index.insert(labels, slot);
        self.ids.insert(labels.clone(), id);
        self.room.set_series(self.ids.len());
        Ok(id)
    }

    /// Appends a float to a series. The same sample again is not an error.
    pub fn append(&mut self, id: SeriesId, sample: Sample) -> Result<(), Rejected> {
        self.append_started(id, sample, UNKNOWN_START_MS)
    }

    /// Appends a float that counts since `start_ms`, milliseconds since the Unix epoch; 0: nobody knows.
    pub fn append_started(&mut self, id: SeriesId, sample: Sample, start_ms: i64) -> Result<(), Rejected> {
        self.all_alive &= !sample.is_stale_marker();
        self.append_with(
            id,
            sample.timestamp_ms,
            |series, room| series.append(sample, start_ms, room),
            |followers, followed_by| followers.tell_appended(followed_by, id, sample),
        )
    }

    /// Appends a native histogram to a series. The same sample again is not an error; one whose sum is the stale marker
    /// ends the series.
    pub fn append_histogram(&mut self, id: SeriesId, sample: HistogramSample) -> Result<(), Rejected> {
        self.append_started_histogram(id, sample, UNKNOWN_START_MS)
    }

    /// Appends a native histogram that counts since `start_ms`, milliseconds since the Unix epoch; 0: nobody knows. Its empty
    /// buckets are not kept: they say no more than missing ones.
    pub fn append_started_histogram(
        &mut self,
        id: SeriesId,
        mut sample: HistogramSample,
        start_ms: i64,
    ) -> Result<(), Rejected> {
        self.all_alive &= !sample.histogram.is_stale_marker();
        if sample.histogram.has_empty_buckets() {
            Arc::make_mut(&mut sample.histogram).compact();
        }
        self.append_with(
            id,
            sample.timestamp_ms,
            |series, room| series.append_histogram(sample, start_ms, room),
            |followers, followed_by| followers.tell_reread(followed_by),
        )
    }

    fn append_with(
        &mut self,
        id: SeriesId,
        timestamp_ms: i64,
        append: impl FnOnce(&mut Series, &mut Room) -> Result<usize, SampleRefused>,
        tell: impl FnOnce(&mut Followers, &FollowedBy),
    ) -> Result<(), Rejected> {
        if self.cutoff_ms.is_some_and(|cutoff| timestamp_ms < cutoff) {
            return Err(self.reject(Rejected::TooOld));
        }
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation);
        let Some(slot) = slot else { return Err(Rejected::UnknownSeries) };
        if slot.membership.is_member() {
            self.pages.leave(slot, &mut self.room);
        }
        let Slot { series: Some(series), followed_by, .. } = slot else {
            return Err(Rejected::UnknownSeries);
        };
        match append(Arc::make_mut(series), &mut self.room) {
            Ok(0) => Ok(()),
            Ok(new) => {
                self.samples += new;
                tell(&mut self.followers, followed_by);
                Ok(())
            }
            Err(SampleRefused::OutOfOrder) => Err(self.reject(Rejected::OutOfOrder)),
            Err(SampleRefused::Duplicate) => Err(self.reject(Rejected::DuplicateTimestamp)),
        }
    }

    /// Appends a sample to the series with these labels, created when it is new.
    pub fn append_to(&mut self, labels: &Labels, sample: Sample) -> Result<SeriesId, Rejected> {
        let id = self.series_id(labels)?;
        self.append(id, sample)?;
        Ok(id)
    }

    /// Keeps an exemplar of a series if it is later than the last one and its labels are short enough; tells whether.
    pub fn append_exemplar(&mut self, series: &Labels, exemplar: Exemplar) -> bool {
        let old = self.cutoff_ms.is_some_and(|cutoff_ms| exemplar.timestamp_ms < cutoff_ms);
        !old && self.exemplars.append(series, exemplar)
    }

    /// The exemplars in `[from_ms, to_ms]`, each with its series, in the order in which they came. A copy: there are few.
    pub fn exemplars_between(&self, from_ms: i64, to_ms: i64) -> Vec<(Labels, Exemplar)> {
        self.exemplars.between(from_ms, to_ms)
    }

    /// Ends series at a time: queries after it no longer see them. A series that has newer samples, or has
    /// ended already, is left as it is. Returns how many were ended.
    pub fn mark_stale(&mut self, ids: impl IntoIterator<Item = SeriesId>, at_ms: i64) -> usize {
        let mut ended = 0;
        for id in ids {
            let alive_ms = self.series(id).and_then(|series| series.alive_ms());
            let alive = alive_ms.is_some_and(|newest_ms| newest_ms < at_ms);
            ended += usize::from(alive && self.append(id, Sample::new(at_ms, STALE_NAN)).is_ok());
        }
        ended
    }

    /// Follows the series that satisfy all matchers, those to come included. [`Store::take_changes`] tells what
    /// happened to them; the first time, that they are all to be read.
    pub fn follow(&mut self, matchers: &[Matcher]) -> FollowerId {
        let follower = self.followers.add(matchers);
        for id in self.select_ids(matchers) {
            let slot = &mut self.slots[id.slot as usize];
            slot.followed_by.push(follower.number());
            self.pages.leave(slot, &mut self.room);
        }
        follower
    }

    /// Ends what [`Store::follow`] began.
    pub fn unfollow(&mut self, follower: FollowerId) {
        self.followers.remove(follower);
        for slot in &mut self.slots {
            slot.followed_by.retain(|id| *id != follower.number());
        }
    }

    /// How many follow.
    #[cfg(test)]
    pub(crate) fn follower_count(&self) -> usize {
        self.followers.count()
    }

    /// What happened to the followed series since the last call, in `changes`, whose buffer is used again. `false` if
    /// this store knows no such follower.
    pub fn take_changes(&mut self, follower: FollowerId, changes: &mut Changes) -> bool {
        self.followers.take(follower, changes)
    }

    /// What targets say about a metric family.
    pub fn metadata(&self) -> &BTreeMap<String, Metadata> {
        &self.metadata
    }

    /// The description of a family, to be filled in; `None` when there are too many families.
    pub(crate) fn metadata_entry(&mut self, family: &str) -> Option<&mut Metadata> {
        if !self.metadata.contains_key(family) {
            if self.metadata.len() >= METADATA_MAX {
                return None;
            }
            self.metadata.insert(family.to_owned(), Metadata::default());
        }
        self.metadata.get_mut(family)
    }

    /// The bounds of this store.
    pub fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// Series, samples and bytes at the moment. Walks the store.
    pub fn size(&self) -> StoreSize {
        let series = || self.slots.iter().filter_map(|slot| slot.series.as_deref());
        debug_assert_eq!(
            self.samples,
            self.slots.iter().filter_map(|slot| Some(self.reading(slot)?.count())).sum::<usize>()
        );
        let maps = self.ids.capacity() * (size_of::<(Labels, SeriesId)>() + 1)
            + self.slots.capacity() * size_of::<Slot>();
        let bytes = series().map(Series::heap_bytes).sum::<usize>()
            + self.index.heap_bytes()
            + maps
            + self.pages.heap_bytes();
        let chunks = series().map(Series::chunks).sum();
        StoreSize { series: self.ids.len(), samples: self.samples, bytes, chunks }
    }
}

#[cfg(test)]
mod tests;
