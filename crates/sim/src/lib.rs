//! The engine in virtual time: what it would have decided, thousands of times faster than real time.
//!
//! - [`UsageHistory`] is what a container used, minute by minute (`usage`), in units that `units` finds.
//! - [`replay`](replay()) sends it through a recommender and the updater, and reports what that would have reserved in
//!   vain, throttled and killed (`replay`).
//! - [`Tug`] lets both axes of one target answer a load, by upstream's rules or by ours (`tug`).
//! - [`Simulation`] is a virtual cluster under a load, with any policy: the engine's, KPA's, a clairvoyant's (`simulate`).
//!
//! Nothing here reads a clock, a file or a random number: the same input gives the same report.

mod cluster;
mod kpa;
mod latency;
mod load;
mod optimum;
mod profile;
mod random;
mod replay;
mod scaler;
mod simulate;
mod text;
mod trace;
mod tug;
mod units;
mod usage;

pub use cluster::REQUESTS_MAX;
pub use kpa::{Kpa, KpaConfig, KpaDecision};
pub use load::{Arrivals, Load, LoadError};
pub use optimum::{Optimum, needed};
pub use profile::{CONCURRENCY_MAX, Profile, ProfileError, Router, Service};
pub use replay::{Moment, Replay, Report, replay};
pub use scaler::{ScalerError, ScalerKind, Wanted};
pub use simulate::{
    CHANGES_MAX, Change, LENGTH_DEFAULT, Point, Quantiles, Setup, Simulation, SimulationReport,
};
pub use trace::{ROWS_MAX, Trace, TraceError, TraceKind};
pub use tug::{Phase, PhaseReport, Side, Tick, Tug, TugReport, turns};
pub use usage::{MemoryModel, SAMPLES_MAX, Sample, UsageError, UsageHistory};
