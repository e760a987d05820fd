//! What a question costs those who append: `cargo bench -p flyball-metrics --bench questions`.
//!
//! A thousand series with an hour of samples, one a second. Somebody appends a sample to each, again and again, and holds the
//! store's lock for it; threads beside it ask for the whole hour at a step of a second. Shown are how long an append waited for the
//! lock, and the processor time that it took, without and with those who ask. An append waits for no query: the longest wait is a
//! small part of the time that one query takes.

#![allow(clippy::disallowed_methods, reason = "a clock")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flyball_metrics::promql::{EngineOptions, eval_range, parse};
use flyball_metrics::{Labels, Sample, SeriesId, Store, StoreOptions};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

const SERIES: usize = 1_000;
const SECONDS: i64 = 3_600;
const QUERY: &str = "sum by (job) (rate(requests_total[1m]))";
const ROUNDS: usize = 300;

fn main() {
    let mut store =
        Store::new(StoreOptions { retention: Duration::from_secs(7_200), ..StoreOptions::default() });
    let ids: Vec<SeriesId> =
        (0..SERIES).map(|series| store.series_id(&labels(series)).expect("few")).collect();
    for second in 0..SECONDS {
        append(&mut store, &ids, second);
    }
    let (store, stop, queries) = (Mutex::new(store), AtomicBool::new(false), AtomicUsize::new(0));
    let alone = rounds(&store, &ids, SECONDS);
    let begun = Instant::now();
    let asked = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    ask(&store);
                    queries.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let asked = rounds(&store, &ids, SECONDS + ROUNDS as i64);
        stop.store(true, Ordering::Relaxed);
        asked
    });
    let one = begun.elapsed().as_secs_f64() * 2.0 / queries.load(Ordering::Relaxed).max(1) as f64;
    println!("appends of {SERIES} samples, {ROUNDS} times; a query over an hour takes {one:.2} s");
    println!(
        "{:<12} {:>14} {:>14} {:>14} {:>14}",
        "", "wait p50 µs", "wait max µs", "append p50 µs", "append p99 µs"
    );
    for (name, (mut waits, mut appends)) in [("alone", alone), ("with queries", asked)] {
        waits.sort_unstable();
        appends.sort_unstable();
        let micros =
            |all: &[Duration], share: f64| all[((all.len() - 1) as f64 * share) as usize].as_micros();
        println!(
            "{name:<12} {:>14} {:>14} {:>14} {:>14}",
            micros(&waits, 0.5),
            micros(&waits, 1.0),
            micros(&appends, 0.5),
            micros(&appends, 0.99)
        );
    }
}

fn labels(series: usize) -> Labels {
    let (pod, job) = (format!("model-{series}"), format!("job-{}", series % 10));
    Labels::new([("__name__", "requests_total"), ("pod", &pod), ("job", &job)])
}

fn append(store: &mut Store, ids: &[SeriesId], second: i64) {
    for (series, id) in ids.iter().enumerate() {
        let value = second * (series as i64 % 7 + 1);
        store.append(*id, Sample::new(second * 1_000, value as f64)).expect("in order");
    }
}

/// Appends a sample to each series, every few milliseconds; how long that waited, and what it cost.
fn rounds(store: &Mutex<Store>, ids: &[SeriesId], from: i64) -> (Vec<Duration>, Vec<Duration>) {
    (0..ROUNDS as i64)
        .map(|round| {
            std::thread::sleep(Duration::from_millis(5));
            let asked_for = Instant::now();
            let mut store = store.lock();
            let (waited, before) = (asked_for.elapsed(), processor_time());
            append(&mut store, ids, from + round);
            (waited, processor_time() - before)
        })
        .unzip()
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn ask(store: &Mutex<Store>) {
    let expr = parse(QUERY).expect("valid");
    let times = (0, (SECONDS - 1) * 1_000, 1_000);
    let result = eval_range(store, QUERY, &expr, times, &EngineOptions::default()).expect("a result");
    std::hint::black_box(result);
}
