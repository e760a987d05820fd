//! The metrics of VPA's three components, under VPA's names and with its labels and buckets (`pkg/utils/metrics`).
//!
//! VPA's history from Prometheus (`vpa_recommender_prometheus_client_api_…`) is not here, since nothing asks for one: there
//! as here, these have no series with the default settings.

mod admission;
mod quality;
mod recommender;
mod updater;

use std::fmt;
use std::time::{Duration, Instant};

use flyball_engine::vertical::PodFacts;
use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use admission::Admission;
pub use admission::Admitted;
use quality::Quality;
pub(crate) use quality::Sample;
pub(crate) use recommender::ObjectKind;
use recommender::Recommender;
use updater::Updater;
pub(crate) use updater::{Evictions, InPlaceUpdates, UpdaterRound, VpaSize};

/// Buckets of `execution_latency_seconds`.
const EXECUTION_SECONDS: &[f64] = &[
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0,
    100.0, 120.0, 150.0, 240.0, 300.0,
];

/// The metrics of recommender, updater and admission controller; clones share them.
#[derive(Clone)]
pub struct VpaMetrics {
    registry: Registry,
    pub(crate) recommender: Recommender,
    pub(crate) updater: Updater,
    pub(crate) quality: Quality,
    admission: Admission,
    resources: IntCounterVec,
}

impl Default for VpaMetrics {
    fn default() -> Self {
        let page = Page(Registry::new());
        VpaMetrics {
            recommender: Recommender::on(&page),
            updater: Updater::on(&page),
            quality: Quality::on(&page),
            admission: Admission::on(&page),
            resources: page.counters(
                "vpa_resources_get_resources_count",
                "How often the resources of a container were read, by where they were found.",
                &["source"],
            ),
            registry: page.0,
        }
    }
}

impl fmt::Debug for VpaMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VpaMetrics").finish_non_exhaustive()
    }
}

impl VpaMetrics {
    /// Counts an admission: whether it changed the object, and how long it took.
    pub fn admitted(&self, object: Admitted, applied: bool, took: Duration) {
        self.admission.admitted(object, applied, took);
    }

    /// Takes in that the resources of a pod's containers were read.
    pub(crate) fn read_resources(&self, pod: &PodFacts) {
        for container in &pod.containers {
            let found = match container.status {
                Some(_) => "Pod.Status.ContainerStatuses",
                None => "Pod.Spec.Containers",
            };
            self.resources.with_label_values(&[found]).inc();
        }
    }

    pub(super) fn page(&self) -> String {
        let families = self.registry.gather();
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot tell of the metrics of VPA");
            String::new()
        })
    }
}

/// Families of one registry.
struct Page(Registry);

impl Page {
    fn register<C: Collector + Clone + 'static>(&self, family: prometheus::Result<C>) -> C {
        let family = family.expect("the names are good");
        self.0.register(Box::new(family.clone())).expect("each name is there once");
        family
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(options, labels))
    }

    fn execution_seconds(&self, component: &str) -> HistogramVec {
        let name = format!("vpa_{component}_execution_latency_seconds");
        self.histograms(&name, "How long the steps of a round took.", &["step"], EXECUTION_SECONDS)
    }
}

/// Measures the steps of a round; they count when the round is over.
pub(crate) struct Timer {
    seconds: HistogramVec,
    last: Instant,
    steps: Vec<(&'static str, Duration)>,
}

impl Timer {
    fn start(seconds: &HistogramVec) -> Timer {
        Timer { seconds: seconds.clone(), last: Instant::now(), steps: Vec::new() }
    }

    /// A step ended.
    pub(crate) fn step(&mut self, name: &'static str) {
        self.steps.push((name, self.last.elapsed()));
        self.last = Instant::now();
    }

    /// What was since the last step is no part of this round.
    pub(crate) fn skip(&mut self) {
        self.last = Instant::now();
    }

    /// The round ended: its steps are all of it.
    pub(crate) fn total(self) {
        let total = self.steps.iter().map(|(_, took)| *took).sum();
        for (step, took) in self.steps.into_iter().chain([("total", total)]) {
            self.seconds.with_label_values(&[step]).observe(took.as_secs_f64());
        }
    }
}

fn text(is_so: bool) -> &'static str {
    if is_so { "true" } else { "false" }
}

/// The label `vpa_size_log2`: how many pods a VerticalPodAutoscaler has, in powers of two. VPA's has as many values.
fn size_log2(pods: usize) -> String {
    const SIZE_LOG2_MAX: u32 = 20;
    pods.checked_ilog2().unwrap_or(0).min(SIZE_LOG2_MAX).to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_powers_of_two() {
        let sizes = [0, 1, 2, 3, 4, 1023, 1024, usize::MAX].map(super::size_log2);
        assert_eq!(sizes, ["0", "0", "1", "1", "2", "9", "10", "20"]);
    }
}
