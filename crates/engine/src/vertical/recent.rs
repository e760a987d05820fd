//! The recommender `flyball`: VPA's, with eyes for the last minutes.
//!
//! VPA's default looks back a day: its CPU target follows a step up after 3.65 hours and a step down after 80, a burst of
//! an hour a day never shows, and what killed one of many replicas does not either. A container that is throttled hides
//! what it needs, so that each step of a fifth takes hours anew. That is right where a change costs a restart. Where pods
//! are resized in place it costs nothing, so this one
//!
//! - forgets CPU with a half-life of an hour, and never recommends less than was used in two of the last ten minutes: a
//!   step up shows in the second minute, a step down is followed after 3.3 hours;
//! - takes a container that was throttled to need twice its limit;
//! - recommends the most memory that *any* replica used within eight days, and after a kill, at once, twice what was there,
//!   so that the restarted container finds it;
//! - has no floor of 250 MiB;
//! - bounds the target closely: 10 % less is too little; 25 % more is too much, once there is an hour of samples.
//!
//! All windows end with the last sample, not now: where no data comes in, nothing shrinks.

use std::time::Duration;

use super::estimate::{ContainerRecommendation, EstimatorSettings, confidence, stretch, with_margin};
use super::history::{ContainerHistory, HalfLives};
use super::peaks::MemorySettings;
use super::reason::VerticalReason;
use super::recommend::RecommenderSettings;
use super::resources::{Resource, scale_amount};

/// After a kill, so many times what was there.
const OOM_BUMP_UP_RATIO: f64 = 2.0;

/// Below this share of the target a request is too small.
const LOWER_SHARE: f64 = 0.9;
/// Above this it is too large.
const UPPER_SHARE: f64 = 1.25;

impl RecommenderSettings {
    /// Those of the recommender `flyball`.
    pub fn flyball() -> Self {
        let hour = Duration::from_secs(3600);
        let estimator = EstimatorSettings {
            pod_min_cpu_millis: 10.0,
            pod_min_memory_mb: 16.0,
            confidence_interval_cpu: hour,
            confidence_interval_memory: hour,
            ..EstimatorSettings::default()
        };
        let half_lives = HalfLives { cpu: hour, ..HalfLives::default() };
        let memory = MemorySettings { oom_bump_up_ratio: OOM_BUMP_UP_RATIO, ..MemorySettings::default() };
        Self { estimator, half_lives, memory, recent: true }
    }
}

impl EstimatorSettings {
    /// The target of one resource and its bounds, by what was used lately. CPU may fall back to the percentile of all
    /// samples; memory that nobody used for eight days is not needed.
    pub(crate) fn estimate_recent(
        &self,
        estimate: &mut ContainerRecommendation,
        resource: Resource,
        history: &ContainerHistory,
        containers: u32,
    ) {
        // Nothing is known of what was never sampled, so nothing is recommended.
        let Some((recent, window)) = history.recent().used(resource) else { return };
        estimate.target.set(resource, Some(0));
        if resource == Resource::Cpu {
            let (to, reason) = self.percentile_step(resource, history);
            estimate.step(resource, to, reason);
        }
        let base = estimate.target.amount(resource);
        estimate.step(resource, base.max(recent), VerticalReason::RecentlyUsed { window });
        let padded = with_margin(estimate.target.amount(resource), self.margin_fraction);
        estimate.step(resource, padded, VerticalReason::Margin { fraction: self.margin_fraction });
        let at_least = padded.max(self.container_minimum(resource, containers));
        estimate.step(resource, at_least, VerticalReason::PodMinimum { containers });

        let confidence = confidence(history, self.confidence_interval_cpu);
        let upper = stretch(scale_amount(at_least, UPPER_SHARE), confidence, 1.0, 1);
        estimate.lower_bound.set(resource, Some(scale_amount(at_least, LOWER_SHARE)));
        estimate.upper_bound.set(resource, Some(upper));
    }
}
