//! Pages of protocol buffers through a target.

use proptest::prelude::*;

use super::*;
use crate::exposition::Format;
use crate::store::Store;
use crate::target::{Limits, ScrapeError, Target, TargetOptions};

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}

fn family_message(name: &str, kind: u8, metrics: &[Metric]) -> Vec<u8> {
    let metrics = metrics.iter().flat_map(|metric| field(4, &metric.encode_to_vec()));
    let message: Vec<u8> =
        [field(1, name.as_bytes()), vec![3 << 3, kind]].concat().into_iter().chain(metrics).collect();
    // A family is what a field is, without the field's number.
    field(0, &message)[1..].to_vec()
}

fn histogram() -> HistogramOfClient {
    let bucket = |upper_bound, cumulative_count| ClassicBucket {
        cumulative_count,
        upper_bound,
        ..ClassicBucket::default()
    };
    HistogramOfClient {
        sample_count: 3,
        sample_sum: 4.5,
        bucket: vec![bucket(1.0, 1), bucket(2.0, 2)],
        schema: 1,
        zero_threshold: 0.001,
        positive_span: vec![SpanMessage::new(0, 2)],
        positive_delta: vec![1, 1],
        exemplars: vec![ExemplarMessage {
            label: vec![LabelPair { name: "trace_id".into(), value: "q".into() }],
            value: 1.5,
            timestamp: Some(Time { seconds: 1, nanos: 5_000_000 }),
        }],
        ..HistogramOfClient::default()
    }
}

fn page() -> Vec<u8> {
    let label = |value: &str| vec![LabelPair { name: "path".into(), value: value.into() }];
    let counter = Metric {
        label: label("/"),
        counter: Some(Counter {
            value: 7.0,
            created: Some(Time { seconds: 0, nanos: 500_000_000 }),
            ..Counter::default()
        }),
        timestamp_ms: 900,
        ..Metric::default()
    };
    let quantile = vec![Quantile { quantile: 1.0, value: 0.5 }];
    let summary = Metric {
        summary: Some(Summary { sample_count: 2, sample_sum: 3.0, quantile, ..Summary::default() }),
        ..Metric::default()
    };
    let histogram = Metric { histogram: Some(histogram()), ..Metric::default() };
    [
        family_message("requests_total", 0, &[counter]),
        family_message("age", 2, &[summary]),
        family_message("latency", 4, &[histogram]),
    ]
    .concat()
}

fn scrape(options: TargetOptions) -> (Vec<String>, Result<(), ScrapeError>) {
    let mut store = Store::default();
    let mut target = Target::new(Labels::empty(), options);
    let result = target.ingest(&mut store, &page(), Format::Protobuf, 1_000);
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    let mut lines = Vec::new();
    for series in store.select(&[]) {
        let floats = series.samples(i64::MIN, i64::MAX, &mut floats).iter();
        lines.extend(floats.map(|s| format!("{}@{} {}", series.labels(), s.timestamp_ms, s.value)));
        let histograms = series.histograms(i64::MIN, i64::MAX, &mut histograms).iter();
        lines.extend(
            histograms.map(|s| format!("{}@{} {}", series.labels(), s.timestamp_ms, s.histogram.to_script())),
        );
    }
    (lines, result.map(drop))
}

const FLOATS: [&str; 4] = [
    r#"{__name__="requests_total", path="/"}@900 7"#,
    r#"{__name__="age_count"}@1000 2"#,
    r#"{__name__="age_sum"}@1000 3"#,
    r#"{__name__="age", quantile="1.0"}@1000 0.5"#,
];
const CLASSIC: [&str; 5] = [
    r#"{__name__="latency_count"}@1000 3"#,
    r#"{__name__="latency_sum"}@1000 4.5"#,
    r#"{__name__="latency_bucket", le="1.0"}@1000 1"#,
    r#"{__name__="latency_bucket", le="2.0"}@1000 2"#,
    r#"{__name__="latency_bucket", le="+Inf"}@1000 3"#,
];
const NATIVE: &str =
    r#"{__name__="latency"}@1000 {{schema:1 count:3 sum:4.5 z_bucket_w:0.001 buckets:[1 2]}}"#;

