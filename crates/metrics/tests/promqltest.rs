//! Runs Prometheus' own PromQL test suite against our engine, one test for each of its files.
//!
//! The suite is read from `FLYBALL_PROMQLTEST` (default `../shared/promqltest` beside the repository); without it the tests
//! are ignored. A case is judged as Prometheus' runner judges it: values within 1e-6, all expected annotations with their
//! positions, and every instant case once more at other times (its selectors pinned by `@`) and as range queries.
//!
//! Cases count by what they need (native histograms, features behind flags), so that nothing is skipped in silence.
//! `tests/promqltest/expected.txt` is a ratchet: fewer passed cases than there fail the file's test. A failed test tells
//! which cases of tier T1 fail; `FLYBALL_PROMQLTEST_FAILURES='[T2]'` tells those of another tier, whatever passes.

#![allow(clippy::disallowed_methods, reason = "the test reads the suite's files")]

#[path = "../../../tests/outside.rs"]
mod outside;
mod promqltest {
    pub(crate) mod case;
    pub(crate) mod compare;
    pub(crate) mod load;
    pub(crate) mod nhcb;
    pub(crate) mod run;
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use promqltest::case::{Tier, parse_script};
use promqltest::run::Runner;

/// What each file must reach: lines of [`lines`].
const EXPECTED: &str = include_str!("promqltest/expected.txt");

/// Cases by tier.
type Counts = BTreeMap<Tier, Count>;

/// The counts of each file that was run.
type Report = Arc<Mutex<BTreeMap<String, Counts>>>;

#[derive(Clone, Copy, Default)]
struct Count {
    all: usize,
    passed: usize,
    /// Passed as a server evaluates by default.
    as_server: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let report = Report::default();
    let trials = match outside::find("FLYBALL_PROMQLTEST", "promqltest") {
        Err(missing) => vec![missing.trial("the_suite_of_prometheus")],
        Ok(directory) => trials(&directory, &report),
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    print(&report.lock().unwrap_or_else(PoisonError::into_inner));
    conclusion.exit_code()
}

/// A test for each file of the suite, and for each file that is expected and is not there.
fn trials(directory: &Path, report: &Report) -> Vec<Trial> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let files =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "test"));
    let found: BTreeMap<String, PathBuf> = files.map(|path| (stem(&path), path)).collect();
    let expected = EXPECTED.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned);
    let names: BTreeSet<String> = found.keys().cloned().chain(expected).collect();
    let trial = |name: String| match found.get(&name) {
        Some(path) => {
            let (path, report) = (path.clone(), Arc::clone(report));
            Trial::test(name, move || check(&path, &report))
        }
        None => {
            let reason = format!("{} not found", directory.join(format!("{name}.test")).display());
            Trial::ignorable_test(name, move || outside::absent(&reason))
        }
    };
    names.into_iter().map(trial).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Runs one file, which must pass as many cases as is expected of it.
fn check(path: &Path, report: &Report) -> Result<(), Failed> {
    let mut failures = Vec::new();
    let counts = run_file(path, &mut failures);
    let name = stem(path);
    let reached: String = counts.iter().map(|(tier, count)| lines(&name, *tier, *count)).collect();
    report.lock().unwrap_or_else(PoisonError::into_inner).insert(name, counts);
    let asked = std::env::var("FLYBALL_PROMQLTEST_FAILURES").ok();
    let shown = asked.as_deref().unwrap_or("[T1]");
    failures.retain(|failure| failure.contains(shown));
    if asked.is_some() {
        failures.iter().for_each(|failure| println!("{failure}"));
    }
    let worse = regressions(&reached, EXPECTED);
    if worse.is_empty() {
        return Ok(());
    }
    Err(format!("fewer cases pass than before:\n{}\n{}", worse.join("\n"), failures.join("\n")).into())
}

/// Passed and all cases of each file and tier, and their sums.
fn print(report: &BTreeMap<String, Counts>) {
    let mut total = Counts::new();
    for (name, counts) in report {
        for (tier, count) in counts {
            print!("{}", lines(name, *tier, *count));
            let sum = total.entry(*tier).or_default();
            sum.all += count.all;
            sum.passed += count.passed;
            sum.as_server += count.as_server;
        }
    }
    total.into_iter().for_each(|(tier, count)| print!("{}", lines("total", tier, count)));
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

/// Passed and all cases; once more where names dropped at once make a difference.
fn lines(name: &str, tier: Tier, Count { all, passed, as_server }: Count) -> String {
    let line = format!("{name} {tier:?} {passed}/{all}\n");
    if as_server == passed {
        line
    } else {
        format!("{line}{name} {tier:?} names-dropped-at-once {as_server}/{all}\n")
    }
}

/// Lines of `expected` that the report of a file falls below.
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
