//! What a target promises: `p95 < 100ms`, `99% < 200ms`, `mean < 50ms`, `errors < 0.1%`, several joined by `and`.
//!
//! `p95 < 100ms` and `95% < 100ms` say the same: at most 5 % of the requests may take longer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// More parts than any promise has.
pub const OBJECTIVES_MAX: usize = 8;

/// A longer bound is no promise: an hour, in seconds.
const SECONDS_MAX: f64 = 3600.0;

/// One part of a promise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// This share of the requests (0–1, neither end) takes less than so many seconds.
    Share {
        /// The share that keeps the bound.
        share: f64,
        /// The bound in seconds.
        seconds: f64,
    },
    /// The mean latency is below so many seconds.
    Mean {
        /// The bound in seconds.
        seconds: f64,
    },
    /// The share of requests that fail (0–1) is below this.
    Errors {
        /// The bound.
        share: f64,
    },
}

/// All that a target promises; at least one part.
#[derive(Clone, Debug, PartialEq)]
pub struct Objectives(Vec<Objective>);

/// Why a text is no objective.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("objective `{part}`: {why}")]
pub struct ObjectiveError {
    /// The part that is wrong, at most 60 characters of it.
    pub part: String,
    /// What is wrong with it, and what to write.
    pub why: String,
}

impl Objectives {
    /// The parts, in the order they were written.
    pub fn list(&self) -> &[Objective] {
        &self.0
    }

    /// The strictest latency that a share of the requests must keep: the shortest bound, with the share that may exceed
    /// it. None where no part is about latency. A mean counts as a bound that half of the requests may exceed.
    pub fn latency(&self) -> Option<(f64, f64)> {
        let parts = self.0.iter().filter_map(|objective| match *objective {
            Objective::Share { share, seconds } => Some((seconds, 1.0 - share)),
            Objective::Mean { seconds } => Some((seconds, 0.5)),
            Objective::Errors { .. } => None,
        });
        parts.min_by(|a, b| a.0.total_cmp(&b.0))
    }
}

impl FromStr for Objectives {
    type Err = ObjectiveError;

    fn from_str(text: &str) -> Result<Self, ObjectiveError> {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.is_empty() {
            return Err(error("", "it is empty; write for instance `p95 < 100ms`"));
        }
        let mut parts = Vec::new();
        for part in words.split(" and ") {
            let objective = parse(part.trim())?;
            if parts.iter().any(|other| same_subject(other, &objective)) {
                return Err(error(part, "it is said twice; keep one of them"));
            }
            parts.push(objective);
        }
        if parts.len() > OBJECTIVES_MAX {
            return Err(error(&words, &format!("more than {OBJECTIVES_MAX} parts")));
        }
        Ok(Self(parts))
    }
}

fn error(part: &str, why: &str) -> ObjectiveError {
    ObjectiveError { part: part.chars().take(60).collect(), why: why.to_owned() }
}

fn same_subject(a: &Objective, b: &Objective) -> bool {
    match (a, b) {
        (Objective::Share { share: one, .. }, Objective::Share { share: other, .. }) => one == other,
        (Objective::Mean { .. }, Objective::Mean { .. })
        | (Objective::Errors { .. }, Objective::Errors { .. }) => true,
        _ => false,
    }
}

fn parse(part: &str) -> Result<Objective, ObjectiveError> {
    let wrong = |why: &str| error(part, why);
    let Some((subject, bound)) = part.split_once('<') else {
        let why = if part.contains('>') {
            "it promises that something is slow; write `<`"
        } else {
            "it has no `<`; write for instance `p95 < 100ms`"
        };
        return Err(wrong(why));
    };
    let (subject, bound) = (subject.trim(), bound.trim().trim_start_matches('=').trim());
    match subject {
        "mean" | "avg" | "average" => {
            seconds(bound).map(|seconds| Objective::Mean { seconds }).map_err(|why| wrong(&why))
        }
        "errors" | "error" => {
            share_of_errors(bound).map(|share| Objective::Errors { share }).map_err(|why| wrong(&why))
        }
        _ => {
            let share = share(subject).map_err(|why| wrong(&why))?;
            seconds(bound).map(|seconds| Objective::Share { share, seconds }).map_err(|why| wrong(&why))
        }
    }
}

/// `p95`, `p99.9`, `95%`, `99.9 %`.
fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_prefix(['p', 'P']).or_else(|| text.strip_suffix('%')).map(str::trim);
    let percent: Option<f64> = number.and_then(|number| number.parse().ok());
    match percent {
        Some(percent) if percent > 0.0 && percent < 100.0 => Ok(percent / 100.0),
        Some(_) => Err(format!("`{text}` must be above 0 and below 100; no system can promise 100 %")),
        None => Err(format!("`{text}` is none of p95, 95%, mean, errors")),
    }
}

