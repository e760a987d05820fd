//! Five-field cron schedules: minute, hour, day of month, month, day of week.
//!
//! The rules and messages are those of `robfig/cron` v3, which KEDA uses: names of months and days, `*` and
//! `?`, ranges, lists and steps; when both the day of month and the day of week are restricted, either may
//! match. A time that the zone repeats happens twice, as there; one that it skips happens when the clocks are put
//! forward, where theirs is left out for that day.

use jiff::civil::{Date, DateTime, Time as CivilTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp};

/// A schedule that does not match for so many days never will: the rarest, 29 February on a given weekday,
/// comes back after at most 40 years, across a century without a leap day.
const DAYS_MAX: u32 = 40 * 366 + 1;

/// Clocks are set back by no more than this, but where a zone changes its side of the date line.
const SET_BACK_MAX: SignedDuration = SignedDuration::from_hours(3);

/// When a schedule matched: the time, and what the clock should have shown, which tells apart what the zone skips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Occurrence {
    /// When it was.
    pub at: Timestamp,
    /// The clock's time that the schedule names.
    pub clock: DateTime,
}

/// When something happens: one bit a value for each field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days_of_month: u64,
    months: u64,
    days_of_week: u64,
    /// Whether the day of month or the day of week is `*`, so that both must match.
    any_day: bool,
}

/// The values that a field may have, and their names.
struct Field {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] =
    &["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 5] = [
    Field { min: 0, max: 59, names: &[] },
    Field { min: 0, max: 23, names: &[] },
    Field { min: 1, max: 31, names: &[] },
    Field { min: 1, max: 12, names: MONTHS },
    Field { min: 0, max: 6, names: DAYS },
];

impl Schedule {
    /// Reads the five fields.
    ///
    /// # Errors If there are not five fields, or one of them is not a list of values, ranges and steps within
    /// its bounds.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.len() != FIELDS.len() {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", words.len(), words.join(" ")));
        }
        let mut bits = [(0, false); 5];
        for ((bits, word), field) in bits.iter_mut().zip(words).zip(&FIELDS) {
            *bits = field.parse(word)?;
        }
        let [minutes, hours, days_of_month, months, days_of_week] = bits;
        Ok(Self {
            minutes: minutes.0,
            hours: hours.0,
            days_of_month: days_of_month.0,
            months: months.0,
            days_of_week: days_of_week.0,
            any_day: days_of_month.1 || days_of_week.1,
        })
    }

    /// The last time that matched, `now` included; `None` if there is none, as for 30 February.
    pub fn last(&self, now: Timestamp, zone: &TimeZone) -> Option<Occurrence> {
        // After the clocks were set back over midnight, the last match may be of the day that has yet to come.
        let mut date = now.checked_add(SET_BACK_MAX).ok()?.to_zoned(zone.clone()).date();
        let mut last = None;
        for _ in 0..DAYS_MAX {
            let latest = if self.matches(date) { self.latest(date, now, zone) } else { None };
            if last.is_some() {
                return last.max(latest);
            }
            last = latest;
            date = date.yesterday().ok()?;
        }
        None
    }

    /// The first time after `now` that matches; `None` if there is none, as for 30 February.
    pub fn next(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut date = now.to_zoned(zone.clone()).date();
        for _ in 0..DAYS_MAX {
            if self.matches(date) {
                let times = self.clocks(date).flat_map(|clock| happens(clock, zone));
                if let Some(next) = times.filter(|&time| time > now).min() {
                    return Some(next);
                }
            }
            date = date.checked_add(Span::new().days(1)).ok()?;
        }
        None
    }

    /// The last match of one day that is not after `now`. The zone is asked only about times near it.
    fn latest(&self, date: Date, now: Timestamp, zone: &TimeZone) -> Option<Occurrence> {
        let latest_clock = now.to_zoned(zone.clone()).datetime().saturating_add(SET_BACK_MAX);
        let mut latest: Option<Occurrence> = None;
        for clock in self.clocks(date).rev().skip_while(|&clock| clock > latest_clock) {
            if latest.is_some_and(|latest| latest.clock.duration_since(clock) > SET_BACK_MAX) {
                break;
            }
            let passed = happens(clock, zone).filter(|&at| at <= now);
            latest = latest.max(passed.map(|at| Occurrence { at, clock }).max());
        }
        latest
    }

    fn matches(&self, date: Date) -> bool {
        let month = has(self.months, date.month().unsigned_abs());
        let day_of_month = has(self.days_of_month, date.day().unsigned_abs());
        let day_of_week = has(self.days_of_week, date.weekday().to_sunday_zero_offset().unsigned_abs());
        month && if self.any_day { day_of_month && day_of_week } else { day_of_month || day_of_week }
    }

    /// What a clock shows at the matches of one day.
    fn clocks(&self, date: Date) -> impl DoubleEndedIterator<Item = DateTime> {
        let (hours, minutes) = (self.hours, self.minutes);
        let minutes = move || (0..60u8).filter(move |&minute| has(minutes, minute));
        let hours = (0..24u8).filter(move |&hour| has(hours, hour));
        hours
            .flat_map(move |hour| minutes().map(move |minute| (hour, minute)))
            .map(move |(hour, minute)| date.to_datetime(CivilTime::constant(hour as i8, minute as i8, 0, 0)))
    }
}

