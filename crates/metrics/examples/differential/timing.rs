//! How long both engines take for the same query over the same series, one after the other in one run.

use std::time::Instant;

use flyball_metrics::promql::{EngineOptions, eval_instant, parse};

use crate::data::DataSet;
use crate::oracle::Oracle;

/// The query of a latency trigger, whose times with Prometheus 3.14 are known: 0.56, 4 and 60 ms.
const QUERY: &str = "histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket[2m])))";
const AT_MS: i64 = 599_000;

pub(crate) fn run(oracle: &mut Oracle) {
    println!("{QUERY}");
    for (pods, rounds) in [(10, 500), (100, 100), (1_000, 20)] {
        let data = DataSet::latencies(pods);
        oracle.load(&data);
        // Twice, so that neither is measured cold.
        let mut times = (0.0, 0.0);
        for _ in 0..2 {
            times = (oracle.time(QUERY, AT_MS, rounds), ours(&data, rounds));
        }
        let (theirs, ours) = times;
        println!(
            "{pods:5} pods, {:6} series: prometheus {:9.3} ms, flyball {:9.3} ms, {:.1} times faster",
            pods * 15,
            theirs / 1e6,
            ours / 1e6,
            theirs / ours
        );
    }
}

/// Nanoseconds of the query, parsed anew each time, as in the other engine.
fn ours(data: &DataSet, rounds: u32) -> f64 {
    let began = Instant::now();
    for _ in 0..rounds {
        let expr = parse(QUERY).expect("valid");
        let result = eval_instant(data.store(), QUERY, &expr, AT_MS, &EngineOptions::default());
        std::hint::black_box(result.expect("a result"));
    }
    began.elapsed().as_nanos() as f64 / f64::from(rounds)
}
