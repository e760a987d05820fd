//! The house-price model and its server.
//!
//! A real model server to scale: gradient boosting trained on 21,596 sales of King County (2014–2015), responses in the
//! shape that FastAPI gives them, and metrics that include the time a request waits.
//!
//! Read in this order:
//!
//! - [`House`]: the input of a prediction. [`Model`]: the prediction, and the model file.
//! - [`train`]: from sales to a model, with the measured coverage of its intervals.
//! - `input`: from request bytes to houses, or every problem at once.
//! - [`server`]: the two ports, the queue, the metrics, the drain.
//!
//! The model is trained with `forust-ml` and served by about a hundred lines of our own code. The trees become flat
//! arrays of 60 kB that load in a tenth of a millisecond; the library's JSON takes 1.6 MB and 8 ms, which matters to a
//! pod limited to a tenth of a core.

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

pub use house::{FEATURES, House, Location};
pub use model::{Model, ModelError, Prediction};
