//! `vpa_recommender_…`.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Page, Timer, text};

const RECOMMENDATION_SECONDS: &[f64] = &[
    1.0, 2.0, 5.0, 7.5, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 90.0, 120.0, 150.0, 180.0, 240.0, 300.0, 600.0,
    900.0, 1800.0,
];
/// VPA's word for the client of `metrics.k8s.io`.
const METRICS_CLIENT: &str = "default-metrics-client";
/// The version of the objects that are read.
const API_VERSION: &str = "v1";

#[derive(Clone)]
pub(crate) struct Recommender {
    objects: IntGaugeVec,
    first_recommendation: Histogram,
    execution: HistogramVec,
    states: IntGauge,
    responses: IntCounterVec,
}

/// What VerticalPodAutoscalers are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectKind {
    pub(crate) update_mode: &'static str,
    pub(crate) has_recommendation: bool,
    pub(crate) matches_pods: bool,
    pub(crate) unsupported_config: bool,
}

impl Recommender {
    pub(super) fn on(page: &Page) -> Recommender {
        let first = HistogramOpts::new(
            "vpa_recommender_recommendation_latency_seconds",
            "From the creation of a VerticalPodAutoscaler to its first recommendation.",
        );
        let states = IntGauge::new(
            "vpa_recommender_aggregate_container_states_count",
            "Containers, by name, of which samples are kept.",
        );
        Recommender {
            objects: page.gauges(
                "vpa_recommender_vpa_objects_count",
                "VerticalPodAutoscalers.",
                &["update_mode", "has_recommendation", "api", "matches_pods", "unsupported_config"],
            ),
            first_recommendation: page
                .register(Histogram::with_opts(first.buckets(RECOMMENDATION_SECONDS.to_vec()))),
            execution: page.execution_seconds("recommender"),
            states: page.register(states),
            responses: page.counters(
                "vpa_recommender_metric_server_responses",
                "Answers of metrics.k8s.io.",
                &["is_error", "client_name"],
            ),
        }
    }

    pub(crate) fn timer(&self) -> Timer {
        Timer::start(&self.execution)
    }

    /// How many VerticalPodAutoscalers of each kind there are now.
    pub(crate) fn objects(&self, counts: &BTreeMap<ObjectKind, i64>) {
        self.objects.reset();
        for (kind, count) in counts {
            let labels = [
                kind.update_mode,
                text(kind.has_recommendation),
                API_VERSION,
                text(kind.matches_pods),
                text(kind.unsupported_config),
            ];
            self.objects.with_label_values(&labels).set(*count);
        }
    }

    /// A VerticalPodAutoscaler of this age has its first recommendation.
    pub(crate) fn recommended_first(&self, age: Duration) {
        self.first_recommendation.observe(age.as_secs_f64());
    }

    pub(crate) fn states(&self, count: usize) {
        self.states.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn metrics_answered(&self, is_error: bool) {
        self.responses.with_label_values(&[text(is_error), METRICS_CLIENT]).inc();
    }
}
