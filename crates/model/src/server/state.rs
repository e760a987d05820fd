//! The state that all requests share.

use bytes::Bytes;
use serde_json::json;
use tokio::sync::{Semaphore, watch};

use super::lifecycle::Phase;
use super::metrics::Metrics;
use super::options::{LARGE_BODIES_MAX, Options};
use super::queue::Queue;
use crate::model::Model;

/// One server's model, counters and phase.
pub(super) struct State {
    pub(super) model: Model,
    pub(super) metrics: Metrics,
    pub(super) queue: Queue,
    /// Permits for the memory of large bodies.
    pub(super) large_bodies: Semaphore,
    /// Extra CPU time to spend on each prediction.
    pub(super) work: std::time::Duration,
    pub(super) phase: watch::Sender<Phase>,
    /// The body of `/health`, which never changes.
    pub(super) health: Bytes,
}

impl State {
    pub(super) fn new(model: Model, options: &Options) -> Self {
        let health = json!({
            "status": "healthy",
            "model_loaded": true,
            "model": "house-price",
            "version": env!("CARGO_PKG_VERSION"),
            "metrics": model.report(),
        });
        Self {
            model,
            metrics: Metrics::new(),
            queue: Queue::new(options.worker_threads),
            large_bodies: Semaphore::new(LARGE_BODIES_MAX),
            work: options.work,
            phase: watch::Sender::new(Phase::Serving),
            health: health.to_string().into(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }
}
