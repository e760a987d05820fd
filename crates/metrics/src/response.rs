//! Bodies of Prometheus' HTTP API (`/api/v1/…`): results to JSON text.
//!
//! Pure functions; whoever serves them picks the path and sends [`ErrorKind::http_status`]. The envelope and every number
//! are as a Prometheus server writes them, so that Grafana, promtool and KEDA read them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::histogram::NativeHistogram;
use crate::labels::Labels;
use crate::promql::{Annotations, QueryError, QueryResult, SampleValue, Value};
use crate::sample::Sample;
use crate::store::{Exemplar, Metadata};
use crate::text::format_value;

/// Warnings and infos that a body has at most, of each kind; then a line says how many more there are.
const ANNOTATIONS_MAX: usize = 10;

/// The warning of a body that holds less than there is, because the request sets a `limit`.
const TRUNCATED: &str = "results truncated due to limit";

/// What a query cost, as its body tells where the request asks for `stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueryStats {
    /// Waiting for other queries.
    pub queue_seconds: f64,
    /// The evaluation itself.
    pub evaluation_seconds: f64,
    /// Samples that it read or computed.
    pub samples: usize,
}

/// The `errorType` of an error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the API's names")]
pub enum ErrorKind {
    BadData,
    Execution,
    Canceled,
    Timeout,
    Internal,
    NotFound,
    NotAcceptable,
    Unavailable,
}

impl ErrorKind {
    /// The text of `errorType`.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::BadData => "bad_data",
            ErrorKind::Execution => "execution",
            ErrorKind::Canceled => "canceled",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Internal => "internal",
            ErrorKind::NotFound => "not_found",
            ErrorKind::NotAcceptable => "not_acceptable",
            ErrorKind::Unavailable => "unavailable",
        }
    }

    /// The HTTP status that goes with it.
    pub fn http_status(self) -> u16 {
        match self {
            ErrorKind::BadData => 400,
            ErrorKind::Execution => 422,
            ErrorKind::Canceled => 499,
            ErrorKind::Timeout => 503,
            ErrorKind::Internal | ErrorKind::Unavailable => 500,
            ErrorKind::NotFound => 404,
            ErrorKind::NotAcceptable => 406,
        }
    }
}

impl From<&QueryError> for ErrorKind {
    fn from(error: &QueryError) -> ErrorKind {
        match error {
            QueryError::Parse(_) | QueryError::BadData(_) => ErrorKind::BadData,
            QueryError::Execution(_) => ErrorKind::Execution,
            QueryError::Timeout => ErrorKind::Timeout,
            QueryError::Canceled => ErrorKind::Canceled,
        }
    }
}

/// The body of an error.
pub fn error(kind: ErrorKind, message: &str) -> String {
    let mut out = format!("{{\"status\":\"error\",\"errorType\":\"{}\",\"error\":", kind.name());
    push_string(&mut out, message);
    out.push('}');
    out
}

/// The body of `/api/v1/query` and `/api/v1/query_range`.
///
/// ```
/// use flyball_metrics::{Store, promql, response};
///
/// let expr = promql::parse("1.5")?;
/// let result = promql::eval_instant(&Store::default(), "1.5", &expr, 1_500, &promql::EngineOptions::default())?;
/// let body = r#"{"status":"success","data":{"resultType":"scalar","result":[1.500,"1.5"]}}"#;
/// assert_eq!(response::query(&result), body);
/// # Ok::<(), promql::QueryError>(())
/// ```
pub fn query(result: &QueryResult) -> String {
    query_with(result, None)
}

/// The body of a query, with what it cost.
pub fn query_with(result: &QueryResult, stats: Option<&QueryStats>) -> String {
    let mut out = String::from("{\"status\":\"success\",\"data\":{\"resultType\":");
    match &result.value {
        Value::Scalar(sample) => {
            out.push_str("\"scalar\",\"result\":");
            push_sample(&mut out, *sample);
        }
        Value::String { timestamp_ms, text } => {
            out.push_str("\"string\",\"result\":[");
            push_time(&mut out, *timestamp_ms);
            out.push(',');
            push_string(&mut out, text);
            out.push(']');
        }
        Value::Vector(samples) => {
            out.push_str("\"vector\",\"result\":");
            push_list(&mut out, samples, |out, sample| {
                out.push_str("{\"metric\":");
                push_labels(out, &sample.labels);
                match &sample.value {
                    SampleValue::Float(value) => {
                        out.push_str(",\"value\":");
                        push_sample(out, Sample::new(sample.timestamp_ms, *value));
                    }
                    SampleValue::Histogram(histogram) => {
                        out.push_str(",\"histogram\":");
                        push_histogram(out, sample.timestamp_ms, histogram);
                    }
                }
                out.push('}');
            });
        }
        Value::Matrix(series) => {
            out.push_str("\"matrix\",\"result\":");
            push_list(&mut out, series, |out, series| {
                out.push_str("{\"metric\":");
                push_labels(out, &series.labels);
                if !series.samples.is_empty() {
                    out.push_str(",\"values\":");
                    push_list(out, &series.samples, |out, sample| push_sample(out, *sample));
                }
                if !series.histograms.is_empty() {
                    out.push_str(",\"histograms\":");
                    push_list(out, &series.histograms, |out, sample| {
                        push_histogram(out, sample.timestamp_ms, &sample.histogram);
                    });
                }
                out.push('}');
            });
        }
    }
    if let Some(stats) = stats {
        push_stats(&mut out, stats);
    }
    out.push('}');
    push_annotations(&mut out, &result.annotations);
    out.push('}');
    out
}

