//! Pages as protocol buffers: `io.prometheus.client.MetricFamily` messages, each after its length.
//!
//! The only format with native histograms. A histogram that has both forms is read as native; its classic series are
//! read too if the monitor wants them (`scrapeClassicHistograms`), and instead if native histograms are not wanted.

use std::sync::Arc;

use prost::Message;

use crate::histogram::{NativeHistogram, ResetHint, Schema};
use crate::labels::{BUCKET_LABEL, Labels, METRIC_NAME};
use crate::text::format_open_metrics;
use crate::wire::{self, Field, Fields, SpanMessage, WireError};

/// Which form of a histogram is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HistogramForms {
    pub(crate) native: bool,
    pub(crate) classic_too: bool,
}

/// A value of a page.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Float(f64),
    Histogram(Arc<NativeHistogram>),
}

/// An example of what was counted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PageExemplar {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
    pub(crate) timestamp_ms: Option<i64>,
}

/// A sample with its labels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    pub(crate) labels: Labels,
    pub(crate) value: Value,
    pub(crate) timestamp_ms: Option<i64>,
    /// Since when it counts.
    pub(crate) start_ms: Option<i64>,
    pub(crate) exemplars: Vec<PageExemplar>,
}

/// A metric family, before its samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Family<'a> {
    pub(crate) name: &'a str,
    pub(crate) help: &'a str,
    pub(crate) unit: &'a str,
    kind: u64,
}

/// MetricType, by number.
const KINDS: [&str; 6] = ["counter", "gauge", "summary", "unknown", "histogram", "gaugehistogram"];
const GAUGE_HISTOGRAM: u64 = 5;

impl Family<'_> {
    pub(crate) fn kind(&self) -> &'static str {
        usize::try_from(self.kind).ok().and_then(|kind| KINDS.get(kind)).copied().unwrap_or("unknown")
    }
}

/// The families of a page, each as its message.
pub(crate) fn families(page: &[u8]) -> impl Iterator<Item = Result<&[u8], WireError>> {
    wire::delimited(page)
}

/// What a family says of itself. Its metrics may stand before its name.
pub(crate) fn family(message: &[u8]) -> Result<Family<'_>, WireError> {
    let mut family = Family::default();
    for field in Fields::of(message) {
        match field? {
            (1, Field::Bytes(name)) => family.name = wire::text(name)?,
            (2, Field::Bytes(help)) => family.help = wire::text(help)?,
            (3, Field::Number(kind)) => family.kind = kind,
            (5, Field::Bytes(unit)) => family.unit = wire::text(unit)?,
            _ => {}
        }
    }
    match family.name {
        "" => Err(WireError("metric family without a name".into())),
        _ => Ok(family),
    }
}

