//! Runs a file of cases, each of which names its kind, and counts how many of each kind pass.

use std::collections::BTreeMap;
use std::panic::RefUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// One case of a file.
pub(crate) trait AnyCase: DeserializeOwned + RefUnwindSafe {
    fn id(&self) -> &str;
    fn kind(&self) -> &str;
    /// What differs from what the original does.
    fn check(&self) -> Result<(), String>;
}

#[derive(Deserialize)]
struct File<C> {
    cases: Vec<C>,
}

/// Checks the cases in the file that an environment variable names, or in `../shared/cases` beside the workspace. Prints
/// `N passed, M failed` for each kind.
pub(crate) fn run<C: AnyCase>(variable: &str, name: &str) -> ExitCode {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases").join(name);
    let path = std::env::var_os(variable).map_or_else(default, PathBuf::from);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: {} not found", path.display());
        return ExitCode::SUCCESS;
    };
    match serde_json::from_str::<File<C>>(&text) {
        Ok(file) => count(&file.cases),
        Err(error) => {
            println!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn count<C: AnyCase>(cases: &[C]) -> ExitCode {
    let mut tally: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for case in cases {
        let counts = tally.entry(case.kind()).or_default();
        // a panic is a failure of that case alone
        match std::panic::catch_unwind(|| case.check()).unwrap_or_else(|_| Err("panicked".to_owned())) {
            Ok(()) => counts.0 += 1,
            Err(difference) => {
                counts.1 += 1;
                println!("FAILED {}\n  {difference}", case.id());
            }
        }
    }
    for (kind, (passed, failed)) in &tally {
        println!("{kind:<30} {passed} passed, {failed} failed");
    }
    let (passed, failed) = tally.values().fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
    println!("{:<30} {passed} passed, {failed} failed", "all");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
