//! How a scrape is authenticated and sent: the part of an endpoint that prometheus-operator shares between
//! its kinds.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMapKeySelector, SecretKeySelector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// How a request is authenticated and sent.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScrapeClient {
    /// The Authorization header.
    pub authorization: Option<Authorization>,
    /// A user name and a password.
    pub basic_auth: Option<BasicAuth>,
    /// Credentials of an OAuth2 client.
    pub oauth2: Option<OAuth2Client>,
    /// Deprecated: a bearer token in a Secret.
    pub bearer_token_secret: Option<SecretKeySelector>,
    /// Certificates and how they are checked.
    pub tls_config: Option<TlsConfig>,
    /// Whether redirects are followed; true if unset.
    pub follow_redirects: Option<bool>,
    /// Whether HTTP/2 may be used.
    #[serde(rename = "enableHttp2")]
    pub enable_http2: Option<bool>,
    /// The proxy to send the request through.
    #[serde(flatten)]
    pub proxy: Proxy,
}

impl ScrapeClient {
    /// The field that asks for what is not supported, and why its target is not scraped at all: without it the answer
    /// would be a wrong one, or less safe than asked for.
    pub fn unsupported(&self) -> Option<(&'static str, &'static str)> {
        let tls = self.tls_config.as_ref();
        let file =
            tls.is_some_and(|tls| tls.ca_file.is_some() || tls.cert_file.is_some() || tls.key_file.is_some());
        if self.oauth2.is_some() {
            Some(("oauth2", "oauth2 is not supported; use authorization with a token in a Secret"))
        } else if self.proxy.proxy_url.is_some() || self.proxy.proxy_from_environment == Some(true) {
            let field = if self.proxy.proxy_url.is_some() { "proxyUrl" } else { "proxyFromEnvironment" };
            Some((field, "proxies are not supported: the target is asked directly or not at all"))
        } else if file {
            Some(("tlsConfig", "files are not read for monitors; put certificates and keys into a Secret"))
        } else {
            None
        }
    }
}

/// The proxy to send a request through.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// The URL of the proxy.
    #[schemars(regex(pattern = "^(http|https|socks5)://.+$"))]
    pub proxy_url: Option<String>,
    /// Hosts that are reached without the proxy, joined by commas.
    pub no_proxy: Option<String>,
    /// Whether the proxy is taken from the environment.
    pub proxy_from_environment: Option<bool>,
    /// Headers sent to the proxy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub proxy_connect_header: BTreeMap<String, Vec<SecretKeySelector>>,
}

/// The Authorization header.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Authorization {
    /// The scheme; Bearer if unset.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The key of a Secret that has the credentials.
    pub credentials: Option<SecretKeySelector>,
}

/// A user name and a password.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BasicAuth {
    /// The key of a Secret that has the user name.
    pub username: Option<SecretKeySelector>,
    /// The key of a Secret that has the password.
    pub password: Option<SecretKeySelector>,
}

/// Credentials of an OAuth2 client.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2Client {
    /// The client ID.
    pub client_id: SecretOrConfigMap,
    /// The client secret.
    pub client_secret: SecretKeySelector,
    /// Where tokens are issued.
    #[schemars(length(min = 1))]
    pub token_url: String,
    /// The scopes to ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Further parameters of the request for a token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoint_params: BTreeMap<String, String>,
    /// Certificates of the token server and how they are checked.
    pub tls_config: Option<TlsConfig>,
    /// The proxy to ask for a token through.
    #[serde(flatten)]
    pub proxy: Proxy,
}

/// A key of a Secret or of a ConfigMap.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretOrConfigMap {
    /// A key of a Secret.
    pub secret: Option<SecretKeySelector>,
    /// A key of a ConfigMap.
    pub config_map: Option<ConfigMapKeySelector>,
}

/// Certificates and how they are checked.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsConfig {
    /// The authority that signed the server's certificate.
    pub ca: Option<SecretOrConfigMap>,
    /// The client's certificate.
    pub cert: Option<SecretOrConfigMap>,
    /// The client's key.
    pub key_secret: Option<SecretKeySelector>,
    /// A file with the authority; ServiceMonitor only.
    pub ca_file: Option<String>,
    /// A file with the client's certificate; ServiceMonitor only.
    pub cert_file: Option<String>,
    /// A file with the client's key; ServiceMonitor only.
    pub key_file: Option<String>,
    /// The name that the server's certificate must have.
    pub server_name: Option<String>,
    /// Whether the server's certificate is not checked.
    pub insecure_skip_verify: Option<bool>,
    /// The oldest version of TLS to accept.
    #[schemars(extend("enum" = ["TLS10", "TLS11", "TLS12", "TLS13"]))]
    pub min_version: Option<String>,
    /// The newest version of TLS to accept.
    #[schemars(extend("enum" = ["TLS10", "TLS11", "TLS12", "TLS13"]))]
    pub max_version: Option<String>,
}
