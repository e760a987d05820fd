//! Every decision of the VerticalPodAutoscaler, by a file of cases: `FLYBALL_VPA_CASES`, or `../shared/cases/vpa.json`
//! beside the repository. Each case is told to the functions of [`flyball_engine::vertical`] and compared with what the
//! original does. Prints `N passed, M failed` for each kind.

#![allow(clippy::disallowed_methods, reason = "a test reads its cases")]

mod admission;
mod caps;
#[path = "../cases/mod.rs"]
mod cases;
mod estimates;
mod histograms;
mod json;
mod samples;
mod updater;

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

/// One case; what its fields mean depends on its kind.
#[derive(Deserialize)]
pub(crate) struct Case {
    id: String,
    kind: String,
    input: Value,
    expected: Value,
    #[serde(default)]
    tolerance_rel: f64,
    #[serde(default)]
    tolerance_abs: f64,
}

impl Case {
    /// Compares one thing.
    fn same<T: PartialEq + std::fmt::Debug>(&self, what: &str, got: T, expected: T) -> Result<(), String> {
        if got == expected { Ok(()) } else { Err(format!("{what}: got {got:?}, expected {expected:?}")) }
    }

    /// Compares numbers within the case's tolerance.
    fn near(&self, what: &str, got: f64, expected: f64) -> Result<(), String> {
        let far = (got - expected).abs() > self.tolerance_abs.max(self.tolerance_rel * expected.abs());
        if far { Err(format!("{what}: got {got}, expected {expected}")) } else { Ok(()) }
    }
}

fn check(case: &Case) -> Result<(), String> {
    let kind = case.kind.as_str();
    match kind {
        _ if kind.starts_with("histogram_") || kind.starts_with("decaying_") => histograms::check(case),
        "memory_peaks"
        | "cpu_samples"
        | "aggregate_expired"
        | "oom_detect"
        | "eviction_event"
        | "recommend_end_to_end" => samples::check(case),
        "policy_cap" | "pod_cap" | "pod_limit_range" | "limit_range_merge" | "proportional_limit"
        | "integer_cpu_vpa" => caps::check(case),
        "update_priority"
        | "priority_less"
        | "priority_order"
        | "update_accept"
        | "has_lower_target"
        | "infeasible_gate"
        | "eviction_requirements"
        | "eviction_budget"
        | "in_place_decision" => updater::check(case),
        "container_resources" | "startup_boost" => admission::check(case),
        _ => estimates::check(case),
    }
}

impl cases::AnyCase for Case {
    fn id(&self) -> &str {
        &self.id
    }

    fn kind(&self) -> &str {
        &self.kind
    }

    fn check(&self) -> Result<(), String> {
        check(self)
    }
}

fn main() -> ExitCode {
    cases::run::<Case>("FLYBALL_VPA_CASES", "vpa.json")
}
