//! prometheus-operator's ServiceMonitor and PodMonitor: what to scrape, how often, and under which labels.
//!
//! Fields and limits are those of prometheus-operator 0.93 (`pkg/apis/monitoring/v1`). What the two kinds
//! have in common is declared once and flattened into both.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::scrape_client::ScrapeClient;

/// Which Services' endpoints to scrape.
#[skip_serializing_none]
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "monitoring.coreos.com",
    version = "v1",
    kind = "ServiceMonitor",
    namespaced,
    status = "MonitorStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Scrapes the endpoints of Services.",
    shortname = "smon",
    category = "prometheus-operator"
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMonitorSpec {
    /// The label of the Service whose value becomes the job label; the name of the Service if unset.
    pub job_label: Option<String>,
    /// Labels of the Service to copy to the series.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_labels: Vec<String>,
    /// Labels of the pods to copy to the series.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_target_labels: Vec<String>,
    /// The ports to scrape.
    pub endpoints: Vec<Endpoint>,
    /// Labels of the Services (not of their pods) to select.
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub selector: LabelSelector,
    /// The namespaces to look in; its own if unset.
    pub namespace_selector: Option<NamespaceSelector>,
    /// The kind of object that addresses are read from.
    #[schemars(extend("enum" = ["Endpoints", "EndpointSlice"]))]
    pub service_discovery_role: Option<String>,
    /// How targets are discovered.
    #[serde(flatten)]
    pub discovery: DiscoverySettings,
    /// Limits and settings of every scrape.
    #[serde(flatten)]
    pub scrape: ScrapeSettings,
}

/// Which pods to scrape.
#[skip_serializing_none]
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "monitoring.coreos.com",
    version = "v1",
    kind = "PodMonitor",
    namespaced,
    status = "MonitorStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Scrapes pods.",
    shortname = "pmon",
    category = "prometheus-operator"
)]
#[serde(rename_all = "camelCase")]
pub struct PodMonitorSpec {
    /// The label of the pod whose value becomes the job label; namespace/name of this object if unset.
    pub job_label: Option<String>,
    /// Labels of the pods to copy to the series.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_target_labels: Vec<String>,
    /// The ports to scrape.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_metrics_endpoints: Vec<PodMetricsEndpoint>,
    /// Labels of the pods to select.
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub selector: LabelSelector,
    /// The namespaces to look in; its own if unset.
    pub namespace_selector: Option<NamespaceSelector>,
    /// How targets are discovered.
    #[serde(flatten)]
    pub discovery: DiscoverySettings,
    /// Limits and settings of every scrape.
    #[serde(flatten)]
    pub scrape: ScrapeSettings,
}

/// One port of the selected Services.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The name of the Service's port; it wins over targetPort.
    pub port: Option<String>,
    /// The name or number of the container's port.
    pub target_port: Option<IntOrString>,
    /// Deprecated: a file with a bearer token.
    pub bearer_token_file: Option<String>,
    /// How the port is scraped.
    #[serde(flatten)]
    pub scrape: EndpointSettings,
}

/// One port of the selected pods.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMetricsEndpoint {
    /// The name of the container's port; it wins over portNumber.
    pub port: Option<String>,
    /// The number of the container's port.
    #[schemars(range(min = 1, max = 65535))]
    pub port_number: Option<i32>,
    /// Deprecated: the name or number of the container's port.
    pub target_port: Option<IntOrString>,
    /// How the port is scraped.
    #[serde(flatten)]
    pub scrape: EndpointSettings,
}

/// How one port is scraped.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSettings {
    /// The path of the metrics; /metrics if unset.
    pub path: Option<String>,
    /// The time between two scrapes, such as 15s.
    #[serde(default)]
    #[schemars(schema_with = "duration")]
    pub interval: Option<String>,
    /// Whether pods that failed or succeeded are left out; true if unset.
    pub filter_running: Option<bool>,
    /// What is asked for, and what becomes of the answer.
    #[serde(flatten)]
    pub page: PageSettings,
    /// How the request is authenticated and sent.
    #[serde(flatten)]
    pub client: ScrapeClient,
}

/// How a page of metrics is asked for, and what becomes of it: for an endpoint of a monitor and for a ScrapeConfig.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageSettings {
    /// The scheme of the URL; http if unset.
    #[schemars(extend("enum" = ["http", "https", "HTTP", "HTTPS"]))]
    pub scheme: Option<String>,
    /// Parameters of the URL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Vec<String>>,
    /// The time a scrape may take; no longer than the interval.
    #[serde(default)]
    #[schemars(schema_with = "duration")]
    pub scrape_timeout: Option<String>,
    /// Whether labels in the scraped data win over those of the target.
    pub honor_labels: Option<bool>,
    /// Whether timestamps in the scraped data are kept.
    pub honor_timestamps: Option<bool>,
    /// Whether series with timestamps of their own are marked stale when they vanish.
    pub track_timestamps_staleness: Option<bool>,
    /// Rules that change or drop samples.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metric_relabelings: Vec<RelabelConfig>,
    /// Rules that change or drop targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relabelings: Vec<RelabelConfig>,
}

