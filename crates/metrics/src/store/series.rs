//! One series: its labels, its floats and its native histograms.
//!
//! Nearly all series have floats only, and pay one pointer for the possibility of histograms and one for that of start
//! timestamps. A series may change from one kind to the other; a stale marker is always a float.

use super::ChunkSize;
use super::chunk::Chunk;
use super::histogram_chunk::HistogramChunk;
use super::samples::{Block as _, Room, Samples, save_samples};
use super::save::Kind;
use super::starts::{StartTimes, UNKNOWN_START_MS};
use crate::labels::Labels;
use crate::sample::{ELSEWHERE_NAN_BITS, HistogramSample, STALE_NAN, Sample};

/// Why a sample was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleRefused {
    /// Older than the newest sample of its series.
    OutOfOrder,
    /// As old as the newest sample, with another value.
    Duplicate,
}

/// Before all samples: nothing is in the file.
pub(super) const NOT_SAVED_MS: i64 = i64::MIN;

/// A series and its samples. Readers share it: who changes it while they do changes a copy.
#[derive(Clone)]
pub(super) struct Series {
    pub(super) labels: Labels,
    pub(super) floats: Samples<Chunk>,
    histograms: Option<Box<Samples<HistogramChunk>>>,
    starts: Option<Box<StartTimes>>,
}

impl Series {
    pub(super) fn new(labels: Labels) -> Series {
        Series { labels, floats: Samples::default(), histograms: None, starts: None }
    }

    /// Appends by Prometheus' rule: later is taken, the same again is ignored, all else refused. Returns how much longer
    /// the series is.
    pub(super) fn append(
        &mut self,
        mut sample: Sample,
        start_ms: i64,
        room: &mut Room,
    ) -> Result<usize, SampleRefused> {
        if sample.value.to_bits() == ELSEWHERE_NAN_BITS {
            sample.value = f64::NAN;
        }
        let same = |last: Sample| last.value.to_bits() == sample.value.to_bits();
        if self.is_same(sample.timestamp_ms, |series| series.newest_float().is_some_and(same))? {
            return Ok(0);
        }
        self.floats.push(sample, room);
        self.push_start(sample.timestamp_ms, start_ms);
        Ok(1)
    }

    /// Appends the newest float again, at later times.
    pub(super) fn repeat(&mut self, times_ms: &[i64], room: &mut Room) {
        let Some(newest) = self.floats.newest().copied() else { return };
        let samples = times_ms.iter().map(|time_ms| Sample::new(*time_ms, newest.value));
        self.floats.extend(samples, room);
        times_ms.iter().for_each(|time_ms| self.push_start(*time_ms, UNKNOWN_START_MS));
    }

    /// Appends a histogram by the same rule, with the hint that tells whether its counter went on.
    pub(super) fn append_histogram(
        &mut self,
        mut sample: HistogramSample,
        start_ms: i64,
        room: &mut Room,
    ) -> Result<usize, SampleRefused> {
        if sample.histogram.is_stale_marker() {
            return self.append(Sample::new(sample.timestamp_ms, STALE_NAN), UNKNOWN_START_MS, room);
        }
        let last = self.newest_histogram().map(|last| last.histogram.clone());
        let hint = sample.histogram.stored_hint(last.as_deref());
        if sample.histogram.reset_hint != hint {
            std::sync::Arc::make_mut(&mut sample.histogram).reset_hint = hint;
        }
        let same = |last: &HistogramSample| last.histogram.same_data(&sample.histogram);
        if self.is_same(sample.timestamp_ms, |series| series.newest_histogram().is_some_and(same))? {
            return Ok(0);
        }
        let weight = HistogramChunk::weight(&sample);
        self.push_start(sample.timestamp_ms, start_ms);
        self.histograms.get_or_insert_default().push(sample, room);
        Ok(weight)
    }

    fn push_start(&mut self, timestamp_ms: i64, start_ms: i64) {
        if start_ms != UNKNOWN_START_MS || self.starts.is_some() {
            self.starts.get_or_insert_default().push(timestamp_ms, start_ms);
        }
    }

    pub(super) fn start_times(&self) -> Option<&StartTimes> {
        self.starts.as_deref()
    }

    /// Whether a sample of this time is there already; an error if another is, or a later one.
    fn is_same(&self, timestamp_ms: i64, same: impl FnOnce(&Series) -> bool) -> Result<bool, SampleRefused> {
        match self.newest_ms() {
            Some(last_ms) if timestamp_ms < last_ms => Err(SampleRefused::OutOfOrder),
            Some(last_ms) if timestamp_ms == last_ms && same(self) => Ok(true),
            Some(last_ms) if timestamp_ms == last_ms => Err(SampleRefused::Duplicate),
            _ => Ok(false),
        }
    }

    /// The newest sample, if it is a float.
    pub(super) fn newest_float(&self) -> Option<Sample> {
        self.floats.newest().copied().filter(|sample| Some(sample.timestamp_ms) == self.newest_ms())
    }

    /// The newest sample, if it is a histogram.
    pub(super) fn newest_histogram(&self) -> Option<&HistogramSample> {
        let newest = self.histograms.as_ref()?.newest()?;
        (Some(newest.timestamp_ms) == self.newest_ms()).then_some(newest)
    }

    pub(super) fn newest_ms(&self) -> Option<i64> {
        self.floats.newest_ms().max(self.histograms.as_ref().and_then(|histograms| histograms.newest_ms()))
    }

    pub(super) fn oldest_ms(&self) -> Option<i64> {
        let histograms = self.histograms.as_ref().and_then(|histograms| histograms.oldest_ms());
        self.floats.oldest_ms().into_iter().chain(histograms).min()
    }

