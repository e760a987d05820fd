//! What became of the last scrape of each target, for those that show it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::gather::scrape::target::ScrapeTarget;

/// The outcome of a target's last scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScrapeStatus {
    /// Whether the scrape succeeded; `None` before the first one.
    pub(crate) up: Option<bool>,
    /// Whether any scrape has succeeded.
    pub(crate) ever_up: bool,
    /// Why the last scrape failed; empty if it did not.
    pub(crate) last_error: String,
    pub(crate) last_scrape: Option<Timestamp>,
    pub(crate) last_duration: Duration,
}

/// A scrape target and its last scrape.
#[derive(Clone, Debug)]
pub(crate) struct TargetStatus {
    pub(crate) target: Arc<ScrapeTarget>,
    /// The interval in force, which may be shorter than the monitor's.
    pub(crate) interval: Duration,
    pub(crate) status: ScrapeStatus,
}
