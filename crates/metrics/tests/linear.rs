//! The work before an evaluation grows with the length of the query, and no faster: reading, printing, explaining.
//!
//! What is compared is the processor's time of this thread for a query and for one four times as long. Quadratic work would take
//! sixteen times as long; less than nine times passes.

use std::time::Duration;

use flyball_metrics::promql::{self, EngineOptions, ParseOptions, QUERY_BYTES_MAX};
use flyball_metrics::{Labels, Sample, Store};
use rustix::time::{ClockId, clock_gettime};

/// What a length four times as large may cost.
const GROWTH_MAX: u32 = 9;
/// Shorter times say nothing.
const NOISE: Duration = Duration::from_millis(10);

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Everything that is done with a query beside evaluating it at length; the shortest of three times.
fn cost(store: &Store, query: &str) -> Duration {
    let once = || {
        let before = processor_time();
        if let Ok(expr) = promql::parse_with(query, ParseOptions::all()) {
            let (options, printed) = (EngineOptions::default(), expr.to_string());
            let _ = (printed.len(), promql::prettify(&expr).len(), promql::tree(&expr));
            let _ = promql::explain(store, &expr, 1_000, &options);
            let _ = promql::eval_instant(store, query, &expr, 1_000, &options);
        }
        let _ = promql::parse_metric_selector(query);
        processor_time() - before
    };
    (0..3).map(|_| once()).min().unwrap_or_default()
}

#[test]
fn work_grows_with_the_length() {
    let mut store = Store::default();
    for pod in ["a", "b", "c"] {
        let labels = Labels::new([("__name__", "x"), ("pod", pod)]);
        store.append_to(&labels, Sample::new(1_000, 1.0)).expect("stored");
    }
    // What stands before, what is repeated, what stands after.
    let shapes = [
        ("x{pod=~\"", "{", "\"}"),
        ("x{pod=~\"", "[[:", "\"}"),
        ("x{pod=~\"", "{1", "\"}"),
        ("x{pod=~\"", "(?:a", "\"}"),
        ("x{pod=~\"", "model-1|", "\"}"),
        ("x{pod=~\"", "b.|", "\"}"),
        ("x{pod=~\"", "(", "\"}"),
        ("x{pod=\"", "\\n", "\"}"),
        ("x{", "a=\"b\",", "}"),
        ("x{", "a!~\"b.\",", "}"),
        ("label_join(x, \"a\", \",\"", ", \"pod\"", ")"),
        ("sum by (", "pod, ", "pod) (x)"),
        ("x + on (", "pod, ", "pod) group_left (job) x"),
        ("", "x + ", "x"),
        ("", "(", "x"),
        ("x", "[1m:]", ""),
        ("x[", "1m + ", "1m]"),
        ("x[", "1h", "]"),
        ("", "1_0", ""),
        ("\"", "\\u00e9", "\""),
        ("`", "é", "`"),
        ("", "#\n", "x"),
        ("", " ", "x"),
        ("", "x", ""),
        ("", "\"", ""),
        ("", "é", ""),
        ("max_over_time(x[5m", " ", ":1m])"),
    ];
    for (before, part, after) in shapes {
        let query = |bytes: usize| format!("{before}{}{after}", part.repeat(bytes / part.len()));
        let (short, long) = (query(QUERY_BYTES_MAX / 20), query(QUERY_BYTES_MAX / 5));
        let (small, large) = (cost(&store, &short), cost(&store, &long));
        assert!(
            large < small * GROWTH_MAX + NOISE,
            "{before}{part}…{after}: {small:?} for {} bytes, {large:?} for {}",
            short.len(),
            long.len()
        );
    }
}
