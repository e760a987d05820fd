//! Judges the objective's policy against its peers on recorded loads, with one configuration for all.
//!
//! `cargo run --release -p flyball-sim --example judge -- TRACES [only] [risk]`: TRACES is a folder of traces, unpacked.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a tool, not part of the crate"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use flyball_engine::Bounds;
use flyball_sim::{Arrivals, Load, Profile, ScalerKind, Setup, Simulation, Trace, TraceKind};

/// Loads are scaled so that they keep so many servers busy on average.
const ERLANGS: f64 = 20.0;

struct Case {
    name: &'static str,
    file: &'static str,
    /// Seconds: from and length; 0 is all.
    part: (u64, u64),
    /// Scale the service time rather than the rate.
    slow: bool,
    /// Seconds of a bin, for loads by single requests or seconds.
    bin: u64,
}

const CASES: &[Case] = &[
    Case {
        name: "worldcup98 d60",
        file: "worldcup98_per_minute.csv",
        part: (60 * 86_400, 86_400),
        slow: false,
        bin: 0,
    },
    Case {
        name: "worldcup98 d40",
        file: "worldcup98_per_minute.csv",
        part: (40 * 86_400, 86_400),
        slow: false,
        bin: 0,
    },
    Case {
        name: "azure functions d3",
        file: "azure_functions_2019_10funcs_14days_per_minute.csv",
        part: (2 * 86_400, 86_400),
        slow: false,
        bin: 0,
    },
    Case {
        name: "azure functions d9",
        file: "azure_functions_2019_10funcs_14days_per_minute.csv",
        part: (8 * 86_400, 86_400),
        slow: false,
        bin: 0,
    },
    Case { name: "azure llm conv", file: "azure_llm_2023_conv.csv", part: (0, 0), slow: false, bin: 10 },
    Case { name: "azure llm conv slow", file: "azure_llm_2023_conv.csv", part: (0, 0), slow: true, bin: 0 },
    Case { name: "mooncake conv", file: "mooncake_conversation.csv", part: (0, 0), slow: false, bin: 10 },
    Case { name: "mooncake conv slow", file: "mooncake_conversation.csv", part: (0, 0), slow: true, bin: 0 },
    Case {
        name: "nasa x100 d2",
        file: "nasa_http_1995_rps.txt",
        part: (86_400, 86_400),
        slow: false,
        bin: 60,
    },
    Case {
        name: "nasa x100 d20",
        file: "nasa_http_1995_rps.txt",
        part: (20 * 86_400, 86_400),
        slow: false,
        bin: 60,
    },
    Case { name: "crane 1", file: "crane_dsp_input1.csv", part: (86_400, 86_400), slow: false, bin: 0 },
    Case { name: "crane 8", file: "crane_dsp_input8.csv", part: (86_400, 86_400), slow: false, bin: 0 },
    Case {
        name: "faro jobs d5",
        file: "faro_history_10days.csv",
        part: (4 * 21_600, 21_600),
        slow: false,
        bin: 0,
    },
];

const PEERS: &[&str] =
    &["clairvoyant", "hpa:50%", "hpa:70%", "keda:50%", "keda:70%", "kpa:50%", "kpa:70%", "slo"];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let folder = arguments.get(1).map_or("traces", String::as_str);
    let only = arguments.get(2).map(String::as_str).filter(|only| *only != "all");
    let risk = arguments.get(3).and_then(|risk| risk.parse().ok());
    let policies: Vec<&str> = match arguments.get(4) {
        Some(list) => list.split(',').collect(),
        None => PEERS.to_vec(),
    };
    println!("| load | policy | over % | x optimal | replicas | max | changes | turns | s |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for case in CASES.iter().filter(|case| only.is_none_or(|only| case.name.contains(only))) {
        let Some((load, is_times, profile)) = prepared(Path::new(folder), case) else {
            println!("| {} | no file | | | | | | | |", case.name);
            continue;
        };
        judge(case.name, load, is_times, profile, risk, &policies);
    }
    for (name, text) in [
        ("step x10", "step:20/s,200/s@20m,20/s@40m"),
        ("constant", "constant:130/s"),
        ("burst", "burst:40/s..200/s:every=10m:for=60s"),
    ] {
        if only.is_none_or(|only| name.contains(only)) {
            let load = Load::parse(text, Duration::from_secs(3600)).expect("a load in words");
            judge(name, load, false, Profile::default(), risk, &policies);
        }
    }
}

fn prepared(folder: &Path, case: &Case) -> Option<(Load, bool, Profile)> {
    let text = std::fs::read_to_string(folder.join(case.file)).ok()?;
    let trace = Trace::parse(&text).expect("a trace");
    let mut load = trace.load;
    if case.part.1 > 0 {
        load = load.part(Duration::from_secs(case.part.0), Duration::from_secs(case.part.1));
    }
    let mut profile = Profile::default();
    let is_times = trace.kind == TraceKind::Times && case.bin == 0;
    if case.bin > 0 {
        load = load.binned(Duration::from_secs(case.bin));
    }
    if case.slow {
        let service = ERLANGS / load.mean_rate();
        profile.service =
            flyball_sim::Service::Lognormal { mean: Duration::from_secs_f64(service), cv: 0.2145 };
    } else {
        load = load.scaled(ERLANGS / profile.service.mean().as_secs_f64() / load.mean_rate());
    }
    Some((load, is_times, profile))
}

fn judge(name: &str, load: Load, is_times: bool, profile: Profile, risk: Option<f64>, policies: &[&str]) {
    let bound = profile.service.mean().as_secs_f64() * 4.675;
    let setup = Setup {
        load,
        arrivals: Arrivals::Poisson,
        is_times,
        profile,
        objectives: format!("99% < {}ms", (bound * 1000.0).round()).parse().expect("an objective"),
        risk,
        bounds: Bounds::new(1, 200, None).expect("bounds"),
        initial: None,
        seed: 24,
    };
    let simulation = Simulation::new(setup);
    for policy in policies {
        let began = Instant::now();
        let report = simulation.run(&ScalerKind::parse(policy).expect("a policy"));
        if std::env::var("WHERE").is_ok() {
            for point in report.course.iter().filter(|point| point.over > 0.02) {
                println!(
                    "  {}: {:.1}/s, {} replicas, {} ready, optimum {}, {:.1} % over",
                    point.second,
                    point.rate,
                    point.replicas,
                    point.ready,
                    point.optimum,
                    point.over * 100.0
                );
            }
        }
        println!(
            "| {name} | {policy} | {:.3} | {:.3} | {:.2} | {} | {} | {} | {:.1} |",
            report.over * 100.0,
            report.times_optimal,
            report.replicas_mean,
            report.replicas_max,
            report.changes,
            report.turns,
            began.elapsed().as_secs_f64()
        );
    }
}
