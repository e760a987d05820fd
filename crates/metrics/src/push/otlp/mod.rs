//! OTLP metrics (`ExportMetricsServiceRequest`) as series of Prometheus, by the rules of Prometheus' receiver.
//!
//! `job` is `service.namespace/service.name` and `instance` is `service.instance.id`; what else the resource says goes into
//! `target_info`. Histograms with bounds become `_bucket`, `_sum` and `_count`, exponential ones native histograms. Sums and
//! histograms of differences ("delta") are refused, as Prometheus refuses them: nobody could tell a lost one from no load.

mod json;
mod messages;
mod naming;

use std::collections::BTreeMap;

use super::{PushError, Sink, Written, labels_of};
use crate::histogram::{Buckets, EXPONENTIAL_SCHEMAS, NativeHistogram, ResetHint, Schema};
use crate::labels::{BUCKET_LABEL, Labels, METRIC_NAME};
use crate::sample::STALE_NAN;
use crate::store::{Exemplar, Store, UNKNOWN_START_MS};
use crate::text::{format_plain, quote};
use crate::wire::{self, Field, Fields, WireError};
use messages::*;
use naming::Kind;

pub use json::to_protobuf;

/// AggregationTemporality: values since the start.
const CUMULATIVE: u64 = 2;
/// DataPointFlags: there is no value, and that ends the series.
const NO_VALUE: u32 = 1;
/// What the bucket around zero of an exponential histogram reaches to (Prometheus: `defaultZeroThreshold`).
const ZERO_THRESHOLD: f64 = 1e-128;
/// Attributes that become `job` and `instance`.
const IDENTIFYING: [&str; 3] = ["service.namespace", "service.name", "service.instance.id"];
const NS_PER_MS: u64 = 1_000_000;

/// Stores a request that came at `now_ms`.
pub fn write(store: &mut Store, body: &[u8], now_ms: i64) -> (Written, Result<(), PushError>) {
    let mut sink = Sink::new(store, now_ms);
    if let Err(error) = request(&mut sink, body) {
        sink.problem(error.to_string());
    }
    sink.finish()
}

fn request(sink: &mut Sink<'_>, body: &[u8]) -> Result<(), WireError> {
    for field in Fields::of(body) {
        if let (1, Field::Bytes(resource_metrics)) = field? {
            let mut resource = Resource::default();
            for field in Fields::of(resource_metrics) {
                if let (1, Field::Bytes(message)) = field? {
                    resource = wire::message(message)?;
                }
            }
            let mut target = Target::of(&resource, sink);
            for field in Fields::of(resource_metrics) {
                if let (2, Field::Bytes(scope_metrics)) = field? {
                    target.scope(scope_metrics)?;
                }
            }
            target.info(&resource);
        }
    }
    Ok(())
}

/// The resource whose metrics are read.
struct Target<'t, 's> {
    sink: &'t mut Sink<'s>,
    /// `job` and `instance`.
    labels: Vec<(&'static str, String)>,
    latest_ms: Option<i64>,
}

/// Since when and until when a data point counts.
#[derive(Clone, Copy)]
struct Span {
    start_ms: i64,
    time_ms: i64,
    has_value: bool,
}

/// A metric, before its data points.
struct Metric<'a> {
    name: &'a str,
    help: &'a str,
    unit: &'a str,
    /// The number of the field that holds the data, which says what kind of metric it is.
    data: u32,
    rising: bool,
    /// The name in Prometheus.
    family: String,
}

const GAUGE: u32 = 5;
const SUM: u32 = 7;
const HISTOGRAM: u32 = 9;
const EXPONENTIAL_HISTOGRAM: u32 = 10;
const SUMMARY: u32 = 11;

impl Metric<'_> {
    /// What Prometheus calls such a metric.
    fn kind(&self) -> &'static str {
        match self.data {
            SUM if self.rising => "counter",
            GAUGE | SUM => "gauge",
            SUMMARY => "summary",
            _ => "histogram",
        }
    }
}

