//! One scraped target: its pages go into the store, its vanished series end.
//!
//! The rules are Prometheus': the target's labels are attached (`honor_labels` decides who wins a clash), metric relabelings
//! applied, a series that is not on the page any more is marked stale at the scrape's time, a failed scrape is an empty
//! page, samples with their own timestamps are not tracked, and samples more than ten minutes in the future are dropped. A
//! page with an error leaves no sample behind.
//!
//! A target is asked again and again and answers nearly the same page, so it remembers the last one and reads
//! only the lines that changed (`page`).

mod attach;
mod messages;
mod options;
mod page;
mod starts;

use crate::exposition::protobuf::{PageExemplar, Value};
use crate::exposition::{ExpositionError, Format};
use crate::labels::{Labels, METRIC_NAME};
use crate::sample::{HistogramSample, Sample};
use crate::store::{Exemplar, PageId, Rejected, SeriesId, Store, UNKNOWN_START_MS};
use messages::{ByLabels, ExemplarsOfKnown};
pub use options::{Limits, TargetOptions};
use page::{Found, LastPage, Read, Sampled, What};
use starts::Starts;

/// How far in the future a target's own timestamp may lie (Prometheus: `maxAheadTime`).
const AHEAD_MAX_MS: i64 = 10 * 60 * 1_000;

/// What is told of each scrape, in series of its own.
const REPORTS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// A target and what it remembers between scrapes.
pub struct Target {
    labels: Labels,
    options: TargetOptions,
    page: LastPage,
    /// Its page in the store.
    page_id: Option<PageId>,
    known: Vec<Known>,
    by_labels: ByLabels,
    scrape: u64,
    reports: [Option<SeriesId>; REPORTS.len()],
}

/// A series of the last page.
struct Known {
    labels: Labels,
    place: Place,
    last_scrape: u64,
    /// It stands on the page more than once.
    twice: bool,
    tracked: bool,
}

/// When a sample was taken.
#[derive(Clone, Copy)]
struct Times {
    /// Since when it counts.
    start_ms: i64,
    /// Its own time, where the page tells one.
    own_ms: Option<i64>,
    /// The series stands on the page already.
    again: bool,
}

/// Where a series is kept.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// In the store.
    Stored(SeriesId),
    /// Not in the store yet, or not any more.
    Nowhere,
    /// Metric relabelings dropped it.
    Dropped,
}

/// What a scrape brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scraped {
    /// Samples on the page.
    pub samples: usize,
    /// Samples that metric relabelings left.
    pub samples_post_relabeling: usize,
    /// Series that the last page didn't have.
    pub series_added: usize,
    /// Series that ended with this page.
    pub series_ended: usize,
    /// Samples that the store refused.
    pub rejected: usize,
}

/// Why a page was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// The page breaks the grammar.
    #[error(transparent)]
    Exposition(#[from] ExpositionError),
    /// More samples than the target's `sample_limit`.
    #[error("sample limit exceeded: more than {0} samples")]
    SampleLimit(usize),
    /// A label is over one of the limits of the target; the text is Prometheus'.
    #[error("{0}")]
    LabelLimit(String),
    /// A native histogram has too many buckets, however they are merged.
    #[error("histogram bucket limit exceeded")]
    BucketLimit,
    /// A message can't be read.
    #[error("protobuf: {0}")]
    Protobuf(String),
    /// Metric relabelings took the name away.
    #[error("missing metric name (__name__ label)")]
    NoMetricName,
}

/// The samples that Prometheus writes about each scrape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScrapeReport {
    /// Whether the scrape succeeded: `up`.
    pub up: bool,
    /// `scrape_duration_seconds`.
    pub duration_seconds: f64,
    /// `scrape_samples_scraped`, `scrape_samples_post_metric_relabeling` and `scrape_series_added`.
    pub scraped: Scraped,
}

impl Target {
    /// A target whose samples get `labels` (`job`, `instance`, `namespace`, `pod`, …); those that start with `__` stay out.
    pub fn new(labels: Labels, options: TargetOptions) -> Target {
        let shown = labels.iter().filter(|(name, _)| !name.starts_with("__"));
        let labels = Labels::from_sorted(shown);
        let (page, known, by_labels, reports) = Default::default();
        Target { labels, options, page, page_id: None, known, by_labels, scrape: 0, reports }
    }

    /// The labels that its samples get.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Stores a page that was scraped at `at_ms`. On an error no sample of it is stored; call [`Target::end`] then.
    pub fn ingest(
        &mut self,
        store: &mut Store,
        page: &[u8],
        format: Format,
        at_ms: i64,
    ) -> Result<Scraped, ScrapeError> {
        self.scrape += 1;
        let mut scraped = Scraped::default();
        let before = self.known.len();
        let stored = match format {
            Format::Protobuf => self.take_messages(store, page, at_ms, &mut scraped),
            _ => self.take_lines(store, page, format, at_ms, &mut scraped),
        };
        stored.inspect_err(|_| {
            self.known.truncate(before);
            self.by_labels.clear();
        })?;
        Ok(scraped)
    }

