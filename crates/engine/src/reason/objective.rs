//! The reasons of an objective.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sentence::{Seconds, count};
use crate::milli::Milli;
use crate::time::{Time, seconds};

/// Why an objective asks for so many replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ObjectiveReason {
    /// What a replica carries is not known yet.
    Learning,
    /// A request alone takes longer than the bound.
    Unmeetable {
        /// The objective.
        objective: String,
        /// Seconds of a request that does not wait.
        service: Milli,
    },
    /// What arrives now over what a replica carries.
    Demand {
        /// The objective.
        objective: String,
        /// Requests a second.
        rate: Milli,
        /// Requests a second that each of so many replicas carries within the objective.
        each: Milli,
        /// Percent of requests that missed the objective without an explanation, and what is left of a replica's
        /// learned capacity for it, in percent.
        trim: Option<(Milli, Milli)>,
    },
    /// More may arrive before a replica ordered now serves.
    Forecast {
        /// Requests a second.
        bound: Milli,
        /// From order to service.
        #[serde(with = "seconds")]
        startup: Duration,
        /// What it is made of.
        #[serde(with = "seconds")]
        past: Duration,
        /// It follows a trend.
        trend: bool,
    },
    /// Requests wait.
    Waiting {
        /// How many.
        waiting: Milli,
        /// Replicas beyond those that the rate needs.
        extra: u32,
    },
    /// They were needed not long ago.
    Held {
        /// When.
        needed_at: Time,
        /// From order to service.
        #[serde(with = "seconds")]
        startup: Duration,
    },
    /// Not more than so many times as many at once.
    Growth {
        /// How many times.
        factor: u32,
    },
}

impl ObjectiveReason {
    /// As [`Reason::code`](super::Reason::code).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Learning => "ObjectiveLearning",
            Self::Unmeetable { .. } => "ObjectiveUnmeetable",
            Self::Demand { trim: Some(_), .. } => "ObjectiveMissed",
            Self::Demand { .. } => "ObjectiveDemand",
            Self::Forecast { .. } => "ObjectiveForecast",
            Self::Waiting { .. } => "ObjectiveWaiting",
            Self::Held { .. } => "ObjectiveHeld",
            Self::Growth { .. } => "ObjectiveGrowth",
        }
    }
}

impl fmt::Display for ObjectiveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Learning => f.write_str("what a replica carries within the objective is not known yet"),
            Self::Unmeetable { objective, service } => write!(
                f,
                "a request takes {service} s without any waiting, so no number of replicas keeps {objective}; \
                 relax the objective, or make replicas larger"
            ),
            Self::Demand { objective, rate, each, trim } => {
                write!(
                    f,
                    "{rate} requests/s arrive, and a replica carries {each} of them within {objective}"
                )?;
                match trim {
                    Some((share, left)) => write!(
                        f,
                        "; {share} % missed it and nothing explains that, so a replica is taken to carry {left} % of what was learned"
                    ),
                    None => Ok(()),
                }
            }
            Self::Forecast { bound, startup, past, trend } => {
                let basis = if *trend { "trend" } else { "mean" };
                write!(
                    f,
                    "up to {bound} requests/s may arrive in the {} that a new replica takes, by the {basis} of the last {} and its errors",
                    Seconds(*startup),
                    Seconds(*past)
                )
            }
            Self::Waiting { waiting, extra } => {
                write!(
                    f,
                    "{waiting} requests wait, so {} more until they are answered",
                    count(*extra, "replica")
                )
            }
            Self::Held { needed_at, startup } => write!(
                f,
                "so many were needed at {needed_at}, and it takes {} to get one back",
                Seconds(*startup)
            ),
            Self::Growth { factor } => write!(f, "at most {factor} times as many at one evaluation"),
        }
    }
}
