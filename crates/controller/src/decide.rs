//! What is decided beside the engine's replica counts: which objects ask for what, ScaledJobs, and the vertical loop.

pub(crate) mod claims;
pub(crate) mod jobs;
pub(crate) mod scalers;
pub(crate) mod vertical;
