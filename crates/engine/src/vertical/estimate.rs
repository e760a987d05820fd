//! From a history to a recommendation (`pkg/recommender/logic/{estimator,recommender}.go`).
//!
//! For each resource: a percentile of the samples, plus a margin; the bounds are then stretched the more the less is
//! known; nothing is less than its share of the pod's minimum. Every amount is cut off at each step, in this order, so
//! that the last digit is VPA's.
//!
//! | | percentile | stretched by |
//! |---|---|---|
//! | lower bound | 50 % | (1 + 0.001 / confidence)⁻² |
//! | target | 90 % | |
//! | upper bound | 95 % | 1 + 1 / confidence |
//!
//! Confidence is the number of days with a sample a minute: 0 at first, so that the upper bound has no end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::histogram::power;
use super::history::ContainerHistory;
use super::reason::{VerticalReason, VerticalStep};
use super::resources::{Resource, Resources, clamp_amount, cpu_from_cores, scale_amount};
use crate::name::Name;
use crate::time::seconds;

/// The recommender's flags that shape an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EstimatorSettings {
    /// `--target-cpu-percentile`, `--recommendation-{lower,upper}-bound-cpu-percentile`, 0–1.
    pub cpu_percentiles: Percentiles,
    /// The same for memory.
    pub memory_percentiles: Percentiles,
    /// `--recommendation-margin-fraction`.
    pub margin_fraction: f64,
    /// `--pod-recommendation-min-cpu-millicores`.
    pub pod_min_cpu_millis: f64,
    /// `--pod-recommendation-min-memory-mb`, in MiB.
    pub pod_min_memory_mb: f64,
    /// `--confidence-interval-cpu`.
    #[serde(with = "seconds")]
    pub confidence_interval_cpu: Duration,
    /// `--confidence-interval-memory`.
    #[serde(with = "seconds")]
    pub confidence_interval_memory: Duration,
}

/// One for each of the three.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Of the lower bound.
    pub lower: f64,
    /// Of the target.
    pub target: f64,
    /// Of the upper bound.
    pub upper: f64,
}

impl Default for EstimatorSettings {
    fn default() -> Self {
        let percentiles = Percentiles { lower: 0.5, target: 0.9, upper: 0.95 };
        let day = Duration::from_secs(86_400);
        Self {
            cpu_percentiles: percentiles,
            memory_percentiles: percentiles,
            margin_fraction: 0.15,
            pod_min_cpu_millis: 25.0,
            pod_min_memory_mb: 250.0,
            confidence_interval_cpu: day,
            confidence_interval_memory: day,
        }
    }
}

/// What one container should ask for, and how far from that is near enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecommendation {
    /// The container.
    pub container: Name,
    /// What it should request.
    pub target: Resources,
    /// Less is too little.
    pub lower_bound: Resources,
    /// More is too much.
    pub upper_bound: Resources,
    /// The target without the policy's bounds.
    pub uncapped_target: Resources,
    /// How the target came about.
    pub steps: Vec<VerticalStep>,
}

impl ContainerRecommendation {
    /// One that says nothing yet.
    pub fn new(container: impl Into<Name>) -> Self {
        Self {
            container: container.into(),
            target: Resources::default(),
            lower_bound: Resources::default(),
            upper_bound: Resources::default(),
            uncapped_target: Resources::default(),
            steps: Vec::new(),
        }
    }

    /// Lower ≤ target ≤ upper, by moving the bounds.
    pub(crate) fn order(&mut self) {
        for (resource, target) in self.target.iter() {
            let (lower, upper) = (self.lower_bound.get(resource), self.upper_bound.get(resource));
            self.lower_bound.set(resource, lower.map(|lower| lower.min(target)));
            self.upper_bound.set(resource, upper.map(|upper| upper.max(target)));
        }
    }

    /// Sets one resource of the target; a change gets its reason.
    pub(crate) fn step(&mut self, resource: Resource, to: i64, reason: VerticalReason) {
        let from = self.target.amount(resource);
        if from != to {
            self.target.set(resource, Some(to));
            self.steps.push(VerticalStep { resource, from, to, reason });
        }
    }
}

