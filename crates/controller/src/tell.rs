//! What the autoscaler tells others: the Prometheus and metrics APIs, its decisions, and its own metrics.

pub(crate) mod serve;
pub(crate) mod telemetry;
