//! Tests of the public surface of `flyball-api`, one module a concern.
#![allow(clippy::disallowed_methods, reason = "these tests read manifests from disk")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a test result")]

mod admission;
mod crds;
mod hpa;
mod lint;
mod monitors;
mod plans;
mod status;
mod triggers;
mod vertical;
