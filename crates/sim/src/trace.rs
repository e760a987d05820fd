//! Recorded loads: a file's text to a [`Load`]. What a file holds is told by its header and its first rows.
//!
//! - *Rates*: a number on each line (requests in each second); or CSV with a column of time and one of `count`, `rate`,
//!   `requests` or `value`; or with two columns `day,minute` (or `day,bin`) and any number of columns to add up.
//! - *Times*: CSV with a column of time (`timestamp`, `timestamp_ms`, `time`, `ts`) and none of counts; one request a row.
//!
//! Times are Unix times, seconds or milliseconds since the start, or dates. A trace with rows out of order, a negative or
//! a missing number is refused with its line; a gap is no load, and is said.

use std::time::Duration;

use flyball_engine::Time;
use thiserror::Error;

use crate::load::Load;

/// More rows are a mistake, or a load that should be summed up first.
pub const ROWS_MAX: usize = 20_000_000;

/// A longer gap between two rows is no recording of a load: a week.
const GAP_MAX: f64 = 7.0 * 86_400.0;

/// A recorded load, and what is worth knowing of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The load.
    pub load: Load,
    /// Requests in rates, or times.
    pub kind: TraceKind,
    /// Remarks, such as gaps.
    pub notes: Vec<String>,
}

/// What the rows of a trace are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TraceKind {
    /// Requests in each stretch of so many seconds.
    Rates {
        /// Seconds.
        step: f64,
    },
    /// One request a row.
    Times,
}

/// Why a trace can't be used.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("line {line}: {why}")]
pub struct TraceError {
    /// From 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub why: String,
}

fn error(line: usize, why: impl Into<String>) -> TraceError {
    TraceError { line, why: why.into() }
}

impl Trace {
    /// Reads a trace.
    ///
    /// # Errors
    ///
    /// No rows, more than [`ROWS_MAX`], rows out of order, numbers that are none or negative, columns that say nothing.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let mut lines =
            lines.by_ref().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).peekable();
        let Some((first, header)) = lines.peek().copied() else {
            return Err(error(1, "the trace is empty"));
        };
        if header.parse::<f64>().is_ok() {
            return counts(lines);
        }
        let columns = Columns::of(first, header)?;
        lines.next();
        rows(lines, &columns)
    }
}

/// One number a line: requests in each second.
fn counts<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Trace, TraceError> {
    let mut rates = Vec::new();
    for (line, text) in lines {
        rates.push(amount(line, text)?);
        if rates.len() > ROWS_MAX {
            return Err(error(line, format!("more than {ROWS_MAX} rows; sum it up by seconds or minutes")));
        }
    }
    let load = Load::of_rates(Duration::from_secs(1), rates);
    Ok(Trace { load, kind: TraceKind::Rates { step: 1.0 }, notes: Vec::new() })
}

