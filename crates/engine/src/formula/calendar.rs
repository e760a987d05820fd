//! Time in formulas: `now()`, dates, durations, and what they are asked for.
//!
//! The time is the one that the decision is made at; nothing here reads a clock. `now()` is in UTC, as in KEDA's
//! container, and time zones come with the program, so that the same input gives the same answer on every machine.

use jiff::civil::{Date, DateTime};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, Zoned};

use super::arithmetic;
use super::function::Method;
use super::node::Binary;
use super::value::{Value, expected};
use super::{FormulaError, Result};
use crate::time::Time;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The time of the decision.
pub(super) fn now(time: Time, zone: TimeZone, column: usize) -> Result<Value> {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    match Timestamp::from_millisecond(millis) {
        Ok(timestamp) => Ok(Value::Time(Box::new(timestamp.to_zoned(zone)))),
        Err(_) => Err(FormulaError::new(column, "the time is beyond the calendar")),
    }
}

pub(super) fn zone(name: &str, column: usize) -> Result<TimeZone> {
    let zone = TimeZoneDatabase::bundled().get(name);
    zone.map_err(|_| {
        FormulaError::new(column, format!("unknown time zone {name:?}; write \"Europe/Berlin\""))
    })
}

/// `2026-12-24`, `2026-12-24 18:00:00`, or RFC 3339, which brings its own offset.
pub(super) fn date(text: &str, zone: TimeZone, column: usize) -> Result<Value> {
    let zoned = parse_date(text, zone).ok_or_else(|| {
        FormulaError::new(
            column,
            format!("{text:?} is not a date; write \"2026-12-24\" or \"2026-12-24 18:00:00\""),
        )
    })?;
    Ok(Value::Time(Box::new(zoned)))
}

fn parse_date(text: &str, zone: TimeZone) -> Option<Zoned> {
    if text.contains('T') {
        return Some(text.parse::<Timestamp>().ok()?.to_zoned(zone));
    }
    let shape = |wanted: &str| {
        text.len() == wanted.len()
            && text.bytes().zip(wanted.bytes()).all(|(found, wanted)| match wanted {
                b'0' => found.is_ascii_digit(),
                other => found == other,
            })
    };
    if shape("0000-00-00") {
        return text.parse::<Date>().ok()?.to_zoned(zone).ok();
    }
    if shape("0000-00-00 00:00:00") {
        return text.parse::<DateTime>().ok()?.to_zoned(zone).ok();
    }
    None
}

/// A duration as Go writes it, such as `1h30m` or `-1.5s`.
pub(super) fn duration(text: &str, column: usize) -> Result<Value> {
    parse_duration(text).map(Value::Duration).ok_or_else(|| {
        FormulaError::new(column, format!("{text:?} is not a duration; write \"90s\", \"15m\" or \"1h30m\""))
    })
}

fn parse_duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut nanos = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit =
            rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len() - digits);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == &rest[digits..digits + unit])?;
        nanos += number * scale;
        rest = &rest[digits + unit..];
    }
    (nanos < i64::MAX as f64).then_some((sign * nanos).round() as i64)
}

/// What a time, a duration, a weekday or a month answers.
pub(super) fn method(
    method: Method,
    receiver: &Value,
    argument: Option<&Value>,
    column: usize,
) -> Result<Value> {
    match receiver {
        Value::Time(time) => match argument {
            Some(argument) => with_argument(method, receiver, time, argument, column),
            None => Ok(part(method, time)),
        },
        Value::Duration(nanos) => Ok(Value::Float(match method {
            Method::Hours => *nanos as f64 / 3.6e12,
            Method::Minutes => *nanos as f64 / 6e10,
            _ => *nanos as f64 / 1e9,
        })),
        Value::Weekday(day) => Ok(named(&DAYS, *day)),
        Value::Month(month) => Ok(named(&MONTHS, month - 1)),
        other => {
            let message = format!("{} has no method {}", other.type_name(), method.name());
            Err(FormulaError::new(column, message))
        }
    }
}

fn named(names: &[&str], index: i8) -> Value {
    let name = usize::try_from(index).ok().and_then(|index| names.get(index)).copied();
    Value::Text(name.unwrap_or_default().into())
}

fn part(method: Method, time: &Zoned) -> Value {
    let whole = |number: i64| Value::Int(number);
    match method {
        Method::Year => whole(time.year().into()),
        Method::Month => Value::Month(time.month()),
        Method::Day => whole(time.day().into()),
        Method::Hour => whole(time.hour().into()),
        Method::Minute => whole(time.minute().into()),
        Method::Second => whole(time.second().into()),
        Method::YearDay => whole(time.day_of_year().into()),
        Method::Weekday => Value::Weekday(time.weekday().to_sunday_zero_offset()),
        Method::Utc => Value::Time(Box::new(time.with_time_zone(TimeZone::UTC))),
        _ => whole(time.timestamp().as_second()),
    }
}

fn with_argument(
    method: Method,
    receiver: &Value,
    time: &Zoned,
    argument: &Value,
    column: usize,
) -> Result<Value> {
    let other = |wanted: &str| expected(wanted, argument, column);
    match (method, argument) {
        (Method::In, Value::Zone(zone)) => Ok(Value::Time(Box::new(time.with_time_zone(zone.clone())))),
        (Method::In, _) => Err(other("a time zone")),
        (Method::Add, Value::Duration(_)) => arithmetic::compute(Binary::Add, receiver, argument, column),
        (Method::Add, _) => Err(other("a duration")),
        (_, Value::Time(_)) => match (method, receiver.order(argument)) {
            (Method::Sub, _) => arithmetic::compute(Binary::Subtract, receiver, argument, column),
            (Method::After, order) => Ok(Value::Bool(order.is_some_and(std::cmp::Ordering::is_gt))),
            (Method::Before, order) => Ok(Value::Bool(order.is_some_and(std::cmp::Ordering::is_lt))),
            (_, order) => Ok(Value::Bool(order.is_some_and(std::cmp::Ordering::is_eq))),
        },
        _ => Err(other("a time")),
    }
}