#[test]
fn the_monitor_says_which_form_of_a_histogram_is_read() {
    let options = |native_histograms, classic_histograms_too| TargetOptions {
        native_histograms,
        classic_histograms_too,
        ..TargetOptions::default()
    };
    let both: Vec<&str> = [NATIVE].into_iter().chain(CLASSIC).collect();
    for (native, classic, expected) in
        [(false, false, CLASSIC.to_vec()), (true, false, vec![NATIVE]), (true, true, both)]
    {
        let (stored, result) = scrape(options(native, classic));
        let expected: Vec<&str> = FLOATS.into_iter().chain(expected).collect();
        assert_eq!((stored.iter().map(String::as_str).collect::<Vec<_>>(), result), (expected, Ok(())));
    }
}

#[test]
fn buckets_are_merged_until_they_keep_to_the_limits() {
    let native = |limit, factor| TargetOptions {
        native_histograms: true,
        native_histogram_min_bucket_factor: factor,
        limits: Limits { native_histogram_bucket_limit: limit, ..Limits::default() },
        ..TargetOptions::default()
    };
    for (limit, factor, expected) in [(2, 1.1, "schema:1"), (2, 2.0, "buckets:[1 2]"), (2, 4.0, "schema:-1")]
    {
        let (stored, _) = scrape(native(limit, factor));
        assert!(stored.last().is_some_and(|line| line.contains(expected)), "{limit} {factor} {stored:?}");
    }
    let (stored, result) = scrape(native(1, 0.0));
    assert_eq!((stored.len(), result), (0, Err(ScrapeError::BucketLimit)), "one below and one above 1");
}

#[test]
fn exemplars_are_kept_and_vanished_series_end() {
    let (mut store, mut target) = (
        Store::default(),
        Target::new(Labels::empty(), TargetOptions { native_histograms: true, ..TargetOptions::default() }),
    );
    target.ingest(&mut store, &page(), Format::Protobuf, 1_000).expect("valid");
    let exemplars = store.exemplars_between(0, 2_000);
    assert_eq!((exemplars.len(), exemplars[0].1.timestamp_ms), (1, 1_005));
    let again = target.ingest(&mut store, &page(), Format::Protobuf, 2_000).expect("valid");
    assert_eq!((again.series_added, again.series_ended), (0, 0));
    let ended = target.ingest(&mut store, &[], Format::Protobuf, 3_000).expect("empty");
    assert_eq!(ended.series_ended, 4, "all but the one with a time of its own");
}

#[test]
fn metrics_tell_since_when_they_count() {
    let options = TargetOptions { start_timestamps: true, ..TargetOptions::default() };
    for (options, expected) in [(options, Some(500)), (TargetOptions::default(), None)] {
        let mut store = Store::default();
        let mut target = Target::new(Labels::default(), options);
        target.ingest(&mut store, &page(), Format::Protobuf, 1_000).expect("valid");
        let starts = |series: &crate::SeriesRef<'_>| series.start_times().map(|starts| starts.at(900));
        let told: Vec<i64> = store.select(&[]).iter().filter_map(starts).collect();
        assert_eq!(told.first().copied(), expected);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(noise in prop::collection::vec(any::<u8>(), 0..100), at in 0usize..300, flip in any::<u8>()) {
        let mut target = Target::new(Labels::empty(), TargetOptions { native_histograms: true, ..TargetOptions::default() });
        let _ = target.ingest(&mut Store::default(), &noise, Format::Protobuf, 0);
        let mut near = page();
        let at = at % near.len();
        near[at] = flip;
        let _ = target.ingest(&mut Store::default(), &near, Format::Protobuf, 0);
    }
}
