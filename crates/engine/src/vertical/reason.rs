//! Why a container is to get so much: one step for each rule that had a say in a target.
//!
//! As on the horizontal axis, the reason is the computation: the annotation `vpaUpdates`, explanations and tests read
//! these steps, and there is no second place where a sentence is made up.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::resources::Resource;
use crate::time::{Time, seconds};

/// One step of a target's chain; it starts where the last one of the same resource ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerticalStep {
    /// Of which resource.
    pub resource: Resource,
    /// Before, in millicores or bytes; zero at the start.
    pub from: i64,
    /// After.
    pub to: i64,
    /// Why.
    pub reason: VerticalReason,
}

/// Why a step was taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum VerticalReason {
    /// So much covers this share of the weighted samples.
    Percentile {
        /// 0–1.
        share: f64,
        /// How many CPU samples.
        samples: u64,
        /// From the first to the last of them.
        #[serde(with = "seconds")]
        span: Duration,
    },
    /// So much was used lately.
    RecentlyUsed {
        /// For how long that counts.
        #[serde(with = "seconds")]
        window: Duration,
    },
    /// A safety margin.
    Margin {
        /// 0.15 is 15 %.
        fraction: f64,
    },
    /// A pod needs at least so much, and its containers share that.
    PodMinimum {
        /// How many containers share it.
        containers: u32,
    },
    /// Up to a multiple.
    Rounded,
    /// Up to whole cores.
    IntegerCpu,
    /// The policy's lower bound.
    MinAllowed,
    /// The policy's upper bound.
    MaxAllowed,
    /// The upper bound for all containers.
    GlobalMaxAllowed,
    /// The pod's containers together fall short of their LimitRange.
    PodLimitRangeMin,
    /// The pod's containers together exceed their LimitRange.
    PodLimitRangeMax,
    /// The container falls short of its LimitRange.
    LimitRangeMin,
    /// The container exceeds its LimitRange.
    LimitRangeMax,
    /// `RequestsOnly`: a request does not exceed the limit, which stays.
    ContainerLimit,
    /// So much brings so many replicas to their target utilization.
    UtilizationTarget {
        /// What all replicas use together.
        total_millis: i64,
        /// The target.
        percent: u32,
        /// The replicas there must be at least.
        replicas: u32,
    },
    /// Replicas go in before their size goes down, and their size goes up only at the minimum of replicas.
    NotAtMinimum {
        /// How many there are.
        replicas: u32,
        /// How many there must be at least.
        min: u32,
    },
    /// More was needed not long ago.
    ShrinkStabilized {
        /// When it last was.
        seen_at: Time,
        /// How long that counts.
        #[serde(with = "seconds")]
        window: Duration,
    },
    /// As far as `maxAllowed` and the room on the node go; the rest is for more replicas.
    NoMoreRoom,
    /// Close to what it has.
    NearEnough,
    /// What it uses can't be read.
    Unmeasured,
}

impl VerticalReason {
    /// CamelCase and stable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Percentile { .. } => "Percentile",
            Self::RecentlyUsed { .. } => "RecentlyUsed",
            Self::Margin { .. } => "SafetyMargin",
            Self::PodMinimum { .. } => "PodMinimum",
            Self::Rounded => "Rounded",
            Self::IntegerCpu => "IntegerCPU",
            Self::MinAllowed => "MinAllowed",
            Self::MaxAllowed => "MaxAllowed",
            Self::GlobalMaxAllowed => "GlobalMaxAllowed",
            Self::PodLimitRangeMin => "PodLimitRangeMin",
            Self::PodLimitRangeMax => "PodLimitRangeMax",
            Self::LimitRangeMin => "LimitRangeMin",
            Self::LimitRangeMax => "LimitRangeMax",
            Self::ContainerLimit => "ContainerLimit",
            Self::UtilizationTarget { .. } => "UtilizationTarget",
            Self::NotAtMinimum { .. } => "NotAtMinimum",
            Self::ShrinkStabilized { .. } => "ShrinkStabilized",
            Self::NoMoreRoom => "NoMoreRoom",
            Self::NearEnough => "NearEnough",
            Self::Unmeasured => "Unmeasured",
        }
    }

    /// What VPA writes into the annotation `vpaUpdates`; it has words only for some.
    fn annotation(&self) -> Option<&'static str> {
        match self {
            Self::MinAllowed => Some("capped to minAllowed"),
            Self::MaxAllowed => Some("capped to maxAllowed"),
            Self::LimitRangeMin => Some("capped to fit Min in container LimitRange"),
            Self::LimitRangeMax => Some("capped to fit Max in container LimitRange"),
            Self::ContainerLimit => Some("capped to container limit"),
            _ => None,
        }
    }
}