/// Cuts a result to `limit` series, and warns where that takes some away.
pub fn truncate(result: &mut QueryResult, limit: usize) {
    let before = match &mut result.value {
        Value::Vector(samples) => samples.drain(limit.min(samples.len())..).count(),
        Value::Matrix(series) => series.drain(limit.min(series.len())..).count(),
        Value::Scalar(_) | Value::String { .. } => 0,
    };
    if before > 0 {
        result.annotations.warnings.push(TRUNCATED.to_owned());
    }
}

fn push_stats(out: &mut String, stats: &QueryStats) {
    let (queue, evaluation) = (stats.queue_seconds, stats.evaluation_seconds);
    let total = queue + evaluation;
    let _ = write!(
        out,
        ",\"stats\":{{\"timings\":{{\"evalTotalTime\":{evaluation:.6},\"resultSortTime\":0,\"queryPreparationTime\":0,\
         \"innerEvalTime\":{evaluation:.6},\"execQueueTime\":{queue:.6},\"execTotalTime\":{total:.6}}},\
         \"samples\":{{\"totalQueryableSamples\":{samples},\"peakSamples\":{samples}}}}}",
        samples = stats.samples,
    );
}

/// The body of `/api/v1/series`: at most `limit` of them.
pub fn series<'a>(series: impl ExactSizeIterator<Item = &'a Labels>, limit: usize) -> String {
    let truncated = series.len() > limit;
    list(|out| push_list(out, series.take(limit), push_labels), truncated)
}

/// The body of `/api/v1/labels` and `/api/v1/label/<name>/values`: at most `limit` texts.
pub fn strings<'a>(texts: impl ExactSizeIterator<Item = &'a str>, limit: usize) -> String {
    let truncated = texts.len() > limit;
    list(|out| push_list(out, texts.take(limit), push_string), truncated)
}

/// The body of `/api/v1/query_exemplars`.
pub fn exemplars(found: &[(&Labels, Vec<&Exemplar>)]) -> String {
    success(|out| {
        push_list(out, found, |out, (series, exemplars)| {
            out.push_str("{\"seriesLabels\":");
            push_labels(out, series);
            out.push_str(",\"exemplars\":");
            push_list(out, exemplars, |out, exemplar| push_exemplar(out, exemplar));
            out.push('}');
        });
    })
}

fn push_exemplar(out: &mut String, exemplar: &Exemplar) {
    out.push_str("{\"labels\":");
    push_labels(out, &exemplar.labels);
    let _ = write!(out, ",\"value\":\"{}\",\"timestamp\":", format_value(exemplar.value));
    push_time(out, exemplar.timestamp_ms);
    out.push('}');
}

fn list(push_data: impl FnOnce(&mut String), truncated: bool) -> String {
    let mut out = success(push_data);
    if truncated {
        out.pop();
        let _ = write!(out, ",\"warnings\":[\"{TRUNCATED}\"]}}");
    }
    out
}

/// The body of `/api/v1/metadata`.
pub fn metadata<'a>(metadata: impl IntoIterator<Item = (&'a String, &'a Metadata)>) -> String {
    let entries = metadata.into_iter().map(|(name, metadata)| {
        let kind = if metadata.kind.is_empty() { "unknown" } else { &metadata.kind };
        (name, [BTreeMap::from([("type", kind), ("help", &metadata.help), ("unit", &metadata.unit)])])
    });
    data(&entries.collect::<BTreeMap<_, _>>())
}

/// The body with any other data.
pub fn data(data: &impl serde::Serialize) -> String {
    match serde_json::to_string(data) {
        Ok(json) => success(|out| out.push_str(&json)),
        Err(failure) => error(ErrorKind::Internal, &failure.to_string()),
    }
}

fn success(push_data: impl FnOnce(&mut String)) -> String {
    let mut out = String::from("{\"status\":\"success\",\"data\":");
    push_data(&mut out);
    out.push('}');
    out
}

fn push_list<T>(out: &mut String, items: impl IntoIterator<Item = T>, push: impl Fn(&mut String, T)) {
    out.push('[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push(out, item);
    }
    out.push(']');
}

fn push_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

fn push_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_string(out, name);
        out.push(':');
        push_string(out, value);
    }
    out.push('}');
}

