//! The scraped targets: when each is due, what came of the last scrape, and which feed a trigger.
//!
//! A scrape runs by itself and may hang until its time-out; the loop waits for the due ones only a moment, so that one
//! bad target delays nobody. Targets that feed a trigger are scraped every second whatever their monitor says, because
//! a decision is worth as much as its data is new; an option keeps to the monitors' intervals.
//!
//! A failed scrape ends the target's series, as in Prometheus. Triggers that they feed then read as stale, with their
//! last value and its age: no data is not no load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flyball_metrics::exposition::Format;
use flyball_metrics::target::{ScrapeReport, Scraped, Target as Pages};
use flyball_metrics::{Labels, Store};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::gather::scrape::fetch::{Fetcher, Page};
use crate::gather::scrape::health::{ScrapeHealth, TargetNumber};
use crate::gather::scrape::pools::{Discovered, Pools};
use crate::gather::scrape::status::{ScrapeStatus, TargetStatus};
use crate::gather::scrape::target::ScrapeTarget;
use crate::options::Options;

/// How often a target that feeds a trigger is scraped.
const TRIGGER_INTERVAL: Duration = Duration::from_secs(1);

/// A scrape that starts so close to its tick has the tick's time (Prometheus: `scrapeTimestampTolerance`), but not
/// further from it than a hundredth of the interval: even distances take no room in the store.
const TICK_TOLERANCE: Duration = Duration::from_millis(2);
/// A round that comes a little early still starts what is due: rounds are not as even as ticks.
const EARLY: Duration = Duration::from_millis(100);

/// All targets.
pub(crate) struct Scraper {
    store: Arc<Mutex<Store>>,
    fetcher: Fetcher,
    keep_intervals: bool,
    store_start_timestamps: bool,
    entries: BTreeMap<(String, String), Entry>,
    pools: Arc<Pools>,
    standing: ScrapeHealth,
    /// The number of the target that was added last.
    newest: TargetNumber,
}

struct Entry {
    number: TargetNumber,
    target: Arc<ScrapeTarget>,
    pages: Arc<Mutex<Pages>>,
    status: Arc<Mutex<ScrapeStatus>>,
    running: Arc<AtomicBool>,
    due_ms: i64,
    feeds: bool,
}

impl Scraper {
    pub(crate) fn new(store: Arc<Mutex<Store>>, fetcher: Fetcher, options: &Options) -> Scraper {
        let keep_intervals = options.keep_scrape_intervals;
        let store_start_timestamps = options.features.store_start_timestamps;
        Scraper {
            store,
            fetcher,
            keep_intervals,
            store_start_timestamps,
            entries: BTreeMap::new(),
            pools: Arc::default(),
            standing: ScrapeHealth::default(),
            newest: 0,
        }
    }

    /// The health of the targets, kept up to date.
    pub(crate) fn health(&self) -> ScrapeHealth {
        self.standing.clone()
    }

    /// Takes over what discovery found. New targets are due at once; the series of vanished ones end.
    pub(crate) fn sync(&mut self, found: Discovered, now_ms: i64) {
        let mut old = std::mem::take(&mut self.entries);
        let mut ended = Vec::new();
        for mut target in found.targets {
            target.options.start_timestamps = self.store_start_timestamps;
            let entry = match old.remove(&target.key()) {
                Some(mut entry) if entry.target.scraped_like(&target) => {
                    entry.target = Arc::new(target);
                    entry
                }
                other => {
                    ended.extend(other);
                    self.newest += 1;
                    self.standing.add(self.newest, &target);
                    Entry::new(self.newest, target, now_ms)
                }
            };
            self.entries.insert(entry.target.key(), entry);
        }
        ended.extend(old.into_values());
        let mut store = self.store.lock();
        for entry in ended {
            self.standing.remove(entry.number);
            let mut pages = entry.pages.lock();
            pages.end(&mut store, now_ms);
            pages.end_reports(&mut store, now_ms);
        }
        self.pools = Arc::new(found.pools);
    }

    /// What is known of the pools beside their targets.
    pub(crate) fn pools(&self) -> Arc<Pools> {
        Arc::clone(&self.pools)
    }

    /// Says which targets feed a trigger.
    pub(crate) fn mark_feeding(&mut self, feeds: impl Fn(&ScrapeTarget) -> bool) {
        self.entries.values_mut().for_each(|entry| entry.feeds = feeds(&entry.target));
    }

    /// Starts the scrapes that are due, on `scrapes`.
    pub(crate) fn start_due(&mut self, now_ms: i64, scrapes: &mut JoinSet<()>) {
        for entry in self.entries.values_mut() {
            if entry.due_ms > now_ms + EARLY.as_millis() as i64 || entry.running.swap(true, Ordering::AcqRel)
            {
                continue;
            }
            let interval = entry.interval(self.keep_intervals);
            let tick_ms = entry.due_ms;
            entry.due_ms = next_tick(tick_ms, interval.as_millis() as i64, now_ms);
            let scrape = Scrape {
                number: entry.number,
                standing: self.standing.clone(),
                store: Arc::clone(&self.store),
                fetcher: self.fetcher.clone(),
                target: Arc::clone(&entry.target),
                tick_ms,
                interval,
                pages: Arc::clone(&entry.pages),
                status: Arc::clone(&entry.status),
                running: Arc::clone(&entry.running),
            };
            scrapes.spawn(scrape.run());
        }
    }

