//! KEDA's ScaledObject: which workload is scaled, between which bounds, by which triggers.
//!
//! Fields, defaults and limits are those of KEDA 2.21 (`apis/keda/v1alpha1/scaledobject_types.go`,
//! `scaletriggers_types.go`). Only what KEDA itself writes into its CRD is a default here; every other
//! default is applied where the object is read, so that `kubectl apply` shows no differences that nobody
//! asked for.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::condition::PlainCondition;

/// What to scale, between which bounds, and by which triggers.
#[skip_serializing_none]
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "keda.sh",
    version = "v1alpha1",
    kind = "ScaledObject",
    namespaced,
    status = "ScaledObjectStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Scales a workload by the metrics of its triggers.",
    shortname = "so"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.minReplicaCount) || self.minReplicaCount <= (has(self.maxReplicaCount) ? \
    self.maxReplicaCount : 100)",
    "message": "minReplicaCount must be less than or equal to maxReplicaCount",
}]))]
pub struct ScaledObjectSpec {
    /// The workload to scale: anything with a scale subresource.
    pub scale_target_ref: ScaleTargetRef,
    /// Seconds between two readings of the triggers; 30 if unset.
    #[schemars(range(min = 1))]
    pub polling_interval: Option<i32>,
    /// Seconds after creation before the first scaling to zero or idle; 0 if unset.
    #[schemars(range(min = 0))]
    pub initial_cooldown_period: Option<i32>,
    /// Seconds after the last activity before scaling to zero or idle; 300 if unset.
    #[schemars(range(min = 0))]
    pub cooldown_period: Option<i32>,
    /// Replicas while no trigger is active; must be less than minReplicaCount.
    #[schemars(range(min = 0))]
    pub idle_replica_count: Option<i32>,
    /// The fewest replicas; 0 if unset.
    #[schemars(range(min = 0))]
    pub min_replica_count: Option<i32>,
    /// The most replicas; 100 if unset.
    #[schemars(range(min = 1))]
    pub max_replica_count: Option<i32>,
    /// Settings of the HorizontalPodAutoscaler and of composite metrics.
    pub advanced: Option<AdvancedConfig>,
    /// The sources of metrics; the one that asks for the most replicas wins.
    #[schemars(length(min = 1))]
    pub triggers: Vec<ScaleTrigger>,
    /// What to do when a trigger cannot be read.
    pub fallback: Option<Fallback>,
}

/// Names the workload to scale.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTargetRef {
    /// The name of the workload.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The API version of the workload; apps/v1 if unset.
    pub api_version: Option<String>,
    /// The kind of the workload; Deployment if unset.
    pub kind: Option<String>,
    /// The container whose environment feeds trigger metadata that ends in FromEnv; the first one if unset.
    pub env_source_container_name: Option<String>,
}

/// Settings of the HorizontalPodAutoscaler and of composite metrics.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdvancedConfig {
    /// The name and the behavior of the HorizontalPodAutoscaler.
    pub horizontal_pod_autoscaler_config: Option<HorizontalPodAutoscalerConfig>,
    /// Whether deleting this object puts back the replica count found when it was created; false if unset.
    pub restore_to_original_replica_count: Option<bool>,
    /// One metric computed from those of all triggers.
    pub scaling_modifiers: Option<ScalingModifiers>,
}

/// The name and the behavior of the HorizontalPodAutoscaler.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HorizontalPodAutoscalerConfig {
    /// The name of the HorizontalPodAutoscaler; keda-hpa- and the name of this object if unset.
    pub name: Option<String>,
    /// How fast replicas may be added and removed.
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
}

/// One metric computed from those of all triggers.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingModifiers {
    /// The expression over the names of the triggers.
    pub formula: Option<String>,
    /// The wanted value of the composite metric, a number greater than zero.
    pub target: Option<String>,
    /// The value above which the composite metric is active; 0 if unset.
    pub activation_target: Option<String>,
    /// Whether the target holds for the average over replicas or for the value; AverageValue if unset.
    #[schemars(extend("enum" = ["AverageValue", "Value"]))]
    pub metric_type: Option<String>,
}

