//! KEDA's ScaledJob: how many Jobs run, by the length of a queue.
//!
//! Fields and limits are those of KEDA 2.21 (`apis/keda/v1alpha1/scaledjob_types.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::condition::PlainCondition;
use super::scaled_object::{ScaleTrigger, TriggerActivity};

/// Which Jobs to create, how many at most, and by which triggers.
#[skip_serializing_none]
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "keda.sh",
    version = "v1alpha1",
    kind = "ScaledJob",
    namespaced,
    status = "ScaledJobStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Creates Jobs by the metrics of its triggers.",
    shortname = "sj"
)]
#[serde(rename_all = "camelCase")]
pub struct ScaledJobSpec {
    /// The Job to create.
    // Its schema is put in afterwards: it is large, is structural already, and kube takes long to see that.
    #[schemars(schema_with = "super::schema::any_object")]
    pub job_target_ref: JobSpec,
    /// Seconds between two readings of the triggers; 30 if unset.
    #[schemars(range(min = 1))]
    pub polling_interval: Option<i32>,
    /// How many successful Jobs are kept; 100 if unset.
    #[schemars(range(min = 0))]
    pub successful_jobs_history_limit: Option<i32>,
    /// How many failed Jobs are kept; 100 if unset.
    #[schemars(range(min = 0))]
    pub failed_jobs_history_limit: Option<i32>,
    /// Deprecated form of rollout.strategy; it wins when both are set.
    #[schemars(extend("enum" = ["gradual", "immediate"]))]
    pub rollout_strategy: Option<String>,
    /// What happens to running Jobs when this object changes.
    pub rollout: Option<Rollout>,
    /// The container whose environment feeds trigger metadata that ends in FromEnv; the first one if unset.
    pub env_source_container_name: Option<String>,
    /// Jobs that always run; 0 if unset.
    #[schemars(range(min = 0))]
    pub min_replica_count: Option<i32>,
    /// The most Jobs at one time; 100 if unset.
    #[schemars(range(min = 1))]
    pub max_replica_count: Option<i32>,
    /// How running and pending Jobs count.
    pub scaling_strategy: Option<ScalingStrategy>,
    /// The sources of metrics.
    #[schemars(length(min = 1))]
    pub triggers: Vec<ScaleTrigger>,
}

/// What happens to running Jobs when the ScaledJob changes.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Whether running Jobs are deleted at once or may finish; immediate if unset.
    #[schemars(extend("enum" = ["gradual", "immediate"]))]
    pub strategy: Option<String>,
    /// How deletion reaches what the Jobs own; background if unset.
    #[schemars(extend("enum" = ["foreground", "background"]))]
    pub propagation_policy: Option<String>,
}

/// How running and pending Jobs count.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingStrategy {
    /// The rule for how many Jobs to add; default if unset.
    #[schemars(extend("enum" = ["default", "custom", "accurate", "eager"]))]
    pub strategy: Option<String>,
    /// Jobs taken off by the custom strategy; 0 if unset.
    pub custom_scaling_queue_length_deduction: Option<i32>,
    /// The share of running Jobs taken off by the custom strategy, a number.
    pub custom_scaling_running_job_percentage: Option<String>,
    /// Pod conditions that must all be True for a Job to count as started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_pod_conditions: Vec<String>,
    /// How several triggers are combined; max if unset.
    #[schemars(extend("enum" = ["min", "avg", "sum", "max"]))]
    pub multiple_scalers_calculation: Option<String>,
}

/// What was last seen of the triggers and Jobs.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaledJobStatus {
    /// When a trigger was last active.
    pub last_active_time: Option<Time>,
    /// Ready, Active and Paused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<PlainCondition>,
    /// Kept for readers of older objects.
    #[serde(rename = "Paused")]
    pub paused: Option<String>,
    /// The types of the triggers, joined by commas.
    pub triggers_types: Option<String>,
    /// The names of the authentication objects, joined by commas.
    pub authentications_types: Option<String>,
    /// The names of the external metrics, in the order of the triggers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_metric_names: Vec<String>,
    /// Whether each metric is above its activation threshold, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub triggers_activity: BTreeMap<String, TriggerActivity>,
}
