//! Numbers, durations, times and quoted strings as Prometheus reads and writes them.
//!
//! Prometheus leans on Go's `strconv`; these functions give the same text for the same value, because users compare
//! our output with a Prometheus server's.

use std::fmt::Write as _;

/// A text that is not what it should be; the message is Prometheus'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TextError(String);

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Units of a duration from the largest to the smallest, and whether one is only written when nothing remains
/// (`90d` reads better than `12w6d`).
const UNITS: [(&str, i64, bool); 7] = [
    ("y", 365 * DAY_MS, true),
    ("w", 7 * DAY_MS, true),
    ("d", DAY_MS, false),
    ("h", HOUR_MS, false),
    ("m", MINUTE_MS, false),
    ("s", SECOND_MS, false),
    ("ms", 1, false),
];

/// Milliseconds of a Prometheus duration: `15s`, `1h30m`, `0`. Units must go from large to small, each once.
pub fn parse_duration_ms(text: &str) -> Result<i64, TextError> {
    match text {
        "" => return Err(TextError("empty duration string".into())),
        "0" => return Ok(0),
        _ => {}
    }
    let invalid = || TextError(format!("not a valid duration string: {}", quote(text.as_bytes())));
    let out_of_range = || TextError("duration out of range".into());
    let (mut rest, mut total, mut next_unit) = (text, 0i64, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let position = UNITS[next_unit..].iter().position(|(name, ..)| *name == unit).ok_or_else(invalid)?;
        if number.is_empty() {
            return Err(invalid());
        }
        let number: i64 = number.parse().map_err(|_| out_of_range())?;
        let part = number.checked_mul(UNITS[next_unit + position].1).ok_or_else(out_of_range)?;
        total = total.checked_add(part).filter(|t| *t <= i64::MAX / 1_000_000).ok_or_else(out_of_range)?;
        next_unit += position + 1;
        rest = tail;
    }
    Ok(total)
}

/// A duration as Prometheus writes it: `1h30m`, `0s`; negative ones with a minus in front.
pub fn format_duration_ms(duration_ms: i64) -> String {
    if duration_ms == 0 {
        return "0s".into();
    }
    let mut rest = duration_ms.unsigned_abs();
    let mut text = String::from(if duration_ms < 0 { "-" } else { "" });
    for (unit, size, exact) in UNITS {
        let size = size.unsigned_abs();
        let count = rest / size;
        if count > 0 && (!exact || rest.is_multiple_of(size)) {
            let _ = write!(text, "{count}{unit}");
            rest -= count * size;
        }
    }
    text
}

/// A value as the HTTP API writes it: `1.5`, `NaN`, `+Inf`, `1e-07`.
pub fn format_value(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && magnitude.is_finite() && !(1e-6..1e21).contains(&magnitude) {
        go_exponent(value)
    } else {
        format_plain(value)
    }
}

/// A float without exponent, as Go's `FormatFloat(f, 'f', -1, 64)`.
pub(crate) fn format_plain(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        format!("{value}")
    }
}

/// Magnitudes that Go's 'g' format writes without an exponent when it writes the fewest digits.
const PLAIN: std::ops::Range<f64> = 1e-4..1e6;

/// A float as Go's `%g` and `%v` write it: with an exponent below 1e-4 and from 1e6 on.
pub(crate) fn format_general(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && magnitude.is_finite() && !PLAIN.contains(&magnitude) {
        go_exponent(value)
    } else {
        format_plain(value)
    }
}

/// A float as a text exposition writes it, which is Go's `FormatFloat(f, 'g', -1, 64)`: with an exponent below 1e-4 and
/// from 1e6 on.
pub fn format_exposition(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && magnitude.is_finite() && !(1e-4..1e6).contains(&magnitude) {
        go_exponent(value)
    } else {
        format_plain(value)
    }
}

