//! The server's metrics, and the page that a scrape gets.
//!
//! The names and labels are those of `prometheus-fastapi-instrumentator`, so that queries written for a FastAPI server
//! work here: `http_requests_total{handler,method,status}` with the status grouped (`2xx`), the route's path as the
//! handler and `none` for paths that are no route, `http_request_duration_seconds{handler,method}`,
//! `http_request_duration_highr_seconds`, `http_requests_inprogress`, the two size summaries. Buckets are finer.
//! The `model_*` metrics add waiting, the time in the model, and refusals.
//!
//! Every series of a route exists from the first scrape with 0: a counter that appears with its first increment loses
//! that increment to `rate()`. Series are a fixed table: no request can add one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::{Method, StatusCode};

use super::exposition::{Format, Page};
use super::process::Process;
use super::queue::{Queue, Refusal};
use super::routes::Route;

/// Seconds, from a tenth of a millisecond (a prediction on an idle machine) to the half minute after which requests are
/// refused. Common thresholds (0.08, 0.1, 0.5) are bounds, so that quantiles near them are not interpolated.
const DURATION_BOUNDS: [f64; 27] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15,
    0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 30.0,
];
/// Seconds in the model alone: microseconds, or what `--work-milliseconds` sets.
const PREDICT_BOUNDS: [f64; 14] =
    [0.000002, 0.000005, 0.00001, 0.00002, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0];
/// Houses in one request.
const BATCH_BOUNDS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 5000.0];

/// The methods that have series; all others count as the last one, since clients can invent any number.
const METHODS: [&str; 8] = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "OTHER"];
const STATUSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

struct Histogram {
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    sum: Sum,
}

/// A sum of floats, kept as bits.
#[derive(Default)]
struct Sum(AtomicU64);

