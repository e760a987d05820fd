//! Requests as JSON: those of OpenTelemetry's own examples, and whatever else might come.

use proptest::prelude::*;

use super::super::write;
use super::*;
use crate::store::Store;

/// What of a request is stored, as `labels time value`, or why it is refused.
fn stored(body: &str) -> Result<Vec<String>, String> {
    let mut store = Store::default();
    let protobuf = to_protobuf(body.as_bytes()).map_err(|error| error.to_string())?;
    let (_, result) = write(&mut store, &protobuf, 1_000_000);
    result.map_err(|error| error.to_string())?;
    let (mut floats, mut histograms, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for series in store.select(&[]) {
        for sample in series.samples(i64::MIN, i64::MAX, &mut floats) {
            lines.push(format!("{} {} {}", series.labels(), sample.timestamp_ms, sample.value));
        }
        for sample in series.histograms(i64::MIN, i64::MAX, &mut histograms) {
            lines.push(format!(
                "{} {} {}",
                series.labels(),
                sample.timestamp_ms,
                sample.histogram.to_script()
            ));
        }
    }
    lines.sort();
    Ok(lines)
}

/// A request with one metric.
fn request(metric: &str) -> String {
    format!(r#"{{"resourceMetrics": [{{"scopeMetrics": [{{"metrics": [{metric}]}}]}}]}}"#)
}

#[test]
fn every_kind_of_metric_is_read() {
    let table: &[(&str, &[&str])] = &[
        (
            r#"{"name": "n", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [
                {"asInt": "9007199254740993", "startTimeUnixNano": "1000000", "timeUnixNano": "5000000",
                 "attributes": [{"key": "a", "value": {"stringValue": "x"}}, {"key": "b", "value": {"intValue": "-7"}},
                    {"key": "c", "value": {"arrayValue": {"values": [{"boolValue": true}, {"doubleValue": 0.5}]}}},
                    {"key": "d", "value": {"kvlistValue": {"values": [{"key": "e", "value": {"intValue": 1}}]}}}]}]}}"#,
            &[r#"{__name__="n_total", a="x", b="-7", c="[true,0.5]", d="{\"e\":1}"} 5 9007199254740992"#],
        ),
        (
            // Names as in the .proto file, numbers as numbers, an enumeration by name, and fields that nobody knows.
            r#"{"name": "n", "new": {"x": [1, {}]}, "sum": {"aggregation_temporality": "AGGREGATION_TEMPORALITY_CUMULATIVE",
                "data_points": [{"as_double": 1.5, "time_unix_nano": 5000000, "attributes": null}]}}"#,
            &[r#"{__name__="n"} 5 1.5"#],
        ),
        (
            r#"{"name": "g", "unit": "By", "gauge": {"dataPoints": [{"asDouble": "Infinity", "timeUnixNano": 5e6}]}}"#,
            &[r#"{__name__="g_bytes"} 5 inf"#],
        ),
        (
            r#"{"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [{"timeUnixNano": 5000000, "count": 3,
                "sum": 2, "bucketCounts": ["1", 2], "explicitBounds": [0.5],
                "exemplars": [{"timeUnixNano": 5000000, "asDouble": 1, "traceId": "0aF1", "spanId": "00"}]}]}}"#,
            &[
                r#"{__name__="h_bucket", le="+Inf"} 5 3"#,
                r#"{__name__="h_bucket", le="0.5"} 5 1"#,
                r#"{__name__="h_count"} 5 3"#,
                r#"{__name__="h_sum"} 5 2"#,
            ],
        ),
        (
            r#"{"name": "e", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [{"timeUnixNano": 5000000,
                "count": 7, "sum": 2, "scale": -1, "zeroCount": "1", "positive": {"offset": -1, "bucketCounts": [1, "0", 5]}}]}}"#,
            &[r#"{__name__="e"} 5 {{schema:-1 count:7 sum:2 z_bucket:1 z_bucket_w:1e-128 buckets:[1 0 5]}}"#],
        ),
        (
            r#"{"name": "s", "summary": {"dataPoints": [{"timeUnixNano": 5000000, "count": 2, "sum": 3,
                "quantileValues": [{"quantile": 0.5, "value": 1}]}]}}"#,
            &[
                r#"{__name__="s", quantile="0.5"} 5 1"#,
                r#"{__name__="s_count"} 5 2"#,
                r#"{__name__="s_sum"} 5 3"#,
            ],
        ),
    ];
    for (metric, expected) in table {
        assert_eq!(stored(&request(metric)).as_deref(), Ok(&strings(expected)[..]), "{metric}");
    }
    assert_eq!(stored("{}"), Ok(Vec::new()));
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (body, expected) in [
        ("", "EOF while parsing a value at line 1"),
        ("[]", "invalid type: sequence, expected an object at line 1"),
        ("{} {}", "trailing characters at line 1"),
        (
            r#"{"resourceMetrics": 1}"#,
            "invalid type: number, expected an object for resourceMetrics at line 1",
        ),
        (&request(r#"{"name": 1}"#), "invalid type: number, expected a string for name at line 1"),
        (
            &request("{\"gauge\": {\"dataPoints\": [\n{\"timeUnixNano\": \"soon\"}]}}"),
            "invalid value: string \"soon\", expected a whole number for timeUnixNano at line 2",
        ),
        (
            &request("{\"gauge\": {\"dataPoints\": [\n{\"timeUnixNano\": 18446744073709551616}]}}"),
            "18446744073709551616 is out of range for timeUnixNano at line 2",
        ),
        (
            &request("{\"gauge\": {\"dataPoints\": [\n{\"exemplars\": [{\"traceId\": \"abc\"}]}]}}"),
            "invalid value: string \"abc\", expected hexadecimal digits for traceId at line 2",
        ),
    ] {
        let told = stored(body).expect_err(body);
        assert_eq!(told.split(" column").next(), Some(expected), "{body}");
    }
    let value = format!("{}{}", r#"{"arrayValue":{"values":["#.repeat(60), "]}}".repeat(60));
    let deep = format!(r#"{{"gauge": {{"dataPoints": [{{"attributes": [{{"value": {value}}}]}}]}}}}"#);
    assert!(stored(&request(&deep)).is_err_and(|error| error.starts_with("recursion limit exceeded")));
}

#[test]
fn a_request_may_not_grow() {
    let counts = vec!["0"; 4_000_000].join(",");
    let metric = format!(
        r#"{{"name": "h", "histogram": {{"aggregationTemporality": 2, "dataPoints": [{{"bucketCounts": [{counts}]}}]}}}}"#
    );
    let refused = to_protobuf(request(&metric).as_bytes()).expect_err("nine bytes for each count of two");
    assert!(refused.to_string().starts_with("request has more than 33554432 bytes"), "{refused}");
}

/// Any JSON, with the names of fields among its keys.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let shapes = [
        REQUEST,
        RESOURCE_METRICS,
        SCOPE_METRICS,
        METRIC,
        NUMBERS,
        HISTOGRAM_POINT,
        EXPONENTIAL_POINT,
        BUCKETS,
    ];
    let names: Vec<&str> = shapes.iter().flat_map(|shape| shape.iter().map(|(name, ..)| *name)).collect();
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "[0-9a-f]{0,6}|-?[0-9]{1,25}|NaN|Infinity|\\PC{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(8, 60, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(prop::sample::select(names.clone()), inner, 0..4).prop_map(
                |fields| {
                    fields
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect::<serde_json::Map<_, _>>()
                        .into()
                }
            ),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused(value in any_json()) {
        let _ = stored(&value.to_string());
        let _ = stored(&request(&value.to_string()));
        for kind in ["gauge", "sum", "histogram", "exponentialHistogram", "summary"] {
            let point = format!(r#"{{"name": "a", "{kind}": {{"aggregationTemporality": 2, "dataPoints": [{value}]}}}}"#);
            let _ = stored(&request(&point));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
        let _ = stored(&text);
    }
}
