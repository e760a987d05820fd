//! The `prometheus` trigger: a PromQL query, where to ask it, and the wanted value of its answer.
//!
//! Parameters and messages are those of KEDA (`scalers/prometheus_scaler.go`, `authentication_types.go`).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::description::{Described, Description, TriggerMetric};
use super::parameters::{AUTH, METADATA_OR_AUTH, Parameter, Parameters};
use super::target::TriggerTarget;

const SERVER_ADDRESS: Parameter = Parameter::required(
    &["serverAddress"],
    "The base URL of the Prometheus server, as far as `/api/v1`.",
    "write the URL of Prometheus, such as \"http://prometheus.monitoring.svc:9090\"",
);
const QUERY: Parameter = Parameter::required(
    &["query"],
    "The PromQL query. Its answer must be at most one series, or a scalar.",
    "write a PromQL query",
);
const THRESHOLD: Parameter = Parameter::required(
    &["threshold"],
    "The wanted value.",
    "write the wanted value in quotes, such as \"0.5\"",
);
const ACTIVATION_THRESHOLD: Parameter =
    Parameter::optional(&["activationThreshold"], "The trigger is active above this value.").default("0");
const IGNORE_NULL_VALUES: Parameter = Parameter::optional(
    &["ignoreNullValues"],
    "What an empty answer, NaN and the infinities mean: `\"true\"` is 0, `\"false\"` is an error. Left out, an empty \
     answer is no data (nothing scales in), and NaN over fresh series is no load.",
);
const QUERY_PARAMETERS: Parameter = Parameter::optional(
    &["queryParameters"],
    "Further parameters of the request, as `k=v,k2=v2`; for a server that is not this program.",
);
const NAMESPACE: Parameter = Parameter::optional(
    &["namespace"],
    "The parameter `namespace` of the request, for Thanos and OpenShift.",
);
const CUSTOM_HEADERS: Parameter =
    Parameter::optional(&["customHeaders"], "Further headers of the request, as `k=v,k2=v2`.");

/// Whether the server's certificate is checked, for every type that asks over HTTP.
pub(super) const UNSAFE_SSL: Parameter =
    Parameter::optional(&["unsafeSsl"], "Whether the server's certificate is accepted unchecked.")
        .default("false");
/// How long a request may take, for every type that asks over HTTP.
pub(super) const TIMEOUT: Parameter = Parameter::optional(
    &["timeout"],
    "How long the request may take, in milliseconds or as a duration such as `3s`.",
)
.default("3s");

/// How a request is authenticated, for every type that asks over HTTP.
pub(super) const AUTH_MODES: Parameter = Parameter::optional(
    &["authModes", "authMode"],
    "How the request is authenticated: `bearer`, `basic`, `custom` or `tls`; several are separated by commas.",
)
.from(METADATA_OR_AUTH);
pub(super) const BEARER_TOKEN: Parameter =
    Parameter::required(&["bearerToken", "token"], "The token, with `bearer`.", NEEDS_AUTHENTICATION)
        .from(AUTH);
pub(super) const USERNAME: Parameter =
    Parameter::required(&["username"], "The user, with `basic`.", NEEDS_AUTHENTICATION).from(AUTH);
pub(super) const PASSWORD: Parameter =
    Parameter::optional(&["password"], "The password, with `basic`.").from(AUTH);
pub(super) const CUSTOM_AUTH_HEADER: Parameter = Parameter::required(
    &["customAuthHeader"],
    "The name of the header, with `custom`.",
    NEEDS_AUTHENTICATION,
)
.from(AUTH);
pub(super) const CUSTOM_AUTH_VALUE: Parameter = Parameter::required(
    &["customAuthValue"],
    "The value of the header, with `custom`.",
    NEEDS_AUTHENTICATION,
)
.from(AUTH);
pub(super) const CERT: Parameter =
    Parameter::required(&["cert"], "The client's certificate in PEM, with `tls`.", NEEDS_AUTHENTICATION)
        .from(AUTH);
pub(super) const KEY: Parameter =
    Parameter::required(&["key"], "The key of the certificate in PEM, with `tls`.", NEEDS_AUTHENTICATION)
        .from(AUTH);
pub(super) const CA: Parameter =
    Parameter::optional(&["ca"], "The authority that signed the server's certificate, in PEM.").from(AUTH);

const NEEDS_AUTHENTICATION: &str = "name a TriggerAuthentication that has it in authenticationRef";

pub(super) const DESCRIPTION: Description = Description {
    names: &["prometheus"],
    summary: "The answer of a PromQL query, from a Prometheus or anything that speaks its HTTP API. On one machine, the \
              built-in store answers for Services that do not exist.",
    example: "- type: prometheus\n  metadata:\n    serverAddress: http://prometheus-operated.default.svc:9090\n    \
              query: histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket[30s])))\n    \
              threshold: \"0.1\"\n",
    parameters: &[
        SERVER_ADDRESS,
        QUERY,
        THRESHOLD,
        ACTIVATION_THRESHOLD,
        IGNORE_NULL_VALUES,
        QUERY_PARAMETERS,
        NAMESPACE,
        CUSTOM_HEADERS,
        UNSAFE_SSL,
        TIMEOUT,
        AUTH_MODES,
        BEARER_TOKEN,
        USERNAME,
        PASSWORD,
        CUSTOM_AUTH_HEADER,
        CUSTOM_AUTH_VALUE,
        CERT,
        KEY,
        CA,
    ],
};