/// The metrics of a family, each as its message.
pub(crate) fn metrics(message: &[u8]) -> impl Iterator<Item = Result<&[u8], WireError>> {
    Fields::of(message).filter_map(|field| match field {
        Ok((4, Field::Bytes(metric))) => Some(Ok(metric)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// The samples of one metric.
pub(crate) fn samples(
    family: &Family<'_>,
    message: &[u8],
    forms: HistogramForms,
) -> Result<Vec<Measured>, WireError> {
    let metric: Metric = wire::message(message)?;
    let mut samples = Samples { family, metric: &metric, read: Vec::new() };
    if let Some(counter) = &metric.counter {
        samples.push("", None, counter.value, counter.exemplar.iter());
    } else if let Some(gauge) = &metric.gauge {
        samples.push("", None, gauge.value, [].iter());
    } else if let Some(untyped) = &metric.untyped {
        samples.push("", None, untyped.value, [].iter());
    } else if let Some(summary) = &metric.summary {
        samples.summary(summary);
    } else if let Some(histogram) = &metric.histogram {
        let native = forms.native && histogram.is_native();
        if native {
            samples.native(histogram)?;
        }
        if !native || forms.classic_too && !histogram.bucket.is_empty() {
            samples.classic(histogram);
        }
    }
    Ok(samples.read)
}

struct Samples<'a> {
    family: &'a Family<'a>,
    metric: &'a Metric,
    read: Vec<Measured>,
}

impl Samples<'_> {
    fn push<'e>(
        &mut self,
        suffix: &str,
        label: Option<(&str, f64)>,
        value: f64,
        exemplars: impl Iterator<Item = &'e ExemplarMessage>,
    ) {
        let exemplars = exemplars.filter_map(ExemplarMessage::read).collect();
        self.add(suffix, label, Value::Float(value), exemplars);
    }

    fn add(&mut self, suffix: &str, label: Option<(&str, f64)>, value: Value, exemplars: Vec<PageExemplar>) {
        let name = format!("{}{suffix}", self.family.name);
        let number = label.map(|(label, number)| (label, format_open_metrics(number)));
        let own = self.metric.label.iter().map(|pair| (pair.name.as_str(), pair.value.as_str()));
        let extra = number.as_ref().map(|(label, number)| (*label, number.as_str()));
        let labels = Labels::new(own.chain(extra).chain([(METRIC_NAME, name.as_str())]));
        let timestamp_ms = (self.metric.timestamp_ms != 0).then_some(self.metric.timestamp_ms);
        let start_ms = self.metric.start_ms();
        self.read.push(Measured { labels, value, timestamp_ms, start_ms, exemplars });
    }

    fn summary(&mut self, summary: &Summary) {
        self.push("_count", None, summary.sample_count as f64, [].iter());
        self.push("_sum", None, summary.sample_sum, [].iter());
        for quantile in &summary.quantile {
            self.push("", Some(("quantile", quantile.quantile)), quantile.value, [].iter());
        }
    }

    fn classic(&mut self, histogram: &HistogramOfClient) {
        self.push("_count", None, histogram.count(), [].iter());
        self.push("_sum", None, histogram.sample_sum, [].iter());
        for bucket in &histogram.bucket {
            let label = Some((BUCKET_LABEL, bucket.upper_bound));
            self.push("_bucket", label, bucket.count(), bucket.exemplar.iter());
        }
        // The bucket that everything is in may be left out.
        if histogram.bucket.last().is_none_or(|bucket| bucket.upper_bound != f64::INFINITY) {
            self.push("_bucket", Some((BUCKET_LABEL, f64::INFINITY)), histogram.count(), [].iter());
        }
    }

    fn native(&mut self, histogram: &HistogramOfClient) -> Result<(), WireError> {
        let mut native = histogram.native()?;
        if self.family.kind == GAUGE_HISTOGRAM {
            native.reset_hint = ResetHint::Gauge;
        }
        native.validate().map_err(|error| {
            WireError(format!("histogram {}: {error}", crate::text::quote(self.family.name.as_bytes())))
        })?;
        // Those without a time can't be told from old ones.
        let of_buckets = histogram.bucket.iter().filter_map(|bucket| bucket.exemplar.as_ref());
        let exemplars = of_buckets.chain(&histogram.exemplars).filter_map(ExemplarMessage::read);
        let exemplars = exemplars.filter(|exemplar| exemplar.timestamp_ms.is_some()).collect();
        self.add("", None, Value::Histogram(Arc::new(native)), exemplars);
        Ok(())
    }
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// A gauge or an untyped metric.
#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Counter {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(message, optional, tag = "2")]
    exemplar: Option<ExemplarMessage>,
    #[prost(message, optional, tag = "3")]
    created: Option<Time>,
}

#[derive(Clone, PartialEq, Message)]
struct Quantile {
    #[prost(double, tag = "1")]
    quantile: f64,
    #[prost(double, tag = "2")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(uint64, tag = "1")]
    sample_count: u64,
    #[prost(double, tag = "2")]
    sample_sum: f64,
    #[prost(message, repeated, tag = "3")]
    quantile: Vec<Quantile>,
    #[prost(message, optional, tag = "4")]
    created: Option<Time>,
}

/// google.protobuf.Timestamp.
#[derive(Clone, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Time {
    fn millis(&self) -> i64 {
        self.seconds.saturating_mul(1_000).saturating_add(i64::from(self.nanos / 1_000_000))
    }
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarMessage {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Time>,
}

impl ExemplarMessage {
    /// `None` if it has a label twice.
    fn read(&self) -> Option<PageExemplar> {
        let pairs = self.label.iter().map(|pair| (pair.name.as_str(), pair.value.as_str()));
        Some(PageExemplar {
            labels: Labels::of_unique(pairs)?,
            value: self.value,
            timestamp_ms: self.timestamp.as_ref().map(Time::millis),
        })
    }
}

#[derive(Clone, PartialEq, Message)]
struct ClassicBucket {
    #[prost(uint64, tag = "1")]
    cumulative_count: u64,
    #[prost(double, tag = "2")]
    upper_bound: f64,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<ExemplarMessage>,
    #[prost(double, tag = "4")]
    cumulative_count_float: f64,
}

impl ClassicBucket {
    fn count(&self) -> f64 {
        if self.cumulative_count_float > 0.0 {
            self.cumulative_count_float
        } else {
            self.cumulative_count as f64
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct HistogramOfClient {
    #[prost(uint64, tag = "1")]
    sample_count: u64,
    #[prost(double, tag = "2")]
    sample_sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<ClassicBucket>,
    #[prost(double, tag = "4")]
    sample_count_float: f64,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(double, tag = "8")]
    zero_count_float: f64,
    #[prost(message, repeated, tag = "9")]
    negative_span: Vec<SpanMessage>,
    #[prost(sint64, repeated, tag = "10")]
    negative_delta: Vec<i64>,
    #[prost(double, repeated, tag = "11")]
    negative_count: Vec<f64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<SpanMessage>,
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
    #[prost(double, repeated, tag = "14")]
    positive_count: Vec<f64>,
    #[prost(message, optional, tag = "15")]
    created: Option<Time>,
    #[prost(message, repeated, tag = "16")]
    exemplars: Vec<ExemplarMessage>,
}

impl HistogramOfClient {
    /// A native histogram has spans, or says where zero ends, or counted zeros (Prometheus, `isNativeHistogram`).
    fn is_native(&self) -> bool {
        let spans = !self.positive_span.is_empty() || !self.negative_span.is_empty();
        spans || self.zero_threshold > 0.0 || self.zero_count > 0 || self.zero_count_float > 0.0
    }

    fn count(&self) -> f64 {
        if self.sample_count_float > 0.0 { self.sample_count_float } else { self.sample_count as f64 }
    }

    fn native(&self) -> Result<NativeHistogram, WireError> {
        let zero_count =
            if self.zero_count_float > 0.0 { self.zero_count_float } else { self.zero_count as f64 };
        Ok(NativeHistogram {
            reset_hint: ResetHint::Unknown,
            schema: Schema::new(self.schema, &[]).map_err(|error| WireError(error.to_string()))?,
            zero_threshold: self.zero_threshold,
            zero_count,
            count: self.count(),
            sum: self.sample_sum,
            positive: wire::buckets(&self.positive_span, &self.positive_delta, &self.positive_count)?,
            negative: wire::buckets(&self.negative_span, &self.negative_delta, &self.negative_count)?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Number>,
    #[prost(int64, tag = "6")]
    timestamp_ms: i64,
    #[prost(message, optional, tag = "7")]
    histogram: Option<HistogramOfClient>,
}

impl Metric {
    fn start_ms(&self) -> Option<i64> {
        let counter = self.counter.as_ref().map(|counter| &counter.created);
        let summary = self.summary.as_ref().map(|summary| &summary.created);
        let histogram = self.histogram.as_ref().map(|histogram| &histogram.created);
        counter.or(summary).or(histogram)?.as_ref().map(Time::millis)
    }
}

#[cfg(test)]
mod tests;