impl<'t, 's> Target<'t, 's> {
    fn of(resource: &Resource, sink: &'t mut Sink<'s>) -> Target<'t, 's> {
        let attribute =
            |key: &str| resource.attributes.iter().find(|pair| pair.key == key).map(KeyValue::text);
        let name = attribute("service.name");
        let job = match (attribute("service.namespace"), name) {
            (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
            (_, name) => name,
        };
        let labels = [("job", job), ("instance", attribute("service.instance.id"))];
        let labels = labels.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        Target { sink, labels, latest_ms: None }
    }

    fn scope(&mut self, message: &[u8]) -> Result<(), WireError> {
        for field in Fields::of(message) {
            if let (2, Field::Bytes(metric)) = field? {
                self.metric(metric)?;
            }
        }
        Ok(())
    }

    fn metric(&mut self, message: &[u8]) -> Result<(), WireError> {
        let mut metric =
            Metric { name: "", help: "", unit: "", data: 0, rising: false, family: String::new() };
        let mut data: &[u8] = &[];
        for field in Fields::of(message) {
            match field? {
                (1, Field::Bytes(name)) => metric.name = wire::text(name)?,
                (2, Field::Bytes(help)) => metric.help = wire::text(help)?,
                (3, Field::Bytes(unit)) => metric.unit = wire::text(unit)?,
                (
                    number @ (GAUGE | SUM | HISTOGRAM | EXPONENTIAL_HISTOGRAM | SUMMARY),
                    Field::Bytes(bytes),
                ) => {
                    (metric.data, data) = (number, bytes);
                }
                _ => {}
            }
        }
        let (mut temporality, mut points) = (0, 0);
        for field in Fields::of(data) {
            match field? {
                (1, Field::Bytes(_)) => points += 1,
                (2, Field::Number(number)) => temporality = number,
                (3, Field::Number(rising)) => metric.rising = metric.data == SUM && rising != 0,
                _ => {}
            }
        }
        let shown = metric.name;
        if points == 0 {
            self.sink.problem(format!("empty data points. {shown} is dropped"));
            return Ok(());
        }
        if matches!(metric.data, SUM | HISTOGRAM | EXPONENTIAL_HISTOGRAM) && temporality != CUMULATIVE {
            let shown = quote(shown.as_bytes());
            self.sink.written.rejected += points;
            self.sink.problem(format!("invalid temporality and type combination for metric {shown}"));
            return Ok(());
        }
        let kind = match metric.data {
            GAUGE => Kind::Gauge,
            SUM if metric.rising => Kind::RisingSum,
            _ => Kind::Other,
        };
        let Some(family) = naming::metric_name(metric.name, metric.unit, kind) else {
            let shown = quote(shown.as_bytes());
            self.sink.written.rejected += points;
            self.sink.problem(format!("normalization for metric {shown} resulted in empty name"));
            return Ok(());
        };
        metric.family = family;
        self.describe(&metric);
        self.points(&metric, data)
    }

    fn describe(&mut self, metric: &Metric<'_>) {
        if let Some(metadata) = self.sink.store.metadata_entry(&metric.family) {
            metadata.kind = metric.kind().to_owned();
            metadata.help = metric.help.to_owned();
        }
    }

    fn points(&mut self, metric: &Metric<'_>, data: &[u8]) -> Result<(), WireError> {
        for field in Fields::of(data) {
            let (1, Field::Bytes(point)) = field? else { continue };
            let before = self.sink.problems_count();
            match metric.data {
                HISTOGRAM => self.histogram(metric, &wire::message(point)?),
                EXPONENTIAL_HISTOGRAM => self.exponential(metric, &wire::message(point)?),
                SUMMARY => self.summary(metric, &wire::message(point)?),
                _ => self.number(metric, &wire::message(point)?),
            }
            self.sink.written.rejected += usize::from(self.sink.problems_count() > before);
        }
        Ok(())
    }

    fn number(&mut self, metric: &Metric<'_>, point: &NumberPoint) {
        let value = either(point.float, point.whole).unwrap_or(0.0);
        let start_ns = if metric.rising { point.start_ns } else { 0 };
        let span = self.span(start_ns, point.time_ns, point.flags);
        let labels = self.float(&metric.family, &point.attributes, None, span, value);
        self.exemplars(labels, &point.exemplars, |_| true);
    }

    fn histogram(&mut self, metric: &Metric<'_>, point: &HistogramPoint) {
        let (family, attributes) = (&metric.family, &point.attributes);
        let span = self.span(point.start_ns, point.time_ns, point.flags);
        if let Some(sum) = point.sum {
            self.float(&format!("{family}_sum"), attributes, None, span, sum);
        }
        let count = point.count as f64;
        self.float(&format!("{family}_count"), attributes, None, span, count);
        let (mut cumulative, mut lower) = (0u64, f64::NEG_INFINITY);
        let name = format!("{family}_bucket");
        for (bound, in_bucket) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
            cumulative = cumulative.saturating_add(*in_bucket);
            let le = Some((BUCKET_LABEL, format_plain(*bound)));
            let labels = self.float(&name, attributes, le, span, cumulative as f64);
            self.exemplars(labels, &point.exemplars, |value| value > lower && value <= *bound);
            lower = *bound;
        }
        let le = Some((BUCKET_LABEL, "+Inf".to_owned()));
        let labels = self.float(&name, attributes, le, span, count);
        self.exemplars(labels, &point.exemplars, |value| value > lower);
    }

