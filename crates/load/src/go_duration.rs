//! Go's duration syntax (`3m`, `1m30s`, `500ms`), because that is what hey's `-z` takes.

use std::time::Duration;

/// Units of Go's `time.ParseDuration` in nanoseconds; longer spellings precede their prefixes.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// Longest accepted duration: a year. A longer one is a typing error, and would overflow the clock's arithmetic.
const MAX_SECONDS: f64 = 365.0 * 86_400.0;

/// Parses a duration as Go's `time.ParseDuration` does, from zero to a year; a sign is refused.
///
/// # Errors
/// Returns a sentence with the problem and the right form.
pub fn parse_go_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        |why: &str| format!("{why} in duration {text:?}; write a duration such as 500ms, 30s or 1m30s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(wrong("nothing"));
    }
    let (mut rest, mut nanos) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| wrong("no number"))?;
        rest = &rest[digits..];
        let (unit, scale) = UNITS
            .into_iter()
            .find(|(unit, _)| rest.starts_with(unit))
            .ok_or_else(|| wrong(if rest.is_empty() { "missing unit" } else { "unknown unit" }))?;
        nanos += number * scale;
        rest = &rest[unit.len()..];
    }
    if nanos / 1e9 > MAX_SECONDS {
        return Err(wrong("more than a year"));
    }
    Ok(Duration::from_nanos(nanos.round() as u64))
}

/// Parses hey's `-t`: whole seconds, or a Go duration. Zero means no limit.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => parse_go_duration(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, wanted) in [
            ("3m", Some(180_000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("1.5h", Some(5_400_000)),
            ("0", Some(0)),
            ("1h0m0.5s", Some(3_600_500)),
            ("", None),
            ("5", None),
            ("s", None),
            ("1x", None),
            ("-1s", None),
            ("1..2s", None),
            ("99999999h", None),
        ] {
            let got = parse_go_duration(text).ok().map(|d| d.as_millis());
            assert_eq!(got, wanted, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[0-9.a-zµ-]{0,20}") {
            let _ = parse_go_duration(&text);
        }

        #[test]
        fn reads_what_was_written(h in 0u64..99, m in 0u64..60, s in 0u64..60) {
            let got = parse_go_duration(&format!("{h}h{m}m{s}s")).expect("well formed");
            assert_eq!(got, Duration::from_secs(h * 3600 + m * 60 + s));
        }
    }
}
