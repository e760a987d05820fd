//! Prometheus remote write, versions 1.0 and 2.0: `prometheus.WriteRequest` and `io.prometheus.write.v2.Request`.
//!
//! Statuses and messages are those of Prometheus' receiver, with one difference: of a request of version 1.0 with a wrong
//! sample the right ones are kept, as version 2.0 has it.

use prost::Message;

use super::{PushError, REQUEST_BYTES_MAX, Sink, Written, labels_of};
use crate::labels::Labels;
use crate::store::{Exemplar, Store};
use crate::wire::{self, Field, Fields, HistogramMessage, WireError};

/// Symbols of a request of version 2.0. A request of 2,000 series has a few thousand.
const SYMBOLS_MAX: usize = 1_000_000;
/// MetricMetadata.MetricType, by number.
const KINDS: [&str; 8] =
    ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];

/// Which message a request holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl Version {
    /// The version that a Content-Type names; without a parameter it is 1.0.
    ///
    /// # Errors
    /// What a receiver answers with 415 Unsupported Media Type.
    pub fn from_content_type(content_type: &str) -> Result<Version, String> {
        let mut parts = content_type.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        if !media_type.eq_ignore_ascii_case("application/x-protobuf") {
            return Err(format!(
                "expected application/x-protobuf as the first (media) part, got {content_type} content-type"
            ));
        }
        for parameter in parts.filter(|parameter| !parameter.is_empty()) {
            let Some((name, value)) = parameter.split_once('=') else {
                return Err(format!(
                    "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got {parameter} in {content_type} content-type"
                ));
            };
            match (name.trim(), value.trim()) {
                ("proto", "prometheus.WriteRequest") => return Ok(Version::V1),
                ("proto", "io.prometheus.write.v2.Request") => return Ok(Version::V2),
                ("proto", other) => {
                    return Err(format!(
                        "got {content_type} content type; unknown remote write protobuf message {other}, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request"
                    ));
                }
                _ => {}
            }
        }
        Ok(Version::V1)
    }
}

