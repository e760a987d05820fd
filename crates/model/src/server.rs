//! The server: two ports, one queue, durations that include waiting, and a graceful shutdown.
//!
//! - Port 8000 answers `/predict`, `/batch-predict`, `/health`, `/ready`, `/openapi.json` and `/`.
//! - Port 9100 answers `/metrics` and `/`, so that a scrape never queues behind the load that it measures.
//!
//! # Duration of a request
//!
//! From the moment its bytes reached this machine (`arrival.rs`) to the moment its response is ready. A server that
//! starts the clock in the handler does not see its own queue: a FastAPI server under the same load reported a mean of
//! 1 ms while its clients waited 156 ms. An autoscaler that trusts such a number never acts.
//!
//! # Start and shutdown
//!
//! The model is loaded and both ports listen before [`Server::bind`] returns, so a server that answers at all is ready.
//! `lifecycle.rs` describes the shutdown.

mod arrival;
mod connections;
mod exposition;
mod lifecycle;
mod metrics;
mod options;
mod process;
mod queue;
mod responses;
mod routes;
mod state;

pub use lifecycle::{ServeError, Server, Stop, run, serve};
pub use options::Options;

#[cfg(test)]
mod tests;
