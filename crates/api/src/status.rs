//! What a decision looks like from outside: the status, conditions and events of the HorizontalPodAutoscaler
//! and the ScaledObject.
//!
//! Everything is made from a [`Decision`](flyball_engine::Decision) and the status before it, by merging: a
//! condition keeps its transition time until its status changes, and fields that a decision says nothing
//! about stay as they were. Words are those of kube-controller-manager and KEDA, because people and tools
//! search for them.

mod events;
mod hpa;
mod metric_name;
mod scaled_object;

pub use events::{Decided, Event, hpa_events, scaled_object_events, without_numbers};
pub use hpa::{Outcome, hpa_refused, hpa_status};
pub(crate) use scaled_object::joined;
pub use scaled_object::{checked_failed, decided, defined};
