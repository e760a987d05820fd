//! `startupBoost` of a VerticalPodAutoscaler: how much more CPU a container gets while it starts (AEP-7862).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::resources::scale_amount;
use crate::time::seconds;

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
    pub(super) fn apply(self, millis: i64) -> i64 {
        match self {
            Self::Factor(factor) => scale_amount(millis, f64::from(factor)),
            Self::Quantity(more) => millis.saturating_add(more),
        }
    }
}
