//! Requests of OpenTelemetry exporters, right and wrong.

use proptest::prelude::*;
use prost::Message as _;

use super::*;

const NOW_MS: i64 = 1_000_000;

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}

fn attributes(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(key, value)| KeyValue::of(key, AnyValue::Text((*value).into()))).collect()
}

/// A request with one metric of a model server; `data` is the number of its kind, with its fields.
fn request(name: &str, unit: &str, data: u32, fields: &[u8]) -> Vec<u8> {
    let resource = attributes(&[
        ("service.namespace", "shop"),
        ("service.name", "model"),
        ("service.instance.id", "model-1"),
        ("k8s.pod.name", "model-1"),
    ]);
    let resource = Resource { attributes: resource }.encode_to_vec();
    let parts = [field(1, name.as_bytes()), field(3, unit.as_bytes()), field(data as u8, fields)];
    let scope = field(2, &parts.concat());
    field(1, &[field(1, &resource), field(2, &scope)].concat())
}

fn send(body: &[u8]) -> (Vec<String>, Result<(), String>) {
    let mut store = Store::default();
    let (_, result) = write(&mut store, body, NOW_MS);
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    let mut lines = Vec::new();
    for series in store.select(&[]) {
        let labels = series.labels().to_string().replace(", instance=\"model-1\", job=\"shop/model\"", "");
        for sample in series.samples(i64::MIN, i64::MAX, &mut floats) {
            let value = if sample.is_stale_marker() { "stale".into() } else { sample.value.to_string() };
            lines.push(format!("{labels} {} {value}", sample.timestamp_ms));
        }
        for sample in series.histograms(i64::MIN, i64::MAX, &mut histograms) {
            lines.push(format!("{labels} {} {}", sample.timestamp_ms, sample.histogram.to_script()));
        }
    }
    (lines, result.map_err(|error| error.to_string()))
}

fn number(float: Option<f64>, whole: Option<i64>, flags: u32) -> NumberPoint {
    let attributes = vec![
        KeyValue::of("http.method", AnyValue::Text("GET".into())),
        KeyValue::of("http/method", AnyValue::Truth(true)),
    ];
    NumberPoint { attributes, time_ns: 5_000_000, float, whole, flags, ..NumberPoint::default() }
}

const INFO: &str = "{__name__=\"target_info\", k8s_pod_name=\"model-1\"} 5 1";

#[test]
fn numbers_get_names_labels_and_their_resource() {
    let point = field(1, &number(None, Some(3), 0).encode_to_vec());
    let sum = [point, vec![2 << 3, CUMULATIVE as u8, 3 << 3, 1]].concat();
    let (stored, result) = send(&request("http.requests", "{request}", SUM, &sum));
    let expected = "{__name__=\"http_requests_total\", http_method=\"GET;true\"} 5 3";
    assert_eq!((stored, result), (vec![expected.to_owned(), INFO.to_owned()], Ok(())));
    let gauge = field(1, &number(Some(0.5), None, NO_VALUE).encode_to_vec());
    let (stored, _) = send(&request("cpu.utilization", "1", GAUGE, &gauge));
    assert_eq!(stored[0], "{__name__=\"cpu_utilization_ratio\", http_method=\"GET;true\"} 5 stale");
}

#[test]
fn histograms_with_bounds_become_classic() {
    let point = HistogramPoint {
        time_ns: 5_000_000,
        count: 6,
        sum: Some(7.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.5, 1.0],
        ..HistogramPoint::default()
    };
    let data = [field(1, &point.encode_to_vec()), vec![2 << 3, CUMULATIVE as u8]].concat();
    let (stored, result) = send(&request("latency", "s", HISTOGRAM, &data));
    let expected = [
        "{__name__=\"latency_seconds_sum\"} 5 7.5",
        "{__name__=\"latency_seconds_count\"} 5 6",
        "{__name__=\"latency_seconds_bucket\", le=\"0.5\"} 5 1",
        "{__name__=\"latency_seconds_bucket\", le=\"1\"} 5 3",
        "{__name__=\"latency_seconds_bucket\", le=\"+Inf\"} 5 6",
        INFO,
    ];
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    assert_eq!(sorted(stored), sorted(expected.map(str::to_owned).to_vec()));
    assert_eq!(result, Ok(()));
}

#[test]
fn exponential_histograms_become_native() {
    let buckets = |offset, counts: &[u64]| Some(ExponentialBuckets { offset, counts: counts.to_vec() });
    let point = |scale, positive| ExponentialPoint {
        time_ns: 5_000_000,
        count: 7,
        sum: Some(2.0),
        scale,
        zero_count: 1,
        positive,
        ..ExponentialPoint::default()
    };
    let send = |point: &ExponentialPoint| {
        let data = [field(1, &point.encode_to_vec()), vec![2 << 3, CUMULATIVE as u8]].concat();
        send(&request("size", "By", EXPONENTIAL_HISTOGRAM, &data))
    };
    let (stored, _) = send(&point(2, buckets(-1, &[1, 0, 2, 3])));
    let expected = "{__name__=\"size_bytes\"} 5 {{schema:2 count:7 sum:2 z_bucket:1 z_bucket_w:1e-128 buckets:[1 0 2 3]}}";
    assert_eq!(stored[0], expected);
    // Two steps finer than any schema: four buckets become one.
    let (stored, _) = send(&point(10, buckets(0, &[1, 1, 1, 1, 2])));
    assert!(stored[0].contains("schema:8") && stored[0].contains("offset:1 buckets:[4 2]"), "{}", stored[0]);
    let (stored, result) = send(&point(-5, None));
    assert_eq!(stored, [INFO]);
    assert!(result.is_err_and(|error| error.starts_with("cannot convert exponential to native histogram.")));
}

#[test]
fn differences_and_empty_metrics_are_refused() {
    let point = field(1, &number(None, Some(3), 0).encode_to_vec());
    let delta = [point, vec![2 << 3, 1]].concat();
    let (stored, result) = send(&request("http.requests", "", SUM, &delta));
    let told = "invalid temporality and type combination for metric \"http.requests\"";
    assert_eq!((stored, result), (Vec::new(), Err(told.to_owned())));
    let (_, result) = send(&request("queue", "", GAUGE, &[]));
    assert_eq!(result, Err("empty data points. queue is dropped".to_owned()));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = write(&mut Store::default(), &body, NOW_MS);
        for data in [GAUGE, SUM, HISTOGRAM, EXPONENTIAL_HISTOGRAM, SUMMARY] {
            let _ = write(&mut Store::default(), &request("a", "s", data, &body), NOW_MS);
        }
    }

    #[test]
    fn exponential_histograms_of_any_kind(
        scale in any::<i32>(), offset in any::<i32>(), counts in prop::collection::vec(any::<u64>(), 0..6), zeros in any::<u64>(),
    ) {
        let positive = Some(ExponentialBuckets { offset, counts });
        let point = ExponentialPoint { scale, zero_count: zeros, positive, ..ExponentialPoint::default() };
        if let Ok(histogram) = native(&point) {
            prop_assert!(histogram.positive.iter().is_sorted_by(|a, b| a.0 < b.0));
        }
    }
}
