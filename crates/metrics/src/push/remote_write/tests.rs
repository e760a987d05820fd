//! Requests of both versions, right and wrong.

use proptest::prelude::*;

use super::*;
use crate::matcher::Matcher;
use crate::store::StoreOptions;
use crate::wire::SpanMessage;

const NOW_MS: i64 = 1_000_000;

fn sample(timestamp_ms: i64, value: f64) -> SampleMessage {
    SampleMessage { value, timestamp_ms, start_ms: 0 }
}

fn series_v1(labels: &[(&str, &str)], samples: Vec<SampleMessage>) -> SeriesV1 {
    let label = |(name, value): &(&str, &str)| LabelMessage { name: (*name).into(), value: (*value).into() };
    SeriesV1 { labels: labels.iter().map(label).collect(), samples, ..SeriesV1::default() }
}

/// A field with a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}

fn request_v1(series: &[SeriesV1]) -> Vec<u8> {
    series.iter().flat_map(|series| field(1, &series.encode_to_vec())).collect()
}

fn request_v2(symbols: &[&str], series: &[SeriesV2]) -> Vec<u8> {
    let symbols = symbols.iter().flat_map(|symbol| field(4, symbol.as_bytes()));
    symbols.chain(series.iter().flat_map(|series| field(5, &series.encode_to_vec()))).collect()
}

