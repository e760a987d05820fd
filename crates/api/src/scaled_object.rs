//! What a ScaledObject means where it says nothing: KEDA's defaults, names and annotations.
//!
//! The rules are those of KEDA 2.21 (`apis/keda/v1alpha1/scaledobject_types.go`, `withtriggers_types.go`).

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use kube::ResourceExt;

use crate::kinds::scaled_object::{ScaleTargetRef, ScaledObject, ScaledObjectSpec, ScalingModifiers};

/// Names the ScaledObject in the selectors of its metrics.
pub const NAME_LABEL: &str = "scaledobject.keda.sh/name";
/// Pauses, and sets the replicas to its value.
pub const PAUSED_REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";
/// Pauses at the current replicas.
pub const PAUSED: &str = "autoscaling.keda.sh/paused";
/// Holds back scaling in.
pub const PAUSED_SCALE_IN: &str = "autoscaling.keda.sh/paused-scale-in";
/// Holds back scaling out.
pub const PAUSED_SCALE_OUT: &str = "autoscaling.keda.sh/paused-scale-out";
/// Treats the triggers as active.
pub const FORCE_ACTIVATION: &str = "autoscaling.keda.sh/force-activation";
/// Takes over a HorizontalPodAutoscaler that is already there.
pub const TRANSFER_HPA_OWNERSHIP: &str = "scaledobject.keda.sh/transfer-hpa-ownership";
/// On a HorizontalPodAutoscaler: lets a ScaledObject have the same target.
pub const VALIDATE_HPA_OWNERSHIP: &str = "validations.keda.sh/hpa-ownership";
/// Labels that are not copied to the HorizontalPodAutoscaler.
pub const HPA_EXCLUDED_LABELS: &str = "scaledobject.keda.sh/hpa-excluded-labels";

/// The most replicas where nothing is said.
pub const MAX_REPLICAS_DEFAULT: i32 = 100;
const POLLING_INTERVAL_SECONDS_DEFAULT: i32 = 30;
const COOLDOWN_PERIOD_SECONDS_DEFAULT: i32 = 300;

impl ScaledObject {
    /// The name of the HorizontalPodAutoscaler.
    pub fn hpa_name(&self) -> String {
        let config =
            self.spec.advanced.as_ref().and_then(|all| all.horizontal_pod_autoscaler_config.as_ref());
        match config.and_then(|config| config.name.as_deref()).filter(|name| !name.is_empty()) {
            Some(name) => name.to_owned(),
            None => format!("keda-hpa-{}", self.name_any()),
        }
    }

    /// Whether scaling stands still, and at how many replicas if the annotation says so.
    ///
    /// # Errors
    /// If the annotation's count is not a whole number; scaling stands still then, too.
    pub fn paused(&self) -> Result<Option<Pause>, std::num::ParseIntError> {
        if let Some(count) = self.annotations().get(PAUSED_REPLICAS) {
            return count.parse().map(|replicas| Some(Pause::AtReplicas(replicas)));
        }
        Ok(self.flag(PAUSED).then_some(Pause::AtCurrent))
    }

    /// Whether scaling in is held back.
    pub fn paused_scale_in(&self) -> bool {
        self.flag(PAUSED_SCALE_IN)
    }

    /// Whether scaling out is held back.
    pub fn paused_scale_out(&self) -> bool {
        self.flag(PAUSED_SCALE_OUT)
    }

    /// Whether a HorizontalPodAutoscaler of the name that is asked for is taken over.
    pub fn transfers_hpa(&self) -> bool {
        self.annotations().get(TRANSFER_HPA_OWNERSHIP).is_some_and(|text| text == "true")
    }

    /// Whether the triggers count as active whatever they read.
    pub fn force_activation(&self) -> bool {
        self.flag(FORCE_ACTIVATION)
    }

    /// An annotation that is on unless it is missing or says false.
    fn flag(&self, annotation: &str) -> bool {
        self.annotations()
            .get(annotation)
            .is_some_and(|text| !matches!(text.as_str(), "0" | "f" | "F" | "false" | "FALSE" | "False"))
    }
}

/// How scaling stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// At the replicas there are.
    AtCurrent,
    /// At this many replicas.
    AtReplicas(u32),
}

impl ScaledObjectSpec {
    /// The fewest replicas.
    pub fn min_replicas(&self) -> i32 {
        self.min_replica_count.unwrap_or(0)
    }

    /// The fewest replicas of the HorizontalPodAutoscaler, which cannot have none.
    pub fn hpa_min_replicas(&self) -> i32 {
        self.min_replicas().max(1)
    }

    /// The most replicas.
    pub fn max_replicas(&self) -> i32 {
        self.max_replica_count.unwrap_or(MAX_REPLICAS_DEFAULT)
    }

    /// How often the triggers are read.
    pub fn polling_interval(&self) -> Duration {
        seconds(self.polling_interval, POLLING_INTERVAL_SECONDS_DEFAULT)
    }

    /// How long after the last activity replicas go to zero or idle.
    pub fn cooldown_period(&self) -> Duration {
        seconds(self.cooldown_period, COOLDOWN_PERIOD_SECONDS_DEFAULT)
    }

    /// How long after creation replicas may first go to zero or idle.
    pub fn initial_cooldown_period(&self) -> Duration {
        seconds(self.initial_cooldown_period, 0)
    }

    /// How fast replicas may be added and removed, as it is written.
    pub fn behavior(&self) -> Option<&HorizontalPodAutoscalerBehavior> {
        self.advanced.as_ref()?.horizontal_pod_autoscaler_config.as_ref()?.behavior.as_ref()
    }

    /// The composite metric, if one of its fields is set.
    pub fn scaling_modifiers(&self) -> Option<&ScalingModifiers> {
        let modifiers = self.advanced.as_ref()?.scaling_modifiers.as_ref()?;
        (*modifiers != ScalingModifiers::default()).then_some(modifiers)
    }
}

fn seconds(value: Option<i32>, default: i32) -> Duration {
    Duration::from_secs(u64::try_from(value.unwrap_or(default)).unwrap_or(0))
}

impl ScaleTargetRef {
    /// The API version of the workload.
    pub fn api_version_or_default(&self) -> &str {
        self.api_version.as_deref().filter(|text| !text.is_empty()).unwrap_or("apps/v1")
    }

    /// The kind of the workload.
    pub fn kind_or_default(&self) -> &str {
        self.kind.as_deref().filter(|text| !text.is_empty()).unwrap_or("Deployment")
    }

    /// Group, version and kind as messages and status have them: `apps/v1.Deployment`.
    pub fn group_version_kind(&self) -> String {
        format!("{}.{}", self.api_version_or_default(), self.kind_or_default())
    }
}