fn amount(line: usize, text: &str) -> Result<f64, TraceError> {
    let number: f64 =
        text.trim().parse().map_err(|_| error(line, format!("`{}` is no number", short(text))))?;
    if !number.is_finite() {
        return Err(error(line, format!("{number} is no number of requests; remove the row or fill it")));
    }
    if number < 0.0 {
        return Err(error(
            line,
            format!("{number} is a negative number of requests; a counter's reset? use its increase"),
        ));
    }
    Ok(number)
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

enum Clock {
    /// One column; how many of its units make a second, if its name says so.
    Column { index: usize, per_second: Option<f64> },
    /// A day and a stretch of it, of a minute.
    DayAndMinute,
}

struct Columns {
    clock: Clock,
    /// Columns to add up; empty for one request a row.
    amounts: Vec<usize>,
}

impl Columns {
    fn of(line: usize, header: &str) -> Result<Self, TraceError> {
        let names: Vec<String> = header.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
        if names.len() > 2 && names[0] == "day" && matches!(names[1].as_str(), "minute" | "bin") {
            return Ok(Self { clock: Clock::DayAndMinute, amounts: (2..names.len()).collect() });
        }
        let clock = names.iter().enumerate().find_map(|(index, name)| Some((index, time_column(name)?)));
        let Some((index, per_second)) = clock else {
            let why = format!(
                "no column of time in `{}`; call it timestamp (seconds or a date) or timestamp_ms",
                short(header)
            );
            return Err(error(line, why));
        };
        let is_amount =
            |name: &String| matches!(name.as_str(), "count" | "rate" | "requests" | "value" | "rps");
        let amounts = (0..names.len()).filter(|index| is_amount(&names[*index])).collect();
        Ok(Self { clock: Clock::Column { index, per_second }, amounts })
    }
}

fn time_column(name: &str) -> Option<Option<f64>> {
    match name {
        "ts" | "time" | "timestamp" | "date" | "datetime" | "minute_utc" | "second_utc" => Some(None),
        "timestamp_ms" | "time_ms" | "ts_ms" => Some(Some(1e3)),
        "timestamp_us" | "time_us" => Some(Some(1e6)),
        "timestamp_s" | "time_s" | "seconds" => Some(Some(1.0)),
        _ => None,
    }
}

/// Seconds, by the column's unit, as a date, or as a Unix time whose size tells its unit.
fn seconds(line: usize, text: &str, per_second: Option<f64>) -> Result<f64, TraceError> {
    let text = text.trim().trim_matches('"');
    if let Ok(number) = text.parse::<f64>() {
        let per_second = per_second.unwrap_or_else(|| crate::units::of_unix_time(number).0);
        return if number.is_finite() && number >= 0.0 {
            Ok(number / per_second)
        } else {
            Err(error(line, format!("{number} is no time")))
        };
    }
    let mut date = text.trim_end_matches('Z').replacen(' ', "T", 1);
    date.push('Z');
    let time: Time = date.parse().map_err(|_| {
        error(line, format!("`{}` is no time; write seconds or 2026-01-31T23:59:59Z", short(text)))
    })?;
    // A `Time` has milliseconds; requests of the same one keep their order.
    Ok(time.as_millis() as f64 / 1000.0)
}

fn rows<'a>(lines: impl Iterator<Item = (usize, &'a str)>, columns: &Columns) -> Result<Trace, TraceError> {
    let (mut times, mut amounts, mut last, mut last_line) = (Vec::new(), Vec::new(), f64::NEG_INFINITY, 0);
    for (line, text) in lines {
        let cells: Vec<&str> = text.split(',').collect();
        let cell = |index: usize| {
            cells
                .get(index)
                .copied()
                .ok_or_else(|| error(line, format!("it has {} columns, not {}", cells.len(), index + 1)))
        };
        let time = match columns.clock {
            Clock::Column { index, per_second } => seconds(line, cell(index)?, per_second)?,
            // Stretches follow each other; a day may have any number of them.
            Clock::DayAndMinute => amounts.len() as f64 * 60.0,
        };
        if time < last {
            let why =
                format!("it is {} s earlier than line {last_line}; sort the trace by time", last - time);
            return Err(error(line, why));
        }
        if time - last > GAP_MAX && last.is_finite() {
            let why = format!(
                "{} days without a row before it; cut the trace there",
                ((time - last) / 86_400.0).round()
            );
            return Err(error(line, why));
        }
        let mut sum = 0.0;
        for index in &columns.amounts {
            sum += amount(line, cell(*index)?)?;
        }
        times.push(time);
        amounts.push(sum);
        (last, last_line) = (time, line);
        if times.len() > ROWS_MAX {
            return Err(error(line, format!("more than {ROWS_MAX} rows; sum it up by seconds or minutes")));
        }
    }
    let Some(start) = times.first().copied() else {
        return Err(error(2, "the trace has a header and no rows"));
    };
    if columns.amounts.is_empty() {
        let load = Load::of_times(times.into_iter().map(|time| time - start).collect());
        return Ok(Trace { load, kind: TraceKind::Times, notes: Vec::new() });
    }
    Ok(rates(&times, &amounts))
}