/// One source of a metric, and what is wanted of it.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTrigger {
    /// The type of the trigger, such as prometheus, cpu or cron.
    #[serde(rename = "type")]
    #[schemars(length(min = 1))]
    pub kind: String,
    /// The name used in formulas, unique in this object.
    pub name: Option<String>,
    /// Whether the HorizontalPodAutoscaler is answered from the last poll.
    pub use_cached_metrics: Option<bool>,
    /// The parameters of the trigger; every value is a string.
    pub metadata: BTreeMap<String, String>,
    /// The object that holds the trigger's credentials.
    pub authentication_ref: Option<AuthenticationRef>,
    /// AverageValue, Value, or, for cpu and memory, Utilization.
    pub metric_type: Option<String>,
}

/// Names the object that holds a trigger's credentials.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthenticationRef {
    /// The name of the TriggerAuthentication or ClusterTriggerAuthentication.
    pub name: String,
    /// The kind of the object; TriggerAuthentication if unset.
    #[schemars(extend("enum" = ["TriggerAuthentication", "ClusterTriggerAuthentication"]))]
    pub kind: Option<String>,
}

/// What to do when a trigger cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// The fallback starts when a trigger failed more often than this in a row.
    #[schemars(range(min = 0))]
    pub failure_threshold: i32,
    /// The replicas to fall back to.
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// How the replicas to fall back to are combined with the current ones.
    #[serde(default)]
    pub behavior: FallbackBehavior,
}

/// How the replicas to fall back to are combined with the current ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FallbackBehavior {
    /// Always `fallback.replicas`.
    #[default]
    Static,
    /// Always the current replicas.
    CurrentReplicas,
    /// The larger of the current replicas and `fallback.replicas`.
    CurrentReplicasIfHigher,
    /// The smaller of the current replicas and `fallback.replicas`.
    CurrentReplicasIfLower,
    /// The formula decides; a trigger that fails is `nil` in it.
    ScalingModifiers,
}

/// What was last seen of the workload, the triggers and the HorizontalPodAutoscaler.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaledObjectStatus {
    /// Group, version and kind of the workload, such as apps/v1.Deployment.
    pub scale_target_kind: Option<String>,
    /// Group, version, kind and resource of the workload.
    #[serde(rename = "scaleTargetGVKR")]
    pub scale_target_gvkr: Option<GroupVersionKindResource>,
    /// The replicas of the workload when it was first seen.
    pub original_replica_count: Option<i32>,
    /// When a trigger was last active.
    pub last_active_time: Option<Time>,
    /// The names of the external metrics, in the order of the triggers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_metric_names: Vec<String>,
    /// The names of the resource metrics, in the order of the triggers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_metric_names: Vec<String>,
    /// The name of the composite metric.
    pub composite_scaler_name: Option<String>,
    /// Ready, Active, Fallback, Paused and HPAActive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<PlainCondition>,
    /// How each metric fared lately, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub health: BTreeMap<String, HealthStatus>,
    /// Whether each metric is above its activation threshold, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub triggers_activity: BTreeMap<String, TriggerActivity>,
    /// The replicas that the paused-replicas annotation asks for.
    pub paused_replica_count: Option<i32>,
    /// The name of the HorizontalPodAutoscaler.
    pub hpa_name: Option<String>,
    /// The types of the triggers, joined by commas.
    pub triggers_types: Option<String>,
    /// The names of the authentication objects, joined by commas.
    pub authentications_types: Option<String>,
}

/// Group, version, kind and resource of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupVersionKindResource {
    /// The API group.
    pub group: String,
    /// The version in the group.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// The plural name that paths use.
    pub resource: String,
}

/// How a metric fared lately.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthStatus {
    /// Failures in a row.
    pub number_of_failures: Option<i32>,
    /// Happy or Failing.
    #[schemars(extend("enum" = ["Happy", "Failing"]))]
    pub status: Option<String>,
}

/// Whether a metric is above its activation threshold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggerActivity {
    /// Whether the metric asks for at least one replica.
    #[serde(default)]
    pub is_active: bool,
}
