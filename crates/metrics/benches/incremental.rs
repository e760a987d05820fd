//! What a trigger's query costs each second: `cargo bench -p flyball-metrics --bench incremental`.
//!
//! `histogram_quantile` over 10, 100 and 1,000 pods with 15 buckets each, one new sample of every series each second and
//! two minutes of them in the window. Only the evaluation is timed, which includes taking in the new samples; storing them
//! is the scrape's work. The batch engine is beside it, over the same store. Times are of the processor, not of the clock.

#![allow(missing_docs, reason = "criterion's macros define functions")]

mod processor;

use std::time::Duration;

use criterion::measurement::Measurement as _;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use flyball_metrics::promql::{EngineOptions, LiveQuery, eval_instant, parse};
use flyball_metrics::{Labels, Sample, SeriesId, Store};
use processor::ProcessorTime;

const QUERY: &str = "histogram_quantile(0.95, sum by (le) (rate(request_duration_seconds_bucket[2m])))";
const BOUNDS: [&str; 15] = [
    "0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0", "7.5",
    "10.0", "+Inf",
];

/// Pods that are scraped every second.
struct World {
    store: Store,
    series: Vec<SeriesId>,
    second: i64,
}

impl World {
    fn of(pods: usize) -> World {
        let mut store = Store::default();
        let mut series = Vec::new();
        for pod in 0..pods {
            let pod = format!("model-{pod}");
            for le in BOUNDS {
                let labels = Labels::new([
                    ("__name__", "request_duration_seconds_bucket"),
                    ("instance", &pod),
                    ("job", "model"),
                    ("namespace", "default"),
                    ("pod", &pod),
                    ("service", "model"),
                    ("le", le),
                ]);
                series.push(store.series_id(&labels).expect("there is room"));
            }
        }
        let mut world = World { store, series, second: 0 };
        (0..130).for_each(|_| world.scrape());
        world
    }

    fn scrape(&mut self) {
        self.second += 1;
        for (i, id) in self.series.iter().enumerate() {
            let value = self.second as f64 * ((i % BOUNDS.len() + 1) * (i % 7 + 1)) as f64;
            // Each pod at its own time of the second.
            let at_ms = self.second * 1_000 + (i / BOUNDS.len()) as i64 % 1_000;
            self.store.append(*id, Sample::new(at_ms, value)).expect("in order");
        }
        if self.second % 60 == 0 {
            self.store.evict(self.now_ms());
        }
    }

    fn now_ms(&self) -> i64 {
        self.second * 1_000 + 999
    }
}

fn queries(c: &mut Criterion<ProcessorTime>) {
    let mut group = c.benchmark_group("histogram_quantile_each_second");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    for pods in [10, 100, 1_000] {
        let mut world = World::of(pods);
        let mut live = LiveQuery::new(QUERY, EngineOptions::default()).expect("valid");
        let now_ms = world.now_ms();
        live.evaluate(&mut world.store, now_ms).expect("a result");
        group.bench_function(BenchmarkId::new("live", pods), |b| {
            b.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    world.scrape();
                    let (begun, now_ms) = (ProcessorTime.start(), world.now_ms());
                    std::hint::black_box(live.evaluate(&mut world.store, now_ms).expect("a result"));
                    spent += ProcessorTime.end(begun);
                }
                spent
            });
        });
        println!("{pods} pods: {} kB held by the query", live.bytes() / 1024);
        let expr = parse(QUERY).expect("valid");
        group.bench_function(BenchmarkId::new("batch", pods), |b| {
            b.iter(|| eval_instant(&world.store, QUERY, &expr, world.now_ms(), &EngineOptions::default()));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ProcessorTime);
    targets = queries
}
criterion_main!(benches);
