//! Runs a file of cases as tests, one for each case under its own name, and counts how many of each kind pass.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[path = "../../../../tests/outside.rs"]
mod outside;

/// One case of a file.
pub(crate) trait AnyCase: DeserializeOwned + Send + 'static {
    fn id(&self) -> &str;
    fn kind(&self) -> &str;
    /// What differs from what the original does.
    fn check(&self) -> Result<(), String>;
}

#[derive(Deserialize)]
struct File<C> {
    cases: Vec<C>,
}

/// How many cases of each kind passed, and how many failed.
type Tally = Arc<Mutex<BTreeMap<String, (u32, u32)>>>;

/// Checks the cases in the file that an environment variable names, or in `../shared/cases` beside the repository.
/// Prints `N passed, M failed` for each kind at the end.
pub(crate) fn run<C: AnyCase>(variable: &'static str, name: &str) -> ExitCode {
    let arguments = Arguments::from_args();
    let tally = Tally::default();
    let trials = match outside::find(variable, &format!("cases/{name}")) {
        Err(missing) => vec![missing.trial(name)],
        Ok(path) => match read::<C>(&path) {
            Ok(cases) => cases.into_iter().map(|case| trial(case, Arc::clone(&tally))).collect(),
            Err(why) => vec![Trial::test(name, move || Err(why.into()))],
        },
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    print(&tally);
    conclusion.exit_code()
}

fn read<C: AnyCase>(path: &Path) -> Result<Vec<C>, String> {
    let why = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| why(&error))?;
    let file: File<C> = serde_json::from_str(&text).map_err(|error| why(&error))?;
    if file.cases.is_empty() { Err(why(&"it has no cases")) } else { Ok(file.cases) }
}

fn trial<C: AnyCase>(case: C, tally: Tally) -> Trial {
    Trial::test(case.id().to_owned(), move || {
        let count = |passed, failed| {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            let counts = tally.entry(case.kind().to_owned()).or_default();
            *counts = (counts.0 + passed, counts.1 + failed);
        };
        // A panic fails that case alone; it is counted here and told by the harness.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case.check())) {
            Ok(Ok(())) => count(1, 0),
            Ok(Err(difference)) => {
                count(0, 1);
                return Err(difference.into());
            }
            Err(panic) => {
                count(0, 1);
                std::panic::resume_unwind(panic);
            }
        }
        Ok(())
    })
}

fn print(tally: &Tally) {
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    if tally.is_empty() {
        return;
    }
    for (kind, (passed, failed)) in tally.iter() {
        println!("{kind:<30} {passed} passed, {failed} failed");
    }
    let (passed, failed) = tally.values().fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
    println!("{:<30} {passed} passed, {failed} failed", "all");
}
