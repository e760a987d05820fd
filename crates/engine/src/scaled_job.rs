//! How many Jobs a ScaledJob starts (KEDA `pkg/scaling/scaledjob`, `executor/scale_jobs.go`).
//!
//! Each active trigger has a queue and wants one Job for so much of it. Several triggers are combined as
//! `multipleScalersCalculation` says. The strategy then takes off what runs already, in its own way, and never stops a
//! Job: a Job ends by itself.
//!
//! The minimum runs always; while fewer run, only the missing ones are started.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::recommend::ceil;

/// The room beyond the minimum when no maximum is given.
const ROOM_DEFAULT: u32 = 100;

/// What a ScaledJob asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobPolicy {
    min: u32,
    /// How many more may run at once.
    room: u32,
    strategy: JobStrategy,
    calculation: JobCalculation,
}

/// How what runs already is taken off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum JobStrategy {
    /// Each running Job still has its message in the queue.
    #[default]
    Default,
    /// So many Jobs, and this part of the running ones, have theirs.
    Custom {
        /// `customScalingQueueLengthDeduction`.
        deduction: u32,
        /// `customScalingRunningJobPercentage`, 0 to 1.
        running_ratio: f64,
    },
    /// A Job takes its message out of the queue when it starts to work: only pending Jobs are taken off.
    Accurate,
    /// As many as the maximum leaves room for, as soon as there is anything to do.
    Eager,
}

/// How several triggers are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobCalculation {
    /// The longest queue.
    #[default]
    Max,
    /// The shortest queue.
    Min,
    /// The mean of the queues.
    Avg,
    /// All queues together.
    Sum,
}

/// What one trigger says. One that can't be read is left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobTrigger {
    /// The length of its queue.
    pub queue_length: f64,
    /// How much of it one Job takes.
    pub target: f64,
    /// Above its activation threshold.
    pub active: bool,
}

/// How many Jobs to start, and from which numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobDecision {
    /// Jobs to start now.
    pub create: u32,
    /// Unfinished Jobs.
    pub running: u32,
    /// Of them, those whose pod does not run yet.
    pub pending: u32,
    /// What the queue asks for.
    pub wanted: u32,
    /// Why not that many.
    pub reason: JobReason,
}

/// Why so many Jobs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobReason {
    /// Fewer run than always should.
    BelowMinimum {
        /// The minimum.
        min: u32,
    },
    /// No trigger is active, and there is no minimum.
    NotActive,
    /// What the strategy allows.
    Strategy {
        /// The most it allows.
        allowed: u32,
    },
}

impl JobPolicy {
    /// Between `minReplicaCount` and `maxReplicaCount`. A minimum over the maximum is the maximum, and then as many
    /// again may run; without a maximum a hundred may run beyond the minimum: KEDA's `MinReplicaCount()` and
    /// `MaxReplicaCount()`.
    pub fn new(min: u32, max: Option<u32>, strategy: JobStrategy, calculation: JobCalculation) -> Self {
        let (min, room) = match max {
            Some(max) if min > max => (max, max),
            Some(max) => (min, max - min),
            None => (min, ROOM_DEFAULT),
        };
        Self { min, room, strategy, calculation }
    }

    /// Decides for what the triggers say while so many Jobs run and are pending.
    pub fn decide(&self, triggers: &[JobTrigger], running: u32, pending: u32) -> JobDecision {
        let demand = self.demand(triggers);
        let decision = |create, reason| JobDecision {
            create,
            running,
            pending,
            wanted: ceil(demand.queue_length),
            reason,
        };
        if running < self.min {
            return decision(self.min - running, JobReason::BelowMinimum { min: self.min });
        }
        if !demand.active && self.min == 0 {
            return decision(0, JobReason::NotActive);
        }
        let (allowed, wanted) = self.allowed(&demand, i64::from(running - self.min), i64::from(pending));
        let allowed = u32::try_from(allowed.max(0)).unwrap_or(u32::MAX);
        decision(wanted.min(allowed), JobReason::Strategy { allowed })
    }

    /// The most Jobs the strategy starts, and how many are wanted.
    fn allowed(&self, demand: &Demand, running: i64, pending: i64) -> (i64, u32) {
        let (room, wanted) = (i64::from(self.room), ceil(demand.queue_length));
        let scale = i64::from(ceil(demand.jobs.min(f64::from(self.room))));
        match self.strategy {
            JobStrategy::Default => (scale - running, wanted),
            JobStrategy::Custom { deduction, running_ratio } => {
                // Cut off, as the original does.
                #[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
                let busy = (running as f64 * running_ratio) as i64;
                (scale.saturating_sub(i64::from(deduction)).saturating_sub(busy).min(room), wanted)
            }
            JobStrategy::Accurate if scale + running - pending > room => (room - running, wanted),
            JobStrategy::Accurate => (scale - pending, wanted),
            JobStrategy::Eager => ((room - running - pending).min(scale), self.room),
        }
    }

    fn demand(&self, triggers: &[JobTrigger]) -> Demand {
        let active = triggers.iter().filter(|trigger| trigger.active);
        let demands: Vec<Demand> = active.map(|trigger| trigger.demand(self.room)).collect();
        let sum = demands.iter().fold(Demand::default(), |sum, own| Demand {
            queue_length: sum.queue_length + own.queue_length,
            jobs: sum.jobs + own.jobs,
            active: true,
        });
        match self.calculation {
            JobCalculation::Sum => sum,
            JobCalculation::Avg => {
                let count = demands.len().max(1) as f64;
                Demand { queue_length: sum.queue_length / count, jobs: sum.jobs / count, ..sum }
            }
            // An empty queue is never the longest, so it does not make the ScaledJob active.
            JobCalculation::Max => demands.into_iter().fold(Demand::default(), |longest, own| {
                if own.queue_length > longest.queue_length { own } else { longest }
            }),
            // Nor is it the shortest as long as there is another.
            JobCalculation::Min => demands.into_iter().fold(Demand::default(), |shortest, own| {
                let unset = shortest.queue_length == 0.0;
                if unset || own.queue_length < shortest.queue_length { own } else { shortest }
            }),
        }
    }
}

