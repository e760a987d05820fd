//! What a monitor asks of its targets' samples.

use std::sync::Arc;

use crate::relabel::Rule;

/// How a target's samples are treated; the fields of a ServiceMonitor endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetOptions {
    /// In a clash, keep the exposed label instead of renaming it to `exported_…`. Default: no.
    pub honor_labels: bool,
    /// Use timestamps of the page instead of the scrape's time. Default: yes.
    pub honor_timestamps: bool,
    /// Also end series that bring their own timestamps. Default: no.
    pub track_timestamps_staleness: bool,
    /// Applied to every series after the target's labels were attached. Default: none.
    pub metric_relabelings: Arc<[Rule]>,
    /// Read native histograms where a page has them. Default: no, as in Prometheus.
    pub native_histograms: bool,
    /// Read the classic form too where a histogram has both. Default: no.
    pub classic_histograms_too: bool,
    /// Merge buckets of native histograms until each is at least this many times as wide as the one before. Default: no merging.
    pub native_histogram_min_bucket_factor: f64,
    /// Keep since when samples count, where a page says it: by `_created` series in OpenMetrics, or in protocol buffers.
    /// Default: no.
    pub start_timestamps: bool,
    /// What a page may have; more fails the scrape.
    pub limits: Limits,
}

impl Default for TargetOptions {
    fn default() -> Self {
        TargetOptions {
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            metric_relabelings: Arc::from([]),
            native_histograms: false,
            classic_histograms_too: false,
            native_histogram_min_bucket_factor: 0.0,
            start_timestamps: false,
            limits: Limits::default(),
        }
    }
}

/// Prometheus' limits of a scrape, under its names; 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Samples after relabeling.
    pub sample_limit: usize,
    /// Labels of a sample, those of the target and the name included.
    pub label_limit: usize,
    /// Bytes of a label's name.
    pub label_name_length_limit: usize,
    /// Bytes of a label's value.
    pub label_value_length_limit: usize,
    /// Buckets of a native histogram; they are merged until they keep to it.
    pub native_histogram_bucket_limit: usize,
}