    /// The histograms in `(after_ms, to_ms]`.
    pub(super) fn histograms<'a>(
        &'a self,
        after_ms: i64,
        to_ms: i64,
        scratch: &'a mut Vec<HistogramSample>,
    ) -> &'a [HistogramSample] {
        match &self.histograms {
            Some(histograms) => histograms.window(after_ms, to_ms, scratch),
            None => &[],
        }
    }

    /// Whether there is something that [`Series::evict`] would drop.
    pub(super) fn has_before(&self, cutoff_ms: i64) -> bool {
        let histograms = self.histograms.as_ref().is_some_and(|histograms| histograms.has_before(cutoff_ms));
        self.floats.has_before(cutoff_ms) || histograms
    }

    /// Drops samples before `cutoff_ms`, whole blocks at a time; returns how much shorter the series is.
    pub(super) fn evict(&mut self, cutoff_ms: i64) -> usize {
        let histograms = self.histograms.as_mut().map_or(0, |histograms| histograms.evict(cutoff_ms));
        let dropped = self.floats.evict(cutoff_ms) + histograms;
        self.evict_starts();
        dropped
    }

    /// Drops the oldest block, or the older half of what is plain, of each kind; returns how much shorter the series is.
    pub(super) fn drop_oldest(&mut self) -> usize {
        let histograms = self.histograms.as_mut().map_or(0, |histograms| histograms.drop_oldest());
        let dropped = self.floats.drop_oldest() + histograms;
        self.evict_starts();
        dropped
    }

    fn evict_starts(&mut self) {
        let oldest_ms = self.oldest_ms();
        if let Some(starts) = &mut self.starts {
            starts.evict(oldest_ms);
        }
    }

    /// Appends what is later than `saved_ms`, each block after what `before` writes; everything if `whole`. `false`: there is nothing.
    pub(super) fn save(
        &self,
        whole: bool,
        saved_ms: i64,
        room: &mut Room,
        out: &mut Vec<u8>,
        before: impl Fn(Kind, &mut Vec<u8>),
    ) -> bool {
        let Some(newest_ms) = self.newest_ms() else { return false };
        if !whole && saved_ms == newest_ms {
            return false;
        }
        let (each_float, each_histogram) = (
            |out: &mut Vec<u8>| before(Kind::Floats, out),
            |out: &mut Vec<u8>| before(Kind::Histograms, out),
        );
        if whole || saved_ms == NOT_SAVED_MS {
            before(Kind::Labels, out);
        }
        let after_ms = if whole { NOT_SAVED_MS } else { saved_ms };
        if let Some(starts) = self.starts.as_ref().filter(|starts| starts.has_news(after_ms)) {
            before(Kind::StartTimes, out);
            starts.save(after_ms, out);
        }
        if whole {
            self.floats.save(room, out, each_float);
            if let Some(histograms) = &self.histograms {
                histograms.save(room, out, each_histogram);
            }
            return true;
        }
        let mut scratch = Vec::new();
        let floats = self.floats.window(after_ms, i64::MAX, &mut scratch);
        save_samples::<Chunk>(floats, room, out, each_float);
        let mut scratch = Vec::new();
        let histograms = self.histograms(after_ms, i64::MAX, &mut scratch);
        save_samples::<HistogramChunk>(histograms, room, out, each_histogram);
        true
    }

    /// Takes a saved block; returns how much longer the series is.
    pub(super) fn load(&mut self, kind: Kind, from: &mut &[u8], room: &mut Room) -> Option<usize> {
        Some(match kind {
            Kind::Floats => self.floats.take_block(Chunk::load(from, room)?),
            Kind::Histograms => {
                let block = HistogramChunk::load(from, room)?;
                self.histograms.get_or_insert_default().take_block(block)
            }
            Kind::StartTimes => {
                let newest_ms = self.newest_ms();
                self.starts.get_or_insert_default().load(from, newest_ms)?;
                0
            }
            Kind::Labels => 0,
        })
    }

    /// Takes little room from now on: the series has ended.
    pub(super) fn rest(&mut self, room: &mut Room) {
        self.floats.rest(room);
        if let Some(histograms) = &mut self.histograms {
            histograms.rest(room);
        }
    }

    /// Whether the newest sample says that the series ended.
    pub(super) fn has_ended(&self) -> bool {
        self.newest_float().is_some_and(|sample| sample.is_stale_marker())
    }

    /// Ends what `load` began.
    pub(super) fn settle(&mut self, room: &mut Room) {
        self.floats.settle(room);
        if let Some(histograms) = &mut self.histograms {
            histograms.settle(room);
        }
    }

    /// How many samples there are; a histogram counts as one for each of its numbers.
    pub(super) fn samples(&self) -> usize {
        self.floats.weights() + self.histograms.as_ref().map_or(0, |histograms| histograms.weights())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.as_ref().is_none_or(|histograms| histograms.is_empty())
    }

    /// What is compressed.
    pub(super) fn chunks(&self) -> ChunkSize {
        let floats = self.floats.chunks();
        let histograms = self.histograms.as_ref().map(|histograms| histograms.chunks()).unwrap_or_default();
        ChunkSize {
            count: floats.count + histograms.count,
            samples: floats.samples + histograms.samples,
            bytes: floats.bytes + histograms.bytes,
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let histograms = self
            .histograms
            .as_ref()
            .map_or(0, |histograms| size_of::<Samples<HistogramChunk>>() + histograms.heap_bytes());
        let starts = self.starts.as_ref().map_or(0, |starts| size_of::<StartTimes>() + starts.heap_bytes());
        self.floats.heap_bytes() + histograms + starts + self.labels.heap_bytes() + size_of::<Series>()
    }
}
