//! How long both programs take for the same work, one after the other in one run: the same query over the same series, and
//! the same page.

use std::fmt::Write as _;
use std::time::Instant;

use flyball_metrics::exposition::{Entry, Format, Parser};
use flyball_metrics::promql::{EngineOptions, eval_instant, parse};

use crate::data::DataSet;
use crate::oracle::Oracle;

/// The query of a latency trigger, whose times with Prometheus 3.14 are known: 0.56, 4 and 60 ms.
const QUERY: &str = "histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket[2m])))";
const AT_MS: i64 = 599_000;
/// Each is measured so often, and the best counts: other programs run on the machine too.
const TIMES: usize = 5;

pub(crate) fn run(oracle: &mut Oracle) {
    println!("{QUERY}");
    for (pods, rounds) in [(10, 500), (100, 100), (1_000, 20)] {
        let data = DataSet::latencies(pods);
        oracle.load(&data);
        let (theirs, ours) = best(|| (oracle.time(QUERY, AT_MS, rounds), query(&data, rounds)));
        println!(
            "{pods:5} pods, {:6} series: prometheus {:9.3} ms, flyball {:9.3} ms, {:.1} times faster",
            pods * 15,
            theirs / 1e6,
            ours / 1e6,
            theirs / ours
        );
    }
    println!("a page of 1,700 series, with all labels");
    let text = page();
    let open_metrics = format!("{text}# EOF\n");
    for (name, page, format) in [
        ("text/plain", &text, Format::Text),
        ("application/openmetrics-text", &open_metrics, Format::OpenMetrics),
    ] {
        let (theirs, ours) = best(|| (oracle.time_page(page, name, 50), read(page, format, 50)));
        let rate = |nanos: f64| page.len() as f64 / nanos * 1e3;
        println!(
            "{name:28}: prometheus {:6.0} MB/s, flyball {:6.0} MB/s, {:.1} times faster",
            rate(theirs),
            rate(ours),
            theirs / ours
        );
    }
}

/// The shortest time of each.
fn best(mut measure: impl FnMut() -> (f64, f64)) -> (f64, f64) {
    let times: Vec<(f64, f64)> = (0..TIMES).map(|_| measure()).collect();
    times.into_iter().reduce(|a, b| (a.0.min(b.0), a.1.min(b.1))).unwrap_or_default()
}

/// Nanoseconds of the query, parsed anew each time, as in the other engine.
fn query(data: &DataSet, rounds: u32) -> f64 {
    mean_nanos(rounds, || {
        let expr = parse(QUERY).expect("valid");
        let result = eval_instant(data.store(), QUERY, &expr, AT_MS, &EngineOptions::default());
        std::hint::black_box(result.expect("a result"));
    })
}

/// A page like a model server's.
fn page() -> String {
    let mut page = String::new();
    for handler in 0..100 {
        let family = format!("http_request_{handler}_duration_seconds");
        let labels = format!("method=\"POST\",handler=\"/api/v1/models/{handler}\"");
        let _ = writeln!(page, "# HELP {family} Time from request to answer.\n# TYPE {family} histogram");
        for bucket in 1..=15 {
            let bound = f64::from(bucket) * 0.125;
            let _ = writeln!(page, "{family}_bucket{{{labels},le=\"{bound}\"}} {}", bucket * 7_919);
        }
        let _ = writeln!(page, "{family}_sum{{{labels}}} 17.12345\n{family}_count{{{labels}}} 118785");
    }
    page
}

/// Nanoseconds of reading a page with all its labels.
fn read(page: &str, format: Format, rounds: u32) -> f64 {
    mean_nanos(rounds, || {
        let mut parser = Parser::new(page.as_bytes(), format).expect("UTF-8");
        while let Some(entry) = parser.next() {
            if let Entry::Series(_) = entry.expect("valid") {
                std::hint::black_box(parser.labels().expect("valid"));
            }
        }
    })
}

fn mean_nanos(rounds: u32, mut work: impl FnMut()) -> f64 {
    let began = Instant::now();
    (0..rounds).for_each(|_| work());
    began.elapsed().as_nanos() as f64 / f64::from(rounds)
}
