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
mod exemplars;
mod follow;
mod histogram_chunk;
mod index;
mod samples;
mod save;
mod series;
mod starts;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::labels::{Labels, METRIC_NAME};
use crate::matcher::Matcher;
use crate::sample::{HistogramSample, STALE_NAN, Sample};
pub use exemplars::Exemplar;
use exemplars::Exemplars;
pub use follow::{Changes, FollowerId};
use follow::{FollowedBy, Followers};
use index::{Candidates, Index};
use samples::Room;
pub use save::{DamagedFrame, FILE_HEADER, FRAME_HEADER_BYTES, Loading, Saving, frame_length};
use series::{SampleRefused, Series};
pub(crate) use starts::{StartTimes, UNKNOWN_START_MS};

/// One series in so many is forgotten when there are too many, if it has ended: looking for them takes a while.
const FORGOTTEN_AT_ONCE: usize = 20;
/// A series that ended before this time, seen from an eviction, is compressed whole: rolling updates leave many.
const REST_AFTER_MS: i64 = 5 * 60 * 1_000;

/// Metrics whose help, type and unit are kept; a target that invents names can't grow the store by them.
const METADATA_MAX: usize = 20_000;

/// The bounds of a [`Store`].
#[derive(Clone, Debug, PartialEq)]
pub struct StoreOptions {
    /// Samples older than this, before the time told to [`Store::evict`], are dropped. Default: one hour.
    pub retention: Duration,
    /// Series that may exist at once; further new ones are refused. Default: 200,000, about 150 MB of labels and index.
    pub series_max: usize,
    /// Samples that may exist at once, over all series (a histogram counts as one for each of its numbers); beyond it the oldest of the fullest series go. Default: 250 million.
    pub samples_max: usize,
    /// Bytes of memory that series, samples and index may take; beyond it the oldest samples go. Default: 200 MB.
    pub bytes_max: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            retention: Duration::from_secs(3_600),
            series_max: 200_000,
            samples_max: 250_000_000,
            bytes_max: 200_000_000,
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

/// Why a sample was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Older than the newest sample of its series.
    #[error("out of order sample")]
    OutOfOrder,
    /// As old as the newest sample of its series, with another value.
    #[error("duplicate sample for timestamp")]
    DuplicateTimestamp,
    /// Older than the store keeps samples.
    #[error("out of bounds")]
    TooOld,
    /// Too far in the future.
    #[error("out of bounds")]
    TooNew,
    /// The store holds as many series as it may.
    #[error("series limit reached")]
    TooManySeries,
    /// The series was evicted; ask for its id again.
    #[error("unknown series")]
    UnknownSeries,
}

/// How many samples were refused since the store was made, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejections {
    /// See [`Rejected::OutOfOrder`].
    pub out_of_order: u64,
    /// See [`Rejected::DuplicateTimestamp`].
    pub duplicate_timestamp: u64,
    /// See [`Rejected::TooOld`].
    pub too_old: u64,
    /// See [`Rejected::TooNew`].
    pub too_new: u64,
    /// See [`Rejected::TooManySeries`].
    pub too_many_series: u64,
    /// Samples that were taken and dropped again before their age, because there were more than `samples_max` or `bytes_max`.
    pub dropped_over_samples_max: u64,
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
}

struct Slot {
    generation: u32,
    series: Option<Series>,
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
}

/// A series to read from.
#[derive(Clone, Copy)]
pub struct SeriesRef<'a>(&'a Series);