/// A float with this many significant digits at most, as Go's `%.2g` writes it.
pub(crate) fn format_digits(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return format_plain(value);
    }
    let text = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa =
        if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let power: i32 = exponent.parse().unwrap_or(0);
    let rounded: f64 = format!("{mantissa}e{exponent}").parse().unwrap_or(value);
    let plain = -4 <= power && (power as i64) < digits as i64;
    if plain { format_plain(rounded) } else { go_exponent(rounded) }
}

/// Milliseconds since the epoch as `2026-01-02T03:04:05Z`; the fraction of a second is cut off.
pub(crate) fn format_rfc3339(time_ms: i64) -> String {
    // Go divides towards zero.
    let seconds = time_ms / 1_000;
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3_600, of_day % 3_600 / 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A float as OpenMetrics writes the values of `le` and `quantile`: always with a point or an exponent.
pub(crate) fn format_open_metrics(value: f64) -> String {
    match value {
        0.0 => "0.0".into(),
        1.0 => "1.0".into(),
        -1.0 => "-1.0".into(),
        v if !v.is_finite() => format_plain(v),
        v => {
            let text = if PLAIN.contains(&v.abs()) { format!("{v}") } else { go_exponent(v) };
            if text.contains(['e', '.']) { text } else { format!("{text}.0") }
        }
    }
}

/// Scientific notation with a sign and at least two digits in the exponent.
fn go_exponent(value: f64) -> String {
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// A float as Go's `ParseFloat` reads it: `Inf` and `NaN` in any case, a sign, decimal digits, an exponent.
///
/// Hexadecimal floats and underscores are refused, as Prometheus refuses them in exposition formats.
pub fn parse_value(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let first = *unsigned.as_bytes().first()?;
    if first.is_ascii_digit() || first == b'.' {
        return text.parse().ok();
    }
    let value = match unsigned.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => f64::INFINITY,
        "nan" if unsigned.len() == text.len() => return Some(f64::NAN),
        _ => return None,
    };
    Some(if text.starts_with('-') { -value } else { value })
}

/// Milliseconds of a time parameter: seconds since the epoch as a float, or RFC 3339 (`2026-01-02T03:04:05Z`).
pub fn parse_time_ms(text: &str) -> Result<i64, TextError> {
    let invalid = || TextError(format!("cannot parse {} to a valid timestamp", quote(text.as_bytes())));
    if let Some(seconds) = parse_value(text) {
        let ms = (seconds * 1000.0).round();
        return if ms.abs() < 9.2e15 { Ok(ms as i64) } else { Err(invalid()) };
    }
    parse_rfc3339_ms(text).ok_or_else(invalid)
}

fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = text.get(range)?;
        if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None }
    };
    let separators = [(4, '-'), (7, '-'), (10, 'T'), (13, ':'), (16, ':')];
    if !text.is_ascii() || separators.iter().any(|(at, c)| text.as_bytes().get(*at) != Some(&(*c as u8))) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let valid = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return None;
    }
    let mut rest = &text[19..];
    let mut fraction_ms = 0;
    if let Some(digits) = rest.strip_prefix('.') {
        let count = digits.bytes().take_while(u8::is_ascii_digit).count();
        let padded: String = digits[..count].chars().chain("000".chars()).take(3).collect();
        fraction_ms = if count == 0 { return None } else { padded.parse().ok()? };
        rest = &digits[count..];
    }
    let offset_minutes = match rest {
        "Z" => 0,
        _ if rest.len() == 6 && rest.as_bytes()[3] == b':' => {
            let at = text.len() - 6;
            let minutes = number(at + 1..at + 3)? * 60 + number(at + 4..at + 6)?;
            match rest.as_bytes()[0] {
                b'+' => minutes,
                b'-' => -minutes,
                _ => return None,
            }
        }
        _ => return None,
    };
    let days = days_from_civil(year, month, day);
    let seconds = days * 86_400 + hour * 3_600 + (minute - offset_minutes) * 60 + second;
    Some(seconds * 1_000 + fraction_ms)
}