    fn take_lines(
        &mut self,
        store: &mut Store,
        page: &[u8],
        format: Format,
        at_ms: i64,
        scraped: &mut Scraped,
    ) -> Result<(), ScrapeError> {
        let Read { mut to_store, exemplars, is_other } = self.read(store, page, format, scraped)?;
        let page_id = *self.page_id.get_or_insert_with(|| store.open_page());
        let starts = self.starts(format);
        // The store has taken series out of the page, or nothing can be repeated.
        let all_members = store.page_members(page_id) == self.page.covered();
        if !store.begin_round(page_id, at_ms) || !all_members {
            to_store = self.page.series().map(|(at, _)| at).collect();
        }
        let mut page = std::mem::take(&mut self.page);
        page.uncovered.clear();
        for at in to_store {
            let What::Series(line) = &mut page.lines[at as usize].what else { continue };
            let stored = self.store_line(store, line, &starts, at_ms, page_id);
            scraped.rejected += usize::from(stored.is_err());
            line.covered = stored == Ok(true);
            if !line.covered {
                page.uncovered.push(at);
            }
        }
        self.page = page;
        // Before the series are numbered anew: exemplars name them by their numbers.
        self.store_exemplars(store, exemplars, at_ms);
        if is_other {
            scraped.series_ended = self.end_vanished(store, at_ms);
        }
        store.end_round(page_id);
        Ok(())
    }

    /// Marks the series of a page that was read anew.
    fn mark_series(&mut self) {
        for (_, line) in self.page.series() {
            let known = &mut self.known[line.found.known as usize];
            line.again = known.is_again(self.scrape);
        }
    }

    /// Since when the samples of the page count.
    fn starts(&mut self, format: Format) -> Starts {
        if format != Format::OpenMetrics || !self.options.start_timestamps {
            return Starts::default();
        }
        Starts::of(&self.known, self.page.series().map(|(_, line)| line.found))
    }

    /// Stores a float of the page. Tells whether the store repeats it from now on.
    fn store_line(
        &mut self,
        store: &mut Store,
        line: &Sampled,
        starts: &Starts,
        at_ms: i64,
        page_id: PageId,
    ) -> Result<bool, Rejected> {
        let Found { known: number, value, timestamp_ms } = line.found;
        let known = &self.known[number as usize];
        let start_ms = starts.of_series(&known.labels);
        // What else a sample says cannot be repeated.
        let is_plain = timestamp_ms.is_none() && !self.options.start_timestamps && !known.twice;
        let times = Times { start_ms, own_ms: timestamp_ms, again: line.again };
        self.store(store, number, times, at_ms, |store, id, start_ms, timestamp_ms| {
            let sample = Sample::new(timestamp_ms, value);
            if is_plain {
                store.append_to_page(id, sample, page_id)
            } else {
                store.append_started(id, sample, start_ms).map(|()| false)
            }
        })
    }

    fn take_messages(
        &mut self,
        store: &mut Store,
        page: &[u8],
        at_ms: i64,
        scraped: &mut Scraped,
    ) -> Result<(), ScrapeError> {
        let (messages, exemplars) = self.read_messages(store, page, scraped)?;
        self.page = LastPage::default();
        for (known, (start_ms, own_ms), value) in messages {
            let again = self.known[known as usize].is_again(self.scrape);
            let times = Times { start_ms, own_ms, again };
            let stored = self.store(store, known, times, at_ms, |store, id, start_ms, timestamp_ms| {
                append(store, id, (start_ms, timestamp_ms), &value).map(|()| false)
            });
            scraped.rejected += usize::from(stored.is_err());
        }
        self.store_exemplars(store, exemplars, at_ms);
        scraped.series_ended = self.end_vanished(store, at_ms);
        Ok(())
    }

    fn store_exemplars(&self, store: &mut Store, exemplars: ExemplarsOfKnown, at_ms: i64) {
        for (known, exemplar) in exemplars {
            let known = &self.known[known as usize];
            if known.place != Place::Dropped {
                let PageExemplar { labels, value, timestamp_ms } = exemplar;
                let timestamp_ms = timestamp_ms.unwrap_or(at_ms);
                store.append_exemplar(&known.labels, Exemplar { labels, value, timestamp_ms });
            }
        }
    }

    /// Ends all series at a time: the scrape failed, or the target is gone. A target that is gone also takes its
    /// `up` and `scrape_…` series with it ([`Target::end_reports`]).
    pub fn end(&mut self, store: &mut Store, at_ms: i64) -> usize {
        self.scrape += 1;
        self.page = LastPage::default();
        self.end_vanished(store, at_ms)
    }

