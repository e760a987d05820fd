//! `vpa_admission_controller_…`.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec};

use super::{Page, text};

const LATENCY_SECONDS: &[f64] =
    &[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

/// The kinds of objects that are admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// A new pod.
    Pod,
    /// A new or changed VerticalPodAutoscaler.
    Vpa,
}

#[derive(Clone)]
pub(super) struct Admission {
    pods: IntCounterVec,
    latency: HistogramVec,
    execution: HistogramVec,
}

impl Admission {
    pub(super) fn on(page: &Page) -> Admission {
        Admission {
            pods: page.counters(
                "vpa_admission_controller_admission_pods_total",
                "New pods, by whether they were sized.",
                &["applied"],
            ),
            latency: page.histograms(
                "vpa_admission_controller_admission_latency_seconds",
                "How long an object was looked at.",
                &["status", "resource"],
                LATENCY_SECONDS,
            ),
            execution: page.execution_seconds("admission_controller"),
        }
    }

    /// There is no request to read and no answer to write, so the one step is all.
    pub(super) fn admitted(&self, object: Admitted, applied: bool, took: Duration) {
        let status = if applied { "applied" } else { "skipped" };
        let resource = match object {
            Admitted::Pod => "Pod",
            Admitted::Vpa => "VPA",
        };
        if object == Admitted::Pod {
            self.pods.with_label_values(&[text(applied)]).inc();
        }
        self.latency.with_label_values(&[status, resource]).observe(took.as_secs_f64());
        for step in ["admit", "total"] {
            self.execution.with_label_values(&[step]).observe(took.as_secs_f64());
        }
    }
}
