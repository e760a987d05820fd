//! Records results: one recorder for the whole run, whose memory does not grow with it.
//!
//! A histogram for each worker would take 200 kB each; one behind a lock costs tens of nanoseconds per request.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

/// Longest recorded latency, in microseconds: an hour. Longer ones count as an hour.
const MAX_MICROS: u64 = 3_600_000_000;
/// Most distinct error messages; the rest count together, since a message may hold a port or a name.
const MAX_ERRORS: usize = 100;
/// Requests kept for CSV: as many as hey keeps.
const MAX_SAMPLES: usize = 1_000_000;

/// One answered request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// From the planned start (of a closed load: the actual start) to the last byte.
    pub latency: Duration,
    /// From the actual start to the last byte.
    pub service: Duration,
    /// From the start of the run to the planned start.
    pub offset: Duration,
    /// Connecting, including name look-up and TLS.
    pub dial: Duration,
    /// Name look-up.
    pub lookup: Duration,
    /// Writing the request.
    pub write: Duration,
    /// Waiting for the head of the response.
    pub wait: Duration,
    /// Reading the response.
    pub read: Duration,
    /// HTTP status code.
    pub status: u16,
    /// Size of the response's body in bytes.
    pub bytes: u64,
}

/// Mean and extremes of one quantity, in seconds.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Summary {
    /// Mean.
    pub average: f64,
    /// Smallest.
    pub fastest: f64,
    /// Largest.
    pub slowest: f64,
    #[serde(skip)]
    count: u64,
}

impl Summary {
    fn add(&mut self, value: Duration) {
        let value = value.as_secs_f64();
        self.fastest = if self.count == 0 { value } else { self.fastest.min(value) };
        self.slowest = self.slowest.max(value);
        self.count += 1;
        self.average += (value - self.average) / self.count as f64;
    }
}

/// The state of a run: totals, and the last full second.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Stats {
    /// Requests answered, whatever the status.
    pub answered: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Responses with status 400 or above.
    pub failed_statuses: u64,
    /// Requests per second, answered or failed, over the last second.
    pub rate: f64,
    /// Median latency of the last second, in seconds.
    pub p50: f64,
    /// 95th percentile of the last second, in seconds.
    pub p95: f64,
    /// 99th percentile of the last second, in seconds.
    pub p99: f64,
}

/// The results of a run.
pub(crate) struct Recorder {
    pub(crate) latency: Histogram<u64>,
    pub(crate) service: Histogram<u64>,
    pub(crate) total: Summary,
    /// Dial, look-up, write, wait, read.
    pub(crate) parts: [Summary; 5],
    pub(crate) bytes: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) unfinished: u64,
    pub(crate) samples: Option<Vec<Sample>>,
    window: Window,
}

struct Window {
    started: Instant,
    current: Histogram<u64>,
    requests: u64,
    last: Stats,
}

impl Recorder {
    pub(crate) fn new(now: Instant, keep_samples: bool) -> Self {
        Recorder {
            latency: histogram(),
            service: histogram(),
            total: Summary::default(),
            parts: [Summary::default(); 5],
            bytes: 0,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            unfinished: 0,
            samples: keep_samples.then(Vec::new),
            window: Window { started: now, current: histogram(), requests: 0, last: Stats::default() },
        }
    }

    pub(crate) fn record(&mut self, now: Instant, result: Result<Sample, String>) {
        self.window.turn(now);
        self.window.requests += 1;
        match result {
            Ok(sample) => self.answer(sample),
            Err(error) => {
                let known = self.errors.contains_key(&error) || self.errors.len() < MAX_ERRORS;
                *self.errors.entry(if known { error } else { "other errors".into() }).or_default() += 1;
            }
        }
    }

    fn answer(&mut self, sample: Sample) {
        let micros = sample.latency.as_micros() as u64;
        self.latency.saturating_record(micros);
        self.service.saturating_record(sample.service.as_micros() as u64);
        self.window.current.saturating_record(micros);
        self.total.add(sample.latency);
        let parts = [sample.dial, sample.lookup, sample.write, sample.wait, sample.read];
        for (part, value) in self.parts.iter_mut().zip(parts) {
            part.add(value);
        }
        self.bytes += sample.bytes;
        *self.statuses.entry(sample.status).or_default() += 1;
        if let Some(samples) = self.samples.as_mut().filter(|s| s.len() < MAX_SAMPLES) {
            samples.push(sample);
        }
    }

    pub(crate) fn stats(&mut self, now: Instant) -> Stats {
        self.window.turn(now);
        Stats {
            answered: self.latency.len(),
            errors: self.errors.values().sum(),
            failed_statuses: self.statuses.range(400..).map(|(_, n)| n).sum(),
            ..self.window.last
        }
    }
}

impl Window {
    /// Closes the window once its second is over.
    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.started).as_secs_f64();
        if age < 1.0 {
            return;
        }
        let at = |q| self.current.value_at_quantile(q) as f64 / 1e6;
        self.last = Stats {
            rate: self.requests as f64 / age,
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            ..Stats::default()
        };
        self.current.reset();
        (self.started, self.requests) = (now, 0);
    }
}

/// Creates a histogram of microseconds with three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_MICROS, 3).expect("the bounds are constants that hdrhistogram takes")
}
