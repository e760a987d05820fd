//! Runs Prometheus' own PromQL test suite against our engine.
//!
//! The suite is read from `FLYBALL_PROMQLTEST` (default `../shared/promqltest` beside the workspace); without it the test is
//! skipped, and says so. A case is judged as Prometheus' runner judges it: values within 1e-6, all expected annotations with
//! their positions, and every instant case once more at other times (its selectors pinned by `@`) and as range queries.
//!
//! Cases count by what they need (native histograms, features behind flags), so that nothing is skipped in silence.
//! `tests/promqltest/expected.txt` is a ratchet: fewer passed cases than there fail the test. With
//! `FLYBALL_PROMQLTEST_FAILURES='[T2]' cargo test … -- --nocapture` those that fail are told.

#![allow(clippy::disallowed_methods, reason = "the test reads the suite's files")]

mod promqltest {
    pub(crate) mod case;
    pub(crate) mod compare;
    pub(crate) mod load;
    pub(crate) mod nhcb;
    pub(crate) mod run;
}

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use promqltest::case::{Tier, parse_script};
use promqltest::run::Runner;

/// Cases by tier.
type Counts = BTreeMap<Tier, Count>;

#[derive(Clone, Copy, Default)]
struct Count {
    all: usize,
    passed: usize,
    /// Passed as a server evaluates by default.
    as_server: usize,
}

fn suite_directory() -> PathBuf {
    let beside_workspace = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/promqltest");
    std::env::var_os("FLYBALL_PROMQLTEST").map_or_else(beside_workspace, PathBuf::from)
}

fn run_file(path: &Path, failures: &mut Vec<String>) -> Counts {
    let text = std::fs::read_to_string(path).expect("a readable test file");
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut counts = Counts::new();
    let mut runner = Runner::default();
    for command in parse_script(&text).map_err(|error| format!("{name}: {error}")).expect("a valid script") {
        let Some(outcome) = runner.run(&command) else { continue };
        let (tier, line) = (outcome.tier, outcome.line);
        let count = counts.entry(tier).or_default();
        count.all += 1;
        count.passed += usize::from(outcome.as_suite.is_ok());
        count.as_server += usize::from(outcome.as_server.is_ok());
        if let Err(why) = outcome.as_suite {
            failures.push(format!("{name}:{line} [{tier:?}] {why}"));
        } else if let Err(why) = outcome.as_server {
            failures.push(format!("{name}:{line} [{tier:?} names dropped at once] {why}"));
        }
    }
    counts
}

#[test]
fn the_suite_of_prometheus_passes() {
    let directory = suite_directory();
    let Ok(entries) = std::fs::read_dir(&directory) else {
        println!("skipped: {} not found", directory.display());
        return;
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "test"));
    files.sort();
    let mut failures = Vec::new();
    let mut report = String::new();
    let mut total = Counts::new();
    for path in &files {
        let counts = run_file(path, &mut failures);
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        for (tier, count) in &counts {
            report.push_str(&lines(&name, *tier, *count));
            let sum = total.entry(*tier).or_default();
            sum.all += count.all;
            sum.passed += count.passed;
            sum.as_server += count.as_server;
        }
    }
    let total: String = total.into_iter().map(|(tier, count)| lines("total", tier, count)).collect();
    println!("{report}{total}");
    let shown = std::env::var("FLYBALL_PROMQLTEST_FAILURES").unwrap_or_else(|_| "[T1]".into());
    for failure in failures.iter().filter(|failure| failure.contains(&shown)) {
        println!("{failure}");
    }
    let worse = regressions(&report, include_str!("promqltest/expected.txt"));
    assert!(worse.is_empty(), "fewer cases pass than before:\n{}", worse.join("\n"));
}

/// Passed and all cases; once more where names dropped at once make a difference.
fn lines(name: &str, tier: Tier, Count { all, passed, as_server }: Count) -> String {
    let line = format!("{name} {tier:?} {passed}/{all}\n");
    if as_server == passed {
        line
    } else {
        format!("{line}{name} {tier:?} names-dropped-at-once {as_server}/{all}\n")
    }
}

/// Lines of `expected` that the report falls below. Files that the suite at hand lacks are passed over.
fn regressions(report: &str, expected: &str) -> Vec<String> {
    let parse = |line: &str| {
        let (key, counts) = line.rsplit_once(' ')?;
        Some((key.to_owned(), counts.split_once('/')?.0.parse::<usize>().ok()?))
    };
    let reached: BTreeMap<String, usize> = report.lines().filter_map(parse).collect();
    let below = |(key, wanted): (String, usize)| {
        let passed = *reached.get(&key)?;
        (passed < wanted).then(|| format!("{key}: {passed}, expected at least {wanted}"))
    };
    expected.lines().filter_map(parse).filter_map(below).collect()
}
