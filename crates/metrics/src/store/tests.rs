//! Appending, finding, ending and evicting series.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::histogram::{Buckets, NativeHistogram, ResetHint, Schema, Span};
use crate::labels::METRIC_NAME;
use crate::matcher::MatchOp;

fn labels(name: &str, pod: &str) -> Labels {
    Labels::new([("__name__", name), ("pod", pod)])
}

fn values(store: &Store, name: &str) -> Vec<(i64, f64)> {
    let mut scratch = Vec::new();
    let series = store.select(&[Matcher::equal(METRIC_NAME, name)]);
    let samples = series.first().map(|series| series.samples(i64::MIN, i64::MAX, &mut scratch).to_vec());
    samples.unwrap_or_default().iter().map(|s| (s.timestamp_ms, s.value)).collect()
}

#[test]
fn samples_are_taken_by_the_rules_of_prometheus() {
    let mut store = Store::default();
    let id = store.append_to(&labels("up", "a"), Sample::new(1_000, 1.0)).expect("new");
    assert_eq!(store.append(id, Sample::new(1_000, 1.0)), Ok(()), "the same again");
    assert_eq!(store.append(id, Sample::new(1_000, 2.0)), Err(Rejected::DuplicateTimestamp));
    assert_eq!(store.append(id, Sample::new(999, 2.0)), Err(Rejected::OutOfOrder));
    assert_eq!(store.append(id, Sample::new(1_001, f64::NAN)), Ok(()));
    assert_eq!(store.append(id, Sample::new(1_001, f64::NAN)), Ok(()), "the same NaN again");
    let expected = Rejections { duplicate_timestamp: 1, out_of_order: 1, ..Rejections::default() };
    assert_eq!((store.rejections(), store.size().samples), (expected, 2));
}

#[test]
fn windows_are_left_open_and_reach_into_compressed_samples() {
    let mut store = Store::default();
    for second in 0..1_000 {
        store.append_to(&labels("load", "a"), Sample::new(second * 1_000, second as f64)).expect("in order");
    }
    let series = store.select(&[Matcher::equal("pod", "a")])[0];
    for (after, to, first, count) in
        [(0, 5, 1, 5), (100, 400, 101, 300), (880, 999, 881, 119), (998, 2_000, 999, 1)]
    {
        let mut scratch = Vec::new();
        let window = series.samples(after * 1_000, to * 1_000, &mut scratch);
        assert_eq!((window.len(), window[0].value), (count, first as f64), "({after}, {to}]");
        assert!(window.windows(2).all(|pair| pair[0].timestamp_ms + 1_000 == pair[1].timestamp_ms));
    }
    assert_eq!(values(&store, "load").len(), 1_000);
}

#[test]
fn series_are_found_by_labels() {
    let mut store = Store::default();
    for (name, pod) in [("up", "a"), ("up", "b"), ("load", "a"), ("load", "c")] {
        store.append_to(&labels(name, pod), Sample::new(0, 0.0)).expect("new");
    }
    let rows = [
        ("pod", MatchOp::Equal, "a", 2),
        ("pod", MatchOp::NotEqual, "a", 2),
        ("pod", MatchOp::RegexMatch, "a|c", 3),
        ("pod", MatchOp::RegexNoMatch, "a|c", 1),
        ("node", MatchOp::Equal, "", 4),
        ("node", MatchOp::NotEqual, "", 0),
    ];
    for (name, op, value, count) in rows {
        let matcher = Matcher::new(name, op, value).expect("valid");
        assert_eq!(store.select(std::slice::from_ref(&matcher)).len(), count, "{matcher}");
    }
    assert_eq!(store.label_names(), ["__name__", "pod"]);
    assert_eq!((store.label_values("pod"), store.metric_names()), (vec!["a", "b", "c"], vec!["load", "up"]));
}

#[test]
fn old_samples_and_dead_series_go() {
    let mut store =
        Store::new(StoreOptions { retention: Duration::from_secs(60), ..StoreOptions::default() });
    let old = store.append_to(&labels("old", "a"), Sample::new(0, 1.0)).expect("new");
    for second in 0..300 {
        store.append_to(&labels("load", "a"), Sample::new(second * 1_000, 1.0)).expect("in order");
    }
    store.evict(300_000);
    assert!(store.series(old).is_none());
    assert_eq!(store.append(old, Sample::new(300_000, 1.0)), Err(Rejected::UnknownSeries));
    assert_eq!(store.append_to(&labels("new", "a"), Sample::new(1, 1.0)), Err(Rejected::TooOld));
    assert_eq!(store.metric_names(), ["load", "new"]);
    let kept = values(&store, "load");
    assert!(kept.len() < 300 && kept.iter().filter(|(t, _)| *t >= 240_000).count() == 60, "{}", kept.len());
    let new = store.append_to(&labels("other", "a"), Sample::new(300_000, 1.0)).expect("reuses the slot");
    assert!(new != old && store.series(old).is_none(), "an id is never given again");
}

