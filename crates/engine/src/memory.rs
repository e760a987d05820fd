//! What a target remembers from one evaluation to the next: what was recommended, what was changed, when it was last
//! in use. The HorizontalPodAutoscaler forgets the first two at every restart; ours can be stored and given back.
//!
//! Both lists are bounded. Where an entry must go, two are merged so that the memory errs on the side of doing less:
//! a high recommendation is remembered a little longer, a change counts a little longer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::behavior::ScalingRules;
use crate::recommend::SloMemory;
use crate::time::Time;
use crate::vertical::WantedCpu;

/// More recommendations than this are merged. Only those matter that no later one outdoes, so a target that was
/// evaluated every second for an hour seldom has more than ten.
pub(crate) const RECOMMENDATIONS_MAX: usize = 128;
/// More changes than this are merged. With the default policies a target has at most two changes in a period.
pub(crate) const EVENTS_MAX: usize = 64;

/// What is remembered of one target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// What was recommended, for stabilization; none before the first evaluation.
    pub recommendations: Option<Recommendations>,
    /// Replicas added, for the pace.
    pub scale_ups: Events,
    /// Replicas taken away, for the pace.
    pub scale_downs: Events,
    /// When the target was last in use (`status.lastActiveTime`).
    pub last_active: Option<Time>,
    /// The autoscaler itself brought the target to zero (the condition `ScaledToZero`); none when that condition has
    /// never been set.
    pub scaled_to_zero: Option<bool>,
    /// How much CPU each replica would have needed, for the stabilization of its size.
    #[serde(default)]
    pub wanted_cpu: WantedCpu,
    /// What was learned for an objective; none without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<Box<SloMemory>>,
}

/// One recommendation, before stabilization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// How many replicas.
    pub replicas: u32,
    /// When.
    pub at: Time,
}

/// The recommendations that may still count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recommendations(Vec<Recommendation>);

impl Recommendations {
    /// These, in the order of storage.
    pub fn new(list: Vec<Recommendation>) -> Self {
        Self(list)
    }

    /// In the order of storage, which is not that of time.
    pub fn list(&self) -> &[Recommendation] {
        &self.0
    }

    /// The highest one that `counts`; the latest of several.
    pub fn highest(&self, counts: impl Fn(Time) -> bool) -> Option<Recommendation> {
        self.0.iter().filter(|r| counts(r.at)).max_by_key(|r| (r.replicas, r.at)).copied()
    }

    /// The lowest one that `counts`; the latest of several.
    pub fn lowest(&self, counts: impl Fn(Time) -> bool) -> Option<Recommendation> {
        self.0.iter().filter(|r| counts(r.at)).min_by_key(|r| (r.replicas, std::cmp::Reverse(r.at))).copied()
    }

    /// Keeps every entry and writes the new one over the last that is obsolete, as the HorizontalPodAutoscaler does.
    /// The list grows to window over evaluation interval, so this is for the 15 s loop.
    pub fn store(&mut self, new: Recommendation, obsolete: impl Fn(Time) -> bool) {
        match self.0.iter_mut().rev().find(|r| obsolete(r.at)) {
            Some(slot) => *slot = new,
            None => self.0.push(new),
        }
    }

    /// Keeps only what can still be the highest or the lowest of some window: what no later entry outdoes both ways.
    /// The same answers as [`store`](Self::store), with few entries however often it is evaluated.
    pub fn store_extremes(
        &mut self,
        new: Recommendation,
        obsolete: impl Fn(Time) -> bool,
        lows_matter: bool,
    ) {
        self.0.push(new);
        let (mut highest_later, mut lowest_later) = (None, None);
        let mut kept = self.0.len();
        for at in (0..self.0.len()).rev() {
            let entry = self.0[at];
            let high = highest_later.is_none_or(|highest| entry.replicas > highest);
            let low = lowest_later.is_none_or(|lowest| entry.replicas < lowest);
            highest_later = highest_later.max(Some(entry.replicas));
            lowest_later =
                Some(lowest_later.map_or(entry.replicas, |lowest: u32| lowest.min(entry.replicas)));
            if !obsolete(entry.at) && (high || low && lows_matter) {
                kept -= 1;
                self.0[kept] = entry;
            }
        }
        self.0.drain(..kept);
        if self.0.len() > RECOMMENDATIONS_MAX {
            self.merge_oldest();
        }
    }