/// `100ms`, `0.1s`, `2 s`, `1m`.
fn seconds(text: &str) -> Result<f64, String> {
    let units = [("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("s", 1.0), ("m", 60.0)];
    let read = units.iter().find_map(|(unit, scale)| {
        let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        Some(number * scale)
    });
    match read {
        Some(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => Ok(seconds),
        Some(_) => Err(format!("`{text}` must be above zero and at most an hour")),
        None if text.parse::<f64>().is_ok() => {
            Err(format!("`{text}` has no unit; write {text}ms or {text}s"))
        }
        None => Err(format!("`{text}` is no duration; write for instance 100ms")),
    }
}

fn share_of_errors(text: &str) -> Result<f64, String> {
    let percent: Option<f64> = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
    match percent {
        Some(percent) if percent > 0.0 && percent < 100.0 => Ok(percent / 100.0),
        Some(_) => Err(format!("`{text}` must be above 0 % and below 100 %")),
        None => Err(format!("`{text}` is no percentage; write for instance 0.1%")),
    }
}

/// A number with at most six digits after the point, and no more than it needs.
fn plain(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = |seconds: f64| match seconds < 1.0 {
            true => format!("{}ms", plain(seconds * 1000.0)),
            false => format!("{}s", plain(seconds)),
        };
        match *self {
            Self::Share { share, seconds } => write!(f, "p{} < {}", plain(share * 100.0), bound(seconds)),
            Self::Mean { seconds } => write!(f, "mean < {}", bound(seconds)),
            Self::Errors { share } => write!(f, "errors < {}%", plain(share * 100.0)),
        }
    }
}

impl fmt::Display for Objectives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, objective) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" and ")?;
            }
            objective.fmt(f)?;
        }
        Ok(())
    }
}

impl Serialize for Objectives {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Objectives {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_are_read_and_written() {
        for (text, written) in [
            ("p95 < 100ms", "p95 < 100ms"),
            ("99% < 200ms", "p99 < 200ms"),
            ("99.9 % <= 2 s", "p99.9 < 2s"),
            ("P50<1m", "p50 < 60s"),
            ("mean < 50ms", "mean < 50ms"),
            ("avg < 0.5ms", "mean < 0.5ms"),
            ("errors < 0.1%", "errors < 0.1%"),
            ("p95 < 100ms and p99 < 300ms and errors < 1%", "p95 < 100ms and p99 < 300ms and errors < 1%"),
        ] {
            let objectives: Objectives = text.parse().expect(text);
            assert_eq!(objectives.to_string(), written);
            assert_eq!(written.parse::<Objectives>().as_ref(), Ok(&objectives));
            let json = serde_json::to_string(&objectives).expect("it can be written");
            assert_eq!(serde_json::from_str::<Objectives>(&json).expect("and read"), objectives);
        }
    }

    #[test]
    fn what_is_no_objective_is_refused_with_what_to_write() {
        for (text, message) in [
            ("", "objective ``: it is empty; write for instance `p95 < 100ms`"),
            ("fast", "objective `fast`: it has no `<`; write for instance `p95 < 100ms`"),
            ("p95 > 100ms", "objective `p95 > 100ms`: it promises that something is slow; write `<`"),
            ("p95 < 100", "objective `p95 < 100`: `100` has no unit; write 100ms or 100s"),
            ("p95 < soon", "objective `p95 < soon`: `soon` is no duration; write for instance 100ms"),
            ("p95 < 0ms", "objective `p95 < 0ms`: `0ms` must be above zero and at most an hour"),
            ("p95 < NaNms", "objective `p95 < NaNms`: `NaNms` must be above zero and at most an hour"),
            (
                "p100 < 1s",
                "objective `p100 < 1s`: `p100` must be above 0 and below 100; no system can promise 100 %",
            ),
            ("latency < 1s", "objective `latency < 1s`: `latency` is none of p95, 95%, mean, errors"),
            ("errors < 1", "objective `errors < 1`: `1` is no percentage; write for instance 0.1%"),
            ("p95 < 1s and 95% < 2s", "objective `95% < 2s`: it is said twice; keep one of them"),
        ] {
            let error = text.parse::<Objectives>().expect_err(text);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn the_shortest_bound_is_the_strictest() {
        let of = |text: &str| text.parse::<Objectives>().expect("an objective").latency();
        assert_eq!(of("p95 < 100ms and p99 < 300ms").map(|(seconds, _)| seconds), Some(0.1));
        assert_eq!(of("errors < 1%"), None);
        assert_eq!(of("mean < 50ms"), Some((0.05, 0.5)));
    }
}
