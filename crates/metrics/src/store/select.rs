//! Which series there are, and how they are read.

use super::series::Series;
use super::{SeriesId, Slot, StartTimes, Store, StoreSize};
use crate::labels::{Labels, METRIC_NAME};
use crate::matcher::Matcher;
use crate::sample::{HistogramSample, Sample};

/// A series to read from.
#[derive(Clone, Copy)]
pub struct SeriesRef<'a> {
    series: &'a Series,
    /// The times at which the newest float came again.
    repeated_ms: &'a [i64],
}

impl<'a> SeriesRef<'a> {
    pub(super) fn new(series: &'a Series, repeated_ms: &'a [i64]) -> SeriesRef<'a> {
        SeriesRef { series, repeated_ms }
    }

    /// The labels, name included.
    pub fn labels(&self) -> &'a Labels {
        &self.series.labels
    }

    /// The floats in `(after_ms, to_ms]`, stale markers included. `scratch` is used where old samples must be decompressed.
    pub fn samples(&self, after_ms: i64, to_ms: i64, scratch: &'a mut Vec<Sample>) -> &'a [Sample] {
        let from = self.repeated_ms.partition_point(|time_ms| *time_ms <= after_ms);
        let to = self.repeated_ms.partition_point(|time_ms| *time_ms <= to_ms);
        let repeated_ms = self.repeated_ms.get(from..to).unwrap_or_default();
        let Some(newest) = self.series.floats.newest().filter(|_| !repeated_ms.is_empty()) else {
            return self.series.floats.window(after_ms, to_ms, scratch);
        };
        scratch.clear();
        self.series.floats.append_window(after_ms, to_ms, scratch);
        scratch.extend(repeated_ms.iter().map(|time_ms| Sample::new(*time_ms, newest.value)));
        scratch
    }

    /// The native histograms in `(after_ms, to_ms]`, with hints as Prometheus' storage gives them.
    pub fn histograms(
        &self,
        after_ms: i64,
        to_ms: i64,
        scratch: &'a mut Vec<HistogramSample>,
    ) -> &'a [HistogramSample] {
        self.series.histograms(after_ms, to_ms, scratch)
    }

    /// Since when its samples count; `None` if none of them came with a start timestamp.
    pub(crate) fn start_times(&self) -> Option<&'a StartTimes> {
        self.series.start_times()
    }

    /// The time of the oldest sample that is left.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.series.oldest_ms()
    }

    /// The newest sample, if it is a float; it may be a stale marker.
    pub fn newest(&self) -> Option<Sample> {
        let newest = self.series.newest_float()?;
        Some(Sample { timestamp_ms: *self.repeated_ms.last().unwrap_or(&newest.timestamp_ms), ..newest })
    }

    /// The newest sample, if it is a native histogram.
    pub fn newest_histogram(&self) -> Option<&'a HistogramSample> {
        self.series.newest_histogram()
    }

    fn newest_ms(&self) -> Option<i64> {
        self.repeated_ms.last().copied().or(self.series.newest_ms())
    }

    /// The time of the newest sample of any kind, unless that says that the series ended.
    pub fn alive_ms(&self) -> Option<i64> {
        let ended = self.newest().is_some_and(|sample| sample.is_stale_marker());
        self.newest_ms().filter(|_| !ended)
    }

    /// Whether it has a sample in `[from_ms, to_ms]`, or one before and one after it.
    pub fn is_between(&self, from_ms: i64, to_ms: i64) -> bool {
        let begins = self.oldest_ms().is_some_and(|oldest_ms| oldest_ms <= to_ms);
        begins && self.newest_ms().is_some_and(|newest_ms| newest_ms >= from_ms)
    }

    /// What it takes, without its share of the index.
    pub fn size(&self) -> StoreSize {
        let (bytes, chunks) = (self.series.heap_bytes(), self.series.chunks());
        StoreSize { series: 1, samples: self.count(), bytes, chunks }
    }

    pub(super) fn count(&self) -> usize {
        self.series.samples() + self.repeated_ms.len()
    }
}

impl Store {
    /// A series to read from; `None` when it was evicted.
    pub fn series(&self, id: SeriesId) -> Option<SeriesRef<'_>> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        self.reading(slot)
    }

    pub(super) fn reading<'a>(&'a self, slot: &'a Slot) -> Option<SeriesRef<'a>> {
        Some(SeriesRef::new(slot.series.as_ref()?, self.pages.repeated(slot.membership)))
    }

    /// The series that satisfy all matchers, in the order in which they came into the store.
    pub fn select(&self, matchers: &[Matcher]) -> Vec<SeriesRef<'_>> {
        self.selected(matchers).filter_map(|(_, slot)| self.reading(slot)).collect()
    }

    /// The ids of the series that satisfy all matchers, in the order of [`Store::select`].
    pub fn select_ids(&self, matchers: &[Matcher]) -> Vec<SeriesId> {
        self.selected(matchers).map(|(id, _)| id).collect()
    }

    pub(super) fn selected<'a, 'm>(
        &'a self,
        matchers: &'m [Matcher],
    ) -> impl Iterator<Item = (SeriesId, &'a Slot)> + use<'a, 'm> {
        let slots = self.index.slots(matchers);
        let slots =
            slots.unwrap_or_else(|| (0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX)).collect());
        let found = slots.into_iter().filter_map(|number: u32| {
            let slot = self.slots.get(number as usize)?;
            slot.series.as_ref()?;
            Some((SeriesId { slot: number, generation: slot.generation }, slot))
        });
        found.filter(|(_, slot)| {
            let labels = slot.series.as_ref().map(|series| &series.labels);
            labels.is_some_and(|labels| matchers.iter().all(|matcher| matcher.matches_labels(labels)))
        })
    }

    /// The series that satisfy all matchers and have a sample in `[from_ms, to_ms]`.
    pub fn select_between(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Vec<SeriesRef<'_>> {
        let mut selected = self.select(matchers);
        selected.retain(|series| series.is_between(from_ms, to_ms));
        selected
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
}