    /// Ends `up` and the `scrape_…` series.
    pub fn end_reports(&mut self, store: &mut Store, at_ms: i64) {
        self.page_id.take().into_iter().for_each(|page_id| store.close_page(page_id));
        store.mark_stale(std::mem::take(&mut self.reports).into_iter().flatten(), at_ms);
    }

    /// Writes `up` and the `scrape_…` series.
    pub fn report(&mut self, store: &mut Store, report: &ScrapeReport, at_ms: i64) {
        let values = [
            f64::from(u8::from(report.up)),
            report.duration_seconds,
            report.scraped.samples as f64,
            report.scraped.samples_post_relabeling as f64,
            report.scraped.series_added as f64,
        ];
        for ((id, name), value) in self.reports.iter_mut().zip(REPORTS).zip(values) {
            let known = id.filter(|id| store.series(*id).is_some());
            *id = known.or_else(|| store.series_id(&self.labels.with(METRIC_NAME, name)).ok());
            // A refusal is counted by the store; there is nobody else to tell.
            id.map(|id| store.append(id, Sample::new(at_ms, value)));
        }
    }

    /// Stores one sample of the page, with its start and its own time, unless it lies too far in the future.
    fn store(
        &mut self,
        store: &mut Store,
        known: u32,
        times: Times,
        at_ms: i64,
        append: impl Fn(&mut Store, SeriesId, i64, i64) -> Result<bool, Rejected>,
    ) -> Result<bool, Rejected> {
        let known = &mut self.known[known as usize];
        if known.place == Place::Dropped {
            return Ok(false);
        }
        let own_ms = times.own_ms.filter(|_| self.options.honor_timestamps);
        if times.again && own_ms.is_none() {
            return Err(store.reject(Rejected::DuplicateTimestamp));
        }
        known.tracked = own_ms.is_none() || self.options.track_timestamps_staleness;
        let timestamp_ms = own_ms.unwrap_or(at_ms);
        if timestamp_ms > at_ms.saturating_add(AHEAD_MAX_MS) {
            return Err(store.reject(Rejected::TooNew));
        }
        let start_ms = if times.start_ms <= timestamp_ms { times.start_ms } else { UNKNOWN_START_MS };
        if let Place::Stored(id) = known.place {
            match append(store, id, start_ms, timestamp_ms) {
                // Evicted since the last scrape.
                Err(Rejected::UnknownSeries) => {}
                result => return result,
            }
        }
        known.place = Place::Nowhere;
        let id = store.series_id(&known.labels)?;
        known.place = Place::Stored(id);
        append(store, id, start_ms, timestamp_ms)
    }

    /// Marks what the newest page lacks as stale, and forgets it.
    fn end_vanished(&mut self, store: &mut Store, at_ms: i64) -> usize {
        let scrape = self.scrape;
        if self.known.iter().all(|known| known.last_scrape == scrape) {
            return 0;
        }
        let mut places = Vec::with_capacity(self.known.len());
        let mut kept = 0u32;
        for known in &self.known {
            let stays = known.last_scrape == scrape;
            places.push(stays.then_some(kept));
            kept += u32::from(stays);
        }
        self.page.renumber(&places);
        self.by_labels.retain(|_, known| {
            let number = places.get(*known as usize).copied().flatten();
            *known = number.unwrap_or(*known);
            number.is_some()
        });
        let gone = self.known.iter().filter(|known| known.last_scrape != scrape);
        let stored = gone.filter_map(|known| match known.place {
            Place::Stored(id) => Some((id, known.tracked)),
            _ => None,
        });
        let mut ended = 0;
        for (id, is_tracked) in stored {
            store.leave_page(id);
            ended += store.mark_stale(is_tracked.then_some(id), at_ms);
        }
        self.known.retain(|known| known.last_scrape == scrape);
        ended
    }
}

impl Known {
    /// Notes that it stands on the page of a scrape; tells whether it did already.
    fn is_again(&mut self, scrape: u64) -> bool {
        let again = std::mem::replace(&mut self.last_scrape, scrape) == scrape;
        self.twice = again;
        again
    }
}

fn append(
    store: &mut Store,
    id: SeriesId,
    (start_ms, timestamp_ms): (i64, i64),
    value: &Value,
) -> Result<(), Rejected> {
    match value {
        Value::Float(value) => store.append_started(id, Sample::new(timestamp_ms, *value), start_ms),
        Value::Histogram(histogram) => {
            let sample = HistogramSample { timestamp_ms, histogram: histogram.clone() };
            store.append_started_histogram(id, sample, start_ms)
        }
    }
}

#[cfg(test)]
mod tests;
