//! The units of a file of usage: what a column's name says, and what its numbers can't be.
//!
//! Prometheus' answers are in seconds, cores and bytes. CSV files come from anywhere: milliseconds, thousandths of a core
//! and mebibytes are told by the end of a column's name, and Unix times by their size. What is left is refused where it is
//! out of all proportion, since a history in a wrong unit looks like any other.

/// Unix seconds reach this in the year 5138; Unix milliseconds passed it in 1973.
const UNIX_SECONDS_MAX: f64 = 1e11;

/// Rows further apart than this, were they in seconds, are no recording of use: six hours.
pub(crate) const STEP_SECONDS_MAX: u64 = 6 * 3600;

/// The end of the year 9999: a later time is a mistake.
pub(crate) const SECONDS_MAX: u64 = 253_402_300_799;

/// More of anything than there is: a petabyte.
pub(crate) const AMOUNT_MAX: f64 = 1e15;

/// More cores than a machine has.
pub(crate) const CORES_MAX: f64 = 1024.0;

/// No program runs in less: a mebibyte.
pub(crate) const BYTES_MIN: f64 = 1_048_576.0;

/// Ends of names of columns of time, and how many make a second.
const TIMES: [(&str, f64); 10] = [
    ("_milliseconds", 1e3),
    ("_millis", 1e3),
    ("_ms", 1e3),
    ("_microseconds", 1e6),
    ("_us", 1e6),
    ("_nanoseconds", 1e9),
    ("_ns", 1e9),
    ("_seconds", 1.0),
    ("_sec", 1.0),
    ("_s", 1.0),
];

/// Beginnings of names of columns of time.
const TIME_NAMES: [&str; 5] = ["ts", "time", "timestamp", "epoch", "unix"];

/// Ends of names of columns of CPU, and cores in one.
const CPUS: [(&str, f64); 5] =
    [("_millicores", 1e-3), ("_millicpu", 1e-3), ("_milli", 1e-3), ("_m", 1e-3), ("_nanocores", 1e-9)];

/// Ends of names of columns of memory, and bytes in one.
const MEMORIES: [(&str, f64); 9] = [
    ("_kib", 1024.0),
    ("_ki", 1024.0),
    ("_kb", 1e3),
    ("_mib", 1_048_576.0),
    ("_mi", 1_048_576.0),
    ("_mb", 1e6),
    ("_gib", 1_073_741_824.0),
    ("_gi", 1_073_741_824.0),
    ("_gb", 1e9),
];

/// How many of a column of time make a second, and whether its name says so; nothing for another column.
pub(crate) fn time(name: &str) -> Option<(f64, bool)> {
    if TIME_NAMES.contains(&name) {
        return Some((1.0, false));
    }
    let (stem, per_second) =
        TIMES.iter().find_map(|(end, number)| Some((name.strip_suffix(end)?, *number)))?;
    TIME_NAMES.contains(&stem).then_some((per_second, true))
}

/// Cores in one of a column of CPU.
pub(crate) fn cores(name: &str) -> f64 {
    scale(name, &CPUS)
}

/// Bytes in one of a column of memory.
pub(crate) fn bytes(name: &str) -> f64 {
    scale(name, &MEMORIES)
}

fn scale(name: &str, units: &[(&str, f64)]) -> f64 {
    units.iter().find(|(end, _)| name.ends_with(end)).map_or(1.0, |(_, scale)| *scale)
}

/// What a Unix time of this size counts: how many make a second, and what they are called.
pub(crate) fn of_unix_time(time: f64) -> (f64, &'static str) {
    match time {
        time if time < UNIX_SECONDS_MAX => (1.0, "seconds"),
        time if time < UNIX_SECONDS_MAX * 1e3 => (1e3, "milliseconds"),
        time if time < UNIX_SECONDS_MAX * 1e6 => (1e6, "microseconds"),
        _ => (1e9, "nanoseconds"),
    }
}