/// When a clock shows a time: once, twice where the zone repeats it, and where it skips it, when it does that.
fn happens(clock: DateTime, zone: &TimeZone) -> impl Iterator<Item = Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(clock);
    let (first, second) = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => (ambiguous.earlier().ok(), None),
        AmbiguousOffset::Fold { .. } => (ambiguous.earlier().ok(), ambiguous.later().ok()),
        AmbiguousOffset::Gap { .. } => {
            let before = ambiguous.earlier().ok();
            let change = before.and_then(|before| zone.following(before).next().map(|next| next.timestamp()));
            (change, None)
        }
    };
    first.into_iter().chain(second)
}

fn has(bits: u64, value: u8) -> bool {
    bits & (1 << value) != 0
}

impl Field {
    /// The values of a list, and whether it says "any".
    fn parse(&self, list: &str) -> Result<(u64, bool), String> {
        list.split(',').try_fold((0, false), |(bits, any), range| {
            let (more, star) = self.range(range)?;
            Ok((bits | more, any || star))
        })
    }

    /// `*`, `a`, `a-b`, each with an optional `/step`.
    fn range(&self, range: &str) -> Result<(u64, bool), String> {
        let (bounds, step) = match range.split('/').collect::<Vec<_>>()[..] {
            [bounds] => (bounds, None),
            [bounds, step] => (bounds, Some(step)),
            _ => return Err(format!("too many slashes: {range}")),
        };
        let any = bounds == "*" || bounds == "?";
        let (start, end) = match bounds.split('-').collect::<Vec<_>>()[..] {
            _ if any => (self.min, self.max),
            [one] if step.is_some() => (self.value(one)?, self.max),
            [one] => (self.value(one)?, self.value(one)?),
            [start, end] => (self.value(start)?, self.value(end)?),
            _ => return Err(format!("too many hyphens: {range}")),
        };
        let step = step.map_or(Ok(1), number)?;
        if start < self.min {
            return Err(format!("beginning of range ({start}) below minimum ({}): {range}", self.min));
        }
        if end > self.max {
            return Err(format!("end of range ({end}) above maximum ({}): {range}", self.max));
        }
        if start > end {
            return Err(format!("beginning of range ({start}) beyond end of range ({end}): {range}"));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {range}"));
        }
        let bits = (start..=end).step_by(step as usize).fold(0, |bits, value| bits | 1 << value);
        Ok((bits, any && step == 1))
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        match self.names.iter().position(|name| !name.is_empty() && *name == lower) {
            Some(value) => Ok(value as u32),
            None => number(text),
        }
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("failed to parse int from {text}"))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZoneDatabase;
    use proptest::prelude::*;

    use super::*;

    fn next(schedule: &str, zone: &str, now: &str) -> String {
        let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
        let next = Schedule::parse(schedule).unwrap().next(now.parse().unwrap(), &zone);
        next.map_or("never".to_owned(), |time| time.to_string())
    }

