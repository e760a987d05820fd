//! Histograms as text: for people, and in the notation of PromQL's test scripts.

use std::fmt;

use super::{Bucket, Buckets, NativeHistogram, ResetHint};
use crate::text::format_general;

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        let [lower, upper, count] = [self.lower, self.upper, self.count].map(format_general);
        write!(f, "{open}{lower},{upper}{close}:{count}")
    }
}

/// Prometheus' form: `{count:3, sum:7.5, [-0.1,0.1]:1, (1,2]:2}`, without empty buckets.
impl fmt::Display for NativeHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", format_general(self.count), format_general(self.sum))?;
        let negative = self.negative_buckets().rev();
        let zero = (self.zero_count != 0.0).then(|| self.zero_bucket());
        for bucket in negative.chain(zero).chain(self.positive_buckets()).filter(|bucket| bucket.count != 0.0)
        {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}

impl NativeHistogram {
    /// The notation of PromQL's test scripts and of `promtool test rules`: `{{count:3 sum:7.5 offset:1 buckets:[2]}}`.
    pub fn to_script(&self) -> String {
        let mut parts = Vec::new();
        let mut number = |key: &str, value: f64| {
            if value != 0.0 {
                parts.push(format!("{key}:{}", format_general(value)));
            }
        };
        number("schema", f64::from(self.schema.number()));
        number("count", self.count);
        number("sum", self.sum);
        number("z_bucket", self.zero_count);
        number("z_bucket_w", self.zero_threshold);
        if self.schema.is_custom() {
            parts.push(format!("custom_values:{}", list(self.schema.custom_bounds().iter().copied())));
        }
        match self.reset_hint {
            ResetHint::Unknown => {}
            ResetHint::Reset => parts.push("counter_reset_hint:reset".into()),
            ResetHint::NotReset => parts.push("counter_reset_hint:not_reset".into()),
            ResetHint::Gauge => parts.push("counter_reset_hint:gauge".into()),
        }
        side(&self.positive, "", &mut parts);
        side(&self.negative, "n_", &mut parts);
        format!("{{{{{}}}}}", parts.join(" "))
    }
}

fn list(values: impl Iterator<Item = f64>) -> String {
    format!("[{}]", values.map(format_general).collect::<Vec<_>>().join(" "))
}

/// The populated buckets of a side, with those between them.
fn side(buckets: &Buckets, prefix: &str, parts: &mut Vec<String>) {
    let mut compact = buckets.clone();
    compact.compact();
    let (Some((first, _)), Some((last, _))) = (compact.iter().next(), compact.iter().next_back()) else {
        return;
    };
    if first != 0 {
        parts.push(format!("{prefix}offset:{first}"));
    }
    let mut next = compact.iter().peekable();
    let count = |index: i32| next.next_if(|(other, _)| *other == index).map_or(0.0, |(_, count)| count);
    parts.push(format!("{prefix}buckets:{}", list((first..=last).map(count))));
}
