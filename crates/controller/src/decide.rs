//! Decisions beside the engine's replica counts: policies of autoscaler objects, ScaledJobs, and the vertical loop.

pub(crate) mod claims;
pub(crate) mod jobs;
pub(crate) mod scalers;
pub(crate) mod vertical;
