//! The `metrics-api` trigger: a value somewhere in the answer of an HTTP endpoint.
//!
//! Parameters and messages are those of KEDA (`scalers/metrics_api_scaler.go`).

use std::time::Duration;

use super::description::{Described, Description, TriggerMetric};
use super::parameters::{AUTH, METADATA_OR_AUTH, Parameter, Parameters};
use super::prometheus::{self, Authentication, Secret};
use super::target::TriggerTarget;

const URL: Parameter =
    Parameter::required(&["url"], "The URL of the endpoint.", "write the URL of the endpoint");
const VALUE_LOCATION: Parameter = Parameter::required(
    &["valueLocation"],
    "Where the value is: a GJSON path, or a PromQL selector with the format `prometheus`.",
    "write where the value is",
);
const TARGET_VALUE: Parameter =
    Parameter::required(&["targetValue"], "The wanted value.", "write the wanted value in quotes");
const ACTIVATION_TARGET_VALUE: Parameter =
    Parameter::optional(&["activationTargetValue"], "The trigger is active above this value.").default("0");
const FORMAT: Parameter =
    Parameter::optional(&["format"], "The format of the answer: `json`, `prometheus`, `xml` or `yaml`.")
        .default("json");
const AGGREGATE: Parameter = Parameter::optional(
    &["aggregateFromKubeServiceEndpoints"],
    "Whether every ready endpoint of the Service in the URL is asked.",
)
.default("false");
const AGGREGATION_TYPE: Parameter = Parameter::optional(
    &["aggregationType"],
    "How the answers of the endpoints are combined: `average`, `sum`, `max` or `min`.",
)
.default("average");
/// The same as for other types, with one mode more.
const AUTH_MODES: Parameter = Parameter {
    about: "How the request is authenticated: `bearer`, `basic`, `custom`, `tls` or `apiKey`; several are separated by \
            commas.",
    ..prometheus::AUTH_MODES
};
const METHOD: Parameter =
    Parameter::optional(&["method"], "With `apiKey`: `query` puts the key into the URL instead of a header.")
        .from(METADATA_OR_AUTH)
        .default("header");
const KEY_PARAM_NAME: Parameter = Parameter::optional(
    &["keyParamName"],
    "With `apiKey`: the name of the header (`X-API-KEY` if unset) or parameter (`api_key` if unset).",
)
.from(METADATA_OR_AUTH);
const API_KEY: Parameter =
    Parameter::required(&["apiKey"], "The key, with `apiKey`.", "name a TriggerAuthentication that has it")
        .from(AUTH);

pub(super) const DESCRIPTION: Description = Description {
    names: &["metrics-api"],
    summary: "A value somewhere in the answer of an HTTP endpoint.",
    example: "- type: metrics-api\n  metadata:\n    url: http://queue.default.svc:8080/stats\n    valueLocation: \
              queue.length\n    targetValue: \"20\"\n",
    parameters: &[
        URL,
        VALUE_LOCATION,
        TARGET_VALUE,
        ACTIVATION_TARGET_VALUE,
        FORMAT,
        AGGREGATE,
        AGGREGATION_TYPE,
        prometheus::UNSAFE_SSL,
        prometheus::TIMEOUT,
        AUTH_MODES,
        prometheus::BEARER_TOKEN,
        prometheus::USERNAME,
        prometheus::PASSWORD,
        prometheus::CUSTOM_AUTH_HEADER,
        prometheus::CUSTOM_AUTH_VALUE,
        prometheus::CERT,
        prometheus::KEY,
        prometheus::CA,
        API_KEY,
        METHOD,
        KEY_PARAM_NAME,
    ],
};

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
        let url = parameters.required(&URL);
        let value_location = parameters.required(&VALUE_LOCATION);
        let target_value = parameters.number(&TARGET_VALUE);
        let activation_target_value = parameters.number(&ACTIVATION_TARGET_VALUE);
        let format = one_of(parameters, &FORMAT, &["json", "prometheus", "xml", "yaml"]);
        let aggregation = one_of(parameters, &AGGREGATION_TYPE, &["average", "sum", "max", "min"]);
        let aggregate = parameters.flag(&AGGREGATE).unwrap_or(false);
        let unsafe_ssl = parameters.flag(&prometheus::UNSAFE_SSL).unwrap_or(false);
        let timeout = parameters.duration(&prometheus::TIMEOUT);
        let api_key = ApiKey::parse(parameters);
        let authentication = Authentication::parse(parameters);
        if target_value == Some(0.0) {
            let help = "write a number greater than 0";
            parameters.refuse(&TARGET_VALUE, "no targetValue given in metadata", help);
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
fn one_of(parameters: &mut Parameters<'_>, parameter: &Parameter, known: &[&str]) -> Option<String> {
    match parameters.words(parameter, known).pop() {
        None => Some(known[0].to_owned()),
        Some(word) => known.contains(&word.as_str()).then_some(word),
    }
}

impl ApiKey {
    /// `Some(None)` when no key is asked for, `None` when it is missing or may still come.
    fn parse(parameters: &mut Parameters<'_>) -> Option<Option<Self>> {
        let modes = parameters.text(&AUTH_MODES).unwrap_or_default();
        if !modes.split(',').any(|mode| mode.trim() == "apiKey") {
            return Some(None);
        }
        let in_query = parameters.text(&METHOD).as_deref() == Some("query");
        let name = parameters
            .text(&KEY_PARAM_NAME)
            .unwrap_or_else(|| if in_query { "api_key" } else { "X-API-KEY" }.to_owned());
        let key = parameters.required(&API_KEY)?;
        Some(Some(Self { in_query, name, key: key.into() }))
    }
}

impl Described for MetricsApi {
    fn kind(&self) -> &str {
        "metrics-api"
    }

    fn metric(&self, _namespace: &str) -> TriggerMetric {
        TriggerMetric::External(format!("metric-api-{}", self.value_location))
    }

    fn activation(&self) -> Option<f64> {
        Some(self.activation_target_value)
    }

    fn written_target(&self) -> Option<(&'static Parameter, f64)> {
        Some((&TARGET_VALUE, self.target_value))
    }

    fn target(&self, average: bool) -> TriggerTarget {
        TriggerTarget::amount(self.target_value, average)
    }
}
