//! The VerticalPodAutoscaler and its checkpoint: how much CPU and memory the pods of a workload should ask
//! for.
//!
//! Fields and limits are those of VPA 1.7 (`pkg/apis/autoscaling.k8s.io/v1/types.go`). The definitions have
//! no defaults: VPA applies them where it reads the object.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v1::CrossVersionObjectReference;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// An amount of each resource, such as `cpu: 500m` and `memory: 512Mi`.
pub type ResourceList = BTreeMap<String, Quantity>;

/// Which workload is sized, how, and within which bounds.
#[skip_serializing_none]
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "autoscaling.k8s.io",
    version = "v1",
    kind = "VerticalPodAutoscaler",
    namespaced,
    status = "VerticalPodAutoscalerStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Sets the CPU and memory requests of a workload's pods by what they use.",
    shortname = "vpa",
    annotation("api-approved.kubernetes.io", "https://github.com/kubernetes/kubernetes/pull/63797")
)]
#[serde(rename_all = "camelCase")]
pub struct VerticalPodAutoscalerSpec {
    /// The topmost controller of the pods to size.
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub target_ref: CrossVersionObjectReference,
    /// When recommendations are applied to pods.
    pub update_policy: Option<PodUpdatePolicy>,
    /// Bounds and settings by container.
    pub resource_policy: Option<PodResourcePolicy>,
    /// Who recommends; default if unset, one at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recommenders: Vec<RecommenderSelector>,
    /// More CPU while a pod starts.
    pub startup_boost: Option<StartupBoost>,
}

/// When recommendations are applied to pods.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodUpdatePolicy {
    /// How recommendations reach pods; Recreate if unset.
    pub update_mode: Option<UpdateMode>,
    /// Live replicas below which no pod is disturbed; the updater's setting (2) if unset.
    pub min_replicas: Option<i32>,
    /// What must hold for a pod to be evicted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eviction_requirements: Vec<EvictionRequirement>,
    /// A container that ran out of memory sooner than this many seconds after its start is evicted.
    #[serde(rename = "evictAfterOOMSeconds")]
    #[schemars(range(min = 1))]
    pub evict_after_oom_seconds: Option<i32>,
}

/// How recommendations reach pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateMode {
    /// Never.
    Off,
    /// When a pod is created.
    Initial,
    /// When a pod is created, and by evicting pods.
    Recreate,
    /// In place, and by evicting pods where that fails.
    InPlaceOrRecreate,
    /// In place only.
    InPlace,
    /// Deprecated name of `Recreate`.
    Auto,
}

/// What must hold for a pod to be evicted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvictionRequirement {
    /// The resources of which at least one must change in that direction.
    pub resources: Vec<String>,
    /// The direction of the change.
    #[schemars(extend("enum" = ["TargetHigherThanRequests", "TargetLowerThanRequests"]))]
    pub change_requirement: String,
}

/// Bounds and settings by container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodResourcePolicy {
    /// One entry a container; the name * stands for all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub container_policies: Vec<ContainerResourcePolicy>,
}

/// Bounds and settings of one container.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerResourcePolicy {
    /// The container, or * for those without an entry of their own.
    pub container_name: Option<String>,
    /// Whether the container is sized at all; Auto if unset.
    #[schemars(extend("enum" = ["Auto", "Off"]))]
    pub mode: Option<String>,
    /// The least of each resource that is recommended.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub min_allowed: ResourceList,
    /// The most of each resource that is recommended.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub max_allowed: ResourceList,
    /// The resources that are sized; cpu and memory if unset.
    pub controlled_resources: Option<Vec<String>>,
    /// Whether limits follow requests; RequestsAndLimits if unset.
    #[schemars(extend("enum" = ["RequestsAndLimits", "RequestsOnly"]))]
    pub controlled_values: Option<String>,
    /// How much memory grows after it ran out, as a factor; 1.2 if unset.
    pub oom_bump_up_ratio: Option<Quantity>,
    /// How much memory grows at least after it ran out; 100Mi if unset.
    pub oom_min_bump_up: Option<Quantity>,
    /// Seconds over which one memory peak is kept; 86400 if unset.
    #[schemars(range(min = 1))]
    pub memory_aggregation_interval_seconds: Option<i32>,
    /// How many memory peaks are kept; 8 if unset.
    #[schemars(range(min = 1))]
    pub memory_aggregation_interval_count: Option<i64>,
    /// More CPU while this container starts.
    pub startup_boost: Option<StartupBoost>,
}

