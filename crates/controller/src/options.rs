//! How the autoscaler runs.

use std::path::PathBuf;
use std::time::Duration;

use crate::features::Features;
use crate::gather::source::servers::Answers;
use crate::tell::telemetry::VpaMetrics;

/// How the autoscaler runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Scrape targets that feed a trigger at their monitor's interval, not every second.
    pub keep_scrape_intervals: bool,
    /// The file in which decisions are kept over restarts; in memory only if there is none.
    pub history: Option<PathBuf>,
    /// The file in which the engine's memory of each target is kept over restarts: what was recommended and changed
    /// lately. It is forgotten at a restart if there is none.
    pub memories: Option<PathBuf>,
    /// The period of the vertical loop; a minute if unset, as in VPA.
    pub vertical_interval: Option<Duration>,
    /// The file in which samples are kept over restarts; in memory only if there is none.
    pub samples: Option<PathBuf>,
    /// What Prometheus has behind `--enable-feature`.
    pub features: Features,
    /// For which servers that triggers name this program answers itself; for none, if unset.
    pub answers: Answers,
    /// The file in which it is kept over restarts which Services triggers ask; in memory only if there is none.
    pub asked_services: Option<PathBuf>,
    /// Where VPA's metrics are counted: shared with who admits pods, since that is done elsewhere.
    pub vpa_metrics: VpaMetrics,
}
