//! The autoscaler's loop: gather facts, decide by the engine, act, tell, keep.
//!
//! [`Autoscaler::start`] needs a Kubernetes client and nothing else. `run` is the loop and the place to start reading; each
//! step of it has a folder.
//!
//! - `gather`: what is watched, scraped and asked: objects, pods and their usage, pages of metrics, readings of triggers.
//! - `decide`: what each autoscaler object asks for; ScaledJobs; the VerticalPodAutoscalers' recommender and updater, which
//!   are a loop of their own. Replica counts are decided by `flyball_engine`.
//! - `act`: writes scales, statuses and events.
//! - `tell`: serves the Prometheus API, the metrics APIs, the decisions, and the autoscaler's own metrics.
//! - `keep`: history, the engine's memory and samples, over restarts.
//! - `autoscaler`, `options`, `shared`: how the loop is started and stopped, and the state that it shares with the APIs.
#![allow(
    clippy::disallowed_methods,
    reason = "this crate connects the pure ones to clocks, sockets and files"
)]

mod act;
mod api_error;
mod autoscaler;
mod decide;
mod features;
mod gather;
mod keep;
mod options;
mod run;
mod shared;
mod tell;

pub use autoscaler::{AggregatedApi, Autoscaler};
pub use features::Features;
pub use gather::scrape::target::check_relabeling;
pub use gather::source::servers::{AnsweredHost, Answers};
pub use keep::history::Record;
pub use options::Options;
pub use tell::serve::host::AllowedHosts;
pub use tell::telemetry::{Admitted, VpaMetrics};