    /// Drops the oldest entry, and lets the next one on its side of the present stand for it.
    fn merge_oldest(&mut self) {
        let (oldest, present) = (self.0.remove(0), self.0.last().map_or(0, |r| r.replicas));
        let high = oldest.replicas > present;
        if let Some(next) = self.0.iter_mut().find(|r| (r.replicas > present) == high) {
            next.replicas = oldest.replicas;
        }
    }
}

/// Changes of replicas in one direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Events(Vec<Event>);

/// One change of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// By how many; always positive.
    pub change: u32,
    /// When.
    pub at: Time,
    /// No policy looks this far back any more.
    pub outdated: bool,
}

impl Events {
    /// These, in the order of storage.
    pub fn new(list: Vec<Event>) -> Self {
        Self(list)
    }

    /// In the order of storage.
    pub fn list(&self) -> &[Event] {
        &self.0
    }

    /// The replicas changed in the `period` before `now`. A change exactly one period ago is over.
    pub fn change_in(&self, now: Time, period: Duration) -> i64 {
        let cutoff = now - period;
        self.0.iter().filter(|event| event.at > cutoff).map(|event| i64::from(event.change)).sum()
    }

    /// The time of the oldest change in the `period` before `now`.
    pub fn oldest_in(&self, now: Time, period: Duration) -> Option<Time> {
        let cutoff = now - period;
        self.0.iter().map(|event| event.at).filter(|at| *at > cutoff).min()
    }

    /// Keeps a change (`storeScaleEvent`): over the last entry that no policy of `rules` looks back to, or at the end.
    pub fn store(&mut self, now: Time, change: u32, rules: &ScalingRules) {
        let cutoff = now - rules.period_max();
        let mut slot = None;
        for (index, event) in self.0.iter_mut().enumerate() {
            if event.at < cutoff {
                event.outdated = true;
                slot = Some(index);
            }
        }
        let new = Event { change, at: now, outdated: false };
        match slot {
            Some(index) => self.0[index] = new,
            None => self.0.push(new),
        }
        if self.0.len() > EVENTS_MAX {
            let oldest = self.0.remove(0);
            self.0[0].change = self.0[0].change.saturating_add(oldest.change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Forgetting what is outdone changes no answer, for any window up to the one that is kept.
        #[test]
        fn extremes_answer_like_the_whole_list(
            history in prop::collection::vec((0..12_u32, 0..40_u64), 1..120),
            window in 1..300_u64,
        ) {
            let (mut whole, mut extremes, mut now) = (Recommendations::default(), Recommendations::default(), 1000);
            for (replicas, pause) in history {
                now += pause;
                let new = Recommendation { replicas, at: Time::from_seconds(now) };
                let obsolete = |at: Time| at < Time::from_seconds(now - 300);
                whole.store(new, obsolete);
                extremes.store_extremes(new, obsolete, true);
                let counts = |at: Time| at > Time::from_seconds(now - window);
                prop_assert_eq!(whole.highest(counts), extremes.highest(counts));
                prop_assert_eq!(whole.lowest(counts), extremes.lowest(counts));
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_forgets_on_the_safe_side() {
        let mut recommendations = Recommendations::default();
        for second in 0..1000_u32 {
            let new = Recommendation { replicas: 2000 - second, at: Time::from_seconds(second.into()) };
            recommendations.store_extremes(new, |_| false, true);
        }
        assert!(recommendations.list().len() <= RECOMMENDATIONS_MAX);
        assert_eq!(recommendations.highest(|_| true).map(|r| r.replicas), Some(2000));

        let (mut events, rules) = (Events::default(), ScalingRules::default_up());
        for millis in 0..1000 {
            events.store(Time::from_millis(60_000 + millis), 1, &rules);
        }
        assert!(events.list().len() <= EVENTS_MAX);
        assert_eq!(events.change_in(Time::from_seconds(61), Duration::from_secs(15)), 1000);
    }
}
