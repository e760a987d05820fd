//! One scraped target: its pages go into the store, its vanished series end.
//!
//! A target is asked again and again and answers nearly the same page. So it remembers, for each series text, which series of
//! the store it is, and the order of the lines: an unchanged line costs a comparison and the parsing of a number.
//!
//! The rules are Prometheus': the target's labels are attached (`honor_labels` decides who wins a clash), a series that is
//! not on the page any more is marked stale at the scrape's time, a failed scrape is an empty page, samples with their own timestamps are
//! not tracked, and samples more than ten minutes in the future are dropped. A page with an error leaves no sample behind.

use std::collections::HashMap;

use crate::exposition::{Entry, ExpositionError, Format, Parser, SeriesLine};
use crate::labels::{Labels, METRIC_NAME};
use crate::sample::Sample;
use crate::store::{Rejected, SeriesId, Store};

/// How far in the future a target's own timestamp may lie (Prometheus: `maxAheadTime`).
const AHEAD_MAX_MS: i64 = 10 * 60 * 1_000;

/// How a target's samples are treated; the fields of a ServiceMonitor endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetOptions {
    /// In a clash, keep the exposed label instead of renaming it to `exported_…`. Default: no.
    pub honor_labels: bool,
    /// Use timestamps of the page instead of the scrape's time. Default: yes.
    pub honor_timestamps: bool,
    /// Also end series that bring their own timestamps. Default: no.
    pub track_timestamps_staleness: bool,
    /// Samples a page may have; more fail the scrape. 0: no limit.
    pub sample_limit: usize,
}

impl Default for TargetOptions {
    fn default() -> Self {
        TargetOptions {
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            sample_limit: 0,
        }
    }
}

/// A target and what it remembers between scrapes.
pub struct Target {
    labels: Labels,
    options: TargetOptions,
    cached: HashMap<Box<str>, usize>,
    lines: Vec<CachedLine>,
    /// The cached lines of the last page, in its order.
    order: Vec<usize>,
    scrape: u64,
    reports: Vec<SeriesId>,
}

struct CachedLine {
    text: Box<str>,
    labels: Labels,
    id: SeriesId,
    last_scrape: u64,
    tracked: bool,
}

/// What a scrape brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scraped {
    /// Samples on the page.
    pub samples: usize,
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
}

/// The samples that Prometheus writes about each scrape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScrapeReport {
    /// Whether the scrape succeeded: `up`.
    pub up: bool,
    /// `scrape_duration_seconds`.
    pub duration_seconds: f64,
    /// `scrape_samples_scraped` and `scrape_series_added`.
    pub scraped: Scraped,
}

impl Target {
    /// A target whose samples get `labels` (`job`, `instance`, `namespace`, `pod`, …).
    pub fn new(labels: Labels, options: TargetOptions) -> Target {
        let (cached, lines, order, reports) = Default::default();
        Target { labels, options, cached, lines, order, scrape: 0, reports }
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
        let samples = self.read(store, page, format, at_ms, &mut scraped)?;
        for (id, sample) in samples {
            scraped.rejected += usize::from(store.append(id, sample).is_err());
        }
        scraped.series_ended = self.end_vanished(store, at_ms);
        Ok(scraped)
    }

    /// Ends all series at a time: the scrape failed, or the target is gone. A target that is gone also takes its
    /// `up` and `scrape_…` series with it ([`Target::end_reports`]).
    pub fn end(&mut self, store: &mut Store, at_ms: i64) -> usize {
        self.scrape += 1;
        self.order.clear();
        self.end_vanished(store, at_ms)
    }

    /// Ends `up` and the `scrape_…` series.
    pub fn end_reports(&mut self, store: &mut Store, at_ms: i64) {
        store.mark_stale(self.reports.drain(..), at_ms);
    }

    /// Writes `up` and the `scrape_…` series.
    pub fn report(&mut self, store: &mut Store, report: &ScrapeReport, at_ms: i64) {
        let values = [
            ("up", f64::from(u8::from(report.up))),
            ("scrape_duration_seconds", report.duration_seconds),
            ("scrape_samples_scraped", report.scraped.samples as f64),
            ("scrape_samples_post_metric_relabeling", report.scraped.samples as f64),
            ("scrape_series_added", report.scraped.series_added as f64),
        ];
        self.reports.clear();
        for (name, value) in values {
            // A refusal is counted by the store; there is nobody else to tell.
            self.reports
                .extend(store.append_to(&self.labels.with(METRIC_NAME, name), Sample::new(at_ms, value)));
        }
    }

