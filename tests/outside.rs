//! Test data that lies outside the repository: comparisons with what others do, which a clone does not have.
//!
//! Without its data a test is *ignored*, with the reason beside its name: it did not pass. Where `CI` is `true` it
//! fails, since nobody reads there what was ignored. An environment variable says where else the data is.

use std::fmt;
use std::path::{Path, PathBuf};

use libtest_mimic::{Completion, Failed, Trial};

/// The folder `shared`, beside the repository.
const BESIDE: &str = "../../../shared";

/// A file or a folder of test data that is not there.
pub(crate) struct Missing {
    path: PathBuf,
    variable: &'static str,
}

/// The path that an environment variable names, or `name` in the folder `shared` beside the repository.
pub(crate) fn find(variable: &'static str, name: &str) -> Result<PathBuf, Missing> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join(BESIDE).join(name);
    let path = std::env::var_os(variable).map_or_else(beside, PathBuf::from);
    if path.exists() { Ok(path) } else { Err(Missing { path, variable }) }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} not found; {} says where else it is", self.path.display(), self.variable)
    }
}

impl Missing {
    /// The test that cannot run.
    #[allow(dead_code, reason = "where the tests are not made from the data, each looks for itself")]
    pub(crate) fn trial(&self, name: impl Into<String>) -> Trial {
        let reason = self.to_string();
        Trial::ignorable_test(name, move || absent(&reason))
    }
}

/// What becomes of a test that lacks something: ignored, or failed in CI.
pub(crate) fn absent(reason: &str) -> Result<Completion, Failed> {
    match std::env::var("CI").as_deref() {
        Ok("true" | "1") => Err(format!("{reason}; in CI no test may be ignored").into()),
        _ => Ok(Completion::ignored_with(reason)),
    }
}
