//! Durations as Prometheus and prometheus-operator write them: `15s`, `1m30s`, `500ms`.

use std::time::Duration;

use thiserror::Error;

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not a valid duration string: {0:?}; write it as 15s, 1m30s or 500ms")]
pub struct DurationError(String);

/// The units, largest first, which is also the order that they must be written in.
const UNITS: [(&str, Duration); 7] = [
    ("y", Duration::from_secs(365 * 86_400)),
    ("w", Duration::from_secs(7 * 86_400)),
    ("d", Duration::from_secs(86_400)),
    ("h", Duration::from_secs(3600)),
    ("m", Duration::from_secs(60)),
    ("s", Duration::from_secs(1)),
    ("ms", Duration::from_millis(1)),
];

/// Reads a duration.
///
/// # Errors If it is not `0` or whole numbers, each with a unit of `y w d h m s ms`, each unit once, the
/// largest first.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    total(text).ok_or_else(|| DurationError(text.chars().take(40).collect()))
}

fn total(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
        let (number, after) = rest.split_at(unit_at);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (_, unit) = units.find(|(name, _)| *name == &after[..end])?;
        total = total.checked_add(unit.checked_mul(number.parse().ok()?)?)?;
        rest = &after[end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_prometheus_reads_them() {
        for (text, milliseconds) in [
            ("0", 0),
            ("15s", 15_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1h5ms", 3_600_005),
            ("2w", 1_209_600_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "15", "15 s", "1s1m", "1s1s", "1.5s", "-1s", "99999999999s", "é"] {
            assert_eq!(parse(text), Err(DurationError(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,20}") {
            let _ = parse(&text);
        }
    }
}
