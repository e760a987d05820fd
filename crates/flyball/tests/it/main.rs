//! The whole product, used as its users use it: the real binary, and the real kubectl where it is installed.
//!
//! Most of it is data: a transcript of `transcripts/` is a shell session with the output that it must have, run against
//! a world of its own. What a session cannot say (streams, kills, load while something changes) is written in Rust.
#![allow(clippy::disallowed_methods, reason = "these tests start programs, and read clocks and files")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod faults;
mod http;
mod load;
mod sessions;
mod streams;
mod transcript;
mod vertical;
mod world;
mod zero;
