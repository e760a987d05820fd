//! The scraped targets: when each is due, what came of the last scrape, and which feed a trigger.
//!
//! A scrape runs by itself and may hang until its time-out; the loop waits for the due ones only a moment, so that one
//! bad target delays nobody. Targets that feed a trigger are scraped every second whatever their monitor says, because
//! a decision is worth as much as its data is new; an option keeps to the monitors' intervals.
//!
//! A failed scrape ends the target's series, as in Prometheus. Triggers that they feed then read as stale, with their
//! last value and its age: no data is not no load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flyball_metrics::exposition::Format;
use flyball_metrics::target::{Limits, ScrapeReport, Scraped, Target as Pages, TargetOptions};
use flyball_metrics::{Labels, Store};
use http::Uri;
use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::lock;
use crate::scrape::discover::Target;
use crate::scrape::fetch::Fetcher;

/// How often a target that feeds a trigger is scraped.
const TRIGGER_INTERVAL: Duration = Duration::from_secs(1);

/// The most samples on a page whose monitor sets no `sampleLimit`: ten times what a talkative model server has, and
/// little enough that one target cannot fill the store.
const SAMPLES_PER_PAGE_MAX: usize = 10_000;

/// What came of the last scrape of a target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// `None` before the first scrape.
    pub(crate) up: Option<bool>,
    /// Whether any scrape has worked.
    pub(crate) ever_up: bool,
    pub(crate) last_error: String,
    pub(crate) last_scrape: Option<Timestamp>,
    pub(crate) last_duration: Duration,
}

/// A target, as the Prometheus API tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) target: Target,
    pub(crate) interval: Duration,
    pub(crate) status: Status,
}

/// All targets.
pub(crate) struct Pool {
    store: Arc<Mutex<Store>>,
    fetcher: Fetcher,
    keep_intervals: bool,
    entries: BTreeMap<(String, String), Entry>,
}

struct Entry {
    target: Target,
    pages: Arc<Mutex<Pages>>,
    status: Arc<Mutex<Status>>,
    running: Arc<AtomicBool>,
    due_ms: i64,
    feeds: bool,
}

impl Pool {
    pub(crate) fn new(store: Arc<Mutex<Store>>, fetcher: Fetcher, keep_intervals: bool) -> Pool {
        Pool { store, fetcher, keep_intervals, entries: BTreeMap::new() }
    }

    /// Takes over what discovery found. New targets are due at once; the series of vanished ones end.
    pub(crate) fn sync(&mut self, wanted: Vec<Target>, now_ms: i64) {
        let mut old = std::mem::take(&mut self.entries);
        for target in wanted {
            let known = old.remove(&target.key()).filter(|entry| entry.target == target);
            let entry = known.unwrap_or_else(|| Entry::new(target, now_ms));
            self.entries.insert(entry.target.key(), entry);
        }
        let mut store = lock(&self.store);
        for entry in old.into_values() {
            let mut pages = lock(&entry.pages);
            pages.end(&mut store, now_ms);
            pages.end_reports(&mut store, now_ms);
        }
    }

    /// Says which targets feed a trigger.
    pub(crate) fn mark_feeding(&mut self, feeds: impl Fn(&Target) -> bool) {
        self.entries.values_mut().for_each(|entry| entry.feeds = feeds(&entry.target));
    }

    /// Starts the scrapes that are due, on `scrapes`.
    pub(crate) fn start_due(&mut self, now_ms: i64, scrapes: &mut JoinSet<()>) {
        for entry in self.entries.values_mut() {
            if entry.due_ms > now_ms || entry.running.swap(true, Ordering::AcqRel) {
                continue;
            }
            entry.due_ms = now_ms + entry.interval(self.keep_intervals).as_millis() as i64;
            let scrape = Scrape {
                store: Arc::clone(&self.store),
                fetcher: self.fetcher.clone(),
                target: entry.target.clone(),
                pages: Arc::clone(&entry.pages),
                status: Arc::clone(&entry.status),
                running: Arc::clone(&entry.running),
            };
            scrapes.spawn(scrape.run());
        }
    }