impl Sum {
    fn add(&self, value: f64) {
        let added = |bits| Some((f64::from_bits(bits) + value).to_bits());
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added).expect("`added` is always Some");
    }

    fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: Sum::default() }
    }

    /// Counts a value; one equal to a bound falls below it (`le`).
    fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.add(value);
    }

    fn write(&self, page: &mut Page, labels: &[(&'static str, &str)]) {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        page.buckets(labels, self.bounds, &counts, self.sum.value());
    }
}

/// The counters of one route and method.
struct Endpoint {
    route: Route,
    method: &'static str,
    statuses: [AtomicU64; STATUSES.len()],
    in_progress: AtomicU64,
    duration: Histogram,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
}

impl Endpoint {
    fn new(route: Route, method: &'static str) -> Self {
        Self {
            route,
            method,
            statuses: Default::default(),
            in_progress: AtomicU64::new(0),
            duration: Histogram::new(&DURATION_BOUNDS),
            request_bytes: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
        }
    }

    fn requests(&self) -> u64 {
        self.statuses.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Returns whether the page has this row: always for a route's own method, else once it occurred.
    fn is_shown(&self) -> bool {
        self.route.method().is_some_and(|method| method == self.method) || self.requests() > 0
    }

    fn labels(&self) -> [(&'static str, &'static str); 2] {
        [("handler", self.route.path()), ("method", self.method)]
    }
}

/// All counters of the server.
pub(super) struct Metrics {
    endpoints: Vec<Endpoint>,
    duration: Histogram,
    predictions: AtomicU64,
    predict: Histogram,
    queue: Histogram,
    batch_size: Histogram,
    rejected: [AtomicU64; Refusal::ALL.len()],
}

impl Metrics {
    pub(super) fn new() -> Self {
        let combinations = Route::ALL.into_iter().flat_map(|route| METHODS.map(|method| (route, method)));
        Self {
            endpoints: combinations.map(|(route, method)| Endpoint::new(route, method)).collect(),
            duration: Histogram::new(&DURATION_BOUNDS),
            predictions: AtomicU64::new(0),
            predict: Histogram::new(&PREDICT_BOUNDS),
            queue: Histogram::new(&DURATION_BOUNDS),
            batch_size: Histogram::new(&BATCH_BOUNDS),
            rejected: Default::default(),
        }
    }

    /// Counts the start of a request; the guard counts it as in progress until dropped.
    pub(super) fn begin(&self, route: Route, method: &Method) -> InProgress<'_> {
        let method = METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1);
        let endpoint = &self.endpoints[route as usize * METHODS.len() + method];
        endpoint.in_progress.fetch_add(1, Ordering::Relaxed);
        InProgress { endpoint, duration: &self.duration }
    }

    /// Returns the requests begun since the start, without probes, which never end.
    pub(super) fn begun(&self) -> u64 {
        let asked = self.endpoints.iter().filter(|endpoint| !endpoint.route.is_probe());
        asked.map(|endpoint| endpoint.requests() + endpoint.in_progress.load(Ordering::Relaxed)).sum()
    }

    /// Returns the requests in progress on all routes.
    pub(super) fn in_progress(&self) -> u64 {
        self.endpoints.iter().map(|endpoint| endpoint.in_progress.load(Ordering::Relaxed)).sum()
    }

    /// Counts a prediction of `houses` that began `waited` after the request's arrival and took `took`.
    pub(super) fn predicted(&self, houses: usize, waited: Duration, took: Duration) {
        self.predictions.fetch_add(houses as u64, Ordering::Relaxed);
        self.batch_size.observe(houses as f64);
        self.queue.observe(waited.as_secs_f64());
        self.predict.observe(took.as_secs_f64());
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.rejected[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Renders the page of a scrape.
    pub(super) fn page(&self, format: Format, queue: &Queue, process: &Process) -> String {
        let mut page = Page::new(format);
        self.write_requests(&mut page);
        self.write_durations(&mut page);
        self.write_model(&mut page, queue);
        write_process(&mut page, process);
        page.finish()
    }

    fn shown(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|endpoint| endpoint.is_shown())
    }

    fn write_requests(&self, page: &mut Page) {
        page.counter("http_requests", "Requests by handler, method and status.");
        for endpoint in self.shown() {
            let [handler, method] = endpoint.labels();
            for (status, count) in STATUSES.iter().zip(&endpoint.statuses) {
                // No route redirects.
                let count = count.load(Ordering::Relaxed);
                if count > 0 || *status != "3xx" {
                    page.sample("_total", &[handler, method, ("status", status)], count as f64);
                }
            }
        }
        page.gauge("http_requests_inprogress", "Requests that are being answered.");
        for endpoint in self.shown() {
            page.sample("", &endpoint.labels(), endpoint.in_progress.load(Ordering::Relaxed) as f64);
        }
    }

    fn write_durations(&self, page: &mut Page) {
        page.histogram(
            "http_request_duration_seconds",
            "Time from the arrival of a request on this machine to its response.",
        );
        for endpoint in self.shown() {
            endpoint.duration.write(page, &endpoint.labels());
        }
        page.histogram("http_request_duration_highr_seconds", "The same over all handlers.");
        self.duration.write(page, &[]);
        page.summary("http_request_size_bytes", "Size of request bodies.");
        self.write_sizes(page, |endpoint| &endpoint.request_bytes);
        page.summary("http_response_size_bytes", "Size of response bodies.");
        self.write_sizes(page, |endpoint| &endpoint.response_bytes);
    }

    fn write_sizes(&self, page: &mut Page, bytes: impl Fn(&Endpoint) -> &AtomicU64) {
        for endpoint in self.shown() {
            page.sample("_sum", &endpoint.labels(), bytes(endpoint).load(Ordering::Relaxed) as f64);
            page.sample("_count", &endpoint.labels(), endpoint.requests() as f64);
        }
    }

    fn write_model(&self, page: &mut Page, queue: &Queue) {
        page.counter("model_predictions", "Houses priced.");
        page.sample("_total", &[], self.predictions.load(Ordering::Relaxed) as f64);
        page.histogram("model_predict_seconds", "Time in the model alone, for each request.");
        self.predict.write(page, &[]);
        page.histogram(
            "model_queue_seconds",
            "Time from the arrival of a request to the start of its prediction.",
        );
        self.queue.write(page, &[]);
        page.histogram("model_batch_size", "Houses in one request.");
        self.batch_size.write(page, &[]);
        page.counter("model_requests_rejected", "Requests refused with 503 before any prediction.");
        for refusal in Refusal::ALL {
            let count = self.rejected[refusal as usize].load(Ordering::Relaxed);
            page.sample("_total", &[("reason", refusal.reason())], count as f64);
        }
        page.gauge("model_queue_depth", "Requests waiting for a free worker.");
        page.sample("", &[], queue.depth() as f64);
        page.gauge("model_inflight", "Predictions running.");
        page.sample("", &[], queue.in_flight() as f64);
        page.gauge("model_concurrency_limit", "Predictions that can run at once.");
        page.sample("", &[], queue.slot_count() as f64);
    }
}

fn write_process(page: &mut Page, process: &Process) {
    page.counter("process_cpu_seconds", "User and system CPU time spent.");
    page.sample("_total", &[], process.cpu_seconds);
    let whole = |count: Option<u64>| count.map(|count| count as f64);
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory size.", whole(process.resident_bytes)),
        ("process_virtual_memory_bytes", "Virtual memory size.", whole(process.virtual_bytes)),
        (
            "process_start_time_seconds",
            "Start time of the process since unix epoch.",
            process.start_time_seconds,
        ),
        ("process_open_fds", "Number of open file descriptors.", whole(process.open_files)),
        ("process_max_fds", "Maximum number of open file descriptors.", whole(process.open_files_max)),
    ] {
        if let Some(value) = value {
            page.gauge(name, help);
            page.sample("", &[], value);
        }
    }
}

/// A request in progress. If it is dropped before [`InProgress::finish`], the client hung up: the request is no longer in
/// progress, and counts nowhere else.
pub(super) struct InProgress<'a> {
    endpoint: &'a Endpoint,
    duration: &'a Histogram,
}

impl InProgress<'_> {
    /// Counts the finished request.
    pub(super) fn finish(self, status: StatusCode, took: Duration, request_bytes: u64, response_bytes: u64) {
        let group = usize::from(status.as_u16() / 100).clamp(2, 5) - 2;
        self.endpoint.statuses[group].fetch_add(1, Ordering::Relaxed);
        self.endpoint.duration.observe(took.as_secs_f64());
        self.endpoint.request_bytes.fetch_add(request_bytes, Ordering::Relaxed);
        self.endpoint.response_bytes.fetch_add(response_bytes, Ordering::Relaxed);
        self.duration.observe(took.as_secs_f64());
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.endpoint.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}
