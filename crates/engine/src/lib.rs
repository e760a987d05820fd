//! How many replicas, and why: a pure function of facts and time.
//!
//! The engine is told facts with [`Engine::observe`], asked with [`Engine::evaluate`], and says with
//! [`Engine::next_evaluation`] when it wants to be asked again. It reads no clock, does no I/O and knows no Kubernetes:
//! the same facts at the same times give the same decisions, byte for byte, in a cluster, on one machine and in a
//! simulation.
//!
//! ```
//! use flyball_engine::*;
//!
//! // 20 requests a second for each replica, between 1 and 10 replicas.
//! let rate = MetricSource::External { metric: "request_rate".into(), selector: None };
//! let rate = Metric::new("request_rate", rate, MetricTarget::AverageValue(Milli::new(20_000)))?;
//! let policy = Policy::new(Bounds::new(1, 10, None)?, Metrics::new(vec![rate], None)?);
//!
//! let (target, now) = (TargetId::new("Deployment", "default", "model"), Time::from_seconds(1_800_000_000));
//! let scale = Scale { spec_replicas: 3, status_replicas: 3, selector: Selector::Valid };
//! let reading = Reading::Value { value: 83.2, at: now };
//! let mut engine = Engine::new();
//! engine.observe(now, Observation::Policy { target: target.clone(), policy: Box::new(policy) });
//! engine.observe(now, Observation::Scale { target: target.clone(), scale });
//! engine.observe(now, Observation::Metric { target, metric: "request_rate".into(), reading });
//!
//! let decisions = engine.evaluate(now);
//! assert_eq!(decisions[0].desired, 5);
//! assert_eq!(
//!     decisions[0].steps[0].reason.to_string(),
//!     "request_rate reads 83.2 where 20 per replica is wanted, so 5 replicas"
//! );
//! # Ok::<(), PolicyError>(())
//! ```
//!
//! Reading order: [`Decision`] → [`Observation`] → [`Policy`] → `target.rs` (the pipeline, in one function) → the stages
//! (`recommend`, `activate`, `stabilize`, `pace`, bounds in `target.rs`, `share`). Each stage's file opens with its
//! rules. [`Rules`] says where they are the HorizontalPodAutoscaler's, KEDA's or ours.

mod activate;
mod behavior;
mod decision;
mod demand;
mod engine;
mod formula;
mod hpa;
mod memory;
mod metric;
mod milli;
mod name;
mod objective;
mod observation;
mod pace;
mod pod;
mod policy;
mod policy_error;
pub mod queueing;
mod reason;
mod recommend;
mod rules;
mod scaled_job;
mod share;
mod stabilize;
mod target;
mod time;
mod turning_point;
pub mod vertical;

pub use behavior::{
    Behavior, PERIOD_MAX, PolicyKind, STABILIZATION_WINDOW_MAX, ScalingPolicy, ScalingRules, SelectPolicy,
};
pub use decision::{
    Activity, ActivityState, CurrentMetric, Decision, Proposal, Side, Stage, Step, TurningPoint,
};
pub use demand::{BUCKETS_MAX, CpuUse, Demand, Latency};
pub use engine::Engine;
pub use formula::{Formula, FormulaError};
pub use hpa::{Condition, ConditionType, Written};
pub use memory::{Event, Events, Memory, Recommendation, Recommendations};
pub use metric::{Metric, MetricSource, MetricTarget, QuantityFormat};
pub use milli::Milli;
pub use name::{MetricName, Name, PoolName, TargetId};
pub use objective::{OBJECTIVES_MAX, Objective, ObjectiveError, Objectives};
pub use observation::{Observation, Reading, Scale, Selector};
pub use pod::{ContainerRequests, Phase, Pod, PodGroup, PodRequests, PodValue, Readiness, Sampled};
pub use policy::{
    Activation, Bounds, COMPOSITE_METRIC_NAME, Composite, Fallback, FallbackBehavior, Metrics, Pause, Policy,
    SLO_METRIC_NAME, Share, Slo,
};
pub use policy_error::{METRICS_MAX, PolicyError};
pub use reason::{Cause, Measured, ObjectiveReason, Over, Pace, PaceRule, Reason, Unavailable};
pub use recommend::SloMemory;
pub use rules::{NoBehavior, Rules, Tolerance, ZeroRule};
pub use scaled_job::{JobCalculation, JobDecision, JobPolicy, JobReason, JobStrategy, JobTrigger};
pub use time::{InvalidTime, Time};
