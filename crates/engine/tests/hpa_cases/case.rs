//! The file's schema, as it describes itself in `about`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) input: Value,
    pub(crate) expected: Value,
    pub(crate) expected_event: Option<String>,
}

impl Case {
    pub(crate) fn input<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_value(self.input.clone()).map_err(|error| format!("input: {error}"))
    }
}

#[derive(Deserialize)]
pub(crate) struct Pod {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) phase: Option<String>,
    #[serde(default)]
    pub(crate) ready: Option<String>,
    #[serde(default)]
    pub(crate) start_age_s: Option<u64>,
    #[serde(default)]
    pub(crate) ready_transition_age_s: Option<u64>,
    #[serde(default)]
    pub(crate) deleted: bool,
    #[serde(default)]
    pub(crate) requests_milli: BTreeMap<String, Option<i64>>,
    // Only in `pod_requests`:
    #[serde(default)]
    pub(crate) pod_level_request_milli: Option<i64>,
    #[serde(default)]
    pub(crate) containers: Vec<Container>,
    #[serde(default)]
    pub(crate) init_containers: Vec<Container>,
}

#[derive(Deserialize)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) request_milli: Option<i64>,
    #[serde(default)]
    pub(crate) restart_policy: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Tolerance {
    pub(crate) down: f64,
    pub(crate) up: f64,
}

#[derive(Deserialize)]
pub(crate) struct PodMetric {
    pub(crate) pod: String,
    pub(crate) age_s: u64,
    pub(crate) window_s: u64,
    #[serde(default)]
    pub(crate) usage_milli: BTreeMap<String, i64>,
    #[serde(default)]
    pub(crate) value_milli: i64,
}

/// `resource_utilization`, `pods_metric`, `object_*`, `external_*`.
#[derive(Deserialize)]
pub(crate) struct Metric {
    pub(crate) current_replicas: u32,
    pub(crate) tolerance: Tolerance,
    #[serde(default)]
    pub(crate) resource: Option<String>,
    #[serde(default)]
    pub(crate) container: Option<String>,
    #[serde(default)]
    pub(crate) target_utilization_pct: u32,
    #[serde(default)]
    pub(crate) target_average_milli: i64,
    #[serde(default)]
    pub(crate) target_milli: i64,
    #[serde(default)]
    pub(crate) values_milli: Vec<i64>,
    #[serde(default)]
    pub(crate) pods: Vec<Pod>,
    #[serde(default)]
    pub(crate) metrics: Vec<PodMetric>,
}

#[derive(Deserialize)]
pub(crate) struct PerPodUsage {
    pub(crate) usage_milli: i64,
    pub(crate) status_replicas: u32,
}

#[derive(Deserialize)]
pub(crate) struct GroupPods {
    pub(crate) resource: String,
    pub(crate) cpu_initialization_period_s: u64,
    pub(crate) initial_readiness_delay_s: u64,
    pub(crate) pods: Vec<Pod>,
    pub(crate) metrics: Vec<PodMetric>,
}

#[derive(Deserialize)]
pub(crate) struct PodRequests {
    pub(crate) resource: String,
    pub(crate) container: Option<String>,
    pub(crate) pod_level_resources_enabled: bool,
    pub(crate) pods: Vec<Pod>,
}

#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Recommendation {
    pub(crate) replicas: u32,
    pub(crate) age_s: u64,
}

#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Event {
    pub(crate) change: u32,
    pub(crate) age_s: u64,
}

#[derive(Deserialize)]
pub(crate) struct Rules {
    pub(crate) select: String,
    pub(crate) stabilization_s: Option<u64>,
    pub(crate) policies: Vec<Policy>,
    #[serde(default)]
    pub(crate) tolerance: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Policy {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) value: u32,
    pub(crate) period_s: u64,
}

#[derive(Deserialize)]
pub(crate) struct Behavior {
    pub(crate) scale_up: Rules,
    pub(crate) scale_down: Rules,
}

/// `legacy_*`, `behavior_*`, `rule_limit`: a wish, and what becomes of it.
#[derive(Deserialize)]
pub(crate) struct Wish {
    #[serde(default)]
    pub(crate) current: u32,
    #[serde(default)]
    pub(crate) desired: Option<u32>,
    #[serde(default)]
    pub(crate) min: Option<u32>,
    #[serde(default)]
    pub(crate) max: Option<u32>,
    #[serde(default)]
    pub(crate) window_s: u64,
    #[serde(default)]
    pub(crate) scale_up_window_s: u64,
    #[serde(default)]
    pub(crate) scale_down_window_s: u64,
    #[serde(default)]
    pub(crate) recommendations: Vec<Recommendation>,
    #[serde(default)]
    pub(crate) scale_up_limit_factor: f64,
    #[serde(default)]
    pub(crate) scale_up_limit_minimum: f64,
    #[serde(default)]
    pub(crate) scale_up: Option<Rules>,
    #[serde(default)]
    pub(crate) scale_down: Option<Rules>,
    #[serde(default)]
    pub(crate) direction: String,
    #[serde(default)]
    pub(crate) rules: Option<Rules>,
    #[serde(default)]
    pub(crate) scale_up_events: Vec<Event>,
    #[serde(default)]
    pub(crate) scale_down_events: Vec<Event>,
}

#[derive(Deserialize)]
pub(crate) struct StoreEvent {
    pub(crate) rules: Option<Rules>,
    pub(crate) replica_change: u32,
    pub(crate) query_period_s: u64,
    pub(crate) events: Vec<Event>,
}

#[derive(Deserialize)]
pub(crate) struct StatusQuantity {
    pub(crate) resource: String,
    pub(crate) raw_milli: i64,
}

#[derive(Deserialize)]
pub(crate) struct Reconcile {
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) spec_replicas: u32,
    pub(crate) status_replicas: u32,
    pub(crate) metrics: Vec<MetricSpec>,
    pub(crate) reported_levels_milli: Vec<i64>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) recommendations: Option<Vec<Recommendation>>,
    pub(crate) behavior: Option<Behavior>,
    pub(crate) tolerance: Tolerance,
    pub(crate) selector: String,
    #[serde(default)]
    pub(crate) feature_gates: BTreeMap<String, bool>,
    #[serde(default)]
    pub(crate) initial_conditions: BTreeMap<String, (String, String)>,
    #[serde(default)]
    pub(crate) failing_metric_types: Vec<String>,
}

#[derive(Deserialize)]
pub(crate) struct MetricSpec {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) resource: Option<String>,
    #[serde(default)]
    pub(crate) container: Option<String>,
    #[serde(default)]
    pub(crate) average_utilization_pct: Option<u32>,
    #[serde(default)]
    pub(crate) average_value_milli: Option<i64>,
    #[serde(default)]
    pub(crate) value_milli: Option<i64>,
}
