//! The `slo` trigger: what is promised to the users of the target, instead of a threshold.
//!
//! It is Flyball's own; KEDA does not know it. The replicas that the promise needs are found by the engine
//! (`flyball_engine::Slo`) from what the target's Services measure.

use std::time::Duration;

use flyball_engine::{Objectives, Slo};

use super::description::{Described, Description, TriggerMetric};
use super::parameters::{Parameter, Parameters};
use super::target::TriggerTarget;

const OBJECTIVE: Parameter = Parameter::required(
    &["objective"],
    "What is promised: `p95 < 100ms`, `99% < 200ms`, `mean < 50ms` or `errors < 0.1%`; several are joined by `and`.",
    "write a promise, such as \"p95 < 100ms\"",
);
const RISK: Parameter = Parameter::optional(
    &["risk"],
    "How often more requests may come than there are replicas for, in percent: `2%`. Less costs more replicas.",
);
const START_UP: Parameter = Parameter::optional(
    &["startUp"],
    "How long a new replica takes until it serves, such as `35s`; measured where it is not written.",
);

pub(super) const DESCRIPTION: Description = Description {
    names: &["slo"],
    summary: "What is promised to the users of the target. No threshold is needed: what a replica carries within the promise \
              is learned from the requests, and replicas are ordered for the requests that are expected by the time they \
              serve. Requests are measured by the Services that select the target's pods, waiting included. This type is \
              Flyball's own: KEDA does not know it.",
    example: "- type: slo\n  metadata:\n    objective: \"p95 < 100ms\"\n",
    parameters: &[OBJECTIVE, RISK, START_UP],
};

/// The metric's name in the HorizontalPodAutoscaler, without the trigger's number.
const METRIC: &str = "slo";

/// Whether an external metric of a HorizontalPodAutoscaler stands for an objective: `s0-slo`.
pub(crate) fn is_objective(metric: &str) -> bool {
    let number = metric.strip_prefix('s').and_then(|rest| rest.strip_suffix(METRIC)?.strip_suffix('-'));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What is promised, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceObjective {
    /// The promise, as the engine takes it.
    pub slo: Slo,
}

impl ServiceObjective {
    pub(super) fn parse(parameters: &mut Parameters<'_>) -> Option<Self> {
        let objectives = objectives(parameters);
        let risk = risk(parameters);
        let startup = startup(parameters);
        let mut slo = Slo::new(objectives?);
        slo.risk = risk?.unwrap_or(slo.risk);
        slo.startup = startup?;
        Some(Self { slo })
    }
}

fn objectives(parameters: &mut Parameters<'_>) -> Option<Objectives> {
    match parameters.required(&OBJECTIVE)?.parse() {
        Ok(objectives) => Some(objectives),
        Err(error) => {
            parameters.refuse(&OBJECTIVE, error.to_string(), "write a promise, such as \"p95 < 100ms\"");
            None
        }
    }
}

/// `Some(None)` where none is written, `None` where it is wrong.
fn risk(parameters: &mut Parameters<'_>) -> Option<Option<f64>> {
    let Some(text) = parameters.text(&RISK) else { return Some(None) };
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let risk = percent.map(|percent| percent / 100.0).filter(|risk| *risk > 0.0 && *risk < 1.0);
    if risk.is_none() {
        let message = format!("{text:?} is no share between 0% and 100%");
        parameters.refuse(&RISK, message, "write a percentage, such as \"2%\"");
    }
    risk.map(Some)
}

/// `Some(None)` where none is written, `None` where it is wrong.
fn startup(parameters: &mut Parameters<'_>) -> Option<Option<Duration>> {
    if parameters.text(&START_UP).is_none() {
        return Some(None);
    }
    parameters.duration(&START_UP).map(Some)
}

impl Described for ServiceObjective {
    fn kind(&self) -> &str {
        "slo"
    }

    fn metric(&self, _namespace: &str) -> TriggerMetric {
        TriggerMetric::External(METRIC.to_owned())
    }

    fn activation(&self) -> Option<f64> {
        Some(0.0)
    }

    fn written_target(&self) -> Option<(&'static Parameter, f64)> {
        None
    }

    /// The metric counts replicas, so each of them is worth one.
    fn target(&self, average: bool) -> TriggerTarget {
        TriggerTarget::amount(1.0, average)
    }
}
