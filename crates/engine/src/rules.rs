//! Settings of the controller rather than of one autoscaler, and where our rules differ from the originals.
//!
//! The same engine decides by kube-controller-manager's rules, by KEDA's and by ours: they differ in these few values,
//! not in code of their own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::seconds;

/// Settings of the controller rather than of one autoscaler: kube-controller-manager's flags and feature gates, and
/// where our rules differ from the originals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// What zero replicas mean.
    pub zero: ZeroRule,
    /// What holds when a policy has no `behavior`.
    pub no_behavior: NoBehavior,
    /// `--horizontal-pod-autoscaler-downscale-stabilization`.
    #[serde(with = "seconds")]
    pub downscale_stabilization: Duration,
    /// `--horizontal-pod-autoscaler-cpu-initialization-period`.
    #[serde(with = "seconds")]
    pub cpu_initialization: Duration,
    /// `--horizontal-pod-autoscaler-initial-readiness-delay`.
    #[serde(with = "seconds")]
    pub initial_readiness_delay: Duration,
    /// How long after it became ready the CPU of a pod that says nothing by a probe may be taken for its start. Zero is
    /// the HorizontalPodAutoscaler's rule, whose samples of 15 s and more are longer than most starts.
    #[serde(with = "seconds", default)]
    pub cpu_start_max: Duration,
    /// `--horizontal-pod-autoscaler-tolerance`, both ways.
    pub tolerance: Tolerance,
}

/// What zero replicas mean, and how they are left and reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ZeroRule {
    /// Ours: one loop from 0 to N. A target in use starts with as many replicas as are needed; one that is not goes
    /// down by its stabilization window and policies like any other.
    OneLoop,
    /// KEDA's: up to the minimum at first, and from any number to zero or idle at once.
    OneStep,
    /// The HorizontalPodAutoscaler's: a target at zero is switched off, unless the autoscaler itself brought it there
    /// (KEP-2021; needs the gate `HPAScaleToZero`). Out of bounds, it goes straight to the bound.
    Hpa {
        /// `HPAScaleToZero`.
        scale_to_zero: bool,
    },
}

/// What holds when a policy has no `behavior`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum NoBehavior {
    /// The defaults of `behavior`.
    Defaults,
    /// kube-controller-manager's older way: at each evaluation at most `factor` times as many, or `minimum`. Depends
    /// on how often it is evaluated, so it fits the 15 s loop only.
    Legacy {
        /// `scaleUpLimitFactor`, 2.
        factor: f64,
        /// `scaleUpLimitMinimum`, 4.
        minimum: f64,
    },
}

/// How far the ratio of value to target may be from 1 without a correction, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// Below 1.
    pub down: f64,
    /// Above 1.
    pub up: f64,
}

impl Tolerance {
    /// Whether this ratio asks for no correction. NaN does not: there is nothing it is close to.
    pub fn holds(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

impl Rules {
    /// kube-controller-manager's defaults.
    pub const fn hpa() -> Self {
        Self {
            zero: ZeroRule::Hpa { scale_to_zero: true },
            no_behavior: NoBehavior::Legacy { factor: 2.0, minimum: 4.0 },
            downscale_stabilization: Duration::from_secs(300),
            cpu_initialization: Duration::from_secs(300),
            initial_readiness_delay: Duration::from_secs(30),
            cpu_start_max: Duration::ZERO,
            tolerance: Tolerance { down: 0.1, up: 0.1 },
        }
    }
}

impl Default for Rules {
    /// Ours: the same numbers, one loop from 0 to N, the pace of `behavior`'s defaults, and no start taken for load: a
    /// Python server with 100m of CPU loads its libraries for a minute.
    fn default() -> Self {
        Self {
            zero: ZeroRule::OneLoop,
            no_behavior: NoBehavior::Defaults,
            cpu_start_max: Duration::from_secs(120),
            ..Self::hpa()
        }
    }
}
