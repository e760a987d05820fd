//! Every decision of the HorizontalPodAutoscaler, by a file of cases: `FLYBALL_HPA_CASES`, or `../shared/cases/hpa.json`
//! beside the workspace. Each case is told to an [`Engine`] as facts, evaluated once, and compared with what the
//! original does. Prints `N passed, M failed` for each kind.

#![allow(clippy::disallowed_methods, reason = "a test reads its cases")]

mod case;
mod check;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use case::Case;

fn main() -> ExitCode {
    let path = path();
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: not found: {}", path.display());
        return ExitCode::SUCCESS;
    };
    let file: case::File = match serde_json::from_str(&text) {
        Ok(file) => file,
        Err(error) => {
            println!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let mut tally: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for case in &file.cases {
        let counts = tally.entry(&case.kind).or_default();
        match judge(case) {
            Ok(()) => counts.0 += 1,
            Err(difference) => {
                counts.1 += 1;
                println!("FAILED {}\n  {difference}", case.id);
            }
        }
    }
    for (kind, (passed, failed)) in &tally {
        println!("{kind:<22} {passed} passed, {failed} failed");
    }
    let (passed, failed) = tally.values().fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
    println!("{:<22} {passed} passed, {failed} failed", "all");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn path() -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases/hpa.json");
    std::env::var_os("FLYBALL_HPA_CASES").map_or_else(default, PathBuf::from)
}

/// Runs one case; a panic is a failure of that case alone.
fn judge(case: &Case) -> Result<(), String> {
    std::panic::catch_unwind(|| check::check(case)).unwrap_or_else(|_| Err("panicked".to_owned()))
}
