//! Random queries over random data, answered by this engine and by Prometheus' own, and compared.
//!
//!     cargo run --release -p flyball-metrics --example differential -- --queries 100000 --seed 1
//!     cargo run --release -p flyball-metrics --example differential -- --time
//!
//! Needs Go (1.25 or later) and its module proxy, for the program in `oracle/`; without Go it says "skipped: go not found". Every
//! difference is printed with the number that makes it again (`--seed N --queries 1`); the exit code is 1 if there is any.
//!
//! A value differs if it is more than 1e-6 away, an error if its text does, and so do annotations and the query as it is printed in
//! one line and over several. Some queries have a mistake: of those only whether they are refused is compared.

#![allow(clippy::disallowed_methods, reason = "a tool for developers: arguments, processes, a clock")]

mod compare;
mod data;
mod oracle;
mod queries;
mod random;
mod timing;

use std::collections::BTreeMap;
use std::process::ExitCode;

use compare::{Difference, compare};
use data::DataSet;
use oracle::Oracle;
use random::Random;

/// Queries over one data set; loading one into Prometheus' storage takes as long as many queries.
const QUERIES_PER_DATA_SET: u64 = 250;
/// Differences that are printed.
const SHOWN_MAX: usize = 40;

struct Arguments {
    queries: u64,
    seed: u64,
    time: bool,
    query: Option<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments { queries: 10_000, seed: 1, time: false, query: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("not a number: {text}"));
        match word.as_str() {
            "--queries" => arguments.queries = number(next()?)?,
            "--seed" => arguments.seed = number(next()?)?,
            "--query" => arguments.query = Some(next()?),
            "--time" => arguments.time = true,
            other => return Err(format!("unknown argument {other}; see the head of main.rs")),
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let mut oracle = match Oracle::start() {
        Ok(Some(oracle)) => oracle,
        Ok(None) => {
            println!("skipped: go not found");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("the oracle does not start: {why}");
            return ExitCode::from(2);
        }
    };
    if arguments.time {
        timing::run(&mut oracle);
        return ExitCode::SUCCESS;
    }
    run(&mut oracle, &arguments)
}

/// Asks both engines; seeds of data sets follow from the number of the query, so that each query can be made again.
fn run(oracle: &mut Oracle, arguments: &Arguments) -> ExitCode {
    let mut kinds: BTreeMap<&'static str, usize> = BTreeMap::new();
    let (mut loaded, mut shown) = (None, 0);
    for number in arguments.seed..arguments.seed + arguments.queries {
        let set = number / QUERIES_PER_DATA_SET;
        if loaded.as_ref().is_none_or(|(other, _)| *other != set) {
            let data = DataSet::random(&mut Random::new(set));
            oracle.load(&data);
            loaded = Some((set, data));
        }
        let Some((_, data)) = &loaded else { continue };
        let mut random = Random::new(number ^ (1 << 62));
        let mut query = queries::random(&mut random);
        if let Some(text) = &arguments.query {
            query.text = text.clone();
        }
        let theirs = oracle.ask(&query);
        let ours = data.ask(&query);
        if arguments.query.is_some() {
            println!("ours {ours:?}\n\ntheirs {theirs:?}");
        }
        let difference = compare(&query, &ours, &theirs);
        *kinds.entry(difference.kind()).or_default() += 1;
        if let Difference::None(_) = difference {
            continue;
        }
        shown += 1;
        if shown <= SHOWN_MAX {
            println!("--seed {number} --queries 1: {query}\n    {difference}");
        }
    }
    println!("{kinds:?}");
    ExitCode::from(u8::from(shown > 0))
}
