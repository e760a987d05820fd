//! Random series: counters that start anew, gauges with gaps and odd values, classic and native histograms, and mixes.

use std::collections::BTreeMap;
use std::sync::Arc;

use flyball_metrics::histogram::{Buckets, CUSTOM_SCHEMA, NativeHistogram, ResetHint, Schema, Span};
use flyball_metrics::promql::{self, EngineOptions, ParseOptions};
use flyball_metrics::{HistogramSample, Labels, STALE_NAN, Sample, Store, StoreOptions};
use serde_json::{Value, json};

use crate::compare::{Answer, float_text};
use crate::queries::Query;
use crate::random::Random;

/// All samples lie in an hour and a half.
pub(crate) const END_MS: i64 = 5_400_000;
const BOUNDS: [(&str, f64); 6] =
    [("0.1", 0.1), ("0.25", 0.25), ("0.5", 0.5), ("1.0", 1.0), ("2.5", 2.5), ("+Inf", f64::INFINITY)];

enum Point {
    Float(f64),
    Histogram(NativeHistogram),
}

struct Series {
    labels: Labels,
    points: Vec<(i64, Point)>,
}

pub(crate) struct DataSet {
    series: Vec<Series>,
    store: Store,
}

impl DataSet {
    pub(crate) fn random(random: &mut Random) -> DataSet {
        let mut series = Vec::new();
        for pod in ["a", "b", "c"] {
            for job in ["api", "web"] {
                if random.chance(0.15) {
                    continue;
                }
                all_of(random, &[("job", job), ("pod", pod)], &mut series);
                target(random, &[("job", job), ("instance", pod)], &mut series);
            }
        }
        for job in ["api", "web"] {
            target(random, &[("job", job)], &mut series);
        }
        let store = store_of(&series);
        DataSet { series, store }
    }