/// `[1435781451.781,"0.5"]`
fn push_sample(out: &mut String, sample: Sample) {
    out.push('[');
    push_time(out, sample.timestamp_ms);
    let _ = write!(out, ",\"{}\"]", format_value(sample.value));
}

/// `[1435781451.781,{"count":"3","sum":"7.5","buckets":[[0,"1","2","3"]]}]`; the first number of a bucket says which of its
/// bounds belong to it: 0 the upper, 1 the lower, 2 none, 3 both.
fn push_histogram(out: &mut String, timestamp_ms: i64, histogram: &NativeHistogram) {
    out.push('[');
    push_time(out, timestamp_ms);
    let (count, sum) = (format_value(histogram.count), format_value(histogram.sum));
    let _ = write!(out, ",{{\"count\":\"{count}\",\"sum\":\"{sum}\"");
    let mut populated = histogram.buckets().filter(|bucket| bucket.count != 0.0).peekable();
    if populated.peek().is_some() {
        out.push_str(",\"buckets\":");
        push_list(out, populated, |out, bucket| {
            let bounds = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => 0,
                (true, false) => 1,
                (false, false) => 2,
                (true, true) => 3,
            };
            let [lower, upper, count] = [bucket.lower, bucket.upper, bucket.count].map(format_value);
            let _ = write!(out, "[{bounds},\"{lower}\",\"{upper}\",\"{count}\"]");
        });
    }
    out.push_str("}]");
}

fn push_time(out: &mut String, timestamp_ms: i64) {
    let sign = if timestamp_ms < 0 { "-" } else { "" };
    let (seconds, ms) = (timestamp_ms.unsigned_abs() / 1_000, timestamp_ms.unsigned_abs() % 1_000);
    let _ = write!(out, "{sign}{seconds}");
    if ms != 0 {
        let _ = write!(out, ".{ms:03}");
    }
}

fn push_annotations(out: &mut String, annotations: &Annotations) {
    for (name, kind, texts) in
        [("warnings", "warning", &annotations.warnings), ("infos", "info", &annotations.infos)]
    {
        if texts.is_empty() {
            continue;
        }
        let _ = write!(out, ",\"{name}\":");
        let more = texts.len().saturating_sub(ANNOTATIONS_MAX);
        let more = (more > 0).then(|| format!("{more} more {kind} annotations omitted"));
        push_list(out, texts.iter().take(ANNOTATIONS_MAX).chain(&more), |out, text| push_string(out, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, promql};

    fn answer(store: &Store, text: &str) -> String {
        let expr = promql::parse(text).expect("valid");
        query(
            &promql::eval_instant(store, text, &expr, 60_000, &promql::EngineOptions::default())
                .expect("result"),
        )
    }

    #[test]
    fn bodies_are_prometheus_bodies() {
        let mut store = Store::default();
        let labels = Labels::new([("__name__", "load"), ("pod", "a\"b")]);
        store.append_to(&labels, Sample::new(59_500, 1e-7)).expect("stored");
        let rows = [
            (
                "load",
                r#"{"resultType":"vector","result":[{"metric":{"__name__":"load","pod":"a\"b"},"value":[60,"1e-07"]}]}"#,
            ),
            (
                "load[1m]",
                r#"{"resultType":"matrix","result":[{"metric":{"__name__":"load","pod":"a\"b"},"values":[[59.500,"1e-07"]]}]}"#,
            ),
            ("none", r#"{"resultType":"vector","result":[]}"#),
            ("\"x\"", r#"{"resultType":"string","result":[60,"x"]}"#),
            ("-1/0", r#"{"resultType":"scalar","result":[60,"-Inf"]}"#),
        ];
        for (text, data) in rows {
            assert_eq!(answer(&store, text), format!("{{\"status\":\"success\",\"data\":{data}}}"), "{text}");
        }
        assert_eq!(
            series([&labels].into_iter(), 1),
            r#"{"status":"success","data":[{"__name__":"load","pod":"a\"b"}]}"#
        );
        assert_eq!(strings(["a", "b"].into_iter(), 2), r#"{"status":"success","data":["a","b"]}"#);
        let cut = r#"{"status":"success","data":["a"],"warnings":["results truncated due to limit"]}"#;
        assert_eq!(strings(["a", "b"].into_iter(), 1), cut);
    }

    #[test]
    fn annotations_and_errors_are_in_the_envelope() {
        let body = answer(&Store::default(), "quantile(2, none)");
        let warning =
            r#","warnings":["PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"]}"#;
        assert!(body.ends_with(warning), "{body}");
        let parse_error = QueryError::from(promql::parse("sum(").expect_err("broken"));
        let body = error(ErrorKind::from(&parse_error), &parse_error.to_string());
        let expected = r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:5: parse error: unexpected end of input"}"#;
        assert_eq!(body, expected);
        assert_eq!(ErrorKind::BadData.http_status(), 400);
    }
}
