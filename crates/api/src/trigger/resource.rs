//! The `cpu` and `memory` triggers: what the pods use, against what they ask for or a given amount.
//!
//! Parameters and messages are those of KEDA (`scalers/cpu_memory_scaler.go`).

use super::parameters::{METADATA, Parameters};
use crate::quantity::Quantity;

/// What the pods use of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `cpu` or `memory`.
    pub resource: String,
    /// The one container that counts; all of them if unset.
    pub container: Option<String>,
    /// What is wanted.
    pub target: ResourceTarget,
}

/// What is wanted of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceTarget {
    /// Use in percent of what the pods ask for.
    Utilization(i32),
    /// Use by each pod on average.
    AverageValue(Quantity),
}

impl Resource {
    pub(super) fn parse(
        resource: &str,
        metric_type: Option<&str>,
        parameters: &mut Parameters<'_>,
    ) -> Option<Self> {
        let container = parameters.text(&["containerName"], METADATA);
        if parameters.text(&["type"], METADATA).is_some() {
            let message = "the 'type' setting is deprecated and was removed in KEDA 2.18";
            parameters.refuse("type", message, "write metricType beside type instead");
        }
        let value =
            parameters.required(&["value"], METADATA, "write the wanted value in quotes, such as \"50\"")?;
        let target = match metric_type {
            Some("Utilization") => ResourceTarget::Utilization(percent(&value, parameters)?),
            Some("AverageValue") => ResourceTarget::AverageValue(amount(&value, parameters)?),
            // Reported where the metric type is checked, for all triggers.
            _ => return None,
        };
        Some(Self { resource: resource.to_owned(), container, target })
    }
}

fn percent(value: &str, parameters: &mut Parameters<'_>) -> Option<i32> {
    let percent = value.parse::<i32>().ok().filter(|percent| *percent > 0);
    if percent.is_none() {
        let message =
            format!("unable to set param \"value\" value {value:?}: must be a whole number greater than 0");
        parameters.refuse("value", message, "write a percentage without a sign, such as \"50\"");
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
    parameters.refuse("value", message, "write an amount, such as \"500m\" or \"512Mi\"");
    None
}
