//! What containers used lately, in slots of time: minutes of CPU, hours of memory.

use std::collections::VecDeque;
use std::time::Duration;

use super::resources::Resource;
use crate::time::Time;

/// CPU is looked at minute by minute, so far back.
const CPU_SLOTS: usize = 10;
const CPU_SLOT: Duration = Duration::from_secs(60);
/// One in so many of the last minutes may be higher: a single burst is none.
const CPU_BURSTS_PER: usize = 10;
/// A container that was throttled may have needed so many times its limit.
const THROTTLED_RATIO: i64 = 2;

/// Memory is looked at in slots of four hours, eight days back: the eight intervals that VPA keeps, and so every weekday.
const MEMORY_SLOTS: usize = 48;
const MEMORY_SLOT: Duration = Duration::from_secs(4 * 3600);
/// The highest value in each slot of time.
#[derive(Clone, Debug, Default)]
struct Slots(VecDeque<(u64, i64)>);

impl Slots {
    fn add(&mut self, at: Time, length: Duration, count: usize, amount: i64) {
        let slot = u64::try_from(u128::from(at.as_millis()) / length.as_millis().max(1)).unwrap_or(u64::MAX);
        if self.0.back().is_none_or(|(last, _)| *last < slot) {
            self.0.push_back((slot, amount));
        } else if let Some((_, highest)) = self.0.iter_mut().rev().find(|(known, _)| *known == slot) {
            // Late samples of slots that had none say nothing new.
            *highest = (*highest).max(amount);
        }
        let oldest = slot.saturating_sub(count as u64 - 1);
        while self.0.front().is_some_and(|(first, _)| *first < oldest) {
            self.0.pop_front();
        }
    }

    fn highest(&self) -> Option<i64> {
        self.0.iter().map(|(_, amount)| *amount).max()
    }

    /// The highest value but those of one slot in so many.
    fn sustained(&self, one_in: usize) -> Option<i64> {
        let mut amounts: Vec<i64> = self.0.iter().map(|(_, amount)| *amount).collect();
        amounts.sort_unstable_by_key(|amount| std::cmp::Reverse(*amount));
        amounts.get(amounts.len() / one_in).copied()
    }
}

/// What the containers of one name used lately: of each slot the highest of all replicas.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentUse {
    cpu: Slots,
    memory: Slots,
}

impl RecentUse {
    pub(crate) fn add_cpu(&mut self, at: Time, millis: i64) {
        self.cpu.add(at, CPU_SLOT, CPU_SLOTS, millis);
    }

    pub(crate) fn add_throttled(&mut self, at: Time, limit_millis: i64) {
        self.add_cpu(at, limit_millis.saturating_mul(THROTTLED_RATIO));
    }

    pub(crate) fn add_memory(&mut self, at: Time, bytes: i64) {
        self.memory.add(at, MEMORY_SLOT, MEMORY_SLOTS, bytes);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cpu.0.is_empty() && self.memory.0.is_empty()
    }

    /// So much was used of a resource, and for how long that counts.
    pub(super) fn used(&self, resource: Resource) -> Option<(i64, Duration)> {
        match resource {
            Resource::Cpu => Some((self.cpu.sustained(CPU_BURSTS_PER)?, CPU_SLOT * CPU_SLOTS as u32)),
            Resource::Memory => Some((self.memory.highest()?, MEMORY_SLOT * MEMORY_SLOTS as u32)),
        }
    }
}
