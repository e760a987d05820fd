//! Names of OpenTelemetry as names of Prometheus: the default translation of Prometheus 3, `UnderscoreEscapingWithSuffixes`.
//!
//! Dots become underscores, a metric gets its unit (`s` → `_seconds`), a rising sum `_total`, a gauge of unit `1` `_ratio`.
//! The tables are those of github.com/prometheus/otlptranslator 1.0.

/// What kind of metric it is, as far as names go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    RisingSum,
    Other,
}

const UNITS: [(&str, &str); 26] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

const PER_UNITS: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// The name of a metric; `None` if nothing is left of it.
pub(super) fn metric_name(name: &str, unit: &str, kind: Kind) -> Option<String> {
    let mut words: Vec<String> =
        name.split(|c: char| !is_metric_char(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    for unit in unit_words(unit) {
        if !unit.is_empty() && !words.contains(&unit) {
            words.push(unit);
        }
    }
    let last = match kind {
        Kind::RisingSum => Some("total"),
        Kind::Gauge if unit == "1" => Some("ratio"),
        _ => None,
    };
    if let Some(last) = last {
        words.retain(|word| word != last);
        words.push(last.to_owned());
    }
    let joined = words.join("_");
    let digit = joined.starts_with(|c: char| c.is_ascii_digit());
    let name = if digit { format!("_{joined}") } else { joined };
    (!name.is_empty() && name.chars().any(|c| c != '_')).then_some(name)
}

/// The unit, and what it is per: `By/s` → `bytes`, `per_second`.
fn unit_words(unit: &str) -> [String; 2] {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let main = in_table(&UNITS, main.trim());
    let per = in_table(&PER_UNITS, per.trim());
    let per = if per.is_empty() { String::new() } else { format!("per_{}", clean(per)) };
    let main = clean(main);
    let main = if per.is_empty() { main } else { main.trim_end_matches('_').to_owned() };
    [main, per.trim_end_matches('_').to_owned()]
}

/// What is in braces is a comment and no unit.
fn in_table<'a>(table: &[(&str, &'a str)], unit: &'a str) -> &'a str {
    if unit.contains(['{', '}']) {
        return "";
    }
    table.iter().find(|(short, _)| *short == unit).map_or(unit, |(_, long)| long)
}

/// Only letters and digits, with single underscores between them.
fn clean(unit: &str) -> String {
    let mut cleaned = String::new();
    for c in unit.chars() {
        let c = if is_metric_char(c) { c } else { '_' };
        if c != '_' || !cleaned.is_empty() && !cleaned.ends_with('_') {
            cleaned.push(c);
        }
    }
    cleaned
}

fn is_metric_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// The name of a label; `None` if nothing is left of it.
pub(super) fn label_name(name: &str) -> Option<String> {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    let name = if plain.starts_with(|c: char| c.is_ascii_digit()) {
        format!("key_{plain}")
    } else if plain.starts_with('_') && !plain.starts_with("__") {
        format!("key{plain}")
    } else {
        plain
    };
    name.chars().any(|c| c != '_').then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_get_the_names_that_prometheus_gives_them() {
        let table = [
            ("http.server.request.duration", "s", Kind::Other, "http_server_request_duration_seconds"),
            ("http.requests", "{request}", Kind::RisingSum, "http_requests_total"),
            ("requests.total", "1", Kind::RisingSum, "requests_total"),
            ("total.requests", "", Kind::RisingSum, "requests_total"),
            ("system.cpu.utilization", "1", Kind::Gauge, "system_cpu_utilization_ratio"),
            ("system.io", "By/s", Kind::Gauge, "system_io_bytes_per_second"),
            ("speed", "m/s", Kind::Gauge, "speed_meters_per_second"),
            ("rate", "{packet}/s", Kind::Gauge, "rate_per_second"),
            ("memory.usage.bytes", "By", Kind::Gauge, "memory_usage_bytes"),
            ("broken _ Name", "foo__bar/z.z", Kind::Gauge, "broken_Name_foo_bar_per_z_z"),
            ("2xx", "", Kind::Other, "_2xx"),
            ("vllm:requests", "", Kind::Other, "vllm:requests"),
            ("temperature", "°C", Kind::Gauge, "temperature_C"),
        ];
        for (name, unit, kind, expected) in table {
            assert_eq!(metric_name(name, unit, kind).as_deref(), Some(expected), "{name} {unit}");
        }
        assert_eq!(metric_name("__", "", Kind::Gauge), None);
    }

    #[test]
    fn labels_get_the_names_that_prometheus_gives_them() {
        let table = [
            ("http.method", Some("http_method")),
            ("2xx", Some("key_2xx")),
            ("_own", Some("key_own")),
            ("__own__", Some("__own__")),
            ("a..b", Some("a__b")),
            ("__", None),
            ("", None),
        ];
        for (name, expected) in table {
            assert_eq!(label_name(name).as_deref(), expected, "{name}");
        }
    }
}
