//! The answer to a query, and the rules by which it becomes a reading.
//!
//! The rules are KEDA's where there is a number; where there is none, they differ on purpose: an empty result is
//! *missing*, NaN over fresh series is *idle*, a value whose target cannot be scraped is *stale*, and an answer that
//! says that it is not complete is *partial*. `ignoreNullValues` in the manifest brings KEDA's rules back for what KEDA
//! calls null, which is an empty result, NaN and the infinities: `"true"` reads zero, `"false"` fails. An answer that is
//! still awaited, or not a success, is not a null value.

use std::time::Duration;

use flyball_engine::{Reading, Time};

use crate::gather::source::caller::{TIMEOUT_DEFAULT, without_credentials};

/// How old an answer may be, beyond twice the time-out of the request for the next one.
const ANSWER_AGE_MARGIN: Duration = Duration::from_secs(10);

/// What a query came to, before the rules for readings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// One number.
    Number(f64),
    /// NaN, though the series are there and fresh: nothing happened in the window.
    Nothing,
    /// NaN, and why that does not say that nothing happened.
    NotANumber(String),
    /// No series, and why.
    Empty(String),
    /// A number of which the source says that it is not whole, and its words.
    Partial { value: f64, why: String },
    /// A number that is too old, and why there is no newer one.
    Stale { value: f64, at: Time, why: String },
    /// Nothing yet, and why.
    Unknown(String),
    /// No answer that can be used, and why.
    Failed(String),
}

/// The last answer of a server and when it was asked for, unless there is none, or it is so old that the server must have
/// stopped to answer.
pub(crate) fn last_answer(
    last: Option<(Answer, Time)>,
    address: &str,
    timeout: Option<Duration>,
    now: Time,
) -> (Answer, Time) {
    let server = without_credentials(address);
    let Some((answer, at)) = last else {
        return (Answer::Unknown(format!("{server} has not answered yet")), now);
    };
    if now.since(at) <= timeout.unwrap_or(TIMEOUT_DEFAULT) * 2 + ANSWER_AGE_MARGIN {
        return (answer, at);
    }
    let why = format!("{server} has not answered since {at}");
    match answer {
        Answer::Number(value) | Answer::Partial { value, .. } | Answer::Stale { value, .. } => {
            (Answer::Stale { value, at, why }, at)
        }
        _ => (Answer::Failed(why), now),
    }
}

/// An answer as a reading, by `ignoreNullValues`.
pub(crate) fn reading(answer: Answer, ignore_null_values: Option<bool>, at: Time) -> Reading {
    let zero = Reading::Value { value: 0.0, at };
    let failed = |error: &str| Reading::Failed { error: error.to_owned() };
    match (answer, ignore_null_values) {
        (Answer::Number(value), _) if value.is_finite() => Reading::Value { value, at },
        (Answer::Number(_) | Answer::Nothing | Answer::NotANumber(_) | Answer::Empty(_), Some(true)) => zero,
        (Answer::Number(value), _) => failed(&format!("prometheus query returns {value}")),
        (Answer::Nothing | Answer::NotANumber(_), Some(false)) => failed("prometheus query returns NaN"),
        (Answer::Nothing, None) => Reading::Idle { at },
        (Answer::Empty(_), Some(false)) => {
            failed("prometheus metrics 'prometheus' target may be lost, the result is empty")
        }
        (Answer::Empty(why) | Answer::NotANumber(why), None) => Reading::Missing { why },
        (Answer::Partial { value, why }, _) => Reading::Partial { value, at, why },
        (Answer::Stale { value, at, why }, _) => Reading::Stale { last: value, at, why },
        (Answer::Unknown(why), _) => Reading::Missing { why },
        (Answer::Failed(error), _) => Reading::Failed { error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_data_is_not_no_load_unless_the_trigger_says_so() {
        let now = Time::from_seconds(100);
        let value = |value| Reading::Value { value, at: now };
        let failed = |error: &str| Reading::Failed { error: error.to_owned() };
        let why = || "why".to_owned();
        let missing = || Reading::Missing { why: why() };
        let empty = || Answer::Empty(why());
        let lost = "prometheus metrics 'prometheus' target may be lost, the result is empty";
        let partial = || Answer::Partial { value: 2.5, why: why() };
        let old = Time::from_seconds(10);
        let table = [
            (Answer::Number(2.5), None, value(2.5)),
            (Answer::Number(-1.0), Some(false), value(-1.0)),
            (Answer::Number(f64::INFINITY), None, failed("prometheus query returns inf")),
            (Answer::Number(f64::INFINITY), Some(true), value(0.0)),
            (Answer::Nothing, None, Reading::Idle { at: now }),
            (Answer::Nothing, Some(true), value(0.0)),
            (Answer::Nothing, Some(false), failed("prometheus query returns NaN")),
            (Answer::NotANumber(why()), None, missing()),
            (Answer::NotANumber(why()), Some(true), value(0.0)),
            (Answer::NotANumber(why()), Some(false), failed("prometheus query returns NaN")),
            (empty(), None, missing()),
            (empty(), Some(true), value(0.0)),
            (empty(), Some(false), failed(lost)),
            (Answer::Failed("no".to_owned()), Some(true), failed("no")),
            (Answer::Unknown(why()), Some(true), missing()),
            (Answer::Unknown(why()), Some(false), missing()),
            (partial(), Some(true), Reading::Partial { value: 2.5, at: now, why: why() }),
            (
                Answer::Stale { value: 1.0, at: old, why: why() },
                Some(true),
                Reading::Stale { last: 1.0, at: old, why: why() },
            ),
        ];
        for (answer, ignore, expected) in table {
            assert_eq!(reading(answer.clone(), ignore, now), expected, "{answer:?} {ignore:?}");
        }
    }
}
