//! The conditions a HorizontalPodAutoscaler shows after a decision, by type, status and reason
//! (`reconcileAutoscaler`). Their messages are fixed sentences around names that only the object knows, so they are
//! made where the object is.
//!
//! A condition that a decision says nothing about is left out, and stays as it was: when no metric was read, because
//! the replicas were out of bounds or the target paused, that is so for the last two.

use serde::{Deserialize, Serialize};

use crate::decision::{Decision, Stage, Step};
use crate::memory::Memory;
use crate::name::MetricName;
use crate::reason::Reason;

/// What came of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// There was nothing to write.
    Nothing,
    /// The scale subresource was written.
    Rescaled,
    /// The scale subresource could not be written.
    Failed,
}

/// One entry of `status.conditions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// `type`.
    pub condition_type: ConditionType,
    /// `status`: `True` or `False`; this autoscaler never says `Unknown`.
    pub status: bool,
    /// `reason`.
    pub reason: &'static str,
}

/// The conditions, in the order of their first appearance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionType {
    /// About the scale subresource, and what stabilization did.
    AbleToScale,
    /// About the metrics.
    ScalingActive,
    /// About pace and bounds.
    ScalingLimited,
    /// Whether the autoscaler itself brought the target to zero.
    ScaledToZero,
}

impl ConditionType {
    /// `type` as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AbleToScale => "AbleToScale",
            Self::ScalingActive => "ScalingActive",
            Self::ScalingLimited => "ScalingLimited",
            Self::ScaledToZero => "ScaledToZero",
        }
    }
}

impl Decision {
    /// The conditions this decision sets. `memory` is what the engine remembers of the target afterwards.
    pub fn hpa_conditions(&self, written: Written, memory: Option<&Memory>) -> Vec<Condition> {
        let condition = |condition_type, (status, reason)| Condition { condition_type, status, reason };
        let mut conditions = vec![condition(ConditionType::AbleToScale, self.able_to_scale(written))];
        conditions
            .extend(self.scaling_active().map(|active| condition(ConditionType::ScalingActive, active)));
        if self.follows_metrics() {
            conditions.push(condition(ConditionType::ScalingLimited, self.scaling_limited()));
        }
        let to_zero =
            memory.and_then(|memory| memory.scaled_to_zero).filter(|_| written == Written::Rescaled);
        conditions.extend(to_zero.map(|to_zero| {
            let reason = if to_zero { "ScaledToZero" } else { "NotScaledToZero" };
            condition(ConditionType::ScaledToZero, (to_zero, reason))
        }));
        conditions
    }

    /// The `reason` in the event `SuccessfulRescale`: `New size: <n>; reason: <reason>`. `name` gives the name of the
    /// deciding metric as a sentence has it.
    pub fn rescale_reason(&self, name: impl FnOnce(&MetricName) -> String) -> String {
        match self.steps.first().map(|step| &step.reason) {
            Some(Reason::TooManyReplicas { .. }) => {
                "Current number of replicas above Spec.MaxReplicas".to_owned()
            }
            Some(Reason::TooFewReplicas { .. }) => {
                "Current number of replicas below Spec.MinReplicas".to_owned()
            }
            _ if self.desired < self.current => "All metrics below target".to_owned(),
            _ => {
                let winner = self.proposals.iter().rev().max_by_key(|proposal| proposal.replicas);
                winner.map(|winner| format!("{} above target", name(&winner.metric))).unwrap_or_default()
            }
        }
    }

    /// The metrics gave a number to go on with.
    pub fn follows_metrics(&self) -> bool {
        self.recommendation().is_some_and(|step| {
            matches!(
                step.reason,
                Reason::AboveTarget(_)
                    | Reason::BelowTarget(_)
                    | Reason::NoLoad(_)
                    | Reason::NegativeValue { .. }
                    | Reason::WithinTolerance { .. }
                    | Reason::UnmeasuredPodsDecide(_)
                    | Reason::FallbackExists { .. }
                    | Reason::Objective(_)
            )
        })
    }

    fn recommendation(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.stage == Stage::Recommend)
    }

    fn able_to_scale(&self, written: Written) -> (bool, &'static str) {
        match written {
            Written::Rescaled => return (true, "SucceededRescale"),
            Written::Failed => return (false, "FailedUpdateScale"),
            Written::Nothing => {}
        }
        if let Some(Step { reason: Reason::FailedGetScale { .. }, .. }) = self.recommendation() {
            return (false, "FailedGetScale");
        }
        if !self.follows_metrics() {
            return (true, "SucceededGetScale");
        }
        let stabilized = self.steps.iter().find(|step| step.stage == Stage::Stabilize);
        (true, stabilized.map_or("ReadyForNewScale", |step| step.reason.code()))
    }

    fn scaling_active(&self) -> Option<(bool, &'static str)> {
        if self.follows_metrics() {
            return Some((true, "ValidMetricFound"));
        }
        match &self.recommendation()?.reason {
            Reason::MetricUnavailable(unavailable) => Some((false, unavailable.hpa_reason())),
            Reason::FailedGetScale { .. } => None,
            reason => Some((false, reason.code())),
        }
    }

    /// The last stage that held something back has the word.
    fn scaling_limited(&self) -> (bool, &'static str) {
        let limits = self.steps.iter().rev().filter(|step| matches!(step.stage, Stage::Pace | Stage::Bound));
        let limited = limits.map(|step| match step.reason {
            // A pause in one direction is `selectPolicy: Disabled` to the HorizontalPodAutoscaler.
            Reason::ScaledObjectPaused { .. } if step.from > step.to => "ScaleUpLimit",
            Reason::ScaledObjectPaused { .. } => "ScaleDownLimit",
            ref reason => reason.code(),
        });
        limited.map(|reason| (true, reason)).next().unwrap_or((false, "DesiredWithinRange"))
    }
}