/// Decompresses a body (snappy, the block format).
pub fn decompress(body: &[u8]) -> Result<Vec<u8>, PushError> {
    let bad = |error: snap::Error| PushError::BadRequest(error.to_string());
    let length = snap::raw::decompress_len(body).map_err(bad)?;
    if length > REQUEST_BYTES_MAX {
        return Err(PushError::BadRequest(format!(
            "request has {length} bytes, more than {REQUEST_BYTES_MAX}; send fewer samples at once"
        )));
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(bad)
}

/// Stores a decompressed request that came at `now_ms`.
pub fn write(
    store: &mut Store,
    version: Version,
    body: &[u8],
    now_ms: i64,
) -> (Written, Result<(), PushError>) {
    let mut sink = Sink::new(store, now_ms);
    let read = match version {
        Version::V1 => write_v1(&mut sink, body),
        Version::V2 => write_v2(&mut sink, body),
    };
    if let Err(error) = read {
        sink.problem(error.to_string());
    }
    sink.finish()
}

fn write_v1(sink: &mut Sink<'_>, body: &[u8]) -> Result<(), WireError> {
    for field in Fields::of(body) {
        match field? {
            (1, Field::Bytes(series)) => {
                let series: SeriesV1 = wire::message(series)?;
                // Prometheus passes over such series in silence, and so do its senders.
                let pairs = series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
                let Ok(labels) = labels_of(pairs) else { continue };
                store_samples(sink, &labels, &series.samples, &series.histograms);
                for exemplar in &series.exemplars {
                    let pairs = exemplar.labels.iter();
                    let pairs = pairs.map(|label| (label.name.as_str(), label.value.as_str()));
                    // One with a label twice is refused (Prometheus 3.16), and nothing else is.
                    let Some(own) = Labels::of_unique(pairs) else { continue };
                    let (value, timestamp_ms) = (exemplar.value, exemplar.timestamp_ms);
                    sink.exemplar(&labels, Exemplar { labels: own, value, timestamp_ms });
                }
            }
            (3, Field::Bytes(metadata)) => {
                let metadata: MetadataV1 = wire::message(metadata)?;
                describe(sink, &metadata.family, metadata.kind, &metadata.help, &metadata.unit);
            }
            _ => {}
        }
    }
    Ok(())
}

fn write_v2(sink: &mut Sink<'_>, body: &[u8]) -> Result<(), WireError> {
    let symbols = symbols(body)?;
    for field in Fields::of(body) {
        let (5, Field::Bytes(series)) = field? else { continue };
        let series: SeriesV2 = wire::message(series)?;
        let labels = pairs(&symbols, &series.labels_refs).and_then(|pairs| labels_of(pairs.into_iter()));
        let labels = match labels {
            Ok(labels) => labels,
            Err(problem) => {
                sink.problem(problem);
                continue;
            }
        };
        if series.samples.is_empty() && series.histograms.is_empty() {
            sink.problem(format!(
                "TimeSeries must contain at least one sample or histogram for series {labels}"
            ));
            continue;
        }
        store_samples(sink, &labels, &series.samples, &series.histograms);
        for exemplar in &series.exemplars {
            match pairs(&symbols, &exemplar.labels_refs) {
                Ok(pairs) => {
                    let Some(own) = Labels::of_unique(pairs.into_iter()) else { continue };
                    let (value, timestamp_ms) = (exemplar.value, exemplar.timestamp_ms);
                    sink.exemplar(&labels, Exemplar { labels: own, value, timestamp_ms });
                }
                Err(problem) => sink.problem(format!("parsing exemplar for series {labels}: {problem}")),
            }
        }
        if let Some(metadata) = &series.metadata {
            let symbol = |at: u32| symbols.get(at as usize).copied().unwrap_or_default();
            let (help, unit) = (symbol(metadata.help_ref), symbol(metadata.unit_ref));
            describe(sink, labels.metric_name(), metadata.kind, help, unit);
        }
    }
    Ok(())
}

fn symbols(body: &[u8]) -> Result<Vec<&str>, WireError> {
    let mut symbols = Vec::new();
    for field in Fields::of(body) {
        if let (4, Field::Bytes(symbol)) = field? {
            if symbols.len() >= SYMBOLS_MAX {
                return Err(WireError(format!("more than {SYMBOLS_MAX} symbols")));
            }
            symbols.push(wire::text(symbol)?);
        }
    }
    Ok(symbols)
}

/// Names and values, from their places in the table of symbols.
fn pairs<'a>(symbols: &[&'a str], places: &[u32]) -> Result<Vec<(&'a str, &'a str)>, String> {
    if !places.len().is_multiple_of(2) {
        return Err(format!("invalid labelRefs length {}", places.len()));
    }
    let symbol = |place: u32| {
        let count = symbols.len();
        let found = symbols.get(place as usize).copied();
        found.ok_or_else(|| format!("labelRefs {place} (name) is outside of symbols table (size {count})"))
    };
    places.chunks_exact(2).map(|pair| Ok((symbol(pair[0])?, symbol(pair[1])?))).collect()
}

fn store_samples(
    sink: &mut Sink<'_>,
    labels: &Labels,
    samples: &[SampleMessage],
    histograms: &[HistogramMessage],
) {
    for sample in samples {
        sink.float(labels, sample.timestamp_ms, sample.start_ms, sample.value);
    }
    for message in histograms {
        match message.histogram() {
            Ok(histogram) => sink.histogram(labels, message.timestamp_ms, message.start_ms, histogram),
            Err(error) => sink.problem(format!("{error} for series {labels}")),
        }
    }
}

fn describe(sink: &mut Sink<'_>, family: &str, kind: i32, help: &str, unit: &str) {
    let Some(metadata) = sink.store.metadata_entry(family) else { return };
    let kind = usize::try_from(kind).ok().and_then(|kind| KINDS.get(kind)).copied();
    metadata.kind = kind.unwrap_or("unknown").to_owned();
    (metadata.help, metadata.unit) = (help.to_owned(), unit.to_owned());
}

#[derive(Clone, PartialEq, Message)]
struct LabelMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct SampleMessage {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp_ms: i64,
    /// Only in version 2.0.
    #[prost(int64, tag = "3")]
    start_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarV1 {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelMessage>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesV1 {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelMessage>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<SampleMessage>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<ExemplarV1>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<HistogramMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataV1 {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    family: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarV2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataV2 {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    help_ref: u32,
    #[prost(uint32, tag = "4")]
    unit_ref: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<SampleMessage>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<HistogramMessage>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<ExemplarV2>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<MetadataV2>,
}

#[cfg(test)]
mod tests;