    fn summary(&mut self, metric: &Metric<'_>, point: &SummaryPoint) {
        let (family, attributes) = (&metric.family, &point.attributes);
        let span = self.span(point.start_ns, point.time_ns, point.flags);
        self.float(&format!("{family}_sum"), attributes, None, span, point.sum);
        self.float(&format!("{family}_count"), attributes, None, span, point.count as f64);
        for quantile in &point.quantiles {
            let label = Some(("quantile", format_plain(quantile.quantile)));
            self.float(family, attributes, label, span, quantile.value);
        }
    }

    fn exponential(&mut self, metric: &Metric<'_>, point: &ExponentialPoint) {
        let span = self.span(point.start_ns, point.time_ns, point.flags);
        let Some(labels) = self.labels(&metric.family, &point.attributes, None) else { return };
        match native(point) {
            Ok(histogram) => self.sink.histogram(&labels, span.time_ms, span.start_ms, histogram),
            Err(problem) => return self.sink.problem(format!("{problem} for series {labels}")),
        }
        self.exemplars(Some(labels), &point.exemplars, |_| true);
    }

    /// The times of a point; the latest one is that of `target_info`.
    fn span(&mut self, start_ns: u64, time_ns: u64, flags: u32) -> Span {
        let time_ms = (time_ns / NS_PER_MS) as i64;
        self.latest_ms = self.latest_ms.max(Some(time_ms));
        Span { start_ms: (start_ns / NS_PER_MS) as i64, time_ms, has_value: flags & NO_VALUE == 0 }
    }

    /// Stores a float; returns under which labels.
    fn float(
        &mut self,
        name: &str,
        attributes: &[KeyValue],
        extra: Option<(&str, String)>,
        span: Span,
        value: f64,
    ) -> Option<Labels> {
        let labels = self.labels(name, attributes, extra)?;
        let value = if span.has_value { value } else { STALE_NAN };
        self.sink.float(&labels, span.time_ms, span.start_ms, value);
        Some(labels)
    }