/// How the targets of a monitor are discovered.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiscoverySettings {
    /// How targets are selected; RelabelConfig if unset.
    #[schemars(extend("enum" = ["RelabelConfig", "RoleSelector"]))]
    pub selector_mechanism: Option<String>,
    /// What is added to the discovered targets.
    pub attach_metadata: Option<AttachMetadata>,
}

/// Limits and settings of every scrape of a monitor or a ScrapeConfig.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScrapeSettings {
    /// The most samples a scrape may have.
    #[schemars(range(min = 0))]
    pub sample_limit: Option<i64>,
    /// The most targets.
    #[schemars(range(min = 0))]
    pub target_limit: Option<i64>,
    /// The most labels a sample may have.
    #[schemars(range(min = 0))]
    pub label_limit: Option<i64>,
    /// The longest name a label may have.
    #[schemars(range(min = 0))]
    pub label_name_length_limit: Option<i64>,
    /// The longest value a label may have.
    #[schemars(range(min = 0))]
    pub label_value_length_limit: Option<i64>,
    /// The largest answer, such as 10MB.
    #[schemars(regex(pattern = r"(^0|([0-9]*[.])?[0-9]+((K|M|G|T|E|P)i?)?B)$"))]
    pub body_size_limit: Option<String>,
    /// The most dropped targets that are remembered.
    #[schemars(range(min = 0))]
    pub keep_dropped_targets: Option<i64>,
    /// The formats to ask for, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// The format of an answer that does not name one.
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Whether native histograms are scraped.
    pub scrape_native_histograms: Option<bool>,
    /// Whether classic histograms are scraped where there are native ones too.
    pub scrape_classic_histograms: Option<bool>,
    /// The most buckets a native histogram may have.
    #[schemars(range(min = 0))]
    pub native_histogram_bucket_limit: Option<i64>,
    /// The smallest growth from one bucket of a native histogram to the next.
    pub native_histogram_min_bucket_factor: Option<k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
    /// Whether classic histograms become native ones with custom buckets.
    #[serde(rename = "convertClassicHistogramsToNHCB")]
    pub convert_classic_histograms_to_nhcb: Option<bool>,
    /// The scrape class of the Prometheus object to use.
    pub scrape_class: Option<String>,
}

/// A format of scraped data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScrapeProtocol {
    /// Protocol buffers.
    PrometheusProto,
    /// OpenMetrics 0.0.1.
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetricsText0_0_1,
    /// OpenMetrics 1.0.0.
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetricsText1_0_0,
    /// The text format 0.0.4.
    #[serde(rename = "PrometheusText0.0.4")]
    PrometheusText0_0_4,
    /// The text format 1.0.0.
    #[serde(rename = "PrometheusText1.0.0")]
    PrometheusText1_0_0,
}

/// What is added to the discovered targets.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttachMetadata {
    /// Whether the labels of the node are added.
    pub node: Option<bool>,
}

/// The namespaces to look in.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// Whether all namespaces are meant.
    pub any: Option<bool>,
    /// The names of the namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_names: Vec<String>,
}

/// One rule that rewrites or drops by labels.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RelabelConfig {
    /// The labels whose values are joined and matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_labels: Vec<String>,
    /// What the values are joined with; a semicolon if unset.
    pub separator: Option<String>,
    /// The label to write.
    pub target_label: Option<String>,
    /// The expression to match; (.*) if unset.
    pub regex: Option<String>,
    /// The modulus of the hash for hashmod.
    #[schemars(range(min = 0))]
    pub modulus: Option<i64>,
    /// What to write; $1 if unset.
    pub replacement: Option<String>,
    /// What to do on a match; replace if unset.
    #[schemars(extend("enum" = [
        "replace", "Replace", "keep", "Keep", "drop", "Drop", "hashmod", "HashMod", "labelmap", "LabelMap",
        "labeldrop", "LabelDrop", "labelkeep", "LabelKeep", "lowercase", "Lowercase", "uppercase", "Uppercase",
        "keepequal", "KeepEqual", "dropequal", "DropEqual",
    ]))]
    pub action: Option<String>,
}

/// Which Prometheus objects took the monitor in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MonitorStatus {
    /// One entry for each object that selected the monitor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<MonitorBinding>,
}

/// One object that selected the monitor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MonitorBinding {
    /// The API group of the object.
    pub group: String,
    /// The plural name of its kind.
    pub resource: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Whether the monitor was accepted, and why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A duration as Prometheus writes it.
pub(super) fn duration(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "pattern": "^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
    })
}
