//! The house-price model and its server.
//!
//! A real model server to scale: gradient boosting trained on 21,596 sales of King County (2014–2015), answers in the
//! shape of the FastAPI services it stands beside, and metrics that tell an autoscaler the truth about waiting.
//!
//! Read in this order:
//!
//! - [`House`]: what is asked. [`Model`]: what is answered, and the file it is kept in.
//! - [`train`]: from sales to a model, with the measured coverage of its intervals.
//! - `input`: from bytes to houses, or every problem at once.
//! - [`server`]: the two ports, the queue, the metrics, the drain.
//!
//! The model is trained with `forust-ml` and served by about a hundred lines of our own: the trees become flat arrays of
//! 60 kB that are ready in a tenth of a millisecond, where the library's JSON takes 1.6 MB and 8 ms. A pod limited to a
//! tenth of a core notices the difference.

#![allow(
    clippy::disallowed_methods,
    reason = "this crate is a server and a command: it reads files, sockets and the clock"
)]

mod forest;
mod house;
mod input;
mod model;
pub mod server;
pub mod train;

pub use house::{FEATURES, House, Place};
pub use model::{Model, ModelError, Prediction};