/// Amounts at their times, with the commonest distance as the step, and no load where rows are missing.
fn rates(times: &[f64], amounts: &[f64]) -> Trace {
    let mut distances: Vec<f64> =
        times.windows(2).map(|pair| pair[1] - pair[0]).filter(|d| *d > 0.0).collect();
    distances.sort_by(f64::total_cmp);
    let step = distances.get(distances.len() / 2).copied().unwrap_or(60.0);
    let start = times.first().copied().unwrap_or_default();
    let (mut rates, mut filled) = (Vec::new(), 0_usize);
    for (time, amount) in times.iter().zip(amounts) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "rows are in order, gaps bounded"
        )]
        let index = ((time - start) / step).round() as usize;
        if index >= rates.len() {
            filled += index - rates.len();
            rates.resize(index + 1, 0.0);
        }
        rates[index] += amount / step;
    }
    let notes = match filled {
        0 => Vec::new(),
        _ => vec![format!("{filled} stretches of {step} s have no row and count as no load")],
    };
    Trace {
        load: Load::of_rates(Duration::from_secs_f64(step), rates),
        kind: TraceKind::Rates { step },
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_is_recognized() {
        for (text, length, requests, kind) in [
            ("1\n0\n2\n", 3, 3.0, TraceKind::Rates { step: 1.0 }),
            (
                "minute_utc,count\n1998-04-30 21:30:00,2\n1998-04-30 21:31:00,4\n",
                120,
                6.0,
                TraceKind::Rates { step: 60.0 },
            ),
            ("day,minute,f0,f1\n1,0,1,2\n1,1,3,0\n", 120, 6.0, TraceKind::Rates { step: 60.0 }),
            ("day,bin,job0\n1,1,60\n1,2,0\n2,1,60\n", 180, 120.0, TraceKind::Rates { step: 60.0 }),
            ("ts,value\n1628640000,1\n1628640060,2\n", 120, 3.0, TraceKind::Rates { step: 60.0 }),
            ("timestamp_ms,input_tokens\n0,6758\n0,7322\n2500,9\n", 3, 3.0, TraceKind::Times),
            (
                "TIMESTAMP,ContextTokens\n2023-11-16 18:15:46.6805900,374\n2023-11-16 18:15:50.9951690,3\n",
                5,
                2.0,
                TraceKind::Times,
            ),
        ] {
            let trace = Trace::parse(text).expect(text);
            assert_eq!((trace.load.length().as_secs(), trace.kind), (length, kind), "{text}");
            assert!((trace.load.requests() - requests).abs() < 1e-9, "{text}: {}", trace.load.requests());
        }
    }

    #[test]
    fn a_gap_is_no_load_and_is_said() {
        let trace = Trace::parse("ts,count\n0,60\n60,60\n240,60\n300,60").expect("a trace");
        assert_eq!(trace.load.per_second()[130], 0.0);
        assert_eq!(trace.notes, ["2 stretches of 60 s have no row and count as no load"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, why) in [
            ("", 1, "the trace is empty"),
            ("ts,count\n", 2, "a header and no rows"),
            ("1\n-2\n", 2, "-2 is a negative number of requests"),
            ("1\nNaN\n", 2, "NaN is no number of requests"),
            ("1\nx\n", 2, "`x` is no number"),
            ("a,b\n1,2\n", 1, "no column of time"),
            ("ts,count\n60,1\n0,1\n", 3, "60 s earlier than line 2"),
            ("ts,count\n60\n", 2, "it has 1 columns, not 2"),
            ("ts,count\nyesterday,1\n", 2, "`yesterday` is no time"),
            ("ts,count\n0,1\n86400000,1\n", 3, "1000 days without a row"),
        ] {
            let error = Trace::parse(text).expect_err(text);
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.why.contains(why), "{text}: {error}");
        }
    }
}
