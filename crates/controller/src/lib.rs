//! The autoscaler's loop: watch, scrape, decide by the engine, act.
//!
//! [`Autoscaler::start`] needs a Kubernetes client and nothing else. `run` is the loop and the place to
//! start reading; each step of it has a module of its own.
//!
//! - `cluster`, `workload`: what is watched, and the replicas of what is scaled.
//! - `scrape`, `usage`: pages of metrics into the store; CPU and memory of pods.
//! - `tls`, `names`: whom scrapes and triggers trust, and how they find Services.
//! - `scalers`, `source`: what each autoscaler object asks for, and the readings of its triggers.
//! - `pods`, `claims`: the pods of each workload, and those that two autoscalers select.
//! - `polled`, `memories`: readings that are kept for a polling interval, and what the engine remembers over a restart.
//! - `jobs`: ScaledJobs, from their triggers to their Jobs.
//! - `autoscaler`, `files`: how the loop is started and ended, and what is written down.
//! - `act`, `history`: scale, statuses, events, and the decisions of the recent past.
//! - `vertical`: the VerticalPodAutoscaler's recommender and updater, a loop of their own.
//! - `serve`, `telemetry`: the Prometheus API, the metrics APIs, the decisions, and the autoscaler's own metrics.
#![allow(
    clippy::disallowed_methods,
    reason = "this crate connects the pure ones to clocks, sockets and files"
)]

use std::sync::{Mutex, MutexGuard, PoisonError};

mod act;
mod autoscaler;
mod claims;
mod cluster;
mod facts;
mod features;
mod files;
mod history;
mod jobs;
mod memories;
mod names;
mod pods;
mod polled;
mod run;
mod scalers;
mod scrape;
mod selector;
mod serve;
mod source;
mod store_file;
mod telemetry;
mod tls;
mod usage;
mod vertical;
mod workload;

pub use autoscaler::{AggregatedApi, Autoscaler, Options};
pub use features::Features;
pub use history::Record;
pub use scrape::target::check_relabeling;
pub use serve::host::AllowedHosts;
pub use source::servers::{AnsweredHost, Answers};
pub use telemetry::{Admitted, VpaMetrics};

/// Locks, also after a panic elsewhere: what is guarded is replaced whole, never left half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error of the API server's client as a sentence for a user: what the server said, and not how we hold it.
fn why(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) if !status.reason.is_empty() => {
            format!("the API server answered {} ({})", status.code, status.reason)
        }
        kube::Error::Api(status) => format!("the API server answered {}", status.code),
        kube::Error::HyperError(error) => format!("the API server cannot be reached: {error}"),
        kube::Error::Service(error) => format!("the API server cannot be reached: {error}"),
        kube::Error::SerdeError(error) => format!("the API server's answer cannot be read: {error}"),
        other => other.to_string(),
    }
}

/// Text as a part of a URL.
fn encode(text: &str) -> String {
    let keep = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes().map(|b| if keep(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Name and value pairs as the query of a URL.
fn encode_query(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}
