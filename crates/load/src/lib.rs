//! The load generator behind `flyball load`: hey's flags and summary, with its defects fixed.
//!
//! Arguments become a [`Plan`] without any I/O, [`run`] sends it, one recorder counts, and a [`Report`] is printed.
//! A program that drives load itself builds a [`Plan`] of [`Phase`]s, keeps a [`Handle`] and polls [`Handle::stats`].
#![allow(clippy::disallowed_methods, reason = "a load generator reads clocks and sockets: that is its work")]

mod args;
mod client;
mod command;
mod connect;
mod deadline;
mod framing;
mod go_duration;
mod http1;
mod http2;
mod pace;
mod plan;
mod progress;
mod record;
mod report;
mod request;
mod run;

pub use args::{Args, Output, normalize_args};
pub use command::execute;
pub use go_duration::parse_go_duration;
pub use plan::{
    Http2, Load, MAX_BODY_BYTES, MAX_HEADERS, MAX_IN_FLIGHT, Phase, Plan, PlanError, Target, Until,
};
pub use record::{Sample, Stats, Summary};
pub use report::Report;
pub use run::{DRAIN_MAX, Handle, run};
