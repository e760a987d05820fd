//! `vpa_quality_…`: how what is used compares with what was recommended for it.

use flyball_engine::vertical::{Resource, Resources};
use prometheus::{HistogramVec, IntCounterVec, exponential_buckets};

use super::{Page, size_log2, text};

/// From -100 % to a hundred times as much.
const RELATIVE: &[f64] = &[
    -1.0, -0.75, -0.5, -0.25, -0.1, -0.05, -0.025, -0.01, -0.005, -0.0025, -0.001, 0.0, 0.001, 0.0025, 0.005,
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0,
];
const MILLIS_PER_CORE: f64 = 1000.0;

#[derive(Clone)]
pub(crate) struct Quality {
    relative_diffs: HistogramVec,
    missing: IntCounterVec,
    cpu: Amounts,
    memory: Amounts,
    changes: HistogramVec,
}

/// The families of one resource.
#[derive(Clone)]
struct Amounts {
    above_use: HistogramVec,
    up_to_use: HistogramVec,
    recommended: HistogramVec,
}

/// One sample, and what was recommended when it was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample<'a> {
    pub(crate) update_mode: &'a str,
    pub(crate) resource: Resource,
    pub(crate) is_oom: bool,
    /// Millicores, or bytes.
    pub(crate) used: i64,
    /// Before it was capped; none, or 0, if nothing was.
    pub(crate) recommended: Option<i64>,
}

impl Quality {
    pub(super) fn on(page: &Page) -> Quality {
        Quality {
            relative_diffs: page.histograms(
                "vpa_quality_usage_recommendation_relative_diffs",
                "How far use is from what is recommended, relative to that.",
                &["update_mode", "resource", "is_oom"],
                RELATIVE,
            ),
            missing: page.counters(
                "vpa_quality_usage_sample_missing_recommendation_count",
                "Samples without a recommendation.",
                &["update_mode", "resource", "is_oom"],
            ),
            cpu: Amounts::on(page, "cpu", "cores", 0.01, &[]),
            memory: Amounts::on(page, "mem", "bytes", 1e6, &["is_oom"]),
            changes: page.histograms(
                "vpa_quality_relative_recommendation_changes",
                "How far a recommendation is from the one before, relative to that.",
                &["update_mode", "resource", "vpa_size_log2"],
                RELATIVE,
            ),
        }
    }

    /// Takes in a sample.
    pub(crate) fn sample(&self, sample: Sample<'_>) {
        let labels = [sample.update_mode, sample.resource.as_str(), text(sample.is_oom)];
        let used = amount(sample.resource, sample.used);
        let recommended = sample.recommended.filter(|recommended| *recommended > 0);
        match recommended.map(|recommended| amount(sample.resource, recommended)) {
            Some(recommended) => {
                self.relative_diffs.with_label_values(&labels).observe((used - recommended) / recommended);
                self.of(sample.resource).compare(&sample, used, Some(recommended));
            }
            None => {
                self.missing.with_label_values(&labels).inc();
                self.of(sample.resource).compare(&sample, used, None);
            }
        }
    }

    /// Takes in that what is recommended to a container of so many pods was another amount before.
    pub(crate) fn changed(&self, update_mode: &str, pods: usize, before: &Resources, now: &Resources) {
        for (resource, amount) in now.iter() {
            if let Some(before) = before.get(resource).filter(|before| *before > 0) {
                let labels = [update_mode, resource.as_str(), &size_log2(pods)];
                self.changes.with_label_values(&labels).observe(amount as f64 / before as f64 - 1.0);
            }
        }
    }

    fn of(&self, resource: Resource) -> &Amounts {
        match resource {
            Resource::Cpu => &self.cpu,
            Resource::Memory => &self.memory,
        }
    }
}

impl Amounts {
    fn on(page: &Page, resource: &str, unit: &str, first: f64, more: &[&str]) -> Amounts {
        let buckets = exponential_buckets(first, 2.0, 17).expect("they grow");
        let family = |name: &str, help: &str, labels: &[&str]| {
            let labels: Vec<&str> = labels.iter().chain(more).copied().collect();
            page.histograms(&format!("vpa_quality_{resource}_{name}_{unit}"), help, &labels, &buckets)
        };
        let compared = ["update_mode", "recommendation_missing"];
        Amounts {
            above_use: family(
                "recommendation_over_usage_diffs",
                "By how much a recommendation is above what is used.",
                &compared,
            ),
            up_to_use: family(
                "recommendation_lower_equal_usage_diffs",
                "By how much a recommendation is below what is used.",
                &compared,
            ),
            recommended: family("recommendations", "What is recommended, at each sample.", &["update_mode"]),
        }
    }

    fn compare(&self, sample: &Sample<'_>, used: f64, recommended: Option<f64>) {
        let more: &[&str] = if sample.resource == Resource::Memory { &[text(sample.is_oom)] } else { &[] };
        let labels = |own: &[&'static str]| -> Vec<&str> {
            [sample.update_mode].iter().chain(own).chain(more).copied().collect()
        };
        let diff = recommended.unwrap_or(0.0) - used;
        let family = if diff > 0.0 { &self.above_use } else { &self.up_to_use };
        family.with_label_values(&labels(&[text(recommended.is_none())])).observe(diff.abs());
        if let Some(recommended) = recommended {
            self.recommended.with_label_values(&labels(&[])).observe(recommended);
        }
    }
}

/// In cores, or bytes.
fn amount(resource: Resource, amount: i64) -> f64 {
    match resource {
        Resource::Cpu => amount as f64 / MILLIS_PER_CORE,
        Resource::Memory => amount as f64,
    }
}
