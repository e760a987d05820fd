//! The Prometheus HTTP API, over what was scraped here.

mod targets;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use flyball_metrics::Store;
use jiff::Timestamp;

use crate::scrape::pool::Shown;

/// What the handlers read.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) targets: Arc<Mutex<Vec<Shown>>>,
    pub(crate) started: Timestamp,
}

/// The routes of the API.
pub(crate) fn router(source: Source) -> Router {
    Router::new().route("/api/v1/targets", get(targets::list)).with_state(source)
}
