//! Durations and rates as people write them.

use std::time::Duration;

/// Ends of durations, and their seconds.
const UNITS: [(&str, f64); 7] =
    [("ms", 0.001), ("us", 1e-6), ("µs", 1e-6), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];

/// `90s`, `1.5h`, `20ms`. At most a century.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let wrong = || format!("`{text}` is no duration; write a number and ms, s, m, h or d, such as 30s");
    let (unit, seconds) = UNITS.iter().find(|(unit, _)| text.ends_with(unit)).ok_or_else(wrong)?;
    let number: f64 =
        text.strip_suffix(unit).and_then(|number| number.trim().parse().ok()).ok_or_else(wrong)?;
    let total = number * seconds;
    if !(0.0..=3.2e9).contains(&total) {
        return Err(wrong());
    }
    Ok(Duration::from_secs_f64(total))
}

/// `100/s`, `6000/m`, `1e6/s`; a number alone is of a second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let wrong = || format!("`{text}` is no rate; write requests a second or minute, such as 100/s or 6000/m");
    let (number, per) = match text.split_once('/') {
        None => (text, 1.0),
        Some((number, "s")) => (number, 1.0),
        Some((number, "m" | "min")) => (number, 60.0),
        Some((number, "h")) => (number, 3600.0),
        Some(_) => return Err(wrong()),
    };
    let rate: f64 = number.trim().parse().map_err(|_| wrong())?;
    if !(0.0..=1e9).contains(&rate) {
        return Err(wrong());
    }
    Ok(rate / per)
}
