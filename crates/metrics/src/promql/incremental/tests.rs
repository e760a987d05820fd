//! The result of a live query is the batch engine's, bit for bit, whatever happens to the store.

use std::time::Duration;

use proptest::prelude::*;

use super::LiveQuery;
use crate::histogram::{Buckets, NativeHistogram, Schema, Span};
use crate::labels::Labels;
use crate::promql::{EngineOptions, QueryError, QueryResult, SampleValue, Value, eval_instant, parse};
use crate::sample::{HistogramSample, STALE_NAN, Sample};
use crate::store::{Store, StoreOptions};

/// Shapes that are kept up to date, in whole or in part, and shapes that are not.
const QUERIES: &[&str] = &[
    "sum(rate(requests_total[30s]))",
    "sum by (le) (rate(requests_total[1m]))",
    "sum without (pod) (increase(requests_total{pod!=\"p0\"}[20s]))",
    "histogram_quantile(0.95, sum by (le) (rate(requests_total[1m])))",
    "sum(rate(requests_total[30s])) / count(requests_total)",
    "sum(rate(requests_total[30s] offset 15s)) or vector(0)",
    "sum(rate(requests_total[30s] offset -5s))",
    "avg(delta(queue[40s]))",
    "stddev(irate(queue[20s])) + stdvar(idelta(queue[20s]))",
    "max by (pod) (resets(requests_total[1m]))",
    "count by (le) (count_over_time(requests_total[10s]))",
    "group(present_over_time(queue[10s]))",
    "min(first_over_time(queue[25s])) - max(last_over_time(queue[25s]))",
    "sum(queue)",
    "avg by (pod) (queue offset 10s)",
    "queue",
    "rate(queue[1m])",
    "-rate(requests_total{le=\"1\"}[1m])",
    "topk(2, rate(requests_total[1m]))",
    "quantile(0.5, queue)",
    "count_values(\"v\", queue)",
    "sum(max_over_time(queue[30s]))",
    "avg(avg_over_time(queue[30s]))",
    "sum by (pod) (sum_over_time(queue[20s])) > 3",
    "sum(quantile_over_time(0.9, queue[30s])) + sum(stddev_over_time(queue[30s]))",
    "sum(changes(queue[1m])) + sum(deriv(queue[1m]))",
    "sum(quantile_over_time(2, queue[30s]))",
    "sum(predict_linear(queue[1m], 60))",
    "max_over_time(sum(rate(requests_total[20s]))[1m:7s])",
    "sum(rate(requests_total[30s] @ 40))",
    "sum(rate({__name__=~\"requests_total|queue\"}[30s]))",
    "sum({__name__=~\"requests_total|queue\"})",
    "rate({__name__=~\"requests_total|queue\"}[30s])",
    "absent(queue) or absent_over_time(queue{pod=\"p9\"}[30s])",
    "queue * on (pod) group_left sum by (pod) (rate(requests_total[30s]))",
    "sum(timestamp(queue)) + time()",
    "label_replace(queue, \"x\", \"$1\", \"pod\", \"p(.*)\")",
    "sort_desc(sum by (pod) (queue)) and on (pod) requests_total",
    "sum(queue) + sum(queue) - sum(queue)",
    "sum(rate(requests_total[step()]))",
    "1 + 1",
];

/// Something that happens to the store, or to the clock.
#[derive(Clone, Debug)]
enum Event {
    /// A series gets a sample this many milliseconds after the newest time of all.
    Append {
        series: usize,
        after_ms: i64,
        value: f64,
    },
    /// Every series of a pod gets a sample at once.
    Scrape {
        pod: usize,
        after_ms: i64,
        step: f64,
    },
    Stale {
        series: usize,
    },
    /// A series gets a native histogram.
    Histogram {
        series: usize,
        count: f64,
    },
    /// All series of a pod end.
    Gone {
        pod: usize,
    },
    Evict,
    /// Time goes on, or back, and the query is evaluated.
    Evaluate {
        after_ms: i64,
    },
}

const PODS: usize = 4;
const BOUNDS: [&str; 3] = ["0.5", "1", "+Inf"];

fn labels(series: usize) -> Labels {
    let pod = format!("p{}", series % PODS);
    let common = [("job", "model"), ("instance", pod.as_str()), ("pod", pod.as_str())];
    match series / PODS {
        kind @ 0..=2 => {
            Labels::new([("__name__", "requests_total"), ("le", BOUNDS[kind])].into_iter().chain(common))
        }
        _ => Labels::new([("__name__", "queue")].into_iter().chain(common)),
    }
}