impl<'a> SeriesRef<'a> {
    /// The labels, name included.
    pub fn labels(&self) -> &'a Labels {
        &self.0.labels
    }

    /// The floats in `(after_ms, to_ms]`, stale markers included. `scratch` is used where old samples must be decompressed.
    pub fn samples(&self, after_ms: i64, to_ms: i64, scratch: &'a mut Vec<Sample>) -> &'a [Sample] {
        self.0.floats.window(after_ms, to_ms, scratch)
    }

    /// The native histograms in `(after_ms, to_ms]`, with hints as Prometheus' storage gives them.
    pub fn histograms(
        &self,
        after_ms: i64,
        to_ms: i64,
        scratch: &'a mut Vec<HistogramSample>,
    ) -> &'a [HistogramSample] {
        self.0.histograms(after_ms, to_ms, scratch)
    }

    /// Since when its samples count; `None` if none of them came with a start timestamp.
    pub(crate) fn start_times(&self) -> Option<&'a StartTimes> {
        self.0.start_times()
    }

    /// The time of the oldest sample that is left.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.0.oldest_ms()
    }

    /// The newest sample, if it is a float; it may be a stale marker.
    pub fn newest(&self) -> Option<Sample> {
        self.0.newest_float()
    }

    /// The newest sample, if it is a native histogram.
    pub fn newest_histogram(&self) -> Option<&'a HistogramSample> {
        self.0.newest_histogram()
    }

    /// The time of the newest sample of any kind, unless that says that the series ended.
    pub fn alive_ms(&self) -> Option<i64> {
        let ended = self.newest().is_some_and(|sample| sample.is_stale_marker());
        self.0.newest_ms().filter(|_| !ended)
    }
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
        let series = Some(Series::new(labels.clone()));
        let followed_by = self.followers.of_new_series(labels);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize].series = series;
                self.slots[slot as usize].followed_by = followed_by;
                slot
            }
            None => {
                self.slots.push(Slot { generation: 0, series, followed_by });
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
        let Some(Slot { series: Some(series), followed_by, .. }) = slot else {
            return Err(Rejected::UnknownSeries);
        };
        match append(series, &mut self.room) {
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

    /// The exemplars in `[from_ms, to_ms]` of the series that satisfy all matchers of any of the selectors, by series.
    pub fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        from_ms: i64,
        to_ms: i64,
    ) -> Vec<(&Labels, Vec<&Exemplar>)> {
        let wanted = |labels: &Labels| {
            selectors.iter().any(|matchers| matchers.iter().all(|matcher| matcher.matches_labels(labels)))
        };
        self.exemplars.select(wanted, from_ms, to_ms)
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

    /// Counts a refusal.
    pub(crate) fn reject(&mut self, why: Rejected) -> Rejected {
        match why {
            Rejected::OutOfOrder => self.rejections.out_of_order += 1,
            Rejected::DuplicateTimestamp => self.rejections.duplicate_timestamp += 1,
            Rejected::TooOld => self.rejections.too_old += 1,
            Rejected::TooNew => self.rejections.too_new += 1,
            Rejected::TooManySeries => self.rejections.too_many_series += 1,
            Rejected::UnknownSeries => {}
        }
        why
    }

    /// Drops what is older than the retention, then the oldest samples over `samples_max`, then empty series.
    pub fn evict(&mut self, now_ms: i64) {
        let retention_ms = i64::try_from(self.options.retention.as_millis()).unwrap_or(i64::MAX);
        let cutoff_ms = now_ms.saturating_sub(retention_ms);
        self.cutoff_ms = Some(cutoff_ms);
        self.exemplars.evict(cutoff_ms);
        for slot in &mut self.slots {
            let Some(series) = &mut slot.series else { continue };
            let dropped = series.evict(cutoff_ms);
            self.samples -= dropped;
            if series.has_ended() && series.newest_ms() < Some(now_ms.saturating_sub(REST_AFTER_MS)) {
                series.rest(&mut self.room);
            }
            if dropped > 0 {
                self.followers.tell_dropped(&slot.followed_by, series.oldest_ms());
            }
        }
        self.drop_over_samples_max();
        self.drop_over_bytes_max();
        for slot in 0..self.slots.len() {
            if self.slots[slot].series.as_ref().is_some_and(Series::is_empty) {
                self.remove(slot);
            }
        }
    }

    /// The same for bytes.
    fn drop_over_bytes_max(&mut self) {
        let before = self.samples;
        let mut excess = self.size().bytes.saturating_sub(self.options.bytes_max);
        while excess > 0 {
            let excess_before = excess;
            for slot in &mut self.slots {
                let Some(series) = slot.series.as_mut().filter(|_| excess > 0) else { continue };
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
                let Some(series) = &mut slot.series else { continue };
                let excess = self.samples.saturating_sub(self.options.samples_max);
                if excess == 0 {
                    break;
                }
                self.samples -= series.drop_oldest();
                self.followers.tell_dropped(&slot.followed_by, series.oldest_ms());
            }
            self.rejections.dropped_over_samples_max += (before - self.samples) as u64;
        }
    }

    /// Makes room for new series: those that ended longest ago go. `false`: all are alive.
    fn forget_ended(&mut self) -> bool {
        let ended = |(slot, of): (usize, &Slot)| {
            let series = of.series.as_ref().filter(|series| series.has_ended())?;
            Some((series.newest_ms(), slot))
        };
        let mut ended: Vec<_> = self.slots.iter().enumerate().filter_map(ended).collect();
        ended.sort_unstable();
        ended.truncate((self.options.series_max / FORGOTTEN_AT_ONCE).max(1));
        for (_, slot) in &ended {
            let samples = self.slots[*slot].series.as_ref().map_or(0, Series::samples);
            self.samples -= samples;
            self.remove(*slot);
        }
        !ended.is_empty()
    }

    fn remove(&mut self, slot: usize) {
        let Some(series) = self.slots[slot].series.take() else { return };
        let number = u32::try_from(slot).unwrap_or(u32::MAX);
        self.followers.tell_gone(&std::mem::take(&mut self.slots[slot].followed_by));
        self.slots[slot].generation = self.slots[slot].generation.wrapping_add(1);
        self.index.remove(&series.labels, number);
        self.ids.remove(&series.labels);
        self.room.set_series(self.ids.len());
        self.free.push(number);
    }

    /// A series to read from; `None` when it was evicted.
    pub fn series(&self, id: SeriesId) -> Option<SeriesRef<'_>> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.series.as_ref().map(SeriesRef)
    }

    /// The series that satisfy all matchers, in the order in which they came into the store.
    pub fn select(&self, matchers: &[Matcher]) -> Vec<SeriesRef<'_>> {
        self.selected(matchers).map(|(_, series)| SeriesRef(series)).collect()
    }

    /// The ids of the series that satisfy all matchers, in the order of [`Store::select`].
    pub fn select_ids(&self, matchers: &[Matcher]) -> Vec<SeriesId> {
        self.selected(matchers).map(|(id, _)| id).collect()
    }

    fn selected<'a, 'm>(
        &'a self,
        matchers: &'m [Matcher],
    ) -> impl Iterator<Item = (SeriesId, &'a Series)> + use<'a, 'm> {
        let (slots, held) = match self.index.candidates(matchers) {
            Candidates::All => ((0..self.slots.len() as u32).collect(), None),
            Candidates::These(slots, held) => (slots, Some(held)),
        };
        let found = slots.into_iter().filter_map(|number: u32| {
            let slot = self.slots.get(number as usize)?;
            Some((SeriesId { slot: number, generation: slot.generation }, slot.series.as_ref()?))
        });
        // What the index has answered is not asked of each series again.
        let others = matchers.iter().enumerate().filter(move |(place, _)| Some(*place) != held);
        let others: Vec<&Matcher> = others.map(|(_, matcher)| matcher).collect();
        found.filter(move |(_, series)| others.iter().all(|m| m.matches_labels(&series.labels)))
    }

    /// The series that satisfy all matchers and have a sample in `[from_ms, to_ms]`.
    pub fn select_between(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Vec<SeriesRef<'_>> {
        let mut selected = self.select(matchers);
        selected.retain(|series| {
            let begins = series.0.oldest_ms().is_some_and(|oldest| oldest <= to_ms);
            begins && series.0.newest_ms().is_some_and(|newest_ms| newest_ms >= from_ms)
        });
        selected
    }

    /// Follows the series that satisfy all matchers, those to come included. [`Store::take_changes`] tells what
    /// happened to them; the first time, that they are all to be read.
    pub fn follow(&mut self, matchers: &[Matcher]) -> FollowerId {
        let follower = self.followers.add(matchers);
        for id in self.select_ids(matchers) {
            self.slots[id.slot as usize].followed_by.push(follower.number());
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

    /// Whether any series has a label of this name.
    pub fn has_label(&self, name: &str) -> bool {
        self.index.values(name).next().is_some()
    }

    /// The names of all labels, sorted.
    pub fn label_names(&self) -> Vec<&str> {
        self.index.names().collect()
    }

    /// The values of a label, sorted.
    pub fn label_values(&self, name: &str) -> Vec<&str> {
        self.index.values(name).collect()
    }

    /// The names of all metrics, sorted.
    pub fn metric_names(&self) -> Vec<&str> {
        self.label_values(METRIC_NAME)
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

    /// Refused samples by reason.
    pub fn rejections(&self) -> Rejections {
        self.rejections
    }

    /// Series, samples and bytes at the moment. Walks the store.
    pub fn size(&self) -> StoreSize {
        let series = || self.slots.iter().filter_map(|slot| slot.series.as_ref());
        debug_assert_eq!(self.samples, series().map(Series::samples).sum::<usize>());
        let maps = self.ids.capacity() * (size_of::<(Labels, SeriesId)>() + 1)
            + self.slots.capacity() * size_of::<Slot>();
        let bytes = series().map(Series::heap_bytes).sum::<usize>() + self.index.heap_bytes() + maps;
        StoreSize { series: self.ids.len(), samples: self.samples, bytes }
    }
}

#[cfg(test)]
mod tests;
