//! Serves others: the Prometheus and metrics APIs, the decisions, and the autoscaler's own metrics.

pub(crate) mod serve;
pub(crate) mod telemetry;
