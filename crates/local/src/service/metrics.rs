//! What the Services' proxies count, for `/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cluster::Key;

/// Upper bounds of the duration histogram in seconds: from below a millisecond to the longest waits.
const BOUNDS: [f64; 16] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0];

/// Counters of all Services there have been.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<BTreeMap<Key, Arc<Counters>>>);

/// Counters of one Service.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) waiting: AtomicI64,
    pub(crate) in_flight: AtomicI64,
    pub(crate) connections: AtomicU64,
    codes: Mutex<BTreeMap<u16, u64>>,
    buckets: [AtomicU64; BOUNDS.len()],
    duration_microseconds: AtomicU64,
    requests: AtomicU64,
}

/// Counts one up as long as it lives.
#[derive(Debug)]
pub(crate) struct Gauge(Arc<Counters>, fn(&Counters) -> &AtomicI64);

impl Gauge {
    pub(crate) fn new(counters: &Arc<Counters>, which: fn(&Counters) -> &AtomicI64) -> Self {
        which(counters).fetch_add(1, Ordering::Relaxed);
        Gauge(Arc::clone(counters), which)
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    /// Counts an answered request, with the time until its headers were there.
    pub(crate) fn answered(&self, code: u16, took: Duration) {
        *self.codes.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
        let seconds = took.as_secs_f64();
        if let Some(at) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.duration_microseconds.fetch_add(microseconds, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(crate) fn of(&self, service: &Key) -> Arc<Counters> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(service.clone()).or_default())
    }

    pub(crate) fn forget(&self, service: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(service);
    }

    /// The Prometheus text format.
    pub(crate) fn to_text(&self) -> String {
        let all: Vec<(String, Arc<Counters>)> = {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter()
                .map(|(key, c)| {
                    (format!("namespace=\"{}\",service=\"{}\"", key.namespace, key.name), Arc::clone(c))
                })
                .collect()
        };
        let mut out = String::new();
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        let name = "flyball_service_requests_waiting";
        head(&mut out, name, "gauge", "Requests and connections that wait for a ready endpoint.");
        for (labels, c) in &all {
            let _ = writeln!(out, "{name}{{{labels}}} {}", c.waiting.load(Ordering::Relaxed));
        }
        let name = "flyball_service_requests_in_flight";
        head(&mut out, name, "gauge", "HTTP requests that are not answered to the end.");
        for (labels, c) in &all {
            let _ = writeln!(out, "{name}{{{labels}}} {}", c.in_flight.load(Ordering::Relaxed));
        }
        let name = "flyball_service_connections_total";
        head(&mut out, name, "counter", "Connections accepted.");
        for (labels, c) in &all {
            let _ = writeln!(out, "{name}{{{labels}}} {}", c.connections.load(Ordering::Relaxed));
        }
        let name = "flyball_service_requests_total";
        head(&mut out, name, "counter", "HTTP requests answered, by status code.");
        for (labels, c) in &all {
            for (code, count) in c.codes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let _ = writeln!(out, "{name}{{{labels},code=\"{code}\"}} {count}");
            }
        }
        let name = "flyball_service_request_duration_seconds";
        head(
            &mut out,
            name,
            "histogram",
            "Time from a request's arrival to the headers of its answer, waiting included.",
        );
        for (labels, c) in &all {
            let mut sum = 0;
            for (bound, bucket) in BOUNDS.iter().zip(&c.buckets) {
                sum += bucket.load(Ordering::Relaxed);
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {sum}");
            }
            let requests = c.requests.load(Ordering::Relaxed);
            let seconds = c.duration_microseconds.load(Ordering::Relaxed) as f64 / 1e6;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {requests}");
            let _ = writeln!(out, "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {requests}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_text() {
        let metrics = Metrics::default();
        let counters = metrics.of(&Key { namespace: "ns".into(), name: "model".into() });
        counters.answered(200, Duration::from_millis(3));
        counters.answered(200, Duration::from_secs(100));
        counters.answered(503, Duration::from_millis(1));
        let waiting = Gauge::new(&counters, |c| &c.waiting);
        let text = metrics.to_text();
        for line in [
            "flyball_service_requests_waiting{namespace=\"ns\",service=\"model\"} 1",
            "flyball_service_requests_total{namespace=\"ns\",service=\"model\",code=\"200\"} 2",
            "flyball_service_request_duration_seconds_bucket{namespace=\"ns\",service=\"model\",le=\"0.001\"} 1",
            "flyball_service_request_duration_seconds_bucket{namespace=\"ns\",service=\"model\",le=\"0.005\"} 2",
            "flyball_service_request_duration_seconds_bucket{namespace=\"ns\",service=\"model\",le=\"60\"} 2",
            "flyball_service_request_duration_seconds_bucket{namespace=\"ns\",service=\"model\",le=\"+Inf\"} 3",
            "flyball_service_request_duration_seconds_count{namespace=\"ns\",service=\"model\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        drop(waiting);
        assert!(metrics.to_text().contains("requests_waiting{namespace=\"ns\",service=\"model\"} 0"));
    }
}
