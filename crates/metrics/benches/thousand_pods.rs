//! What scraping costs: `cargo bench -p flyball-metrics --bench thousand_pods`.
//!
//! First a service of five pods for an hour, scraped every second: the bytes that a sample takes. Then a thousand pods with 200
//! series each, every second for five minutes: the share of one processor, and the memory of the whole process. Pages are
//! made here; only what a scraper does with them is timed.

#![allow(clippy::disallowed_methods, reason = "the memory of this process is in a file")]

mod processor;

use std::fmt::Write as _;
use std::time::Duration;

use criterion::measurement::Measurement as _;
use flyball_metrics::exposition::Format;
use flyball_metrics::target::{ScrapeReport, Target, TargetOptions};
use flyball_metrics::{Labels, Store, StoreOptions};
use processor::ProcessorTime;

const BOUNDS: [f64; 18] = [
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    f64::INFINITY,
];
/// Ten families of a histogram with count and sum: 200 series.
const HANDLERS: usize = 10;

/// A model server that answers a few requests a second.
struct Pod {
    seed: u64,
    labels: Labels,
    counts: [[u64; BOUNDS.len()]; HANDLERS],
    sums: [f64; HANDLERS],
    requests_per_second: u64,
}

impl Pod {
    fn new(number: usize, requests_per_second: u64) -> Pod {
        let (name, address) =
            (format!("model-{number}"), format!("127.64.{}.{}:9100", number / 250, number % 250));
        let labels = [
            ("namespace", "default"),
            ("job", "model"),
            ("service", "model"),
            ("endpoint", "metrics"),
            ("container", "model"),
            ("instance", address.as_str()),
            ("pod", name.as_str()),
        ];
        let (labels, seed) = (Labels::new(labels), number as u64 + 1);
        Pod { seed, labels, counts: Default::default(), sums: Default::default(), requests_per_second }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn serve(&mut self) {
        for _ in 0..self.random(2 * self.requests_per_second + 1) {
            // Most requests are for two of the handlers, as in most services.
            let handler =
                if self.random(10) < 9 { self.random(2) } else { self.random(HANDLERS as u64) } as usize;
            let seconds = (5 + self.random(60) * self.random(10)) as f64 * 0.000_931;
            self.sums[handler] += seconds;
            for (bound, count) in BOUNDS.iter().zip(&mut self.counts[handler]) {
                *count += u64::from(seconds <= *bound);
            }
        }
    }

    fn page(&self, page: &mut String) {
        page.clear();
        page.push_str("# HELP request_duration_seconds Time from request to answer.\n# TYPE request_duration_seconds histogram\n");
        for handler in 0..HANDLERS {
            for (bound, count) in BOUNDS.iter().zip(&self.counts[handler]) {
                let le = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
                let _ = writeln!(
                    page,
                    "request_duration_seconds_bucket{{handler=\"/v1/models/{handler}\",le=\"{le}\"}} {count}"
                );
            }
            let (sum, count) = (self.sums[handler], self.counts[handler][BOUNDS.len() - 1]);
            let _ = writeln!(page, "request_duration_seconds_sum{{handler=\"/v1/models/{handler}\"}} {sum}");
            let _ =
                writeln!(page, "request_duration_seconds_count{{handler=\"/v1/models/{handler}\"}} {count}");
        }
    }
}

fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) * 1_024
}

/// Pods, and what scrapes them.
struct World {
    pods: Vec<Pod>,
    targets: Vec<Target>,
    store: Store,
    second: i64,
    /// The processor's time for all scrapes.
    spent: Duration,
}

impl World {
    fn new(pods: usize, requests_per_second: u64, options: StoreOptions) -> World {
        let pods: Vec<Pod> = (0..pods).map(|number| Pod::new(number, requests_per_second)).collect();
        let target = |pod: &Pod| Target::new(pod.labels.clone(), TargetOptions::default());
        let targets = pods.iter().map(target).collect();
        World { pods, targets, store: Store::new(options), second: 0, spent: Duration::ZERO }
    }

    /// Scrapes every pod every second.
    fn run(&mut self, seconds: i64) {
        let mut page = String::new();
        for second in self.second..self.second + seconds {
            for (pod, target) in self.pods.iter_mut().zip(&mut self.targets) {
                pod.serve();
                pod.page(&mut page);
                // Scrapes start a little late now and then.
                let at_ms = second * 1_000 + pod.random(40).saturating_sub(36) as i64;
                let duration_seconds = 0.001 + pod.random(1_000) as f64 * 1e-6;
                let begun = ProcessorTime.start();
                let scraped =
                    target.ingest(&mut self.store, page.as_bytes(), Format::Text, at_ms).expect("a page");
                target.report(&mut self.store, &ScrapeReport { up: true, duration_seconds, scraped }, at_ms);
                self.spent += ProcessorTime.end(begun);
            }
            if second % 60 == 59 {
                let begun = ProcessorTime.start();
                self.store.evict(second * 1_000);
                self.spent += ProcessorTime.end(begun);
            }
        }
        self.second += seconds;
    }
}

fn megabytes(bytes: f64) -> f64 {
    bytes / 1e6
}

fn five_pods() {
    let options = StoreOptions { retention: Duration::from_secs(86_400), ..StoreOptions::default() };
    let mut world = World::new(5, 20, options);
    world.run(3_600);
    let hour = world.store.size();
    world.run(3_600);
    let two = world.store.size();
    // The newest samples of each series and its labels take their room once, the rest grows with time.
    let per_sample = (two.bytes - hour.bytes) as f64 / (two.samples - hour.samples) as f64;
    let day = two.bytes as f64 + per_sample * hour.samples as f64 * 22.0;
    println!("5 pods, an hour: {} samples of {} series", hour.samples, hour.series);
    println!("5 pods: {per_sample:.2} bytes a sample, {:.0} MB after a day at that rate", megabytes(day));
}

fn thousand_pods() {
    const SECONDS: i64 = 300;
    let before = memory_bytes();
    let mut world = World::new(1_000, 10, StoreOptions::default());
    world.run(SECONDS);
    let (size, memory) = (world.store.size(), memory_bytes());
    let share = world.spent.as_secs_f64() / SECONDS as f64;
    let (series, rate) = (size.series, size.series as f64 / share / 1e6);
    println!(
        "1,000 pods: {series} series, {share:.2} of a core, {rate:.1} million samples a core and second"
    );
    println!(
        "1,000 pods after {SECONDS} s: {:.0} MB more in the process, {:.0} MB of them by the store's own count, which keeps {} s of a series",
        megabytes(memory.saturating_sub(before) as f64),
        megabytes(size.bytes as f64),
        size.samples / size.series,
    );
    let in_chunks = size.chunks.bytes as f64 / size.chunks.samples as f64;
    println!(
        "1,000 pods: {in_chunks:.2} bytes a sample in chunks of {} samples",
        size.chunks.samples / size.chunks.count
    );
}

fn main() {
    five_pods();
    thousand_pods();
}
