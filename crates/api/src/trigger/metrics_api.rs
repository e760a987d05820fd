//! The `metrics-api` trigger: a value somewhere in the answer of an HTTP endpoint.
//!
//! Parameters and messages are those of KEDA (`scalers/metrics_api_scaler.go`).

use std::time::Duration;

use super::parameters::{METADATA, Parameters};
use super::prometheus::{Authentication, Secret};

/// A value somewhere in the answer of an HTTP endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsApi {
    /// The URL to ask.
    pub url: String,
    /// Where the value is: a GJSON path, or a PromQL selector for the format `prometheus`.
    pub value_location: String,
    /// The wanted value.
    pub target_value: f64,
    /// The trigger is active above this.
    pub activation_target_value: f64,
    /// The format of the answer.
    pub format: String,
    /// Whether every ready endpoint of the Service in the URL is asked, and how the answers are combined.
    pub aggregation: Option<String>,
    /// Whether the server's certificate is not checked.
    pub unsafe_ssl: bool,
    /// How long the request may take; the operator's setting (3 s) if unset.
    pub timeout: Option<Duration>,
    /// How the request is authenticated.
    pub authentication: Authentication,
    /// A key sent along, and where.
    pub api_key: Option<ApiKey>,
}

/// A key sent along with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Whether it is a parameter of the URL instead of a header.
    pub in_query: bool,
    /// The name of the header or parameter.
    pub name: String,
    /// The key.
    pub key: Secret,
}

impl MetricsApi {
    pub(super) fn parse(parameters: &mut Parameters<'_>) -> Option<Self> {
        let url = parameters.required(&["url"], METADATA, "write the URL of the endpoint");
        let value_location = parameters.required(&["valueLocation"], METADATA, "write where the value is");
        let target_value = parameters.required_number("targetValue", "write the wanted value in quotes");
        let activation_target_value = parameters.number_or("activationTargetValue", 0.0);
        let format = one_of(parameters, "format", &["json", "prometheus", "xml", "yaml"]);
        let aggregation = one_of(parameters, "aggregationType", &["average", "sum", "max", "min"]);
        let aggregate = parameters.flag("aggregateFromKubeServiceEndpoints").unwrap_or(false);
        let unsafe_ssl = parameters.flag("unsafeSsl").unwrap_or(false);
        let timeout = parameters.duration("timeout");
        let api_key = ApiKey::parse(parameters);
        let authentication = Authentication::parse(parameters);
        if target_value == Some(0.0) {
            parameters.refuse(
                "targetValue",
                "no targetValue given in metadata",
                "write a number greater than 0",
            );
        }
        Some(Self {
            url: url?,
            value_location: value_location?,
            target_value: target_value?,
            activation_target_value: activation_target_value?,
            format: format?,
            aggregation: aggregate.then_some(aggregation?),
            unsafe_ssl,
            timeout,
            authentication: authentication?,
            api_key: api_key?,
        })
    }
}

/// The first of the words is the default.
fn one_of(parameters: &mut Parameters<'_>, name: &str, known: &[&str]) -> Option<String> {
    match parameters.words(&[name], METADATA, known).pop() {
        None => Some(known[0].to_owned()),
        Some(word) => known.contains(&word.as_str()).then_some(word),
    }
}

impl ApiKey {
    /// `Some(None)` when no key is asked for, `None` when it is missing or may still come.
    fn parse(parameters: &mut Parameters<'_>) -> Option<Option<Self>> {
        use super::parameters::{AUTH, METADATA_OR_AUTH};
        let modes = parameters.text(&["authModes", "authMode"], METADATA_OR_AUTH).unwrap_or_default();
        if !modes.split(',').any(|mode| mode.trim() == "apiKey") {
            return Some(None);
        }
        let in_query = parameters.text(&["method"], METADATA_OR_AUTH).as_deref() == Some("query");
        let name = parameters
            .text(&["keyParamName"], METADATA_OR_AUTH)
            .unwrap_or_else(|| if in_query { "api_key" } else { "X-API-KEY" }.to_owned());
        let key = parameters.required(&["apiKey"], AUTH, "name a TriggerAuthentication that has it")?;
        Some(Some(Self { in_query, name, key: key.into() }))
    }
}
