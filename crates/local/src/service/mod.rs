//! Services as listeners on this machine: ClusterIP addresses in 127/8, and NodePorts on 127.0.0.1.
//!
//! A connection is looked at (`listeners`): HTTP/1 is balanced request by request (`http`), so that a client's one connection
//! uses a new pod at once and leaves an old one at once; anything else connection by connection (`stream`). Who gets it is
//! decided in `backends`: the ready endpoint with the fewest requests in flight. Without any, the request waits for one (activation).

mod backends;
mod http;
mod listeners;
mod metrics;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::node::network::Network;

/// Starts the listeners of all Services, present and future.
pub(crate) fn start(cluster: &Cluster, network: &Network, tasks: &mut JoinSet<()>) -> Router {
    let metrics = Arc::new(metrics::Metrics::default());
    listeners::start(cluster, network, &metrics, tasks);
    Router::new().route(
        "/metrics",
        get(async move || {
            ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], metrics.to_text())
        }),
    )
}