    fn labels(
        &mut self,
        name: &str,
        attributes: &[KeyValue],
        extra: Option<(&str, String)>,
    ) -> Option<Labels> {
        let mut pairs = translated(attributes.iter());
        pairs.extend(self.labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        pairs.extend(extra.map(|(name, value)| (name.to_owned(), value)));
        pairs.insert(METRIC_NAME.to_owned(), name.to_owned());
        let labels = labels_of(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        labels.map_err(|problem| self.sink.problem(problem)).ok()
    }

    fn exemplars(&mut self, labels: Option<Labels>, points: &[ExemplarPoint], belongs: impl Fn(f64) -> bool) {
        let Some(labels) = labels else { return };
        for point in points {
            let Some(value) = either(point.float, point.whole) else { continue };
            if belongs(value) {
                let timestamp_ms = (point.time_ns / NS_PER_MS) as i64;
                let exemplar = Exemplar { labels: exemplar_labels(point), value, timestamp_ms };
                self.sink.exemplar(&labels, exemplar);
            }
        }
    }

    /// `target_info`: what the resource says beyond `job` and `instance`.
    fn info(&mut self, resource: &Resource) {
        let others = resource.attributes.iter().filter(|pair| !IDENTIFYING.contains(&pair.key.as_str()));
        let others: Vec<KeyValue> = others.cloned().collect();
        let Some(latest_ms) = self.latest_ms.filter(|_| !others.is_empty() && !self.labels.is_empty()) else {
            return;
        };
        if let Some(labels) = self.labels("target_info", &others, None) {
            self.sink.float(&labels, latest_ms, UNKNOWN_START_MS, 1.0);
        }
    }
}

/// Attributes under their names in Prometheus; values that meet there are joined by semicolons.
fn translated<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> BTreeMap<String, String> {
    let sorted: BTreeMap<&str, &KeyValue> =
        attributes.filter(|pair| pair.key != METRIC_NAME).map(|pair| (pair.key.as_str(), pair)).collect();
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for (key, pair) in sorted {
        let Some(name) = naming::label_name(key) else { continue };
        let value = pair.text();
        match labels.get_mut(&name).filter(|value| !value.is_empty()) {
            Some(values) => *values = format!("{values};{value}"),
            None => drop(labels.insert(name, value)),
        }
    }
    labels
}

fn exemplar_labels(point: &ExemplarPoint) -> Labels {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let (trace, span) = (hex(&point.trace_id), hex(&point.span_id));
    let attributes: Vec<(&str, String)> =
        point.attributes.iter().map(|pair| (pair.key.as_str(), pair.text())).collect();
    let attributes = attributes.iter().map(|(key, value)| (*key, value.as_str()));
    Labels::new(attributes.chain([("trace_id", trace.as_str()), ("span_id", span.as_str())]))
}

fn native(point: &ExponentialPoint) -> Result<NativeHistogram, String> {
    let (lowest, highest) = (*EXPONENTIAL_SCHEMAS.start(), *EXPONENTIAL_SCHEMAS.end());
    let scale = point.scale;
    if scale < lowest {
        return Err(format!(
            "cannot convert exponential to native histogram. Scale must be >= {lowest}, was {scale}"
        ));
    }
    let finer = u32::try_from(scale - highest).unwrap_or(0).min(i32::BITS - 1);
    let no_value = point.flags & NO_VALUE != 0;
    Ok(NativeHistogram {
        reset_hint: ResetHint::Unknown,
        schema: Schema::new(scale.min(highest), &[]).map_err(|error| error.to_string())?,
        zero_threshold: ZERO_THRESHOLD,
        zero_count: point.zero_count as f64,
        count: point.count as f64,
        sum: if no_value { STALE_NAN } else { point.sum.unwrap_or(0.0) },
        positive: native_buckets(point.positive.as_ref(), finer),
        negative: native_buckets(point.negative.as_ref(), finer),
    })
}

/// Buckets by the indices of Prometheus, which are one higher; `finer`: how often two are to be merged into one.
fn native_buckets(buckets: Option<&ExponentialBuckets>, finer: u32) -> Buckets {
    let Some(buckets) = buckets else { return Buckets::default() };
    let mut merged: Vec<(i32, f64)> = Vec::new();
    for (index, count) in (i64::from(buckets.offset)..).zip(&buckets.counts) {
        let Ok(index) = i32::try_from((index >> finer) + 1) else { break };
        match merged.last_mut().filter(|(last, _)| *last == index) {
            Some((_, sum)) => *sum += *count as f64,
            None => merged.push((index, *count as f64)),
        }
    }
    merged.retain(|(_, count)| *count > 0.0);
    Buckets::from_rising(merged)
}

#[cfg(test)]
mod tests;