/// A PromQL query, where to ask it, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Prometheus {
    /// The base URL of the Prometheus server, used as it is written.
    pub server_address: String,
    /// The query; its answer must be at most one series.
    pub query: String,
    /// The wanted value.
    pub threshold: f64,
    /// The trigger is active above this.
    pub activation_threshold: f64,
    /// Whether an empty answer counts as 0; `None` where the manifest does not say.
    pub ignore_null_values: Option<bool>,
    /// Further parameters of the request.
    pub query_parameters: BTreeMap<String, String>,
    /// The namespace that Thanos and OpenShift ask for.
    pub namespace: Option<String>,
    /// Further headers of the request.
    pub custom_headers: BTreeMap<String, String>,
    /// Whether the server's certificate is not checked.
    pub unsafe_ssl: bool,
    /// How long the request may take; the operator's setting (3 s) if unset.
    pub timeout: Option<Duration>,
    /// How the request is authenticated.
    pub authentication: Authentication,
}

/// How a request is authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authentication {
    /// The header that says who asks.
    pub header: Option<AuthHeader>,
    /// The client's certificate and its key, in PEM.
    pub certificate: Option<(Secret, Secret)>,
    /// The authority that signed the server's certificate, in PEM.
    pub authority: Option<Secret>,
}

/// The header that says who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthHeader {
    /// `Authorization: Bearer <token>`.
    Bearer(Secret),
    /// `Authorization: Basic …`.
    Basic {
        /// The user.
        username: String,
        /// The password; it may be empty.
        password: Secret,
    },
    /// A header of the user's own.
    Custom {
        /// The name of the header.
        name: String,
        /// Its value.
        value: Secret,
    },
}

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text, for the request that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Prometheus {
    pub(super) fn parse(parameters: &mut Parameters<'_>) -> Option<Self> {
        let server_address = parameters.required(&SERVER_ADDRESS);
        let query = parameters.required(&QUERY);
        let threshold = parameters.number(&THRESHOLD);
        let activation_threshold = parameters.number(&ACTIVATION_THRESHOLD);
        let ignore_null_values = parameters.flag(&IGNORE_NULL_VALUES);
        let query_parameters = parameters.map(&QUERY_PARAMETERS);
        let namespace = parameters.text(&NAMESPACE);
        let custom_headers = parameters.map(&CUSTOM_HEADERS);
        let unsafe_ssl = parameters.flag(&UNSAFE_SSL).unwrap_or(false);
        let timeout = parameters.duration(&TIMEOUT);
        let authentication = Authentication::parse(parameters);
        Some(Self {
            server_address: server_address?,
            query: query?,
            threshold: threshold?,
            activation_threshold: activation_threshold?,
            ignore_null_values,
            query_parameters,
            namespace,
            custom_headers,
            unsafe_ssl,
            timeout,
            authentication: authentication?,
        })
    }
}

const MODES: &[&str] = &["apiKey", "basic", "tls", "bearer", "custom", "oauth"];

impl Authentication {
    /// `None` when it is wrong, or when it may still come.
    pub(super) fn parse(parameters: &mut Parameters<'_>) -> Option<Self> {
        let modes = parameters.words(&AUTH_MODES, MODES);
        let has = |mode: &str| modes.iter().any(|known| known == mode);
        if ["bearer", "basic", "oauth"].iter().filter(|mode| has(mode)).count() > 1 {
            let message = format!(
                "parameter \"authModes\" value {:?} must contain only one of [bearer basic oauth]",
                modes.join(",")
            );
            parameters.refuse(&AUTH_MODES, message, "keep one of them");
        }
        let mut authentication = Self::default();
        if has("bearer") {
            let token = parameters.required(&BEARER_TOKEN)?;
            authentication.header = Some(AuthHeader::Bearer(token.into()));
        } else if has("basic") {
            let username = parameters.required(&USERNAME)?;
            let password = parameters.text(&PASSWORD).unwrap_or_default().into();
            authentication.header = Some(AuthHeader::Basic { username, password });
        } else if has("custom") {
            let name = parameters.required(&CUSTOM_AUTH_HEADER)?;
            let value = parameters.required(&CUSTOM_AUTH_VALUE)?;
            authentication.header = Some(AuthHeader::Custom { name, value: value.into() });
        }
        if has("tls") {
            let certificate = parameters.required(&CERT)?;
            let key = parameters.required(&KEY)?;
            authentication.certificate = Some((certificate.into(), key.into()));
        }
        if !modes.is_empty() {
            authentication.authority = parameters.text(&CA).map(Secret::from);
        }
        Some(authentication)
    }
}

impl Described for Prometheus {
    fn kind(&self) -> &str {
        "prometheus"
    }

    fn metric(&self, _namespace: &str) -> TriggerMetric {
        TriggerMetric::External("prometheus".to_owned())
    }

    fn activation(&self) -> Option<f64> {
        Some(self.activation_threshold)
    }

    fn written_target(&self) -> Option<(&'static Parameter, f64)> {
        Some((&THRESHOLD, self.threshold))
    }

    fn target(&self, average: bool) -> TriggerTarget {
        TriggerTarget::amount(self.threshold, average)
    }
}
