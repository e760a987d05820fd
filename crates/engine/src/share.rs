//! When a pool is too small for all: who gets what.
//!
//! What runs already keeps running, and who wants fewer gets fewer. The room that is left goes to those who want more:
//! to the higher priority first, and among equals in proportion to what each wants more, rounded down; what rounding
//! leaves goes one by one to the largest remainders, then by name. Together the targets of a pool never grow beyond
//! its capacity.

use crate::decision::{Decision, Stage, Step};
use crate::name::PoolName;
use crate::reason::Reason;

/// A target that wants more than it has.
struct Claim {
    /// Which of the decisions.
    decision: usize,
    priority: i32,
    more: u64,
}

/// Cuts the decisions of one pool's targets down to its `capacity`. `decisions` are the ones made now, each with its
/// priority, in the order of their targets; `others` is what the rest of the pool's targets have.
pub(crate) fn step(pool: &PoolName, capacity: u32, others: u64, decisions: &mut [(&mut Decision, i32)]) {
    let kept: u64 = decisions.iter().map(|(d, _)| u64::from(d.current.min(d.desired))).sum();
    let mut room = u64::from(capacity).saturating_sub(others.saturating_add(kept));
    let mut claims: Vec<Claim> = decisions
        .iter()
        .enumerate()
        .filter(|(_, (d, _))| d.desired > d.current)
        .map(|(decision, (d, priority))| Claim {
            decision,
            priority: *priority,
            more: u64::from(d.desired - d.current),
        })
        .collect();
    // Stable, so that equals stay in the order of their names.
    claims.sort_by_key(|claim| std::cmp::Reverse(claim.priority));
    for equals in claims.chunk_by(|a, b| a.priority == b.priority) {
        for (claim, granted) in equals.iter().zip(divide(room, equals)) {
            room -= granted;
            if granted < claim.more {
                cut(pool, capacity, decisions[claim.decision].0, granted);
            }
        }
    }
}

/// Divides `room` among claims in proportion; all of them are met if it suffices.
fn divide(room: u64, claims: &[Claim]) -> Vec<u64> {
    let wanted: u64 = claims.iter().map(|claim| claim.more).sum();
    if wanted <= room {
        return claims.iter().map(|claim| claim.more).collect();
    }
    let share = |claim: &Claim| u128::from(room) * u128::from(claim.more);
    let mut granted: Vec<u64> = claims
        .iter()
        .map(|claim| u64::try_from(share(claim) / u128::from(wanted)).unwrap_or(claim.more))
        .collect();
    let mut by_remainder: Vec<usize> = (0..claims.len()).collect();
    by_remainder.sort_by_key(|&index| std::cmp::Reverse(share(&claims[index]) % u128::from(wanted)));
    let left = room - granted.iter().sum::<u64>();
    for &index in by_remainder.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        granted[index] += 1;
    }
    granted
}

fn cut(pool: &PoolName, capacity: u32, decision: &mut Decision, granted: u64) {
    let wanted = decision.desired;
    let to = decision.current + u32::try_from(granted).unwrap_or(u32::MAX - decision.current);
    let reason = Reason::CapacityExhausted { pool: pool.clone(), capacity, wanted };
    decision.steps.push(Step { stage: Stage::Share, from: wanted, to, reason });
    decision.desired = to;
}
