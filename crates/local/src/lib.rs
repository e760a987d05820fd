//! Pods, workload controllers and Services on this machine, through the Kubernetes API only.
#![allow(clippy::disallowed_methods, reason = "this crate is where the machine is touched")]

mod container;
mod quantity;

pub use container::init::container_init;