/// What one trigger, or all together, ask for.
#[derive(Clone, Copy, Default)]
struct Demand {
    queue_length: f64,
    /// Jobs for that queue, before rounding up.
    jobs: f64,
    active: bool,
}

impl JobTrigger {
    fn demand(&self, room: u32) -> Demand {
        let queue_length = if self.queue_length.is_finite() { self.queue_length.max(0.0) } else { 0.0 };
        let jobs = if self.target > 0.0 { queue_length / self.target } else { 0.0 };
        Demand { queue_length, jobs: jobs.min(f64::from(room)), active: self.active }
    }
}

impl fmt::Display for JobDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { create, running, pending, wanted, reason } = self;
        match reason {
            JobReason::BelowMinimum { min } => {
                write!(f, "{running} of at least {min} Jobs run, so {create} are started")
            }
            JobReason::NotActive => f.write_str("no trigger is active, so no Job is started"),
            JobReason::Strategy { allowed } => write!(
                f,
                "the queue asks for {wanted} Jobs; with {running} unfinished, {pending} of them pending, the strategy \
                 allows {allowed}, so {create} are started"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(min: u32, max: u32, strategy: JobStrategy) -> JobPolicy {
        JobPolicy::new(min, Some(max), strategy, JobCalculation::Max)
    }

    fn queue(queue_length: f64) -> JobTrigger {
        JobTrigger { queue_length, target: 1.0, active: true }
    }

    #[test]
    fn each_strategy_takes_off_what_runs_in_its_own_way() {
        let custom = JobStrategy::Custom { deduction: 1, running_ratio: 0.5 };
        // strategy, max, queue, running, pending, started
        let table = [
            (JobStrategy::Default, 10, 5.0, 2, 0, 3),
            (JobStrategy::Default, 10, 2.0, 5, 0, 0),
            (JobStrategy::Default, 3, 9.0, 1, 0, 2),
            (custom, 10, 5.0, 3, 0, 3), // 5 - 1 - trunc(1.5)
            (custom, 10, 1.0, 3, 0, 0),
            (JobStrategy::Accurate, 10, 5.0, 2, 1, 4),
            (JobStrategy::Accurate, 6, 5.0, 4, 0, 2), // would exceed the maximum
            (JobStrategy::Eager, 10, 4.0, 3, 0, 4),
            (JobStrategy::Eager, 10, 9.0, 3, 2, 5),
        ];
        for (strategy, max, length, running, pending, create) in table {
            let decision = policy(0, max, strategy).decide(&[queue(length)], running, pending);
            assert_eq!(
                decision.create, create,
                "{strategy:?} {max} {length} {running} {pending}: {decision}"
            );
        }
    }

    #[test]
    fn triggers_are_combined() {
        let triggers = |lengths: &[f64]| -> Vec<JobTrigger> { lengths.iter().copied().map(queue).collect() };
        let table = [
            (JobCalculation::Max, [4.0, 6.0], 6),
            (JobCalculation::Min, [4.0, 6.0], 4),
            (JobCalculation::Min, [0.0, 6.0], 6),
            (JobCalculation::Avg, [4.0, 7.0], 6),
            (JobCalculation::Sum, [4.0, 6.0], 10),
            (JobCalculation::Max, [0.0, 0.0], 0),
        ];
        for (calculation, lengths, create) in table {
            let policy = JobPolicy { calculation, ..policy(0, 100, JobStrategy::Default) };
            assert_eq!(
                policy.decide(&triggers(&lengths), 0, 0).create,
                create,
                "{calculation:?} {lengths:?}"
            );
        }
        let inactive = JobTrigger { active: false, ..queue(9.0) };
        let decision = policy(0, 100, JobStrategy::Default).decide(&[inactive], 0, 0);
        assert_eq!(decision.reason, JobReason::NotActive);
        let halves = JobTrigger { target: 2.0, ..queue(5.0) };
        assert_eq!(policy(0, 100, JobStrategy::Default).decide(&[halves], 0, 0).create, 3);
    }

    #[test]
    fn the_minimum_runs_first() {
        let decision = policy(3, 10, JobStrategy::Default).decide(&[queue(5.0)], 1, 0);
        assert_eq!((decision.create, decision.reason), (2, JobReason::BelowMinimum { min: 3 }));
        let decision = policy(3, 10, JobStrategy::Default).decide(&[queue(5.0)], 4, 0);
        assert_eq!(decision.create, 4, "one of the four is beyond the minimum");
        let bounds = |min, max| {
            let policy = JobPolicy::new(min, max, JobStrategy::Default, JobCalculation::Max);
            (policy.min, policy.room)
        };
        assert_eq!([bounds(3, Some(10)), bounds(3, None), bounds(9, Some(4))], [(3, 7), (3, 100), (4, 4)]);
    }

    proptest! {
        #[test]
        fn any_queue_gives_a_number(length: f64, target: f64, running: u32, pending: u32, min: u32, max: u32) {
            for strategy in [
                JobStrategy::Default, JobStrategy::Accurate, JobStrategy::Eager,
                JobStrategy::Custom { deduction: u32::MAX, running_ratio: target },
            ] {
                let trigger = JobTrigger { queue_length: length, target, active: true };
                let decision = policy(min, max, strategy).decide(&[trigger], running, pending);
                prop_assert!(decision.create <= max.max(min).max(ROOM_DEFAULT));
            }
        }
    }
}