const SERIES: usize = PODS * 4;

fn event() -> impl Strategy<Value = Event> {
    let value = prop_oneof![
        8 => (0..2_000_u32).prop_map(|value| f64::from(value) / 7.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(1e300),
        1 => Just(-0.0),
    ];
    prop_oneof![
        4 => (0..SERIES, -3_000..9_000_i64, value)
            .prop_map(|(series, after_ms, value)| Event::Append { series, after_ms, value }),
        8 => (0..PODS, 0..3_000_i64, -20.0..40.0_f64)
            .prop_map(|(pod, after_ms, step)| Event::Scrape { pod, after_ms, step }),
        1 => (0..SERIES).prop_map(|series| Event::Stale { series }),
        1 => (0..SERIES, 1.0..9.0_f64).prop_map(|(series, count)| Event::Histogram { series, count }),
        1 => (0..PODS).prop_map(|pod| Event::Gone { pod }),
        1 => Just(Event::Evict),
        6 => (0..2_500_i64).prop_map(|after_ms| Event::Evaluate { after_ms }),
        1 => (-20_000..80_000_i64).prop_map(|after_ms| Event::Evaluate { after_ms }),
    ]
}

/// A result with its floats as bits, so that NaN is NaN and -0 is not 0.
fn bits(result: &Result<QueryResult, QueryError>) -> String {
    let float = |value: f64| format!("{:016x}", value.to_bits());
    match result {
        Err(error) => format!("{error:?}"),
        Ok(QueryResult { value, annotations, .. }) => {
            let values = match value {
                Value::Scalar(sample) => float(sample.value),
                Value::String { text, .. } => text.clone(),
                Value::Matrix(series) => format!("{series:?}"),
                Value::Vector(samples) => samples
                    .iter()
                    .map(|sample| match &sample.value {
                        SampleValue::Float(value) => format!("{} {}", sample.labels, float(*value)),
                        SampleValue::Histogram(histogram) => format!("{} {histogram:?}", sample.labels),
                    })
                    .collect::<Vec<_>>()
                    .join("\n"),
            };
            format!("{values}\n{annotations:?}")
        }
    }
}

fn histogram(count: f64) -> NativeHistogram {
    let positive = Buckets::from_spans(&[Span { offset: 1, length: 1 }], &[count]).expect("valid");
    NativeHistogram { count, sum: count, positive, ..NativeHistogram::empty(Schema::Exponential(0)) }
}

/// Everything that one test plays with.
struct Play {
    store: Store,
    counters: [f64; SERIES],
    newest_ms: i64,
    now_ms: i64,
    queries: Vec<LiveQuery>,
}

impl Play {
    fn new(options: StoreOptions) -> Play {
        let live = |query: &&str| LiveQuery::new(query, EngineOptions::default()).expect(query);
        let queries = QUERIES.iter().map(live).collect();
        Play { store: Store::new(options), counters: [0.0; SERIES], newest_ms: 0, now_ms: 0, queries }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Append { series, after_ms, value } => {
                self.append(series, self.newest_ms + after_ms, value)
            }
            Event::Scrape { pod, after_ms, step } => {
                let at_ms = self.newest_ms + after_ms;
                for series in (0..SERIES).filter(|series| series % PODS == pod) {
                    let value = self.counters[series] + step * (series / PODS + 1) as f64;
                    // A step back is a restart.
                    self.counters[series] = if value < 0.0 { 1.0 } else { value };
                    self.append(series, at_ms, self.counters[series]);
                }
            }
            Event::Stale { series } => self.append(series, self.newest_ms + 1, STALE_NAN),
            Event::Histogram { series, count } => {
                self.newest_ms += 1;
                let id = self.store.series_id(&labels(series)).expect("there is room");
                let sample =
                    HistogramSample { timestamp_ms: self.newest_ms, histogram: histogram(count).into() };
                let _ = self.store.append_histogram(id, sample);
            }
            Event::Gone { pod } => {
                let at_ms = self.newest_ms + 1;
                (0..SERIES)
                    .filter(|series| series % PODS == pod)
                    .for_each(|series| self.append(series, at_ms, STALE_NAN));
            }
            Event::Evict => self.store.evict(self.newest_ms),
            Event::Evaluate { after_ms } => {
                self.now_ms = self.newest_ms.max(self.now_ms + 1) + after_ms - 1_000;
                self.compare();
            }
        }
    }

    fn append(&mut self, series: usize, at_ms: i64, value: f64) {
        // Some are refused, and that must not matter.
        let _ = self.store.append_to(&labels(series), Sample::new(at_ms, value));
        self.newest_ms = self.newest_ms.max(at_ms);
    }

    fn compare(&mut self) {
        for (live, query) in self.queries.iter_mut().zip(QUERIES) {
            let found = live.evaluate(&mut self.store, self.now_ms);
            let expr = parse(query).expect(query);
            let options = EngineOptions::default();
            let expected = eval_instant(&self.store, query, &expr, self.now_ms, &options);
            assert_eq!(bits(&found), bits(&expected), "{query} at {}", self.now_ms);
        }
    }
}