    #[test]
    fn the_next_time_is_found() {
        for (schedule, zone, now, expected) in [
            ("0 8 * * *", "UTC", "2026-03-04T07:59:59Z", "2026-03-04T08:00:00Z"),
            ("0 8 * * *", "UTC", "2026-03-04T08:00:00Z", "2026-03-05T08:00:00Z"),
            ("*/15 * * * *", "UTC", "2026-03-04T08:01:00Z", "2026-03-04T08:15:00Z"),
            ("5/20 8-9 * * *", "UTC", "2026-03-04T08:46:00Z", "2026-03-04T09:05:00Z"),
            ("0 0 * * MON-fri", "UTC", "2026-03-06T12:00:00Z", "2026-03-09T00:00:00Z"),
            ("0 0 13 * fri", "UTC", "2026-03-01T00:00:00Z", "2026-03-06T00:00:00Z"),
            ("0 0 */2 * fri", "UTC", "2026-03-01T00:00:00Z", "2026-03-03T00:00:00Z"),
            ("0 0 1 jan ?", "UTC", "2026-03-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("0 0 29 2 *", "UTC", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 30 2 *", "UTC", "2026-03-01T00:00:00Z", "never"),
            ("0 8 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-01T06:00:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
        ] {
            assert_eq!(next(schedule, zone, now), expected, "{schedule} in {zone} after {now}");
        }
    }

    #[test]
    fn the_last_time_is_found() {
        for (schedule, zone, now, expected) in [
            ("0 8 * * *", "UTC", "2026-03-04T07:59:59Z", "2026-03-03T08:00:00Z"),
            ("0 8 * * *", "UTC", "2026-03-04T08:00:00Z", "2026-03-04T08:00:00Z"),
            ("* * * * *", "UTC", "2026-03-04T08:01:59Z", "2026-03-04T08:01:00Z"),
            ("0 0 * * MON-fri", "UTC", "2026-03-08T12:00:00Z", "2026-03-06T00:00:00Z"),
            ("0 0 29 2 *", "UTC", "2026-03-01T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("0 0 30 2 *", "UTC", "2026-03-01T00:00:00Z", "never"),
            // Skipped: when the clocks are put forward. Repeated: twice.
            ("30 2 * * *", "Europe/Berlin", "2026-03-29T00:59:59Z", "2026-03-28T01:30:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:29:59Z", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T01:30:00Z"),
            // Clocks that were set back at a minute past midnight, and so to the day before.
            ("0 0 * * *", "America/St_Johns", "2009-11-01T03:00:00Z", "2009-11-01T02:30:00Z"),
            ("45 23 * * *", "America/St_Johns", "2009-11-01T03:20:00Z", "2009-11-01T03:15:00Z"),
            // A day that the zone skipped altogether.
            ("0 9 30 12 *", "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z"),
        ] {
            let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
            let last = Schedule::parse(schedule).unwrap().last(now.parse().unwrap(), &zone);
            let last = last.map_or("never".to_owned(), |last| last.at.to_string());
            assert_eq!(last, expected, "{schedule} up to {now}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for (schedule, why) in [
            ("", "expected exactly 5 fields, found 0: []"),
            ("0 8 * *", "expected exactly 5 fields, found 4: [0 8 * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("x * * * *", "failed to parse int from x"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ] {
            assert_eq!(Schedule::parse(schedule), Err(why.to_owned()), "{schedule:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([-*/?,0-9a-z]{1,6} ?){0,6}") {
            let _ = Schedule::parse(&text);
        }

        #[test]
        fn the_next_time_is_later(seconds in 0i64..4_000_000_000, minute in 0..60, hour in 0..24, day in 0..7) {
            let now = Timestamp::from_second(seconds).unwrap();
            let schedule = Schedule::parse(&format!("{minute} {hour} * * {day}")).unwrap();
            let next = schedule.next(now, &TimeZone::UTC).unwrap();
            prop_assert!(next > now && next.as_second() - seconds <= 7 * 86_400);
        }

        /// Nothing matches between the last time and the next one, in any zone.
        #[test]
        fn the_last_time_is_the_one_before_the_next(
            seconds in 0i64..4_000_000_000,
            schedule in "(\\*|[0-5]?[0-9]) (\\*|[01]?[0-9]|2[0-3]) \\* \\* (\\*|[0-6])",
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago",
                "America/St_Johns", "Africa/Cairo", "Pacific/Apia", "Antarctica/Casey",
            ]),
        ) {
            let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
            let (now, schedule) = (Timestamp::from_second(seconds).unwrap(), Schedule::parse(&schedule).unwrap());
            let last = schedule.last(now, &zone).unwrap().at;
            let just_before = Timestamp::from_second(last.as_second() - 1).unwrap();
            prop_assert!(last <= now);
            prop_assert_eq!(schedule.last(last, &zone).unwrap().at, last);
            prop_assert!(schedule.last(just_before, &zone).unwrap().at < last);
            prop_assert!(schedule.next(last, &zone).unwrap() > now);
        }
    }
}