    /// Every target with its status.
    pub(crate) fn shown(&self) -> Vec<TargetStatus> {
        let shown = |entry: &Entry| TargetStatus {
            target: Arc::clone(&entry.target),
            interval: entry.interval(self.keep_intervals),
            status: entry.status.lock().clone(),
        };
        self.entries.values().map(shown).collect()
    }
}

impl Entry {
    fn new(number: TargetNumber, target: ScrapeTarget, now_ms: i64) -> Entry {
        let labels = Labels::new(target.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        Entry {
            number,
            pages: Arc::new(Mutex::new(Pages::new(labels, target.options.clone()))),
            target: Arc::new(target),
            status: Arc::default(),
            running: Arc::default(),
            due_ms: now_ms,
            feeds: false,
        }
    }

    /// A target that has never answered is most likely just starting: it is tried every second.
    fn interval(&self, keep: bool) -> Duration {
        let wanted = self.target.interval;
        let starting = !self.status.lock().ever_up;
        if (self.feeds && !keep) || starting { wanted.min(TRIGGER_INTERVAL) } else { wanted }
    }
}

/// The next tick after now, on the grid of the ticks so far.
fn next_tick(tick_ms: i64, interval_ms: i64, now_ms: i64) -> i64 {
    let next = tick_ms + interval_ms;
    if next > now_ms { next } else { next + (now_ms - next) / interval_ms * interval_ms + interval_ms }
}

/// The time of a scrape that starts now.
fn on_tick(now: Timestamp, tick_ms: i64, interval: Duration) -> Timestamp {
    let tolerance = TICK_TOLERANCE.min(interval / 100).as_millis() as u64;
    let near = now.as_millisecond().abs_diff(tick_ms) <= tolerance;
    Timestamp::from_millisecond(tick_ms).ok().filter(|_| near).unwrap_or(now)
}

/// Whether a page says itself where it ends. The text format has but the end of its last line, without which Prometheus
/// takes it too; OpenMetrics has `# EOF`, which its reader wants; messages have nothing.
fn ends(format: Format, page: &[u8]) -> bool {
    match format {
        Format::Text => page.last() == Some(&b'\n'),
        Format::OpenMetrics => true,
        Format::Protobuf => false,
    }
}

/// One scrape, from the request to the store.
struct Scrape {
    number: TargetNumber,
    standing: ScrapeHealth,
    store: Arc<Mutex<Store>>,
    fetcher: Fetcher,
    target: Arc<ScrapeTarget>,
    tick_ms: i64,
    interval: Duration,
    pages: Arc<Mutex<Pages>>,
    status: Arc<Mutex<ScrapeStatus>>,
    running: Arc<AtomicBool>,
}

impl Scrape {
    async fn run(self) {
        let begun = Instant::now();
        let at = on_tick(Timestamp::now(), self.tick_ms, self.interval);
        let page = self.fetcher.scrape(&self.target).await.map_err(|error| error.to_string());
        self.conclude(page, at, begun.elapsed());
        self.running.store(false, Ordering::Release);
    }

    /// Stores the page, or ends the series for want of one, and says so. All of it while the store is held: nobody sees a
    /// page that is stored in part, or series that ended without the failure that ended them.
    fn conclude(&self, page: Result<Page, String>, at: Timestamp, took: Duration) {
        let at_ms = at.as_millisecond();
        let mut store = self.store.lock();
        if !self.standing.has(self.number) {
            // The target left meanwhile, and its series have ended.
            return;
        }
        let mut pages = self.pages.lock();
        let result = page.and_then(|page| self.ingest(&mut store, &mut pages, &page, at_ms));
        if result.is_err() {
            pages.end(&mut store, at_ms);
        }
        let scraped = result.as_ref().copied().unwrap_or_default();
        let report = ScrapeReport { up: result.is_ok(), duration_seconds: took.as_secs_f64(), scraped };
        pages.report(&mut store, &report, at_ms);
        let error = result.err().unwrap_or_default();
        // Prometheus takes an empty page for a good one. Who reads its series can't: they are gone.
        let is_empty = error.is_empty() && scraped.samples == 0;
        self.standing.scraped(self.number, if is_empty { "the page has no samples" } else { &error });
        let mut status = self.status.lock();
        if error != status.last_error {
            match error.is_empty() {
                true => tracing::info!(target = self.target.url, "scrape works again"),
                false => tracing::warn!(target = self.target.url, error, "scrape failed"),
            }
        }
        *status = ScrapeStatus {
            up: Some(error.is_empty()),
            ever_up: status.ever_up || error.is_empty(),
            last_error: error,
            last_scrape: Some(at),
            last_duration: took,
        };
    }