/// Days with a sample a minute: the less of the time and the number of samples.
pub fn confidence(history: &ContainerHistory, interval: Duration) -> f64 {
    let interval = interval.max(Duration::from_millis(1));
    let time = history.span().as_nanos() as f64 / interval.as_nanos() as f64;
    let samples = history.samples() as f64 / (interval.as_secs_f64() / 60.0);
    time.min(samples)
}

/// An amount stretched by confidence.
pub fn stretch(amount: i64, confidence: f64, multiplier: f64, exponent: i32) -> i64 {
    scale_amount(amount, power(1.0 + multiplier / confidence, exponent))
}

/// An amount and its safety margin.
pub fn with_margin(amount: i64, fraction: f64) -> i64 {
    amount.saturating_add(scale_amount(amount, fraction))
}

impl EstimatorSettings {
    /// What each of so many containers gets at least.
    pub fn container_minimum(&self, resource: Resource, containers: u32) -> i64 {
        let pod = match resource {
            Resource::Cpu => cpu_from_cores(self.pod_min_cpu_millis * 0.001),
            Resource::Memory => clamp_amount(self.pod_min_memory_mb * 1024.0 * 1024.0),
        };
        scale_amount(pod, 1.0 / f64::from(containers.max(1)))
    }

    /// What a container with this history should get, one of so many; by what it used lately if `recent`.
    pub fn estimate(
        &self,
        container: &Name,
        history: &ContainerHistory,
        containers: u32,
        controlled: &[Resource],
        recent: bool,
    ) -> ContainerRecommendation {
        let mut estimate = ContainerRecommendation::new(container.clone());
        for &resource in controlled {
            match recent {
                true => self.estimate_recent(&mut estimate, resource, history, containers),
                false => self.estimate_resource(&mut estimate, resource, history, containers),
            }
        }
        estimate.uncapped_target = estimate.target;
        estimate
    }

    fn percentiles(&self, resource: Resource) -> Percentiles {
        match resource {
            Resource::Cpu => self.cpu_percentiles,
            Resource::Memory => self.memory_percentiles,
        }
    }

    fn confidence_interval(&self, resource: Resource) -> Duration {
        match resource {
            Resource::Cpu => self.confidence_interval_cpu,
            Resource::Memory => self.confidence_interval_memory,
        }
    }

    /// What covers the target's share of the samples, and why.
    pub(crate) fn percentile_step(
        &self,
        resource: Resource,
        history: &ContainerHistory,
    ) -> (i64, VerticalReason) {
        let share = self.percentiles(resource).target;
        let (samples, span) = (history.samples(), history.span());
        (used(resource, history, share), VerticalReason::Percentile { share, samples, span })
    }

    fn estimate_resource(
        &self,
        estimate: &mut ContainerRecommendation,
        resource: Resource,
        history: &ContainerHistory,
        containers: u32,
    ) {
        let (shares, interval) = (self.percentiles(resource), self.confidence_interval(resource));
        let confidence = confidence(history, interval);
        let minimum = self.container_minimum(resource, containers);
        let used = |share| used(resource, history, share);
        let padded = |share| with_margin(used(share), self.margin_fraction);

        let (base, reason) = self.percentile_step(resource, history);
        estimate.steps.push(VerticalStep { resource, from: 0, to: base, reason });
        estimate.target.set(resource, Some(base));
        let fraction = self.margin_fraction;
        estimate.step(resource, padded(shares.target), VerticalReason::Margin { fraction });
        let at_least = estimate.target.amount(resource).max(minimum);
        estimate.step(resource, at_least, VerticalReason::PodMinimum { containers });

        let lower = stretch(padded(shares.lower), confidence, 0.001, -2).max(minimum);
        let upper = stretch(padded(shares.upper), confidence, 1.0, 1).max(minimum);
        estimate.lower_bound.set(resource, Some(lower));
        estimate.upper_bound.set(resource, Some(upper));
    }
}

/// What covers this share of the samples.
fn used(resource: Resource, history: &ContainerHistory, share: f64) -> i64 {
    match resource {
        Resource::Cpu => cpu_from_cores(history.cpu().percentile(share)),
        Resource::Memory => clamp_amount(history.memory().percentile(share)),
    }
}
