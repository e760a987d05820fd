//! The engine in virtual time: what it would have decided, thousands of times faster than real time.
//!
//! - [`UsageHistory`] is what a container used, minute by minute (`usage`), in units that `units` finds.
//! - [`replay`](replay()) sends it through a recommender and the updater, and reports what that would have reserved in
//!   vain, throttled and killed (`replay`).
//! - [`Tug`] lets both axes of one target answer a load, by upstream's rules or by ours (`tug`).
//!
//! Nothing here reads a clock, a file or a random number: the same input gives the same report.

mod replay;
mod tug;
mod units;
mod usage;

pub use replay::{Moment, Replay, Report, replay};
pub use tug::{Phase, PhaseReport, Side, Tick, Tug, TugReport, turns};
pub use usage::{MemoryModel, SAMPLES_MAX, Sample, UsageError, UsageHistory};