/// Every sample as `labels time value`.
fn stored(store: &Store) -> Vec<String> {
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    let mut lines = Vec::new();
    for series in store.select(&[]) {
        for sample in series.samples(i64::MIN, i64::MAX, &mut floats) {
            let value = if sample.is_stale_marker() { "stale".into() } else { sample.value.to_string() };
            lines.push(format!("{} {} {value}", series.labels(), sample.timestamp_ms));
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
    lines
}

fn send(store: &mut Store, version: Version, body: &[u8]) -> (Written, Result<(), String>) {
    let compressed = snap::raw::Encoder::new().compress_vec(body).expect("small");
    let body = decompress(&compressed).expect("as compressed");
    let (written, result) = write(store, version, &body, NOW_MS);
    (written, result.map_err(|error| error.to_string()))
}

#[test]
fn version_1_stores_floats_histograms_and_markers() {
    let mut store = Store::default();
    let mut histogram = HistogramMessage::of(3, 6.5, 1, &[(0, 2)], &[1, 1]);
    histogram.timestamp_ms = 5;
    let series = [
        SeriesV1 { histograms: vec![histogram], ..series_v1(&[("__name__", "h")], Vec::new()) },
        series_v1(&[("job", "model"), ("__name__", "up")], vec![sample(1, 1.0), sample(2, crate::STALE_NAN)]),
        series_v1(&[("job", "nameless")], vec![sample(1, 1.0)]),
        series_v1(&[("__name__", "twice"), ("a", "1"), ("a", "2")], vec![sample(1, 1.0)]),
    ];
    let (written, result) = send(&mut store, Version::V1, &request_v1(&series));
    assert_eq!((written.samples, written.histograms, result), (2, 1, Ok(())));
    let expected = [
        "{__name__=\"h\"} 5 {{schema:1 count:3 sum:6.5 buckets:[1 2]}}",
        "{__name__=\"up\", job=\"model\"} 1 1",
        "{__name__=\"up\", job=\"model\"} 2 stale",
    ];
    assert_eq!(stored(&store), expected);
}

#[test]
fn what_cannot_be_stored_is_told_and_the_rest_is_kept() {
    let mut store = Store::new(StoreOptions { series_max: 1, ..StoreOptions::default() });
    let up = |samples| request_v1(&[series_v1(&[("__name__", "up")], samples)]);
    let samples =
        vec![sample(20, 1.0), sample(10, 1.0), sample(20, 2.0), sample(NOW_MS * 2, 1.0), sample(30, 1.0)];
    let (written, result) = send(&mut store, Version::V1, &up(samples));
    let told = "out of order sample for series {__name__=\"up\"}\n\
                duplicate sample for timestamp for series {__name__=\"up\"}\n\
                out of bounds: timestamp is too far in the future for series {__name__=\"up\"}";
    assert_eq!((written.samples, result), (2, Err(told.to_owned())));
    let other = request_v1(&[series_v1(&[("__name__", "other")], vec![sample(1, 1.0)])]);
    let (_, result) = write(&mut store, Version::V1, &other, NOW_MS);
    assert!(matches!(result, Err(PushError::Full(_))), "{result:?}");
    let (_, result) = write(&mut store, Version::V1, &[0xff; 20], NOW_MS);
    assert!(matches!(result, Err(PushError::BadRequest(_))), "{result:?}");
}

#[test]
fn version_2_reads_labels_from_the_table_of_symbols() {
    let mut store = Store::default();
    let symbols = ["", "__name__", "http_requests_total", "Requests.", "trace_id", "q"];
    let series = |labels_refs: &[u32], samples| SeriesV2 {
        labels_refs: labels_refs.to_vec(),
        samples,
        ..SeriesV2::default()
    };
    let good = SeriesV2 {
        exemplars: vec![ExemplarV2 { labels_refs: vec![4, 5], value: 0.5, timestamp_ms: 7 }],
        metadata: Some(MetadataV2 { kind: 1, help_ref: 3, unit_ref: 0 }),
        ..series(&[1, 2], vec![sample(7, 3.0)])
    };
    let all =
        [good, series(&[1, 99], vec![sample(1, 1.0)]), series(&[1], Vec::new()), series(&[1, 2], Vec::new())];
    let (written, result) = send(&mut store, Version::V2, &request_v2(&symbols, &all));
    assert_eq!(written, Written { samples: 1, exemplars: 1, ..Written::default() });
    let told = "labelRefs 99 (name) is outside of symbols table (size 6)\n\
                invalid labelRefs length 1\n\
                TimeSeries must contain at least one sample or histogram for series {__name__=\"http_requests_total\"}";
    assert_eq!(result, Err(told.to_owned()));
    assert_eq!(stored(&store), ["{__name__=\"http_requests_total\"} 7 3"]);
    let metadata = store.metadata().get("http_requests_total").expect("described");
    assert_eq!((metadata.kind.as_str(), metadata.help.as_str()), ("counter", "Requests."));
    let exemplars = store.exemplars_between(0, 10);
    assert_eq!(exemplars[0].1.labels.to_string(), "{trace_id=\"q\"}");
}

#[test]
fn the_content_type_names_the_version() {
    let table = [
        ("application/x-protobuf", Ok(Version::V1)),
        ("application/x-protobuf;proto=prometheus.WriteRequest", Ok(Version::V1)),
        ("application/x-protobuf; proto=io.prometheus.write.v2.Request", Ok(Version::V2)),
        ("application/x-protobuf;proto=other", Err(())),
        ("application/x-protobuf;proto", Err(())),
        ("application/json", Err(())),
        ("", Err(())),
    ];
    for (content_type, expected) in table {
        assert_eq!(Version::from_content_type(content_type).map_err(drop), expected, "{content_type}");
    }
}

#[test]
fn bodies_are_bounded() {
    // A length of 4 GiB that nothing follows.
    assert!(
        decompress(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0])
            .is_err_and(|error| error.to_string().contains("more than"))
    );
    assert!(decompress(b"no snappy").is_err());
    let many = [0x12, 0x00].repeat(crate::wire::MESSAGE_BYTES_MAX);
    let (_, result) = write(&mut Store::default(), Version::V1, &field(1, &many), NOW_MS);
    assert!(result.is_err_and(|error| error.to_string().contains("more than 1048576")));
}

#[test]
fn version_2_says_since_when_samples_count() {
    let mut store = Store::default();
    let started = |timestamp_ms, start_ms| SampleMessage { start_ms, ..sample(timestamp_ms, 1.0) };
    let mut histogram = HistogramMessage::of(3, 6.5, 1, &[(0, 2)], &[1, 1]);
    (histogram.timestamp_ms, histogram.start_ms) = (4, 3);
    let series = [
        SeriesV2 {
            labels_refs: vec![1, 2],
            samples: vec![started(10, 7), started(20, 7), started(30, 0), started(40, 50)],
            ..SeriesV2::default()
        },
        SeriesV2 { labels_refs: vec![1, 3], histograms: vec![histogram], ..SeriesV2::default() },
    ];
    let body = request_v2(&["", "__name__", "a", "h"], &series);
    let (_, result) = send(&mut store, Version::V2, &body);
    assert_eq!(result, Ok(()));
    let starts = |name: &str, times: &[i64]| -> Vec<i64> {
        let selected = store.select(&[Matcher::equal("__name__", name)]);
        let starts = selected[0].start_times().expect("samples with starts");
        times.iter().map(|timestamp_ms| starts.at(*timestamp_ms)).collect()
    };
    // One that lies behind its sample is none.
    assert_eq!(starts("a", &[10, 20, 30, 40]), [7, 7, 0, 0]);
    assert_eq!(starts("h", &[4]), [3]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for version in [Version::V1, Version::V2] {
            let _ = write(&mut Store::default(), version, &body, NOW_MS);
        }
        let _ = decompress(&body);
    }

    #[test]
    fn near_requests_are_read_or_refused(
        places in prop::collection::vec(0u32..4, 0..5), counts in prop::collection::vec(any::<i64>(), 0..4),
        spans in prop::collection::vec((any::<i32>(), any::<u32>()), 0..3), schema in -60i32..60, sum in any::<f64>(),
    ) {
        let mut histogram = HistogramMessage::of(3, sum, schema, &[], &counts);
        histogram.set_spans(spans.iter().map(|(offset, length)| SpanMessage::new(*offset, length % 5)).collect());
        let series = SeriesV2 { labels_refs: places, histograms: vec![histogram], ..SeriesV2::default() };
        let _ = write(&mut Store::default(), Version::V2, &request_v2(&["", "__name__", "a"], &[series]), NOW_MS);
    }
}