#[test]
fn series_and_samples_are_bounded() {
    let mut store = Store::new(StoreOptions { series_max: 2, samples_max: 1_000, ..StoreOptions::default() });
    for second in 0..600 {
        for pod in ["a", "b"] {
            store.append_to(&labels("load", pod), Sample::new(second * 1_000, 1.0)).expect("in order");
        }
    }
    for _ in 0..2 {
        assert_eq!(store.append_to(&labels("load", "c"), Sample::new(0, 1.0)), Err(Rejected::TooManySeries));
    }
    store.evict(600_000);
    let (size, rejections) = (store.size(), store.rejections());
    assert!(size.samples <= 1_000 && size.samples > 700, "{size:?}");
    assert!(size.chunks.samples < size.samples && size.chunks.bytes < size.chunks.samples, "{size:?}");
    assert_eq!(rejections.dropped_over_samples_max as usize, 1_200 - size.samples);
    assert_eq!(rejections.too_many_series, 2);
    let ended = store.select_ids(&[Matcher::equal("pod", "a")]);
    assert_eq!(store.mark_stale(ended, 601_000), 1);
    let taken = store.append_to(&labels("load", "c"), Sample::new(601_000, 1.0));
    assert!(taken.is_ok(), "what has ended makes room");
}

#[test]
fn stale_markers_end_living_series_once() {
    let mut store = Store::default();
    let id = store.append_to(&labels("up", "a"), Sample::new(1_000, 1.0)).expect("new");
    assert_eq!(store.mark_stale([id], 500), 0, "it has newer samples");
    assert_eq!(store.mark_stale([id], 2_000), 1);
    assert_eq!(store.mark_stale([id], 3_000), 0, "it has ended");
    assert!(
        store.series(id).and_then(|series| series.newest()).is_some_and(|sample| sample.is_stale_marker())
    );
}

/// A rolling update every few minutes for a day: what has ended takes little room, and none from new series.
#[test]
fn rolling_updates_do_not_fill_the_store() {
    let retention = Duration::from_secs(24 * 3_600);
    let mut store = Store::new(StoreOptions { series_max: 2_000, retention, ..StoreOptions::default() });
    let mut sizes = Vec::new();
    for update in 0..100i64 {
        let ids: Vec<SeriesId> = (0..100)
            .map(|series| {
                let pod = format!("model-{update}-{series}");
                store.series_id(&labels("load", &pod)).expect("the ended ones make room")
            })
            .collect();
        let begin_ms = update * 600_000;
        for second in 0..100 {
            for id in &ids {
                store.append(*id, Sample::new(begin_ms + second * 1_000, second as f64)).expect("in order");
            }
        }
        assert_eq!(store.mark_stale(ids, begin_ms + 100_000), 100);
        store.evict(begin_ms + 500_000);
        sizes.push(store.size().bytes);
    }
    let (early, late) = (sizes[18], sizes[99]);
    assert!(late < early * 5 / 4, "{early} bytes after 19 updates, {late} after 100");
    assert!(late < 2_000 * 1_200, "{} bytes for each of 2,000 series that ended", late / 2_000);
    assert_eq!(store.rejections().too_many_series, 0);
}

/// The default world: ten pods of a hundred series, scraped each second for an hour.
#[test]
fn an_hour_of_the_default_world_stays_small() {
    let mut store = Store::default();
    let mut ids = Vec::new();
    for series in 0..1_000 {
        let (pod, le) = (format!("model-{}", series / 100), format!("{}", series % 100));
        let all = Labels::new([
            ("__name__", "http_request_duration_seconds_bucket"),
            ("namespace", "default"),
            ("job", "model"),
            ("instance", &pod),
            ("pod", &pod),
            ("le", &le),
        ]);
        ids.push(store.series_id(&all).expect("new"));
    }
    // Counters that grow unevenly, and every tenth a sum of durations: the hard case for compression.
    let mut seed = 1u64;
    let mut counters = vec![0.0; ids.len()];
    for second in 0..3_600 {
        for (i, id) in ids.iter().enumerate() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let step = (seed >> 60) as f64;
            counters[i] += if i % 10 == 0 { step * 0.001_37 } else { step };
            store.append(*id, Sample::new(second * 1_000 + 17, counters[i])).expect("in order");
        }
    }
    let size = store.size();
    assert_eq!(size.samples, 3_600_000);
    assert!(
        size.bytes < 10_000_000,
        "{size:?}, {:.2} bytes a sample",
        size.bytes as f64 / size.samples as f64
    );
}

