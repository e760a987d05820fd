//! How fast pages are read and queries answered: `cargo bench -p flyball-metrics`.
//!
//! The sizes are those of the measurements of Prometheus 3.14 that the figures are compared with: a page of 1,857 series, and
//! `histogram_quantile` over 10, 100 and 1,000 pods with 15 buckets each, scraped every 15 s for 10 minutes.
//!
//! Times are of the processor, not of the clock: a busy machine makes nothing look slower.

#![allow(missing_docs, reason = "criterion's macros define functions")]

mod processor;

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flyball_metrics::exposition::{Entry, Format, Parser};
use flyball_metrics::promql::{EngineOptions, eval_instant, parse};
use flyball_metrics::target::{Target, TargetOptions};
use flyball_metrics::{Labels, Sample, Store, StoreOptions};
use processor::ProcessorTime;

const QUERY: &str = "histogram_quantile(0.95, sum by (le) (rate(request_duration_seconds_bucket[2m])))";
const BOUNDS: [&str; 15] = [
    "0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0", "7.5",
    "10.0", "+Inf",
];

/// A page like a model server's: histograms with a few labels, values that grow with `scrape`.
fn page(scrape: usize) -> String {
    let mut page = String::new();
    for handler in 0..109 {
        page.push_str("# HELP http_request_duration_seconds Time from request to answer.\n");
        page.push_str("# TYPE http_request_duration_seconds histogram\n");
        for (i, le) in BOUNDS.iter().enumerate() {
            let value = (i + handler) * (scrape + 1) * 7;
            let _ = writeln!(
                page,
                "http_request_duration_seconds_bucket{{handler=\"/api/v1/models/{handler}\",method=\"POST\",le=\"{le}\"}} {value}"
            );
        }
        let labels = format!("{{handler=\"/api/v1/models/{handler}\",method=\"POST\"}}");
        let _ = writeln!(page, "http_request_duration_seconds_sum{labels} {}", scrape as f64 * 17.12345);
        let _ = writeln!(
            page,
            "http_request_duration_seconds_count{labels} {}",
            (14 + handler) * (scrape + 1) * 7
        );
    }
    page
}

fn pages(c: &mut Criterion<ProcessorTime>) {
    let text = page(1);
    let mut group = c.benchmark_group("page");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("parse", |b| b.iter(|| lines(black_box(&text), false)));
    group.bench_function("parse with labels", |b| b.iter(|| lines(black_box(&text), true)));
    // What the reading of an unchanged page is to be compared with.
    let copy = text.clone();
    group.bench_function("memory compare", |b| b.iter(|| black_box(&text) == black_box(&copy)));
    group.finish();
    let mut group = c.benchmark_group("ingest");
    group.throughput(Throughput::Elements(109 * 17));
    // The same page again; one value in twenty changed; all of them.
    let pages = |every: usize| -> [String; 2] {
        let line = |(at, (old, new)): (usize, (&str, &str))| {
            format!("{}\n", if at % every == 0 { new } else { old })
        };
        let (old, new) = (page(1), page(2));
        [old.clone(), old.lines().zip(new.lines()).enumerate().map(line).collect()]
    };
    for (name, pages) in
        [("same page", pages(usize::MAX)), ("a few values", pages(20)), ("all values", pages(1))]
    {
        group.bench_function(name, |b| ingest(b, &pages));
    }
    group.finish();
}

fn lines(text: &str, labels: bool) -> usize {
    let mut parser = Parser::new(text.as_bytes(), Format::Text).expect("UTF-8");
    let mut count = 0;
    while let Some(entry) = parser.next() {
        if matches!(entry.expect("valid"), Entry::Series(_)) && labels {
            count += usize::from(!parser.labels().expect("valid").is_empty());
        }
    }
    count
}

fn ingest(b: &mut Bencher<'_, ProcessorTime>, pages: &[String; 2]) {
    let labels = Labels::new([("instance", "127.1.0.1:9100"), ("job", "model"), ("pod", "model-1")]);
    let mut store = Store::new(StoreOptions::default());
    let mut target = Target::new(labels, TargetOptions::default());
    let mut scrape = 0;
    b.iter(|| {
        scrape += 1;
        if scrape % 60 == 0 {
            store.evict(scrape * 1_000);
        }
        let page = &pages[scrape as usize % 2];
        target.ingest(&mut store, page.as_bytes(), Format::Text, scrape * 1_000).expect("valid")
    });
}

fn store_of(pods: usize) -> Store {
    let mut store = Store::new(StoreOptions::default());
    for pod in 0..pods {
        let pod_name = format!("model-{pod}");
        for (i, le) in BOUNDS.iter().enumerate() {
            let labels = Labels::new([
                ("__name__", "request_duration_seconds_bucket"),
                ("instance", &pod_name),
                ("job", "model"),
                ("namespace", "default"),
                ("pod", &pod_name),
                ("service", "model"),
                ("le", le),
            ]);
            for step in 0..40i64 {
                let value = (step * (i as i64 + 1) * (pod as i64 % 7 + 1)) as f64;
                store.append_to(&labels, Sample::new(step * 15_000, value)).expect("stored");
            }
        }
    }
    store
}

fn queries(c: &mut Criterion<ProcessorTime>) {
    let mut group = c.benchmark_group("histogram_quantile");
    let expr = parse(QUERY).expect("valid");
    for pods in [10, 100, 1_000] {
        let store = store_of(pods);
        group.bench_with_input(BenchmarkId::from_parameter(pods), &store, |b, store| {
            b.iter(|| {
                eval_instant(store, QUERY, &expr, 599_000, &EngineOptions::default()).expect("a result")
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ProcessorTime);
    targets = pages, queries
}
criterion_main!(benches);
