//! More CPU while a container starts (AEP-7862, `pkg/admission-controller/resource/pod/patch/resource_updates.go`).
//!
//! Admission gives it and notes down what the container had; the updater takes it away again in place once the pod has
//! been ready for long enough, in every update mode.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::facts::{Boosted, PodFacts};
use super::limits::proportional_limit;
use super::policy::{ControlledValues, VerticalPolicy, VerticalRules};
use super::resources::{ContainerResources, Resource, Resources, scale_amount};
use crate::time::{Time, seconds};

/// `startupBoost.cpu`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartupBoost {
    /// How much more.
    pub more: More,
    /// `durationSeconds`: how long after the pod became ready.
    #[serde(with = "seconds")]
    pub duration: Duration,
}

/// How much more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum More {
    /// So many times as much; at least once.
    Factor(u32),
    /// So many millicores more. (VPA's field documentation says that it is the new amount; the code adds it.)
    Quantity(i64),
}

/// A boost that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BoostError {
    /// Less than once.
    #[error("boost factor must be >= 1")]
    Factor,
    /// The field that goes with the type is missing.
    #[error("startupBoost.CPU.{0} is required when Type is {0}")]
    Missing(&'static str),
    /// Neither `Factor` nor `Quantity`.
    #[error("unsupported startup boost type: {0}")]
    Type(String),
}

impl More {
    /// From the fields of the manifest; no type means `Factor`.
    ///
    /// # Errors
    ///
    /// Another type, a missing field, a factor below 1.
    pub fn new(kind: &str, factor: Option<i32>, quantity_millis: Option<i64>) -> Result<Self, BoostError> {
        match kind {
            "" | "Factor" => {
                let factor = u32::try_from(factor.ok_or(BoostError::Missing("Factor"))?);
                factor.ok().filter(|factor| *factor >= 1).map(Self::Factor).ok_or(BoostError::Factor)
            }
            "Quantity" => quantity_millis.map(Self::Quantity).ok_or(BoostError::Missing("Quantity")),
            other => Err(BoostError::Type(other.chars().take(40).collect())),
        }
    }

    /// What becomes of an amount.
    fn apply(self, millis: i64) -> i64 {
        match self {
            Self::Factor(factor) => scale_amount(millis, f64::from(factor)),
            Self::Quantity(more) => millis.saturating_add(more),
        }
    }
}

/// Adds a boost to what a container is about to get.
pub(crate) fn boost(
    boost: &StartupBoost,
    original: &ContainerResources,
    values: ControlledValues,
    rules: &VerticalRules,
    new: &mut ContainerResources,
) {
    let base = new.requests.bound(Resource::Cpu).unwrap_or(original.requests.amount(Resource::Cpu));
    let mut boosted = boost.more.apply(base);
    if let Some(max) = rules.max_allowed_cpu_boost_millis.filter(|max| *max != 0) {
        boosted = boosted.min(max);
    }
    match values {
        ControlledValues::RequestsOnly => boosted = under_limit(boosted, original),
        ControlledValues::RequestsAndLimits => {
            let (limit, _) = proportional_limit(Resource::Cpu, original, boosted, &Resources::default());
            new.limits.set(Resource::Cpu, limit.or(new.limits.get(Resource::Cpu)));
        }
    }
    new.requests.set(Resource::Cpu, Some(boosted));
}

/// A request that exceeds the limit stays 1m under it, so that the pod's quality-of-service class stays what it is.
fn under_limit(boosted: i64, original: &ContainerResources) -> i64 {
    match original.limits.get(Resource::Cpu) {
        Some(limit) if boosted > limit => {
            if limit > 1 {
                limit - 1
            } else {
                limit
            }
        }
        _ => boosted,
    }
}

/// The annotation `vpaCpuStartupBoost/NAME`: what a container had.
pub(crate) fn annotation(original: &ContainerResources) -> String {
    let list = |resources: &Resources| {
        let mut list = String::from("{");
        if let Some(cpu) = resources.get(Resource::Cpu) {
            // Writing to a String can't fail.
            let _ = write!(list, "\"cpu\":\"{}\"", Resource::Cpu.quantity(cpu));
        }
        list + "}"
    };
    format!("{{\"requests\":{},\"limits\":{}}}", list(&original.requests), list(&original.limits))
}

/// The boosts of a pod that are over.
pub(crate) fn over<'a>(
    now: Time,
    pod: &'a PodFacts,
    policy: &'a VerticalPolicy,
) -> impl Iterator<Item = &'a Boosted> {
    pod.boosted.iter().filter(move |boosted| {
        let duration = policy.boost(&boosted.container).map_or(Duration::ZERO, |boost| boost.duration);
        pod.ready_since.is_some_and(|since| now.since(since) >= duration)
    })
}
