//! Sends broken inputs to everything here that an untrusted client reaches, for as long as told:
//! `cargo run --release -p flyball-metrics --example fuzz -- --seconds 3600 [--seed N] [--only TARGET]`.
//!
//! Inputs are realistic ones that were changed: words and fields taken out, repeated, exchanged, cut off, spliced. Each must end in a
//! result or an error: without a panic, within [`SECONDS_MAX`], and without taking more than [`BYTES_MAX`] of memory, which a
//! counting allocator watches. What breaks a rule is written to `fuzz-TARGET-N.input`. Once a minute a line tells how far it is.

#![allow(clippy::disallowed_methods, reason = "a tool for developers: arguments, files, a clock")]

#[path = "../differential/queries.rs"]
#[allow(dead_code, reason = "shared with another example")]
mod queries;
#[path = "../differential/random.rs"]
#[allow(dead_code, reason = "shared with another example")]
mod random;
/// What random queries are about.
mod data {
    /// The end of the data, ten minutes.
    pub(crate) const END_MS: i64 = 600_000;
}
mod inputs;
mod mutate;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use inputs::{TARGETS, World};
use peak_alloc::PeakAlloc;
use random::Random;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The longest that an input may take: ten times what the slowest takes on a busy machine.
const SECONDS_MAX: f64 = 5.0;
/// An input that takes so long ends the run: it may never end.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// The memory that an input may take beside what it finds: a query's budget of samples, here, is 1 million of them.
const BYTES_MAX: usize = 256 << 20;

struct Options {
    seconds: u64,
    seed: u64,
    only: Option<String>,
}

/// What was seen of one target.
#[derive(Default)]
struct Seen {
    inputs: u64,
    slowest: f64,
    largest: usize,
    broken: Vec<String>,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    let running: Arc<Mutex<Option<Running>>> = Arc::default();
    watch(Arc::clone(&running));
    std::panic::set_hook(Box::new(|_| {}));
    let (begun, mut random, mut world) = (Instant::now(), Random::new(options.seed), World::new());
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    let (mut minute, mut inputs) = (1, 0_u64);
    println!("seed {}, {} s", options.seed, options.seconds);
    while begun.elapsed().as_secs() < options.seconds {
        for target in
            TARGETS.iter().filter(|target| options.only.as_deref().is_none_or(|only| only == target.name))
        {
            let input = world.input(target, &mut random);
            *running.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((Instant::now(), target.name, input.clone()));
            let seen = seen.entry(target.name).or_default();
            let number = seen.inputs;
            if let Some(problem) = check(&mut world, target, &input, seen) {
                let file = format!("fuzz-{}-{number}.input", target.name);
                let _ = std::fs::write(&file, &input);
                println!("{}: {problem}; the input is in {file}", target.name);
                seen.broken.push(problem);
            }
            inputs += 1;
        }
        world.renew();
        if begun.elapsed().as_secs() >= minute * 60 {
            println!("{minute} min: {inputs} inputs, {} broke a rule", broken(&seen));
            minute += 1;
        }
    }
    *running.lock().unwrap_or_else(PoisonError::into_inner) = None;
    summary(&seen);
    if broken(&seen) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one input; tells which rule it broke.
fn check(world: &mut World, target: &inputs::Target, input: &[u8], seen: &mut Seen) -> Option<String> {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let begun = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(world, input)));
    let (seconds, bytes) = (begun.elapsed().as_secs_f64(), MEMORY.peak_usage().saturating_sub(before));
    seen.inputs += 1;
    seen.slowest = seen.slowest.max(seconds);
    seen.largest = seen.largest.max(bytes);
    match ended {
        Err(panic) => {
            *world = World::new();
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            Some(format!("panic: {text}"))
        }
        Ok(()) if seconds > SECONDS_MAX => Some(format!("took {seconds:.1} s")),
        Ok(()) if bytes > BYTES_MAX => Some(format!("took {} MiB", bytes >> 20)),
        Ok(()) => None,
    }
}

/// The input that is being tried: since when, its kind, and its bytes.
type Running = (Instant, &'static str, Vec<u8>);

/// Ends the program when an input hangs.
fn watch(running: Arc<Mutex<Option<Running>>>) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let running = running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((since, target, input)) =
                running.as_ref().filter(|(since, ..)| since.elapsed() > HANGS_AFTER)
            {
                let file = format!("fuzz-{target}-hangs.input");
                let _ = std::fs::write(&file, input);
                println!(
                    "{target}: hangs for {:.0} s; the input is in {file}",
                    since.elapsed().as_secs_f64()
                );
                std::process::exit(1);
            }
        }
    });
}

fn broken(seen: &BTreeMap<&str, Seen>) -> usize {
    seen.values().map(|seen| seen.broken.len()).sum()
}

fn summary(seen: &BTreeMap<&str, Seen>) {
    println!("{:<16} {:>10} {:>12} {:>12} {:>7}", "target", "inputs", "slowest s", "largest MiB", "broken");
    for (target, seen) in seen {
        let mib = seen.largest as f64 / f64::from(1 << 20);
        println!(
            "{target:<16} {:>10} {:>12.3} {mib:>12.1} {:>7}",
            seen.inputs,
            seen.slowest,
            seen.broken.len()
        );
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options { seconds: 60, seed: 1, only: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{word} needs a number, not {value:?}"));
        match word.as_str() {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            "--only" if TARGETS.iter().any(|target| target.name == value) => options.only = Some(value),
            "--only" => {
                let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
                return Err(format!("there is no target {value:?}; there are {}", names.join(", ")));
            }
            _ => return Err(format!("unknown option {word}; there are --seconds, --seed and --only")),
        }
    }
    Ok(options)
}
