//! What others send: Prometheus remote write and OTLP.
//!
//! A request is read series by series and each sample goes into the store by the store's rules. What is refused is told
//! with its series, all of it at once; the rest of the request is kept.

pub mod otlp;
pub mod remote_write;

use std::fmt;
use std::sync::Arc;

use crate::exposition::{LABELS_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX};
use crate::histogram::NativeHistogram;
use crate::labels::{Labels, METRIC_NAME};
use crate::sample::{HistogramSample, Sample};
use crate::store::{Exemplar, Rejected, Store, UNKNOWN_START_MS};
use crate::text::quote;
use crate::wire::WireError;

/// Bytes of a request after decompression (Prometheus: `decodeReadLimit`).
pub const REQUEST_BYTES_MAX: usize = 32 << 20;
/// Problems that one answer tells of; the rest is counted.
const PROBLEMS_MAX: usize = 20;
/// How far in the future a sample may lie (Prometheus: `maxAheadTime`).
const AHEAD_MAX_MS: i64 = 10 * 60 * 1_000;

/// What of a request went into the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Floats.
    pub samples: usize,
    /// Native histograms.
    pub histograms: usize,
    /// Exemplars.
    pub exemplars: usize,
    /// Data points of OTLP of which something was refused.
    pub rejected: usize,
}

/// Why a request, or a part of it, was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushError {
    /// It can't be read, or holds what can't be stored: sending it again is of no use.
    BadRequest(String),
    /// The store is full: it may be sent again later.
    Full(String),
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::BadRequest(message) | PushError::Full(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for PushError {}

impl From<WireError> for PushError {
    fn from(error: WireError) -> PushError {
        PushError::BadRequest(error.to_string())
    }
}

/// Where the samples of a request go, and what came of them.
struct Sink<'s> {
    store: &'s mut Store,
    now_ms: i64,
    written: Written,
    problems: Vec<String>,
    further: usize,
    full: bool,
}

impl<'s> Sink<'s> {
    fn new(store: &'s mut Store, now_ms: i64) -> Sink<'s> {
        Sink { store, now_ms, written: Written::default(), problems: Vec::new(), further: 0, full: false }
    }

    fn problem(&mut self, message: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(message);
        } else {
            self.further += 1;
        }
    }

    fn problems_count(&self) -> usize {
        self.problems.len() + self.further
    }

    /// Stores a float that counts since `start_ms`.
    fn float(&mut self, labels: &Labels, timestamp_ms: i64, start_ms: i64, value: f64) {
        let start_ms = possible_start(start_ms, timestamp_ms);
        let taken = self.in_time(timestamp_ms).and_then(|()| {
            let id = self.store.series_id(labels)?;
            self.store.append_started(id, Sample::new(timestamp_ms, value), start_ms)
        });
        self.written.samples += usize::from(self.took(labels, taken));
    }

    /// Stores a native histogram that counts since `start_ms`.
    fn histogram(&mut self, labels: &Labels, timestamp_ms: i64, start_ms: i64, histogram: NativeHistogram) {
        if let Err(error) = histogram.validate() {
            return self.problem(format!("{error} for series {labels}"));
        }
        let start_ms = possible_start(start_ms, timestamp_ms);
        let taken = self.in_time(timestamp_ms).and_then(|()| {
            let id = self.store.series_id(labels)?;
            let sample = HistogramSample { timestamp_ms, histogram: Arc::new(histogram) };
            self.store.append_started_histogram(id, sample, start_ms)
        });
        self.written.histograms += usize::from(self.took(labels, taken));
    }

    fn exemplar(&mut self, labels: &Labels, exemplar: Exemplar) {
        self.written.exemplars += usize::from(self.store.append_exemplar(labels, exemplar));
    }

    fn in_time(&mut self, timestamp_ms: i64) -> Result<(), Rejected> {
        if timestamp_ms > self.now_ms.saturating_add(AHEAD_MAX_MS) {
            return Err(self.store.reject(Rejected::TooNew));
        }
        Ok(())
    }

    fn took(&mut self, labels: &Labels, taken: Result<(), Rejected>) -> bool {
        if let Err(why) = taken {
            self.full |= why == Rejected::TooManySeries;
            let more = if why == Rejected::TooNew { ": timestamp is too far in the future" } else { "" };
            self.problem(format!("{why}{more} for series {labels}"));
        }
        taken.is_ok()
    }

    /// What was written, and why not everything.
    fn finish(mut self) -> (Written, Result<(), PushError>) {
        if self.further > 0 {
            self.problems.push(format!("… and {} more", self.further));
        }
        let message = self.problems.join("\n");
        let result = match self.problems.is_empty() {
            true => Ok(()),
            false if self.full => Err(PushError::Full(message)),
            false => Err(PushError::BadRequest(message)),
        };
        (self.written, result)
    }
}

/// A start that lies behind its sample says nothing.
fn possible_start(start_ms: i64, timestamp_ms: i64) -> i64 {
    if start_ms <= timestamp_ms { start_ms } else { UNKNOWN_START_MS }
}

/// Labels as they were sent, if they name a metric and keep to the limits.
fn labels_of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Labels, String> {
    let mut pairs: Vec<(&str, &str)> = pairs.take(LABELS_MAX + 2).collect();
    pairs.sort_by_key(|pair| pair.0);
    let labels = Labels::from_sorted(pairs.iter().copied());
    let shown = || shortened(&labels);
    if pairs.len() > LABELS_MAX + 1 {
        return Err(format!("more than {LABELS_MAX} labels, got {}", shown()));
    }
    if let Some(twice) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let name = twice[0].0;
        return Err(format!("invalid labels for series, labels {}, duplicated label {name}", shown()));
    }
    if labels.get(METRIC_NAME).is_empty() || pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(format!("invalid metric name or labels, got {}", shown()));
    }
    let long =
        pairs.iter().find(|(name, value)| name.len() > NAME_BYTES_MAX || value.len() > VALUE_BYTES_MAX);
    match long {
        Some((name, _)) => {
            let name: String = name.chars().take(SHOWN_CHARS_MAX).collect();
            Err(format!("label {} is too long", quote(name.as_bytes())))
        }
        None => Ok(labels),
    }
}

/// Characters of labels that a message shows.
const SHOWN_CHARS_MAX: usize = 500;

fn shortened(labels: &Labels) -> String {
    labels.to_string().chars().take(SHOWN_CHARS_MAX).collect()
}
