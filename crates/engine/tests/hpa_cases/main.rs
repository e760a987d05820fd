//! Every decision of the HorizontalPodAutoscaler, by a file of cases: `FLYBALL_HPA_CASES`, or `../shared/cases/hpa.json`
//! beside the repository. Each case is told to an [`Engine`] as facts, evaluated once, and compared with what the
//! original does. Prints `N passed, M failed` for each kind.

#![allow(clippy::disallowed_methods, reason = "a test reads its cases")]

mod case;
#[path = "../cases/mod.rs"]
mod cases;
mod check;
mod world;

use std::process::ExitCode;

use case::Case;

impl cases::AnyCase for Case {
    fn id(&self) -> &str {
        &self.id
    }

    fn kind(&self) -> &str {
        &self.kind
    }

    fn check(&self) -> Result<(), String> {
        check::check(self)
    }
}

fn main() -> ExitCode {
    cases::run::<Case>("FLYBALL_HPA_CASES", "hpa.json")
}