/// Milliseconds of a step or timeout parameter: seconds as a float, or a duration (`15s`).
pub fn parse_step_ms(text: &str) -> Result<i64, TextError> {
    if let Some(seconds) = parse_value(text) {
        let ms = seconds * 1000.0;
        return if ms.abs() < 9.2e15 {
            Ok(ms as i64)
        } else {
            let text = quote(text.as_bytes());
            Err(TextError(format!("cannot parse {text} to a valid duration. It overflows int64")))
        };
    }
    parse_duration_ms(text)
        .map_err(|_| TextError(format!("cannot parse {} to a valid duration", quote(text.as_bytes()))))
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a count of days since 1970-01-01.
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// How many days a month has.
pub(crate) fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days_from_civil(next_year, next_month, 1) - days_from_civil(year, month, 1)
}

/// Whether a name needs no quotes as a label: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub(crate) fn is_legacy_label_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A string in double quotes with Go's escapes; bytes that are no UTF-8 become `\xff`.
pub fn quote(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{7}' => text.push_str("\\a"),
                '\u{8}' => text.push_str("\\b"),
                '\u{b}' => text.push_str("\\v"),
                '\u{c}' => text.push_str("\\f"),
                c if c.is_ascii_control() => drop(write!(text, "\\x{:02x}", c as u32)),
                c if c.is_control() || c == '\u{feff}' => drop(write!(text, "\\u{:04x}", c as u32)),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        let rows =
            [("15s", 15_000, "15s"), ("1h30m", 5_400_000, "1h30m"), ("0", 0, "0s"), ("300s", 300_000, "5m")];
        for (text, ms, written) in rows {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
            assert_eq!(format_duration_ms(ms), written);
        }
        for text in ["", "5", "1m1h", "1m1m", "-1s", "1.5s", "s", "99999999999y"] {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
        assert_eq!(format_duration_ms(90 * DAY_MS), "90d");
        assert_eq!(format_duration_ms(-1_500), "-1s500ms");
    }

    #[test]
    fn values_are_written_as_by_the_api() {
        let rows = [
            (0.1, "0.1"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (1e-7, "1e-07"),
            (-0.0, "-0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
            (1.5e300, "1.5e+300"),
        ];
        for (value, text) in rows {
            assert_eq!(format_value(value), text);
        }
        assert_eq!(
            (format_exposition(1e6), format_exposition(999_999.5)),
            ("1e+06".into(), "999999.5".into())
        );
        assert_eq!((format_open_metrics(1.0), format_open_metrics(0.25)), ("1.0".into(), "0.25".into()));
        assert_eq!((format_open_metrics(100.0), format_open_metrics(1e22)), ("100.0".into(), "1e+22".into()));
    }

    #[test]
    fn times_are_read() {
        assert_eq!(parse_time_ms("1136239445.123"), Ok(1_136_239_445_123));
        assert_eq!(parse_time_ms("2006-01-02T22:04:05Z"), Ok(1_136_239_445_000));
        assert_eq!(parse_time_ms("2006-01-02T23:04:05.5+01:00"), Ok(1_136_239_445_500));
        for text in ["", "yesterday", "2006-13-02T22:04:05Z", "2006-02-30T00:00:00Z", "2006-01-02T22:04:05"] {
            assert!(parse_time_ms(text).is_err(), "{text}");
        }
        for days in [-719_468, -1, 0, 59, 60, 11_016, 19_000] {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }

    #[test]
    fn numbers_follow_go() {
        assert_eq!(parse_value("+Inf"), Some(f64::INFINITY));
        assert_eq!(parse_value("1e3"), Some(1000.0));
        assert!(parse_value("nAn").is_some_and(f64::is_nan));
        for text in ["", "0x1p3", "1_000", "e3", "+nan", "in", "- 1"] {
            assert_eq!(parse_value(text), None, "{text}");
        }
    }
}
