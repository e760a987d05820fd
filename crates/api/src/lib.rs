//! Kubernetes and KEDA kinds, and what they mean to the engine.

pub mod kinds;
