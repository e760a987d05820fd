//! Samples, and the marker that says "this series ended here".

use std::sync::Arc;

use crate::histogram::NativeHistogram;

/// One measurement of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The value; a stale marker ([`STALE_NAN`]) ends the series until its next sample.
    pub value: f64,
}

impl Sample {
    /// A sample of `value` at `timestamp_ms`.
    pub fn new(timestamp_ms: i64, value: f64) -> Sample {
        Sample { timestamp_ms, value }
    }

    /// Whether this sample says that its series ended.
    pub fn is_stale_marker(&self) -> bool {
        is_stale_nan(self.value)
    }
}

/// One measurement that is a distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSample {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The distribution; shared, because queries hand it on.
    pub histogram: Arc<NativeHistogram>,
}

/// A measurement of either kind.
pub(crate) trait Timed {
    /// When it was taken.
    fn time_ms(&self) -> i64;
}

impl Timed for Sample {
    fn time_ms(&self) -> i64 {
        self.timestamp_ms
    }
}

impl Timed for HistogramSample {
    fn time_ms(&self) -> i64 {
        self.timestamp_ms
    }
}

/// The bit pattern of the stale marker: a signalling NaN that no arithmetic can produce (Prometheus, model/value).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The stale marker: appended when a series is gone, so that queries stop to see it at once instead of after five minutes.
pub const STALE_NAN: f64 = f64::from_bits(STALE_NAN_BITS);

/// A bit pattern that no arithmetic produces and the store keeps as an ordinary NaN, so that it can mean "look elsewhere".
pub(crate) const ELSEWHERE_NAN_BITS: u64 = 0x7ff0_0000_0000_0003;

/// Whether a value is the stale marker (any other NaN is a value).
pub fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}