    /// Buckets of request latencies: 15 for each pod, a sample each 15 s for ten minutes.
    pub(crate) fn latencies(pods: usize) -> DataSet {
        let bounds = [
            "0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0",
            "7.5", "10.0", "+Inf",
        ];
        let mut series = Vec::new();
        for pod in 0..pods {
            let name = format!("model-{pod}");
            for (i, le) in bounds.iter().enumerate() {
                let labels = Labels::new([
                    ("__name__", "http_request_duration_seconds_bucket"),
                    ("instance", &name),
                    ("job", "model"),
                    ("namespace", "default"),
                    ("pod", &name),
                    ("service", "model"),
                    ("le", le),
                ]);
                let value = |step: i64| (step * (i as i64 + 1) * (pod as i64 % 7 + 1)) as f64;
                let points = (0..40).map(|step| (step * 15_000, Point::Float(value(step)))).collect();
                series.push(Series { labels, points });
            }
        }
        let store = store_of(&series);
        DataSet { series, store }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn to_json(&self) -> Value {
        let point = |(time, point): &(i64, Point)| match point {
            Point::Float(value) => json!([time, float_text(*value)]),
            Point::Histogram(histogram) => json!([time, histogram_json(histogram)]),
        };
        let one = |series: &Series| {
            let labels: serde_json::Map<String, Value> =
                series.labels.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
            json!({"labels": labels, "samples": series.points.iter().map(point).collect::<Vec<_>>()})
        };
        self.series.iter().map(one).collect()
    }

    pub(crate) fn ask(&self, query: &Query) -> Answer {
        let options =
            EngineOptions { delayed_name_removal: query.names_dropped_last, ..EngineOptions::default() };
        let parsed = promql::parse_with(&query.text, ParseOptions::all());
        let expr = match parsed {
            Ok(expr) => expr,
            Err(error) => return Answer::failed(error.to_string()),
        };
        let result = if query.step_ms == 0 {
            promql::eval_instant(&self.store, &query.text, &expr, query.start_ms, &options)
        } else {
            let times = (query.start_ms, query.end_ms, query.step_ms);
            promql::eval_range(&self.store, &query.text, &expr, times, &options)
        };
        match result {
            Ok(result) => Answer::of(&expr, &result),
            Err(error) => Answer::failed(error.to_string()),
        }
    }
}

fn store_of(series: &[Series]) -> Store {
    let mut store = Store::new(StoreOptions::default());
    for series in series {
        let id = store.series_id(&series.labels).expect("few series");
        for (timestamp_ms, point) in &series.points {
            let timestamp_ms = *timestamp_ms;
            let appended = match point {
                Point::Float(value) => store.append(id, Sample::new(timestamp_ms, *value)),
                Point::Histogram(histogram) => store.append_histogram(
                    id,
                    HistogramSample { timestamp_ms, histogram: Arc::new(histogram.clone()) },
                ),
            };
            appended.expect("times rise");
        }
    }
    store
}

pub(crate) fn histogram_json(histogram: &NativeHistogram) -> Value {
    let buckets = |buckets: &Buckets| -> Vec<[String; 2]> {
        buckets.iter().map(|(index, count)| [index.to_string(), float_text(count)]).collect()
    };
    let hint = match histogram.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    json!({
        "schema": histogram.schema.number(),
        "bounds": histogram.schema.custom_bounds(),
        "zero_threshold": histogram.zero_threshold,
        "zero_count": float_text(histogram.zero_count),
        "count": float_text(histogram.count),
        "sum": float_text(histogram.sum),
        "positive": buckets(&histogram.positive),
        "negative": buckets(&histogram.negative),
        "hint": hint,
    })
}

/// When a series was scraped: every few seconds, with jitter, and not always.
fn times(random: &mut Random) -> Vec<i64> {
    let interval = 1_000 * random.pick(&[&10, &15, &30, &60, &60]);
    let jitter = if random.chance(0.5) { 0 } else { interval as u64 / 5 };
    let gaps = if random.chance(0.3) { 0.2 } else { 0.0 };
    let mut times = Vec::new();
    let mut time = random.below(120) as i64 * 1_000;
    while time < END_MS {
        if !random.chance(gaps) {
            times.push(time + if jitter > 0 { random.below(jitter) as i64 } else { 0 });
        }
        // Now and then it is away for a while.
        time += if random.chance(0.004) { 600_000 } else { interval };
    }
    times
}

fn all_of(random: &mut Random, labels: &[(&str, &str)], series: &mut Vec<Series>) {
    let mut add = |name: &str, more: &[(&str, &str)], points: Vec<(i64, Point)>| {
        let pairs = labels.iter().chain(more).copied().chain([("__name__", name)]);
        series.push(Series { labels: Labels::new(pairs), points });
    };
    for code in ["200", "500"] {
        add("requests_total", &[("code", code)], counter(random));
    }
    add("load", &[], gauge(random));
    add("queue", &[("zone", random.pick(&["x", "y"]))], gauge(random));
    let classic = classic(random);
    for (i, (le, _)) in BOUNDS.iter().enumerate() {
        let points = classic.iter().map(|(time, counts)| (*time, Point::Float(counts[i]))).collect();
        add("duration_seconds_bucket", &[("le", le)], points);
    }
    add("native", &[], native(random, false, Family::Exponential));
    add("native_gauge", &[], native(random, true, Family::Exponential));
    add("custom", &[], native(random, false, Family::Custom));
    let family = if random.chance(0.5) { Family::Mixed } else { Family::Floats };
    add("mixed", &[], native(random, false, family));
}

/// A target: whether it is up, and info series, of which one replaces another.
fn target(random: &mut Random, labels: &[(&str, &str)], series: &mut Vec<Series>) {
    let mut add = |name: &str, more: &[(&str, &str)], points: Vec<(i64, Point)>| {
        let pairs = labels.iter().chain(more).copied().chain([("__name__", name)]);
        series.push(Series { labels: Labels::new(pairs), points });
    };
    let ones = |random: &mut Random| times(random).into_iter().map(|time| (time, Point::Float(1.0)));
    add("up", &[], ones(random).collect());
    add("build_info", &[("revision", random.pick(&["a", "b"]))], ones(random).collect());
    let replaced_ms = random.below(END_MS as u64) as i64;
    // Rarely, both are there for a time.
    let overlap_ms = if random.chance(0.1) { 120_000 } else { 0 };
    let end = random.chance(0.7).then_some((replaced_ms + overlap_ms, Point::Float(STALE_NAN)));
    let old = ones(random).filter(|(time, _)| *time < replaced_ms + overlap_ms).chain(end).collect();
    add("target_info", &[("version", "1"), ("pod", "info")], old);
    let new = ones(random).filter(|(time, _)| *time >= replaced_ms).collect();
    add("target_info", &[("version", "2"), ("revision", random.pick(&["a", "c", ""]))], new);
}

fn with_stale(random: &mut Random, value: f64) -> Point {
    Point::Float(if random.chance(0.01) { STALE_NAN } else { value })
}

fn counter(random: &mut Random) -> Vec<(i64, Point)> {
    let times = times(random);
    let mut value = if random.chance(0.5) { 0.0 } else { random.below(1_000) as f64 };
    let fraction = if random.chance(0.3) { 0.37 } else { 1.0 };
    let point = |time| {
        value = if random.chance(0.02) { 0.0 } else { value + random.below(20) as f64 * fraction };
        (time, with_stale(random, value))
    };
    times.into_iter().map(point).collect()
}

fn gauge(random: &mut Random) -> Vec<(i64, Point)> {
    let scale = *random.pick(&[&1.0, &1e-3, &1e6, &1.0]);
    let odd = if random.chance(0.3) { 0.03 } else { 0.0 };
    let times = times(random);
    let point = |time| {
        let value = if random.chance(odd) {
            *random.pick(&[&f64::NAN, &f64::INFINITY, &f64::NEG_INFINITY, &0.0, &-0.0, &1e300])
        } else {
            ((random.share() - 0.3) * 20.0).round() / 2.0 * scale
        };
        (time, with_stale(random, value))
    };
    times.into_iter().map(point).collect()
}

fn classic(random: &mut Random) -> Vec<(i64, [f64; 6])> {
    let mut counts = [0.0; 6];
    let broken = random.chance(0.1);
    let times = times(random);
    let point = |time| {
        if random.chance(0.01) {
            counts = [0.0; 6];
        }
        let mut more = 0.0;
        for count in &mut counts {
            more += random.below(4) as f64;
            *count += more;
        }
        let mut shown = counts;
        if broken && random.chance(0.1) {
            shown[2] = (shown[2] - 5.0).max(0.0);
        }
        (time, shown)
    };
    times.into_iter().map(point).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Family {
    Exponential,
    Custom,
    /// Histograms of both schemas, and floats.
    Mixed,
    /// Exponential histograms and floats.
    Floats,
}

fn native(random: &mut Random, gauge: bool, family: Family) -> Vec<(i64, Point)> {
    let times = times(random);
    let mut current = layout(random, family);
    let mut points = Vec::new();
    for time in times {
        if random.chance(0.02) {
            current = layout(random, family);
        }
        observe(random, &mut current, gauge);
        let float = matches!(family, Family::Mixed | Family::Floats) && random.chance(0.15);
        if float {
            points.push((time, with_stale(random, random_count(current.count))));
        } else if random.chance(0.005) {
            points.push((time, Point::Float(STALE_NAN)));
        } else {
            points.push((time, Point::Histogram(current.clone())));
        }
    }
    points
}

fn random_count(count: f64) -> f64 {
    count / 2.0
}

/// An empty histogram with some schema.
fn layout(random: &mut Random, family: Family) -> NativeHistogram {
    let custom = family == Family::Custom || (family == Family::Mixed && random.chance(0.3));
    if custom {
        let bounds: &[f64] = random.pick(&[
            &[1.0, 2.0, 5.0][..],
            &[0.5, 2.0, 5.0, 8.0][..],
            &[-1.0, 0.0, 3.0][..],
            &[1.0, 2.0, 5.0][..],
        ]);
        return NativeHistogram::empty(Schema::new(CUSTOM_SCHEMA, bounds).expect("rising"));
    }
    let schema = *random.pick(&[&0, &1, &2, &3, &1, &1]);
    let zero_threshold = *random.pick(&[&0.0, &0.001, &0.001, &0.5, &1.0]);
    NativeHistogram { zero_threshold, ..NativeHistogram::empty(Schema::new(schema, &[]).expect("known")) }
}

fn observe(random: &mut Random, histogram: &mut NativeHistogram, gauge: bool) {
    let custom = histogram.schema.custom_bounds().len() as u64;
    let mut positive: BTreeMap<i32, f64> = histogram.positive.iter().collect();
    let mut negative: BTreeMap<i32, f64> = histogram.negative.iter().collect();
    for _ in 0..random.below(4) {
        let count = random.below(5) as f64;
        let index = if custom > 0 { random.below(custom + 1) as i32 } else { random.below(12) as i32 + 1 };
        let side = if custom == 0 && random.chance(0.15) { &mut negative } else { &mut positive };
        *side.entry(index).or_default() += count;
        histogram.count += count;
        histogram.sum += count * f64::from(index) * 0.7;
    }
    if custom == 0 && random.chance(0.3) {
        histogram.zero_count += 1.0;
        histogram.count += 1.0;
    }
    if random.chance(0.003) {
        histogram.sum = f64::NAN;
        histogram.count += 2.0;
    }
    (histogram.positive, histogram.negative) = (buckets(&positive), buckets(&negative));
    if gauge {
        histogram.reset_hint = ResetHint::Gauge;
    }
}

fn buckets(side: &BTreeMap<i32, f64>) -> Buckets {
    let mut next = 0;
    let span = |index: &i32| {
        let offset = index - next;
        next = index + 1;
        Span { offset, length: 1 }
    };
    let spans: Vec<Span> = side.keys().map(span).collect();
    Buckets::from_spans(&spans, &side.values().copied().collect::<Vec<_>>()).expect("rising")
}
