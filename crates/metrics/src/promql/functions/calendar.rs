//! Times as dates in UTC, for `hour()`, `day_of_week()` and their like.

pub(in crate::promql) use crate::text as civil;

/// A time, taken apart.
pub(in crate::promql) struct Clock {
    /// Days since 1970-01-01, which was a Thursday.
    pub(super) days: i64,
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
}

impl Clock {
    /// The date of a count of seconds since the epoch, whose fraction is cut off.
    pub(in crate::promql) fn at(seconds: f64) -> Clock {
        // About ten million years; keeps the arithmetic below far from overflow.
        let seconds = (seconds as i64).clamp(-300_000_000_000_000, 300_000_000_000_000);
        let days = seconds.div_euclid(86_400);
        let of_day = seconds.rem_euclid(86_400);
        let (year, month, day) = civil::civil_from_days(days);
        Clock { days, year, month, day, hour: of_day / 3_600, minute: of_day % 3_600 / 60 }
    }
}
