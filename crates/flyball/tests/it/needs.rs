//! What a test needs beside the program: other programs, and data from outside the repository. A test that lacks
//! something ends there, wherever in it that shows, and is ignored; see `tests/outside.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use libtest_mimic::{Completion, Failed, Trial};

use crate::outside::{self, Missing};

/// Ends a test that lacks something.
enum Absent {
    /// A machine that tests changes has it.
    Required(String),
    /// What few machines have, or what their kernel refuses.
    Extra(String),
}

/// A test under its name.
pub(crate) fn trial(name: &str, test: fn()) -> Trial {
    Trial::ignorable_test(name, move || {
        let Err(panic) = catch_unwind(AssertUnwindSafe(test)) else { return Ok(Completion::Completed) };
        match panic.downcast::<Absent>().map(|absent| *absent) {
            Ok(Absent::Required(reason)) => outside::absent(&reason),
            Ok(Absent::Extra(reason)) => Ok(Completion::ignored_with(reason)),
            Err(panic) => Err(Failed::from(message(panic.as_ref()))),
        }
    })
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}

/// Ends the test unless these programs are installed.
pub(crate) fn needs(programs: &[&str]) {
    if let Some(program) = first_missing(programs) {
        resume_unwind(Box::new(Absent::Required(format!("{program} not found"))));
    }
}

/// Ends the test unless these programs are installed, which is no failure in CI either.
pub(crate) fn wants(programs: &[&str]) {
    if let Some(program) = first_missing(programs) {
        refused(&format!("{program} not found"));
    }
}

/// Ends the test, because this machine does not let it be.
pub(crate) fn refused(reason: &str) -> ! {
    resume_unwind(Box::new(Absent::Extra(reason.to_owned())))
}

/// Ends the test unless the course page's manifests are there.
pub(crate) fn needs_seed() {
    if let Err(missing) = seed() {
        resume_unwind(Box::new(Absent::Required(missing.to_string())));
    }
}

fn first_missing<'a>(programs: &[&'a str]) -> Option<&'a str> {
    programs.iter().copied().find(|program| {
        let look =
            Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
        !look.is_ok_and(|status| status.success())
    })
}

/// Where the course page's manifests are: `FLYBALL_SEED`, or beside the repository.
pub(crate) fn seed() -> Result<PathBuf, Missing> {
    outside::find("FLYBALL_SEED", "seed")
}
