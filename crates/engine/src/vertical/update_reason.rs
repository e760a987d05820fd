//! Why a running pod is changed, or is not.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::Resizing;
use super::resources::Resource;
use crate::name::Name;
use crate::time::seconds;

/// A request that lies outside the recommended bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// Whose.
    pub container: Name,
    /// Of what.
    pub resource: Resource,
    /// How much; none if there is no request.
    pub request: Option<i64>,
    /// The recommended bounds.
    pub bounds: (Option<i64>, Option<i64>),
}

/// Why a running pod is changed, or is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum UpdateReason {
    /// A request lies outside the recommended bounds, or is missing.
    OutsideBounds(Outside),
    /// A container was killed for want of memory soon after its start.
    QuickOom {
        /// Which.
        container: Name,
        /// How long it ran.
        #[serde(with = "seconds")]
        ran_for: Duration,
        /// The recommendation differs from what the pod has; without that nothing would be gained.
        changes: bool,
    },
    /// Old enough, and far enough off.
    LargeDifference {
        /// The relative differences of all resources, added up.
        diff: f64,
        /// As much is enough.
        threshold: f64,
        /// How old it is.
        #[serde(with = "seconds")]
        age: Duration,
    },
    /// It has had its startup boost long enough.
    BoostOver {
        /// Which container.
        container: Name,
    },
    /// Within the bounds, and too young to be disturbed for that.
    WithinBounds {
        /// How old it is.
        #[serde(with = "seconds")]
        age: Duration,
        /// Old enough at this age.
        #[serde(with = "seconds")]
        threshold: Duration,
    },
    /// Near enough to what is recommended.
    SmallDifference {
        /// The relative differences of all resources, added up.
        diff: f64,
        /// As much would be enough.
        threshold: f64,
    },
    /// Within the bounds, and it is not known how old it is.
    StartUnknown,
    /// It has a startup boost, which ends first.
    Boosted,
    /// The policy changes no running pods.
    ModeOff,
    /// Nothing is recommended yet.
    NoRecommendation,
    /// `evictionRequirements` do not hold.
    EvictionRequirements,
    /// It has no controller that would replace it, or one whose replicas are not known.
    NotReplicated,
    /// Too few live pods to take one away.
    TooFewReplicas {
        /// Live pods.
        live: u32,
        /// As many are needed.
        required: u32,
    },
    /// As many pods are away as may be.
    BudgetExhausted {
        /// Pods that run and stay.
        running: u32,
        /// As many must.
        required: u32,
    },
    /// It does not run yet, and will be sized in another way.
    Pending,
    /// An earlier resize still goes on.
    ResizeUnderWay(Resizing),
    /// A resize takes too long or is impossible.
    ResizeFailed(Resizing),
    /// A resize that was impossible, and would be no smaller now.
    ResizeInfeasible,
}

impl UpdateReason {
    /// CamelCase and stable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OutsideBounds(_) => "OutsideBounds",
            Self::QuickOom { .. } => "QuickOOM",
            Self::LargeDifference { .. } => "LargeDifference",
            Self::BoostOver { .. } => "StartupBoostOver",
            Self::WithinBounds { .. } => "WithinBounds",
            Self::SmallDifference { .. } => "SmallDifference",
            Self::StartUnknown => "StartUnknown",
            Self::Boosted => "StartupBoost",
            Self::ModeOff => "UpdateModeOff",
            Self::NoRecommendation => "NoRecommendation",
            Self::EvictionRequirements => "EvictionRequirements",
            Self::NotReplicated => "NotReplicated",
            Self::TooFewReplicas { .. } => "TooFewReplicas",
            Self::BudgetExhausted { .. } => "BudgetExhausted",
            Self::Pending => "Pending",
            Self::ResizeUnderWay(_) => "ResizeUnderWay",
            Self::ResizeFailed(_) => "ResizeFailed",
            Self::ResizeInfeasible => "ResizeInfeasible",
        }
    }
}

impl fmt::Display for UpdateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: &f64| (share * 1000.0).round() / 10.0;
        match self {
            Self::OutsideBounds(outside) => write!(f, "{outside}"),
            Self::QuickOom { container, ran_for, changes } => {
                let so = if *changes { "" } else { ", but what is recommended is what it has" };
                write!(
                    f,
                    "{container} was killed for want of memory {} s after its start{so}",
                    ran_for.as_secs()
                )
            }
            Self::LargeDifference { diff, threshold, age } => write!(
                f,
                "its requests are {} % off, at least {} %, and it is {} s old",
                percent(diff),
                percent(threshold),
                age.as_secs()
            ),
            Self::BoostOver { container } => write!(f, "the startup boost of {container} is over"),
            Self::WithinBounds { age, threshold } => write!(
                f,
                "its requests lie within the bounds, and it is {} s old, less than {} s",
                age.as_secs(),
                threshold.as_secs()
            ),
            Self::SmallDifference { diff, threshold } => write!(
                f,
                "its requests lie within the bounds and are {} % off, less than {} %",
                percent(diff),
                percent(threshold)
            ),
            Self::StartUnknown => {
                f.write_str("its requests lie within the bounds, and its start is not known")
            }
            Self::Boosted => f.write_str("it has its startup boost"),
            Self::ModeOff => f.write_str("the update mode changes no running pods"),
            Self::NoRecommendation => f.write_str("nothing is recommended yet"),
            Self::EvictionRequirements => f.write_str("the policy's evictionRequirements do not hold"),
            Self::NotReplicated => {
                f.write_str("no controller would replace it, or the controller's replicas are not known")
            }
            Self::TooFewReplicas { live, required } => {
                write!(f, "of {live} live pods none can be spared, where {required} are needed")
            }
            Self::BudgetExhausted { running, required } => {
                write!(f, "{running} pods run and stay, and not fewer than {required} may")
            }
            Self::Pending => f.write_str("it does not run yet"),
            Self::ResizeUnderWay(resizing) => write!(f, "its resize {resizing}"),
            Self::ResizeFailed(resizing) => write!(f, "its resize {resizing}, so it is replaced"),
            Self::ResizeInfeasible => {
                f.write_str("the node had no room for a resize, and what is recommended is no smaller now")
            }
        }
    }
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { container, resource, request, bounds } = self;
        let Some(request) = request else {
            return write!(f, "{container} requests no {resource}");
        };
        let read = |amount: i64| resource.readable(amount);
        match bounds {
            (Some(lower), _) if request < lower => {
                write!(f, "{container} requests {resource} {}, less than {}", read(*request), read(*lower))
            }
            (_, Some(upper)) => {
                write!(f, "{container} requests {resource} {}, more than {}", read(*request), read(*upper))
            }
            _ => write!(f, "{container} requests {resource} {}", read(*request)),
        }
    }
}
