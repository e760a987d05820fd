//! What outlives a round or a restart: decisions, the engine's memory of each target, and samples.

pub(crate) mod files;
pub(crate) mod history;
pub(crate) mod memories;
pub(crate) mod samples;
