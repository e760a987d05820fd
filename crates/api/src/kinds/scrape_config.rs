//! prometheus-operator's ScrapeConfig: addresses that are written out, and scraped without any object that stands for them.
//!
//! Fields and limits are those of prometheus-operator 0.93 (`pkg/apis/monitoring/v1alpha1`). Of the ways to discover
//! targets only the written list is read here; the others are in the schema so that they can be refused by name.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_with::skip_serializing_none;

use super::monitor::{EndpointSettings, MonitorStatus, PageSettings, ScrapeSettings, duration};
use super::scrape_client::{Authorization, BasicAuth, OAuth2Client, Proxy, ScrapeClient, TlsConfig};

/// Which addresses to scrape.
#[skip_serializing_none]
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "monitoring.coreos.com",
    version = "v1alpha1",
    kind = "ScrapeConfig",
    namespaced,
    status = "MonitorStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Scrapes addresses that are written out.",
    shortname = "scfg",
    category = "prometheus-operator"
)]
#[serde(rename_all = "camelCase")]
pub struct ScrapeConfigSpec {
    /// The value of the job label; scrapeConfig/namespace/name if unset.
    #[schemars(length(min = 1))]
    pub job_name: Option<String>,
    /// Addresses, with the labels of their series.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub static_configs: Vec<StaticConfig>,
    /// The path of the metrics; /metrics if unset.
    #[schemars(length(min = 1))]
    pub metrics_path: Option<String>,
    /// The time between two scrapes, such as 15s.
    #[serde(default)]
    #[schemars(schema_with = "duration")]
    pub scrape_interval: Option<String>,
    /// Whether compressed answers are asked for; true if unset.
    pub enable_compression: Option<bool>,
    /// Whether HTTP/2 may be used.
    #[serde(rename = "enableHTTP2")]
    pub enable_http2: Option<bool>,
    /// A user name and a password.
    pub basic_auth: Option<BasicAuth>,
    /// The Authorization header.
    pub authorization: Option<Authorization>,
    /// Credentials of an OAuth2 client.
    pub oauth2: Option<OAuth2Client>,
    /// Certificates and how they are checked.
    pub tls_config: Option<TlsConfig>,
    /// What is asked for, and what becomes of the answer.
    #[serde(flatten)]
    pub page: PageSettings,
    /// Limits and settings of every scrape.
    #[serde(flatten)]
    pub scrape: ScrapeSettings,
    /// The proxy to send the requests through.
    #[serde(flatten)]
    pub proxy: Proxy,
    /// Other ways to discover targets, by their field.
    #[serde(flatten)]
    #[schemars(schema_with = "other_discoveries")]
    pub other_discoveries: BTreeMap<String, Value>,
}

/// Addresses, with the labels of their series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StaticConfig {
    /// The addresses, as host:port.
    #[schemars(length(min = 1), extend("x-kubernetes-list-type" = "set"))]
    pub targets: Vec<String>,
    /// Labels of every series of these addresses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub labels: BTreeMap<String, String>,
}

impl ScrapeConfigSpec {
    /// How the addresses are scraped, in the words of a monitor's endpoint.
    pub fn settings(&self) -> EndpointSettings {
        EndpointSettings {
            path: self.metrics_path.clone(),
            interval: self.scrape_interval.clone(),
            filter_running: None,
            page: self.page.clone(),
            client: self.client(),
        }
    }

    fn client(&self) -> ScrapeClient {
        ScrapeClient {
            authorization: self.authorization.clone(),
            basic_auth: self.basic_auth.clone(),
            oauth2: self.oauth2.clone(),
            bearer_token_secret: None,
            tls_config: self.tls_config.clone(),
            follow_redirects: None,
            enable_http2: self.enable_http2,
            proxy: self.proxy.clone(),
        }
    }
}

/// The fields of the ways to discover targets that are not read here.
pub const OTHER_DISCOVERIES: [&str; 22] = [
    "azureSDConfigs",
    "consulSDConfigs",
    "digitalOceanSDConfigs",
    "dnsSDConfigs",
    "dockerSDConfigs",
    "dockerSwarmSDConfigs",
    "ec2SDConfigs",
    "eurekaSDConfigs",
    "fileSDConfigs",
    "gceSDConfigs",
    "hetznerSDConfigs",
    "httpSDConfigs",
    "ionosSDConfigs",
    "kubernetesSDConfigs",
    "kumaSDConfigs",
    "lightSailSDConfigs",
    "linodeSDConfigs",
    "nomadSDConfigs",
    "openstackSDConfigs",
    "ovhcloudSDConfigs",
    "puppetDBSDConfigs",
    "scalewaySDConfigs",
];

fn other_discoveries(_: &mut SchemaGenerator) -> Schema {
    let field = |name: &str| {
        let schema = json_schema!({
            "type": "array",
            "description": "Not supported: write the addresses into staticConfigs.",
            "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        });
        (name.to_owned(), schema.to_value())
    };
    let properties: serde_json::Map<String, Value> =
        OTHER_DISCOVERIES.iter().map(|name| field(name)).collect();
    json_schema!({ "type": "object", "properties": properties })
}
