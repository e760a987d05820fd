//! The server: two ports, one queue, the truth about waiting, and a clean end.
//!
//! - Port 8000 answers `/predict`, `/batch-predict`, `/health`, `/ready`, `/openapi.json` and `/`.
//! - Port 9100 answers `/metrics` and `/`, so that a scrape is never behind the load it measures in an accept queue.
//!
//! # What a request's duration is
//!
//! From the moment its bytes reached this machine (`arrival.rs`) to the moment its answer is ready. Servers that start
//! the clock when a handler starts do not see their own queue: the one this was measured against reported a mean of
//! 1 ms while its clients waited 156 ms. An autoscaler that believes such a number never acts.
//!
//! # Start and end
//!
//! The model is loaded and both ports listen before [`Server::bind`] returns, so a server that answers at all is ready.
//! The end is described in `lifecycle.rs`.

mod answers;
mod arrival;
mod connections;
mod exposition;
mod lifecycle;
mod metrics;
mod options;
mod process;
mod queue;
mod routes;
mod state;

pub use lifecycle::{ServeError, Server, Stop, run, serve};
pub use options::Options;

#[cfg(test)]
mod tests;
