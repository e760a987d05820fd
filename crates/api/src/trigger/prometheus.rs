//! The `prometheus` trigger: a PromQL query, where to ask it, and the wanted value of its answer.
//!
//! Parameters and messages are those of KEDA (`scalers/prometheus_scaler.go`, `authentication_types.go`).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::parameters::{AUTH, METADATA, METADATA_OR_AUTH, Parameters};

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
        let server_address = parameters.required(
            &["serverAddress"],
            METADATA,
            "write the URL of Prometheus, such as \"http://prometheus.monitoring.svc:9090\"",
        );
        let query = parameters.required(&["query"], METADATA, "write a PromQL query");
        let threshold =
            parameters.required_number("threshold", "write the wanted value in quotes, such as \"0.5\"");
        let activation_threshold = parameters.number_or("activationThreshold", 0.0);
        let ignore_null_values = parameters.flag("ignoreNullValues");
        let query_parameters = parameters.map("queryParameters");
        let namespace = parameters.text(&["namespace"], METADATA);
        let custom_headers = parameters.map("customHeaders");
        let unsafe_ssl = parameters.flag("unsafeSsl").unwrap_or(false);
        let timeout = parameters.duration("timeout");
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

const AUTH_MODES: &[&str] = &["apiKey", "basic", "tls", "bearer", "custom", "oauth"];

impl Authentication {
    /// `None` when it is wrong, or when it may still come.
    pub(super) fn parse(parameters: &mut Parameters<'_>) -> Option<Self> {
        let modes = parameters.words(&["authModes", "authMode"], METADATA_OR_AUTH, AUTH_MODES);
        let has = |mode: &str| modes.iter().any(|known| known == mode);
        if ["bearer", "basic", "oauth"].iter().filter(|mode| has(mode)).count() > 1 {
            let message = format!(
                "parameter \"authModes\" value {:?} must contain only one of [bearer basic oauth]",
                modes.join(",")
            );
            parameters.refuse("authModes", message, "keep one of them");
        }
        let mut authentication = Self::default();
        if has("bearer") {
            let token = parameters.required(&["bearerToken", "token"], AUTH, NEEDS_AUTHENTICATION)?;
            authentication.header = Some(AuthHeader::Bearer(token.into()));
        } else if has("basic") {
            let username = parameters.required(&["username"], AUTH, NEEDS_AUTHENTICATION)?;
            let password = parameters.text(&["password"], AUTH).unwrap_or_default().into();
            authentication.header = Some(AuthHeader::Basic { username, password });
        } else if has("custom") {
            let name = parameters.required(&["customAuthHeader"], AUTH, NEEDS_AUTHENTICATION)?;
            let value = parameters.required(&["customAuthValue"], AUTH, NEEDS_AUTHENTICATION)?;
            authentication.header = Some(AuthHeader::Custom { name, value: value.into() });
        }
        if has("tls") {
            let certificate = parameters.required(&["cert"], AUTH, NEEDS_AUTHENTICATION)?;
            let key = parameters.required(&["key"], AUTH, NEEDS_AUTHENTICATION)?;
            authentication.certificate = Some((certificate.into(), key.into()));
        }
        if !modes.is_empty() {
            authentication.authority = parameters.text(&["ca"], AUTH).map(Secret::from);
        }
        Some(authentication)
    }
}

const NEEDS_AUTHENTICATION: &str = "name a TriggerAuthentication that has it in authenticationRef";
