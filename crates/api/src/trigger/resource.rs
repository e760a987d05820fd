//! The `cpu` and `memory` triggers: what the pods use, against what they request or a given amount.
//!
//! Parameters and messages are those of KEDA (`scalers/cpu_memory_scaler.go`).

use super::description::{Described, Description, TriggerMetric};
use super::parameters::{Parameter, Parameters};
use super::target::TriggerTarget;
use crate::quantity::Quantity;

const VALUE: Parameter = Parameter::required(
    &["value"],
    "The wanted use: percent of the request with `metricType: Utilization`, an amount such as `500m` or `512Mi` for \
     each pod with `metricType: AverageValue`.",
    "write the wanted value in quotes, such as \"50\"",
);
const CONTAINER_NAME: Parameter = Parameter::optional(
    &["containerName"],
    "The one container of each pod that counts; all of them otherwise.",
);
const TYPE: Parameter =
    Parameter::optional(&["type"], "Removed in KEDA 2.18, and refused: write `metricType` beside `type`.");

pub(super) const DESCRIPTION: Description = Description {
    names: &["cpu", "memory"],
    summary: "What the pods use of CPU or memory on average. `metricType` must be written: `Utilization` or \
              `AverageValue`. These triggers never activate a target that has no replicas, and feed no formula.",
    example: "- type: cpu\n  metricType: Utilization\n  metadata:\n    value: \"50\"\n",
    parameters: &[VALUE, CONTAINER_NAME, TYPE],
};

/// What the pods use of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `cpu` or `memory`.
    pub resource: String,
    /// The one container that counts; all of them if unset.
    pub container: Option<String>,
    /// What is wanted: a utilization or an average value.
    pub target: TriggerTarget,
}

impl Resource {
    pub(super) fn parse(parameters: &mut Parameters<'_>) -> Option<Self> {
        let container = parameters.text(&CONTAINER_NAME);
        if parameters.text(&TYPE).is_some() {
            let message = "the 'type' setting is deprecated and was removed in KEDA 2.18";
            parameters.refuse(&TYPE, message, "write metricType beside type instead");
        }
        let value = parameters.required(&VALUE)?;
        let target = match parameters.metric_type() {
            Some("Utilization") => TriggerTarget::Utilization(percent(&value, parameters)?),
            Some("AverageValue") => TriggerTarget::AverageValue(amount(&value, parameters)?),
            // Reported where the metric type is checked, for all triggers.
            _ => return None,
        };
        Some(Self { resource: parameters.kind().to_owned(), container, target })
    }
}

impl Described for Resource {
    fn kind(&self) -> &str {
        &self.resource
    }

    fn metric(&self, _namespace: &str) -> TriggerMetric {
        TriggerMetric::Resource { resource: self.resource.clone(), container: self.container.clone() }
    }

    fn activation(&self) -> Option<f64> {
        None
    }

    fn written_target(&self) -> Option<(&'static Parameter, f64)> {
        None
    }

    fn target(&self, _average: bool) -> TriggerTarget {
        self.target
    }
}

fn percent(value: &str, parameters: &mut Parameters<'_>) -> Option<i32> {
    let percent = value.parse::<i32>().ok().filter(|percent| *percent > 0);
    if percent.is_none() {
        let message =
            format!("unable to set param \"value\" value {value:?}: must be a whole number greater than 0");
        parameters.refuse(&VALUE, message, "write a percentage without a sign, such as \"50\"");
    }
    percent
}

fn amount(value: &str, parameters: &mut Parameters<'_>) -> Option<Quantity> {
    let why = match Quantity::parse(value) {
        Ok(quantity) if quantity.milli_value() > 0 => return Some(quantity),
        Ok(_) => "must be greater than 0".to_owned(),
        Err(error) => error.to_string(),
    };
    let message = format!("unable to set param \"value\" value {value:?}: {why}");
    parameters.refuse(&VALUE, message, "write an amount, such as \"500m\" or \"512Mi\"");
    None
}
