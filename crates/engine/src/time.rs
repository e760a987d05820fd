//! Time as the engine knows it: an argument. There is no way to ask for "now" here, so that the same facts give the
//! same decisions in a cluster, on one machine, in a simulation and in a test.
//!
//! A [`Time`] is written and read as RFC 3339 in UTC, with milliseconds only when there are any.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

const MILLIS_PER_DAY: u64 = 86_400_000;

/// Milliseconds since the Unix epoch. Arithmetic saturates at both ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

/// A text that is not a point in time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a time; write it as `2026-01-31T23:59:59Z`")]
pub struct InvalidTime(String);

impl Time {
    /// The first instant after the Unix epoch began, plus `millis`.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Seconds since the Unix epoch.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.0 / MILLIS_PER_DAY);
        let in_day = self.0 % MILLIS_PER_DAY;
        let (seconds, millis) = (in_day / 1000, in_day % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if millis > 0 {
            write!(f, ".{millis:03}")?;
        }
        f.write_str("Z")
    }
}

impl FromStr for Time {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        parse(text).ok_or_else(|| InvalidTime(text.chars().take(40).collect()))
    }
}

fn parse(text: &str) -> Option<Time> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':')?;
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && fraction.len() <= 9
        && fraction.bytes().all(|b| b.is_ascii_digit());
    if !in_range {
        return None;
    }
    let days = days_from_civil(year, month, day);
    if civil_from_days(days) != (year, month, day) {
        return None; // the 30th of February
    }
    let millis: u64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    Some(Time((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis))
}

fn numbers<const N: usize>(text: &str, separator: char) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(separator);
    for number in &mut numbers {
        let part = parts.next()?;
        let digits = part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
        *number = if digits { part.parse().ok()? } else { return None };
    }
    parts.next().is_none().then_some(numbers)
}

/// Year, month and day of a day since the epoch. Years are counted from 1 March of the year 0, so that the leap day
/// is the last day of a year, and in cycles of 400 years, after which the calendar repeats.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let day_of_cycle = days % 146_097;
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (days / 146_097 * 400 + year_of_cycle + u64::from(month <= 2), month, day)
}

/// The inverse of [`civil_from_days`], for years from 1970.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let year_of_cycle = year % 400;
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    (year / 400 * 146_097 + day_of_cycle).saturating_sub(719_468)
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A [`Duration`] as a number of seconds, for `#[serde(with = "seconds")]`.
pub(crate) mod seconds {
    use super::{Deserialize, Deserializer, Duration, Serializer};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        match duration.subsec_nanos() {
            0 => serializer.serialize_u64(duration.as_secs()),
            _ => serializer.serialize_f64(duration.as_secs_f64()),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The same for an optional duration.
pub(crate) mod optional_seconds {
    use super::{Deserialize, Deserializer, Duration, Serializer, seconds};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => seconds::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(deserializer)?;
        seconds.map(Duration::try_from_secs_f64).transpose().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_764_000_001_500, "2025-11-24T16:00:01.500Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59Z"),
        ];
        for (millis, text) in table {
            assert_eq!(Time::from_millis(millis).to_string(), text);
            assert_eq!(text.parse(), Ok(Time::from_millis(millis)));
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "Z",
            "2026-02-30T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "1-2-3T4:5:6.7.8Z",
            "2026-+1-01T00:00:00Z",
        ] {
            assert_eq!(text.parse::<Time>(), Err(InvalidTime(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Time::from_millis(u64::MAX);
        assert_eq!(end + Duration::MAX, end);
        assert_eq!(Time::default() - Duration::from_secs(1), Time::default());
        assert_eq!(Time::default().since(end), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn every_time_is_read_back(millis in 0..253_402_300_799_999_u64) {
            let time = Time::from_millis(millis);
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Time>();
        }
    }
}