fn play(options: StoreOptions, events: &[Event]) {
    let mut play = Play::new(options);
    events.iter().for_each(|event| play.happen(event));
    play.compare();
}

proptest! {
    // Each case is some thousand evaluations. `PROPTEST_CASES` asks for more.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 16))]

    #[test]
    fn live_queries_are_the_batch_engine_bit_for_bit(events in prop::collection::vec(event(), 1..100)) {
        play(StoreOptions::default(), &events);
    }

    /// The store forgets while the windows still look.
    #[test]
    fn so_they_are_over_a_store_that_forgets(
        events in prop::collection::vec(event(), 1..100),
        samples_max in 20..200_usize,
    ) {
        let retention = Duration::from_secs(25);
        play(StoreOptions { retention, samples_max, ..StoreOptions::default() }, &events);
    }
}

#[test]
fn most_shapes_are_kept_up_to_date() {
    let mut play = Play::new(StoreOptions::default());
    for second in 0..30 {
        play.happen(&Event::Scrape { pod: second % PODS, after_ms: 1_000, step: 1.0 });
    }
    play.compare();
    let right = |query: &str| {
        let live = play.queries.iter().find(|live| live.query == query).expect(query);
        let parts: Vec<bool> = live.parts.iter().map(|part| live.leaves[part.leaf].is_right()).collect();
        parts
    };
    let rows: [(&str, &[bool]); 5] = [
        ("histogram_quantile(0.95, sum by (le) (rate(requests_total[1m])))", &[true]),
        ("sum(rate(requests_total[30s])) / count(requests_total)", &[true, true]),
        ("sum by (pod) (sum_over_time(queue[20s])) > 3", &[true]),
        ("sum(rate(requests_total[30s] @ 40))", &[]),
        ("max_over_time(sum(rate(requests_total[20s]))[1m:7s])", &[]),
    ];
    for (query, expected) in rows {
        assert_eq!(right(query), expected, "{query}");
    }
}

#[test]
fn a_query_without_windows_is_right_too() {
    let mut play = Play::new(StoreOptions::default());
    for second in 0..20 {
        play.happen(&Event::Scrape { pod: second % PODS, after_ms: 1_000, step: 1.0 });
        play.compare();
    }
    let before: usize = play.queries.iter().map(LiveQuery::bytes).sum();
    play.queries.iter_mut().for_each(LiveQuery::shed);
    play.happen(&Event::Scrape { pod: 0, after_ms: 1_000, step: 1.0 });
    play.compare();
    let after: usize = play.queries.iter().map(LiveQuery::bytes).sum();
    assert!(after < before, "{after} of {before} bytes");
    assert_eq!(play.queries[0].sources().count(), PODS);
}

#[test]
fn targets_are_known_by_their_newest_sample() {
    let mut play = Play::new(StoreOptions::default());
    play.happen(&Event::Scrape { pod: 0, after_ms: 1_000, step: 1.0 });
    play.happen(&Event::Scrape { pod: 1, after_ms: 1_000, step: 1.0 });
    play.happen(&Event::Gone { pod: 0 });
    play.now_ms = 3_000;
    play.compare();
    let sources: Vec<(String, i64)> =
        play.queries[0].sources().map(|(labels, newest_ms)| (labels.to_string(), newest_ms)).collect();
    assert_eq!(sources, [(r#"{instance="p1", job="model"}"#.to_owned(), 2_000)]);
}

#[test]
fn a_query_that_is_closed_leaves_nothing_behind() {
    let mut play = Play::new(StoreOptions::default());
    play.happen(&Event::Scrape { pod: 0, after_ms: 1_000, step: 1.0 });
    play.compare();
    play.queries.drain(..).for_each(|query| query.close(&mut play.store));
    assert_eq!(play.store.follower_count(), 0);
}