    /// Reads the whole page before anything is stored.
    fn read(
        &mut self,
        store: &mut Store,
        page: &[u8],
        format: Format,
        at_ms: i64,
        scraped: &mut Scraped,
    ) -> Result<Vec<(SeriesId, Sample)>, ScrapeError> {
        let mut samples = Vec::with_capacity(self.order.len());
        let mut order = Vec::with_capacity(self.order.len());
        let mut family = Family::default();
        let mut parser = Parser::new(page, format)?;
        loop {
            let expected = self.order.get(order.len()).copied();
            let expected_text = expected.and_then(|line| self.lines.get(line)).map(|line| &*line.text);
            let Some(entry) = parser.next_expecting(expected_text) else { break };
            let series = match entry? {
                Entry::Series(series) => series,
                other => {
                    family.describe(store, &other);
                    continue;
                }
            };
            scraped.samples += 1;
            if self.options.sample_limit > 0 && scraped.samples > self.options.sample_limit {
                return Err(ScrapeError::SampleLimit(self.options.sample_limit));
            }
            let expected = expected.filter(|_| expected_text == Some(series.text));
            let known = expected.or_else(|| self.cached.get(series.text).copied());
            let line = match known {
                Some(line) => line,
                None => {
                    let labels = series.labels(&family.kind);
                    let labels = labels.map_err(|mistake| parser.error_in_series(series.text, mistake))?;
                    let Ok(line) = self.remember(store, &series, labels) else {
                        scraped.rejected += 1;
                        continue;
                    };
                    scraped.series_added += 1;
                    line
                }
            };
            order.push(line);
            samples.extend(self.sample(store, line, &series, at_ms));
        }
        self.order = order;
        Ok(samples)
    }

    /// The sample of a line, unless it lies too far in the future.
    fn sample(
        &mut self,
        store: &mut Store,
        line: usize,
        series: &SeriesLine<'_>,
        at_ms: i64,
    ) -> Option<(SeriesId, Sample)> {
        let own_time = series.timestamp_ms.filter(|_| self.options.honor_timestamps);
        let line = &mut self.lines[line];
        if store.series(line.id).is_none() {
            // Evicted since the last scrape.
            line.id = store.series_id(&line.labels).ok()?;
        }
        line.last_scrape = self.scrape;
        line.tracked = own_time.is_none() || self.options.track_timestamps_staleness;
        let timestamp_ms = own_time.unwrap_or(at_ms);
        (timestamp_ms <= at_ms + AHEAD_MAX_MS).then_some((line.id, Sample::new(timestamp_ms, series.value)))
    }

    fn remember(
        &mut self,
        store: &mut Store,
        series: &SeriesLine<'_>,
        exposed: Labels,
    ) -> Result<usize, Rejected> {
        let labels = attach(&exposed, &self.labels, self.options.honor_labels);
        let id = store.series_id(&labels)?;
        let text: Box<str> = series.text.into();
        self.cached.insert(text.clone(), self.lines.len());
        self.lines.push(CachedLine { text, labels, id, last_scrape: self.scrape, tracked: true });
        Ok(self.lines.len() - 1)
    }

    /// Marks what the newest page lacks as stale, and forgets it.
    fn end_vanished(&mut self, store: &mut Store, at_ms: i64) -> usize {
        let scrape = self.scrape;
        if self.lines.iter().all(|line| line.last_scrape == scrape) {
            return 0;
        }
        let (kept, vanished): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.lines).into_iter().partition(|line| line.last_scrape == scrape);
        self.lines = kept;
        self.cached = self.lines.iter().enumerate().map(|(i, line)| (line.text.clone(), i)).collect();
        // Places in `lines` have moved; the next page finds its lines by text and sets the order anew.
        self.order.clear();
        store.mark_stale(vanished.iter().filter(|line| line.tracked).map(|line| line.id), at_ms)
    }
}

/// The metric family that the last comments described.
#[derive(Default)]
struct Family {
    kind: String,
}

impl Family {
    fn describe(&mut self, store: &mut Store, entry: &Entry<'_>) {
        let (name, field, text): (_, fn(&mut crate::Metadata) -> &mut String, _) = match entry {
            Entry::Help { family, text } => (family, |m| &mut m.help, *text),
            Entry::Unit { family, unit } => (family, |m| &mut m.unit, *unit),
            Entry::Type { family, kind } => {
                self.kind.clear();
                self.kind.push_str(kind);
                (family, |m| &mut m.kind, *kind)
            }
            Entry::Series(_) => return,
        };
        let Some(field) = store.metadata_entry(name).map(field) else { return };
        if field != text {
            *field = text.to_owned();
        }
    }
}

/// Exposed labels with the target's: a clashing exposed label is kept, or renamed to `exported_…`.
fn attach(exposed: &Labels, target: &Labels, honor_labels: bool) -> Labels {
    let mut pairs: Vec<(String, &str)> = Vec::with_capacity(exposed.len() + target.len());
    for (name, value) in exposed.iter() {
        let mut name = name.to_owned();
        if !honor_labels && !target.get(&name).is_empty() {
            while !target.get(&name).is_empty() || !exposed.get(&name).is_empty() {
                name.insert_str(0, "exported_");
            }
        }
        pairs.push((name, value));
    }
    let honored = |name: &str| honor_labels && !exposed.get(name).is_empty();
    let added = target.iter().filter(|(name, _)| !honored(name) && !name.starts_with("__"));
    Labels::new(pairs.iter().map(|(name, value)| (&**name, *value)).chain(added))
}

#[cfg(test)]
mod tests;
