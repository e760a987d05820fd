//! Scrape after scrape of one target.

use super::*;
use crate::matcher::Matcher;

fn target(options: TargetOptions) -> (Store, Target) {
    let labels = Labels::new([("instance", "127.1.0.1:9100"), ("job", "model")]);
    (Store::default(), Target::new(labels, options))
}

fn newest(store: &Store, name: &str) -> Vec<(String, i64, String)> {
    let series = store.select(&[Matcher::equal(METRIC_NAME, name)]);
    let row = |series: &crate::SeriesRef<'_>| {
        let newest = series.newest().expect("a sample");
        let value = if newest.is_stale_marker() { "stale".into() } else { newest.value.to_string() };
        (series.labels().without_name().to_string(), newest.timestamp_ms, value)
    };
    series.iter().map(row).collect()
}

#[test]
fn series_appear_continue_vanish_and_come_back() {
    let (mut store, mut target) = target(TargetOptions::default());
    let mut scrape =
        |page: &str, at_ms| target.ingest(&mut store, page.as_bytes(), Format::Text, at_ms).expect("valid");
    let first = scrape("a{x=\"1\"} 1\na{x=\"2\"} 2\nb 3\n", 1_000);
    assert_eq!((first.samples, first.series_added, first.series_ended), (3, 3, 0));
    let second = scrape("a{x=\"2\"} 20\nb 30\n", 2_000);
    assert_eq!((second.samples, second.series_added, second.series_ended), (2, 0, 1));
    let third = scrape("a{x=\"1\"} 100\na{x=\"2\"} 200\nb 300\n", 3_000);
    assert_eq!((third.series_added, third.series_ended), (1, 0));
    let expected = |x: &str, value: &str| {
        (format!("{{instance=\"127.1.0.1:9100\", job=\"model\", x=\"{x}\"}}"), 3_000, value.to_owned())
    };
    assert_eq!(newest(&store, "a"), [expected("1", "100"), expected("2", "200")]);
}

#[test]
fn a_broken_page_leaves_nothing_behind_and_ends_all() {
    let (mut store, mut target) = target(TargetOptions::default());
    target.ingest(&mut store, b"a 1\n", Format::Text, 1_000).expect("valid");
    let error = target.ingest(&mut store, b"a 2\nnew 1\nb{\n", Format::Text, 2_000).expect_err("broken");
    assert_eq!(error.to_string(), "line 3, column 3: expected label name or right brace, got \"\"");
    assert_eq!(store.size().samples, 1);
    target.end(&mut store, 2_000);
    assert_eq!(newest(&store, "a")[0].2, "stale");
    target.report(
        &mut store,
        &ScrapeReport { up: false, duration_seconds: 0.1, scraped: Scraped::default() },
        2_000,
    );
    assert_eq!(newest(&store, "up")[0].2, "0");
    target.end_reports(&mut store, 3_000);
    assert_eq!(newest(&store, "up")[0].2, "stale");
}

#[test]
fn clashing_labels_are_renamed_or_honored() {
    let page = b"a{job=\"mine\",exported_job=\"other\"} 1\n";
    for (honor_labels, expected) in [
        (
            false,
            r#"{exported_exported_job="mine", exported_job="other", instance="127.1.0.1:9100", job="model"}"#,
        ),
        (true, r#"{exported_job="other", instance="127.1.0.1:9100", job="mine"}"#),
    ] {
        let (mut store, mut target) = target(TargetOptions { honor_labels, ..TargetOptions::default() });
        target.ingest(&mut store, page, Format::Text, 1_000).expect("valid");
        assert_eq!(newest(&store, "a")[0].0, expected);
    }
}

#[test]
fn own_timestamps_are_kept_untracked_and_bounded() {
    let (mut store, mut target) = target(TargetOptions::default());
    target.ingest(&mut store, b"a 1 500\nb 1 99999999\n", Format::Text, 1_000).expect("valid");
    target.ingest(&mut store, b"c 1\n", Format::Text, 2_000).expect("valid");
    assert_eq!((newest(&store, "a")[0].1, newest(&store, "a")[0].2.as_str()), (500, "1"), "lingers");
    assert_eq!(store.size().samples, 2, "b lies too far in the future");
}

#[test]
fn limits_and_evictions_do_not_stop_a_target() {
    let (mut store, mut target) = target(TargetOptions { sample_limit: 1, ..TargetOptions::default() });
    assert_eq!(target.ingest(&mut store, b"a 1\nb 1\n", Format::Text, 0), Err(ScrapeError::SampleLimit(1)));
    target.ingest(&mut store, b"a 1\n", Format::Text, 1_000).expect("valid");
    store.evict(10_000_000);
    assert_eq!(store.size().series, 0);
    target.ingest(&mut store, b"a 2\n", Format::Text, 10_001_000).expect("valid");
    assert_eq!(newest(&store, "a")[0].2, "2");
}

#[test]
fn metadata_is_kept() {
    let (mut store, mut target) = target(TargetOptions::default());
    target
        .ingest(&mut store, b"# HELP a What it is.\n# TYPE a gauge\na 1\n", Format::Text, 0)
        .expect("valid");
    let metadata = store.metadata().get("a").expect("described");
    assert_eq!((metadata.kind.as_str(), metadata.help.as_str()), ("gauge", "What it is."));
}