impl VerticalStep {
    /// VPA's words for it: `memory capped to container limit`.
    pub fn annotation(&self) -> Option<String> {
        self.reason.annotation().map(|words| format!("{} {words}", self.resource))
    }
}

/// `0.15` as `15`.
fn percent(share: f64) -> f64 {
    (share * 10_000.0).round() / 100.0
}

impl fmt::Display for VerticalStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [self.from, self.to].map(|amount| self.resource.readable(amount));
        write!(f, "{} {from} → {to}  {}: {}", self.resource, self.reason.code(), self.reason)
    }
}

impl fmt::Display for VerticalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percentile { share, samples, span } => write!(
                f,
                "it covers {} % of what was used, by {samples} samples over {} s, newer ones counting more",
                percent(*share),
                span.as_secs()
            ),
            Self::RecentlyUsed { window } => {
                write!(f, "so much was used by a replica within the last {} s with samples", window.as_secs())
            }
            Self::Margin { fraction } => write!(f, "with a safety margin of {} %", percent(*fraction)),
            Self::PodMinimum { containers: 1 } => f.write_str("no pod is recommended less"),
            Self::PodMinimum { containers } => {
                write!(f, "no pod is recommended less, and its {containers} containers share that")
            }
            Self::Rounded => f.write_str("rounded up to a whole multiple"),
            Self::IntegerCpu => f.write_str("rounded up to whole cores"),
            Self::MinAllowed => f.write_str("the policy's minAllowed"),
            Self::MaxAllowed => f.write_str("the policy's maxAllowed"),
            Self::GlobalMaxAllowed => f.write_str("the most that any container is recommended"),
            Self::PodLimitRangeMin => {
                f.write_str("the containers together are brought up to the minimum of the pod's LimitRange")
            }
            Self::PodLimitRangeMax => {
                f.write_str("the containers together are brought down to the maximum of the pod's LimitRange")
            }
            Self::LimitRangeMin => f.write_str("the minimum of the container's LimitRange"),
            Self::LimitRangeMax => f.write_str("the maximum of the container's LimitRange"),
            Self::ContainerLimit => f.write_str("the container's limit, which the policy leaves alone"),
            Self::UtilizationTarget { total_millis, percent, replicas } => {
                let load = Resource::Cpu.readable(*total_millis);
                let plural = if *replicas == 1 { "" } else { "s" };
                write!(
                    f,
                    "a load of {load} takes so much of {replicas} replica{plural} at {percent} % utilization"
                )
            }
            Self::NotAtMinimum { replicas, min } => write!(
                f,
                "there are {replicas} replicas where {min} must be: they go in before cpu goes down, and cpu goes up \
                 only at the minimum"
            ),
            Self::ShrinkStabilized { seen_at, window } => {
                write!(f, "so much was needed at {seen_at}, within the last {} s", window.as_secs())
            }
            Self::NoMoreRoom => {
                f.write_str("as far as maxAllowed and the room on the node go; the rest is for more replicas")
            }
            Self::NearEnough => f.write_str("what it has is near enough"),
            Self::Unmeasured => f.write_str("what it uses can't be read, so it stays"),
        }
    }
}
