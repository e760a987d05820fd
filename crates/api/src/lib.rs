//! Kubernetes and KEDA kinds, and what they mean to the engine.

pub mod admission;
pub mod keda_hpa;
pub mod kinds;
pub mod lint;
pub mod plan;
pub mod problem;
pub mod quantity;
pub mod read;
pub mod scaled_object;
pub mod selector;
pub mod status;
pub mod trigger;