    fn ingest(
        &self,
        store: &mut Store,
        pages: &mut Pages,
        page: &Page,
        at_ms: i64,
    ) -> Result<Scraped, String> {
        let Page { content_type, body, has_length } = page;
        let format = if body.is_empty() {
            Format::Text
        } else {
            Format::from_content_type(Some(content_type), self.target.fallback)?
        };
        if !has_length && !ends(format, body) {
            return Err("the page may be cut off: it has neither a length nor an end of its own".to_owned());
        }
        let before = store.rejections().too_many_series;
        let scraped = pages.ingest(store, body, format, at_ms).map_err(|error| error.to_string())?;
        // A page that is stored in part would read as less load than there is.
        match store.rejections().too_many_series - before {
            0 => Ok(scraped),
            refused => Err(format!("{refused} series were refused: the store holds as many as it may")),
        }
    }
}

#[cfg(test)]
mod tests {
    use flyball_api::kinds::scrape_config::ScrapeConfig;

    use super::*;
    use crate::gather::scrape::discover::{Objects, discover};
    use crate::gather::tls::Names;

    #[test]
    fn ticks_stay_on_their_grid() {
        for (tick, now, next) in
            [(1_000, 1_003, 2_000), (1_000, 950, 2_000), (1_000, 2_000, 3_000), (1_000, 7_500, 8_000)]
        {
            assert_eq!(next_tick(tick, 1_000, now), next, "{tick} {now}");
        }
        let at = |now_ms, interval| {
            on_tick(Timestamp::from_millisecond(now_ms).unwrap(), 10_000, interval).as_millisecond()
        };
        let second = Duration::from_secs(1);
        assert_eq!((at(10_002, second), at(9_998, second), at(10_003, second)), (10_000, 10_000, 10_003));
        assert_eq!(at(10_002, Duration::from_millis(100)), 10_002);
    }

    /// Serves a page on a free port of this machine.
    async fn serve(page: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let text = async move || ([("content-type", "text/plain; version=0.0.4")], page);
        let router = axum::Router::new().route("/stats", axum::routing::get(text));
        tokio::spawn(async move { axum::serve(listener, router).await });
        port
    }

    fn pool(store: &Arc<Mutex<Store>>) -> Scraper {
        let names = Names::local(|host, namespace| matches!((host, namespace), ("model", "ml")));
        let nothing = kube::Client::new(axum::Router::new(), "default");
        Scraper::new(Arc::clone(store), Fetcher::new(nothing, names), &Options::default())
    }

    #[tokio::test]
    async fn addresses_of_a_scrape_config_are_scraped() {
        let port = serve("x{job=\"own\"} 1\ny 2\n").await;
        let config: ScrapeConfig = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "web", "namespace": "ml" },
            "spec": {
                "jobName": "shop", "metricsPath": "/stats", "scrapeInterval": "5s",
                "staticConfigs": [
                    { "targets": [format!("model:{port}")], "labels": { "team": "a" } },
                    { "targets": ["model:1"], "labels": { "team": "b" } },
                    { "targets": ["model:2"], "labels": { "team": "none" } },
                ],
                "relabelings": [
                    { "action": "drop", "sourceLabels": ["team"], "regex": "none" },
                    { "sourceLabels": ["__tmp_prometheus_job_name"], "targetLabel": "from" },
                ],
                "metricRelabelings": [{ "action": "drop", "sourceLabels": ["__name__"], "regex": "y" }],
            },
        }))
        .unwrap();
        let configs = [Arc::new(config)];
        let store = Arc::new(Mutex::new(Store::default()));
        let mut pool = pool(&store);
        pool.sync(discover(Objects { scrape_configs: &configs, ..Objects::default() }), 0);
        let mut scrapes = JoinSet::new();
        pool.start_due(0, &mut scrapes);
        while scrapes.join_next().await.is_some() {}

        let shown: Vec<(String, Option<bool>, u64)> = pool
            .shown()
            .iter()
            .map(|shown| (shown.target.pool.clone(), shown.status.up, shown.interval.as_secs()))
            .collect();
        let web = "scrapeConfig/ml/web".to_owned();
        // One that has never answered is tried every second.
        assert_eq!(shown, [(web.clone(), Some(false), 1), (web.clone(), Some(true), 5)]);
        assert_eq!(pool.pools().dropped_counts, [(web.clone(), 1)].into());
        let series: Vec<String> =
            store.lock().select(&[]).iter().map(|series| series.labels().to_string()).collect();
        let own = format!("from=\"{web}\", instance=\"model:{port}\", job=\"shop\", team=\"a\"");
        for expected in [
            format!("{{__name__=\"x\", exported_job=\"own\", {own}}}"),
            format!("{{__name__=\"up\", {own}}}"),
            format!("{{__name__=\"up\", from=\"{web}\", instance=\"model:1\", job=\"shop\", team=\"b\"}}"),
        ] {
            assert!(series.contains(&expected), "{expected} is not in {series:#?}");
        }
        assert!(!series.iter().any(|labels| labels.contains("\"y\"")), "{series:#?}");
    }
}
