//! Whole worlds: an API server in process, a node, real processes, real connections.
//!
//! Every wait is for an event, bounded by `harness::PATIENCE`. Where the kernel refuses namespaces or control groups, the tests that
//! need them say "skipped" and why.
#![allow(clippy::disallowed_methods, reason = "these tests start processes and open sockets")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a test's result")]

mod faults;
mod features;
mod harness;
mod pods;
mod resize;
mod services;
mod workloads;
