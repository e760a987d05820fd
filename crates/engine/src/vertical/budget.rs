//! How many pods of one controller may be away at once (`pkg/updater/restriction/pods_restriction_factory.go`).
//!
//! Half of the replicas, cut off, by default; and one if that comes to none, as long as all run. A pod that does not
//! run yet costs nothing. There is no memory: the budget is counted anew from the live pods each time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::{PodFacts, Resize, Resizing};
use super::policy::{UpdateMode, VerticalPolicy, VerticalRules};
use super::update_reason::UpdateReason;
use crate::time::Time;

/// `DeferredResizeUpdateTimeout`.
const DEFERRED_MAX: Duration = Duration::from_secs(5 * 60);
/// `InProgressResizeUpdateTimeout`.
const IN_PROGRESS_MAX: Duration = Duration::from_secs(3600);

/// The pods of one controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    configured: u32,
    running: u32,
    tolerance: u32,
    /// Evicted or resized in this round.
    disrupted: u32,
    live: u32,
    /// As many live pods are needed; with fewer, only a resize that restarts nothing may happen.
    required: u32,
}

/// How many pods a controller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Configured {
    /// `spec.replicas`; of a DaemonSet `status.numberReady`.
    Replicas(u32),
    /// As many as there are: a Job.
    Live,
    /// Nobody knows, or there is no controller.
    Unknown,
}

impl Group {
    /// The budget of a controller's live pods.
    ///
    /// # Errors
    ///
    /// Why none of them may be touched: too few, or nobody knows how many there should be.
    pub fn new(
        configured: Configured,
        pods: &[&PodFacts],
        policy: &VerticalPolicy,
        rules: &VerticalRules,
    ) -> Result<Self, UpdateReason> {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let live = count(pods.len());
        let required = policy.min_replicas.unwrap_or(rules.min_replicas);
        let too_few = live < required;
        let boosted = pods.iter().any(|pod| !pod.boosted.is_empty());
        let in_place_only = too_few && policy.mode.resizes() && rules.in_place_skip_disruption_budget;
        if too_few && !boosted && !in_place_only {
            return Err(UpdateReason::TooFewReplicas { live, required });
        }
        let configured = match configured {
            Configured::Replicas(replicas) => replicas,
            Configured::Live => live,
            Configured::Unknown => 0,
        };
        if configured == 0 {
            return Err(UpdateReason::NotReplicated);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "casts saturate; this cuts off"
        )]
        let tolerance = (f64::from(configured) * rules.eviction_tolerance) as u32;
        let running = live - count(pods.iter().filter(|pod| pod.pending).count());
        Ok(Self {
            configured,
            running,
            tolerance,
            disrupted: 0,
            live,
            required: if in_place_only { required } else { 0 },
        })
    }

    /// One more running pod may go away.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn disruptable(&self) -> Result<(), UpdateReason> {
        let required = self.configured.saturating_sub(self.tolerance);
        let stays = self.running.saturating_sub(self.disrupted);
        let only_one_at_a_time =
            self.tolerance == 0 && self.configured == self.running && self.disrupted == 0;
        if stays > required || only_one_at_a_time {
            Ok(())
        } else {
            Err(UpdateReason::BudgetExhausted { running: stays, required })
        }
    }

    /// This pod may be evicted.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn may_evict(&self, now: Time, pod: &PodFacts, policy: &VerticalPolicy) -> Result<(), UpdateReason> {
        if policy.mode == UpdateMode::InPlace {
            return Err(UpdateReason::ModeOff);
        }
        if self.live < self.required {
            return Err(UpdateReason::TooFewReplicas { live: self.live, required: self.required });
        }
        match &pod.resize {
            _ if pod.pending => Ok(()),
            Some(resize) => self.may_replace(now, resize),
            None => self.disruptable(),
        }
    }

    /// A pod whose resize is under way may be evicted instead: the resize takes too long, or is impossible.
    ///
    /// # Errors
    ///
    /// The budget, or the resize that still has time.
    pub(crate) fn may_replace(&self, now: Time, resize: &Resize) -> Result<(), UpdateReason> {
        self.disruptable()?;
        let failed = match resize.state {
            Resizing::Deferred => now.since(resize.since) > DEFERRED_MAX,
            Resizing::InProgress => now.since(resize.since) > IN_PROGRESS_MAX,
            Resizing::Infeasible | Resizing::Error | Resizing::Unknown => true,
        };
        if failed { Ok(()) } else { Err(UpdateReason::ResizeUnderWay(resize.state)) }
    }

    /// A pod was evicted or resized.
    pub fn disrupt(&mut self, pod: &PodFacts) {
        if !pod.pending {
            self.disrupted += 1;
        }
    }
}
