//! Kubernetes and KEDA kinds, and what they mean to the engine.
//!
//! An object goes through this crate in five steps, each a pure function of its arguments:
//!
//! 1. [`kinds`]: the CustomResourceDefinitions, and the Rust types that they are made from.
//! 2. [`admission`]: what is refused when it is created or changed, with every problem and its field.
//! 3. [`trigger`]: what each trigger of a ScaledObject asks for.
//! 4. [`plan`]: a policy for the engine and what must be read for it; [`keda_hpa`]: the HorizontalPodAutoscaler that
//!    users expect to see.
//! 5. [`status`]: what the engine decided, as status, conditions and events.
//!
//! [`vertical`] does the same for VerticalPodAutoscalers, whose pods are a second thing to look at.
//!
//! [`lint`] looks at several objects together for mistakes that no server refuses.
//!
//! ```
//! use flyball_api::keda_hpa::keda_hpa;
//! use flyball_api::kinds::scaled_object::ScaledObject;
//! use flyball_api::plan::plan_scaled_object;
//! use flyball_api::trigger::{Resolved, Trigger};
//! use flyball_engine::Rules;
//!
//! let object: ScaledObject = serde_saphyr::from_str(
//!     r#"
//!     apiVersion: keda.sh/v1alpha1
//!     kind: ScaledObject
//!     metadata: {name: model}
//!     spec:
//!       scaleTargetRef: {name: model}
//!       triggers:
//!       - type: prometheus
//!         metadata: {serverAddress: "http://prometheus:9090", query: "sum(rate(requests[1m]))", threshold: "20"}
//!     "#,
//! )?;
//! let triggers = Trigger::parse_all(&object.spec.triggers, |_| Resolved::default()).expect("a good trigger");
//! let plan = plan_scaled_object(&object, &triggers, Rules::default()).expect("a good object");
//! assert_eq!(plan.queries[0].metric.as_str(), "s0-prometheus");
//! let hpa = keda_hpa(&object, &triggers).expect("a good object");
//! assert_eq!(hpa.metadata.name.as_deref(), Some("keda-hpa-model"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod admission;
pub mod duration;
pub mod keda_hpa;
pub mod kinds;
pub mod lint;
pub mod plan;
pub mod problem;
pub mod quantity;
pub mod read;
pub mod scaled_job;
pub mod scaled_object;
pub mod selector;
pub mod status;
pub mod trigger;
pub mod vertical;
