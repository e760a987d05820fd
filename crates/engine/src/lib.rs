//! How many replicas, and why: a pure function of facts and time.
//!
//! The engine is told facts with [`Engine::observe`], asked with [`Engine::evaluate`], and says with
//! [`Engine::next_evaluation`] when it wants to be asked again. It reads no clock, does no I/O and knows no Kubernetes:
//! the same facts at the same times give the same decisions, byte for byte, in a cluster, on one machine and in a
//! simulation.
//!
//! Reading order: [`Decision`] → [`Observation`] → [`Policy`] → `target` (the pipeline, in one function) → the stages
//! (`recommend`, `activate`, `stabilize`, `pace`, `bound`, `share`). Each stage's file opens with its rules.

mod activate;
mod behavior;
mod decision;
mod engine;
mod formula;
mod hpa;
mod memory;
mod metric;
mod milli;
mod name;
mod observation;
mod pace;
mod pod;
mod policy;
mod policy_error;
mod reason;
mod recommend;
mod rules;
mod scaled_job;
mod share;
mod stabilize;
mod target;
mod time;
mod turning_point;

pub use behavior::{
    Behavior, PERIOD_MAX, PolicyKind, STABILIZATION_WINDOW_MAX, ScalingPolicy, ScalingRules, SelectPolicy,
};
pub use decision::{
    Activity, ActivityState, CurrentMetric, Decision, Proposal, Side, Stage, Step, TurningPoint,
};
pub use engine::Engine;
pub use formula::{Formula, FormulaError};
pub use hpa::{Condition, ConditionType, Written};
pub use memory::{Event, Events, Memory, Recommendation, Recommendations};
pub use metric::{Metric, MetricSource, MetricTarget, QuantityFormat};
pub use milli::Milli;
pub use name::{MetricName, Name, PoolName, TargetId};
pub use observation::{Observation, Reading, Scale, Selector};
pub use pod::{ContainerRequests, Phase, Pod, PodGroup, PodRequests, PodValue, Readiness};
pub use policy::{
    Activation, Bounds, COMPOSITE_METRIC_NAME, Composite, Fallback, FallbackBehavior, METRICS_MAX, Metrics,
    Pause, Policy, Share,
};
pub use policy_error::PolicyError;
pub use reason::{Cause, Measured, Over, Pace, PaceRule, Reason, Unavailable};
pub use rules::{NoBehavior, Rules, Tolerance, ZeroRule};
pub use scaled_job::{JobCalculation, JobDecision, JobPolicy, JobReason, JobStrategy, JobTrigger};
pub use time::{InvalidTime, Time};
