//! What a PromQL query does, as far as the rules care: told by whoever can parse it.

use std::fmt;
use std::time::Duration;

/// What a PromQL query does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryFacts {
    /// The names of the metrics it selects.
    pub metrics: Vec<String>,
    /// The windows of its range selectors.
    pub range_windows: Vec<Duration>,
    /// Why replicas do not add up to its result, if they do not.
    pub not_additive: Option<NotAdditive>,
    /// Its result is a share: of 1, whatever the load.
    pub is_share: bool,
    /// Its result is multiplied or divided by a number, so that it is in a unit of its own.
    pub is_scaled: bool,
    /// It takes a `histogram_quantile` of buckets that were aggregated without keeping the label `le`.
    pub loses_le: bool,
    /// Nothing in it keeps it from returning several series.
    pub may_return_many_series: bool,
    /// A comparison in it leaves nothing where it does not hold, and nothing fills the gap.
    pub may_vanish: bool,
    /// Counters that are read as they are, without a rate.
    pub raw_counters: Vec<String>,
}

/// Why replicas do not add up to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdditive {
    /// A quantile, mostly of a latency.
    Quantile,
    /// An average over series or time.
    Average,
    /// One thing divided by another.
    Ratio,
}

impl fmt::Display for NotAdditive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotAdditive::Quantile => "a quantile",
            NotAdditive::Average => "an average",
            NotAdditive::Ratio => "a ratio",
        })
    }
}