    /// The targets whose last scrape failed.
    pub(crate) fn down(&self) -> impl Iterator<Item = (&Target, Status)> {
        let status = |entry: &Entry| lock(&entry.status).clone();
        self.entries
            .values()
            .map(move |entry| (&entry.target, status(entry)))
            .filter(|(_, s)| s.up == Some(false))
    }

    /// Every target with its status.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        let shown = |entry: &Entry| Shown {
            target: entry.target.clone(),
            interval: entry.interval(self.keep_intervals),
            status: lock(&entry.status).clone(),
        };
        self.entries.values().map(shown).collect()
    }
}

impl Entry {
    fn new(target: Target, now_ms: i64) -> Entry {
        let labels = Labels::new(target.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let options = TargetOptions {
            honor_labels: target.honor_labels,
            honor_timestamps: target.honor_timestamps,
            limits: Limits {
                sample_limit: if target.sample_limit == 0 {
                    SAMPLES_PER_PAGE_MAX
                } else {
                    target.sample_limit
                },
                ..Limits::default()
            },
            ..TargetOptions::default()
        };
        Entry {
            target,
            pages: Arc::new(Mutex::new(Pages::new(labels, options))),
            status: Arc::default(),
            running: Arc::default(),
            due_ms: now_ms,
            feeds: false,
        }
    }

    /// A target that has never answered is most likely just starting: it is tried every second.
    fn interval(&self, keep: bool) -> Duration {
        let wanted = self.target.interval;
        let starting = !lock(&self.status).ever_up;
        if (self.feeds && !keep) || starting { wanted.min(TRIGGER_INTERVAL) } else { wanted }
    }
}

/// One scrape, from the request to the store.
struct Scrape {
    store: Arc<Mutex<Store>>,
    fetcher: Fetcher,
    target: Target,
    pages: Arc<Mutex<Pages>>,
    status: Arc<Mutex<Status>>,
    running: Arc<AtomicBool>,
}

impl Scrape {
    async fn run(self) {
        let (begun, at) = (Instant::now(), Timestamp::now());
        let page = match self.target.url.parse::<Uri>() {
            Ok(uri) => self.fetcher.get(&uri, self.target.timeout).await.map_err(|error| error.to_string()),
            Err(error) => Err(format!("`{}` is not a URL: {error}", self.target.url)),
        };
        let result = page.and_then(|page| self.ingest(&page.content_type, &page.body, at));
        self.conclude(result, at, begun.elapsed());
        self.running.store(false, Ordering::Release);
    }

    fn ingest(&self, content_type: &str, body: &[u8], at: Timestamp) -> Result<Scraped, String> {
        let format = Format::from_content_type(Some(content_type), None)?;
        let mut store = lock(&self.store);
        let before = store.rejections().too_many_series;
        let scraped = lock(&self.pages).ingest(&mut store, body, format, at.as_millisecond());
        let scraped = scraped.map_err(|error| error.to_string())?;
        // A page that is stored in part would read as less load than there is.
        match store.rejections().too_many_series - before {
            0 => Ok(scraped),
            refused => Err(format!("{refused} series were refused: the store holds as many as it may")),
        }
    }

    fn conclude(&self, result: Result<Scraped, String>, at: Timestamp, took: Duration) {
        let at_ms = at.as_millisecond();
        let mut store = lock(&self.store);
        let mut pages = lock(&self.pages);
        if result.is_err() {
            pages.end(&mut store, at_ms);
        }
        let scraped = result.as_ref().copied().unwrap_or_default();
        let report = ScrapeReport { up: result.is_ok(), duration_seconds: took.as_secs_f64(), scraped };
        pages.report(&mut store, &report, at_ms);
        let error = result.err().unwrap_or_default();
        let mut status = lock(&self.status);
        if error != status.last_error {
            match error.is_empty() {
                true => tracing::info!(target = self.target.url, "scrape works again"),
                false => tracing::warn!(target = self.target.url, error, "scrape failed"),
            }
        }
        *status = Status {
            up: Some(error.is_empty()),
            ever_up: status.ever_up || error.is_empty(),
            last_error: error,
            last_scrape: Some(at),
            last_duration: took,
        };
    }
}