/// Names a recommender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecommenderSelector {
    /// The name of the recommender.
    pub name: String,
}

/// More resources while a pod starts.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StartupBoost {
    /// More CPU while a pod starts.
    pub cpu: Option<GenericStartupBoost>,
}

/// How much more of a resource a pod gets while it starts, and for how long.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.type == 'Factor' ? has(self.factor) : !has(self.factor)",
        "message": "factor is required when type is Factor and must not be set otherwise",
    },
    {
        "rule": "self.type == 'Quantity' ? has(self.quantity) : !has(self.quantity)",
        "message": "quantity is required when type is Quantity and must not be set otherwise",
    },
]))]
pub struct GenericStartupBoost {
    /// Whether the boost is a factor or an amount.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["Factor", "Quantity"]))]
    pub kind: String,
    /// The factor on the request.
    #[schemars(range(min = 1))]
    pub factor: Option<i32>,
    /// The amount added to the request.
    pub quantity: Option<Quantity>,
    /// Seconds that the boost lasts once the pod is ready; 0 if unset.
    #[schemars(range(min = 0))]
    pub duration_seconds: Option<i32>,
}

/// What is recommended, and whether that worked.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerticalPodAutoscalerStatus {
    /// The recommended amounts.
    pub recommendation: Option<RecommendedPodResources>,
    /// RecommendationProvided, NoPodsMatched and ConfigUnsupported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<VpaCondition>,
    /// The generation that the recommendation is for.
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}

/// One aspect of whether a recommendation could be made.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VpaCondition {
    /// What the condition is about.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// When the status last changed.
    pub last_transition_time: Option<Time>,
    /// One word for why.
    pub reason: Option<String>,
    /// One sentence for why.
    pub message: Option<String>,
    /// The generation that the condition is for.
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}

/// The recommended amounts by container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecommendedPodResources {
    /// One entry a container, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub container_recommendations: Vec<RecommendedContainerResources>,
}

/// The recommended amounts of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecommendedContainerResources {
    /// The container.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container_name: String,
    /// What the container should ask for.
    pub target: ResourceList,
    /// Below this the container is likely to run short.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lower_bound: ResourceList,
    /// Above this the container is likely to waste.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upper_bound: ResourceList,
    /// The target before the bounds of the policy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub uncapped_target: ResourceList,
}

/// Which container of which VerticalPodAutoscaler a checkpoint is of.
#[skip_serializing_none]
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "autoscaling.k8s.io",
    version = "v1",
    kind = "VerticalPodAutoscalerCheckpoint",
    namespaced,
    status = "VerticalPodAutoscalerCheckpointStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Keeps what a recommender learned about one container over restarts.",
    shortname = "vpacheckpoint",
    annotation("api-approved.kubernetes.io", "https://github.com/kubernetes/kubernetes/pull/63797")
)]
#[serde(rename_all = "camelCase")]
pub struct VerticalPodAutoscalerCheckpointSpec {
    /// The VerticalPodAutoscaler.
    #[serde(rename = "vpaObjectName")]
    pub vpa_object_name: Option<String>,
    /// The container.
    pub container_name: Option<String>,
}

/// What a recommender learned about one container.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerticalPodAutoscalerCheckpointStatus {
    /// When this was written.
    pub last_update_time: Option<Time>,
    /// The version of the format.
    pub version: Option<String>,
    /// How often each amount of CPU was used.
    pub cpu_histogram: Option<HistogramCheckpoint>,
    /// How often each peak of memory was seen.
    pub memory_histogram: Option<HistogramCheckpoint>,
    /// When the first sample began.
    pub first_sample_start: Option<Time>,
    /// When the last sample began.
    pub last_sample_start: Option<Time>,
    /// How many samples there were.
    pub total_samples_count: Option<i64>,
}

/// A decaying histogram.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistogramCheckpoint {
    /// The time at which a sample weighs one.
    pub reference_timestamp: Option<Time>,
    /// The weight of each bucket, relative to the heaviest, by bucket number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::schema::any_object")]
    pub bucket_weights: BTreeMap<String, u32>,
    /// The sum of all weights.
    pub total_weight: Option<f64>,
}
