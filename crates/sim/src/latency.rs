//! A histogram of latencies: 32 buckets to an octave, so a quantile is right within 3 %.

/// Octaves of microseconds: up to 2³⁶, which is 19 hours.
const OCTAVES: usize = 32;
const PER_OCTAVE: usize = 32;

/// Latencies by size.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    buckets: Vec<f64>,
    /// Requests that were never answered; later than all others.
    lost: f64,
    count: f64,
    sum: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: vec![0.0; OCTAVES * PER_OCTAVE], lost: 0.0, count: 0.0, sum: 0.0 }
    }
}

fn bucket(micros: u64) -> usize {
    let value = micros.max(PER_OCTAVE as u64);
    let exponent = 63 - value.leading_zeros() as usize;
    #[expect(clippy::cast_possible_truncation, reason = "5 bits")]
    let within = (value >> (exponent - 5)) as usize & (PER_OCTAVE - 1);
    ((exponent - 5) * PER_OCTAVE + within).min(OCTAVES * PER_OCTAVE - 1)
}

/// The upper end of a bucket, in seconds.
fn end(bucket: usize) -> f64 {
    let (exponent, within) = (bucket / PER_OCTAVE, bucket % PER_OCTAVE);
    (PER_OCTAVE + within + 1) as f64 * (exponent as f64).exp2() * 1e-6
}

impl Latencies {
    pub(crate) fn add(&mut self, micros: u64, count: f64) {
        self.buckets[bucket(micros)] += count;
        self.count += count;
        self.sum += micros as f64 * 1e-6 * count;
    }

    pub(crate) fn add_lost(&mut self, count: f64) {
        self.lost += count;
        self.count += count;
    }

    pub(crate) fn count(&self) -> f64 {
        self.count
    }

    /// Seconds; of those that were answered.
    pub(crate) fn mean(&self) -> f64 {
        self.sum / (self.count - self.lost).max(1e-9)
    }

    /// Seconds; none where that many were never answered, or there were no requests.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let (wanted, mut seen) = (self.count * share, 0.0);
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0.0 {
                return Some(end(index));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_three_percent() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        (1..=10_000).for_each(|value| latencies.add(value * 100, 1.0));
        for share in [0.01, 0.5, 0.95, 0.99, 0.999] {
            let quantile = latencies.quantile(share).expect("there are latencies");
            assert!((quantile / share - 1.0).abs() < 0.035, "{share}: {quantile}");
        }
        latencies.add_lost(10_000.0);
        assert_eq!(latencies.quantile(0.6), None);
        for micros in [0, 1, 33, 1 << 40, u64::MAX] {
            latencies.add(micros, 1.0);
        }
    }
}