#[test]
fn followers_are_told_what_happens_to_their_series() {
    let options = StoreOptions { retention: Duration::from_secs(10), ..StoreOptions::default() };
    let mut store = Store::new(options);
    let a = store.append_to(&labels("load", "a"), Sample::new(1_000, 1.0)).expect("new");
    let follower = store.follow(&[Matcher::equal(METRIC_NAME, "load")]);
    let mut changes = Changes::default();
    let mut told = |store: &mut Store| {
        assert!(store.take_changes(follower, &mut changes));
        let appended: Vec<f64> = changes.appended.iter().map(|(_, sample)| sample.value).collect();
        (changes.members_changed, appended, changes.kept_from_ms)
    };
    assert_eq!(told(&mut store), (true, vec![], None), "at first, everything is to be read");
    store.append(a, Sample::new(2_000, 2.0)).expect("in order");
    store.append(a, Sample::new(2_000, 2.0)).expect("the same again");
    store.append(a, Sample::new(2_000, 9.0)).expect_err("a duplicate");
    store.append_to(&labels("other", "a"), Sample::new(2_000, 3.0)).expect("new");
    assert_eq!(told(&mut store), (false, vec![2.0], None));
    let b = store.append_to(&labels("load", "b"), Sample::new(3_000, 4.0)).expect("new");
    assert_eq!(told(&mut store), (true, vec![4.0], None), "a series was born");
    store.append(b, Sample::new(14_000, 5.0)).expect("in order");
    store.evict(12_500);
    assert_eq!(told(&mut store), (true, vec![5.0], None), "a series was evicted");
    store.append(b, Sample::new(30_000, 6.0)).expect("in order");
    store.evict(32_000);
    assert_eq!(told(&mut store), (false, vec![6.0], Some(30_000)), "samples went, and one stayed");
    assert_eq!(store.select_ids(&[Matcher::equal(METRIC_NAME, "load")]), [b]);
    store.unfollow(follower);
    assert!(!store.take_changes(follower, &mut Changes::default()));
}

fn histogram(count: f64) -> Arc<NativeHistogram> {
    let positive = Buckets::from_spans(&[Span { offset: 1, length: 1 }], &[count]).expect("valid");
    Arc::new(NativeHistogram {
        count,
        sum: count,
        positive,
        ..NativeHistogram::empty(Schema::Exponential(0))
    })
}

#[test]
fn histograms_are_samples_beside_floats() {
    let mut store = Store::default();
    let id = store.series_id(&labels("latency", "a")).expect("new");
    let mut append = |timestamp_ms: i64, count: f64| {
        store.append_histogram(id, HistogramSample { timestamp_ms, histogram: histogram(count) })
    };
    assert_eq!(append(1_000, 1.0), Ok(()));
    assert_eq!(append(1_000, 1.0), Ok(()), "the same again");
    assert_eq!(append(1_000, 2.0), Err(Rejected::DuplicateTimestamp));
    assert_eq!(append(0, 2.0), Err(Rejected::OutOfOrder));
    for second in 2..400 {
        append(second * 1_000, if second == 200 { 0.0 } else { second as f64 }).expect("in order");
    }
    assert_eq!(store.append(id, Sample::new(399_000, 1.0)), Err(Rejected::DuplicateTimestamp));
    assert_eq!(store.append(id, Sample::new(400_000, 1.0)), Ok(()));
    assert_eq!(store.mark_stale([id], 401_000), 1);
    store
        .append_histogram(id, HistogramSample { timestamp_ms: 402_000, histogram: histogram(1.0) })
        .expect("later");
    let series = store.series(id).expect("there");
    let (mut scratch, mut floats) = (Vec::new(), Vec::new());
    let found = series.histograms(0, 500_000, &mut scratch);
    assert_eq!((found.len(), series.samples(0, 500_000, &mut floats).len()), (400, 2));
    let unknown = found.iter().filter(|sample| sample.histogram.reset_hint == ResetHint::Unknown);
    let unknown: Vec<i64> = unknown.map(|sample| sample.timestamp_ms / 1_000).collect();
    assert_eq!(unknown, [1, 200, 402], "the first, after a restart, after floats");
    assert_eq!(
        (series.alive_ms(), series.newest(), store.size().samples),
        (Some(402_000), None, 400 * 4 - 1 + 2),
        "the empty bucket is not kept"
    );
    store.evict(402_000 + 3_600_000);
    assert_eq!(store.size().samples, 4);
}
