//! Recommendations as they are written: rounded up, and in text where that is asked for
//! (`pkg/recommender/model/types.go`, `pkg/recommender/routines/cpu_integer_post_processor.go`).

use super::resources::{Resource, Resources};

const UNITS: [(&str, i64); 4] = [("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

/// `--humanize-memory`: two decimals of the largest binary unit.
pub fn humanize_memory(bytes: i64) -> String {
    match UNITS.iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{:.2}{unit}", bytes as f64 / *size as f64),
        None => bytes.to_string(),
    }
}

/// The next multiple of `scale`; none where there is none, because the scale is not positive.
pub fn round_up_to_scale(value: i64, scale: i64) -> Option<i64> {
    if scale <= 0 {
        return None;
    }
    let over = value.rem_euclid(scale);
    Some(if over == 0 { value } else { value.saturating_add(scale - over) })
}

/// Up to whole cores.
pub fn integer_cpu(millis: i64) -> i64 {
    round_up_to_scale(millis, 1000).unwrap_or(millis)
}

/// Each amount up to a multiple; a scale that is not positive changes nothing.
pub fn round_up(resources: Resources, cpu_millis: i64, memory_bytes: i64) -> Resources {
    resources.map(|resource, amount| {
        let scale = match resource {
            Resource::Cpu => cpu_millis,
            Resource::Memory => memory_bytes,
        };
        round_up_to_scale(amount, scale).unwrap_or(amount)
    })
}
