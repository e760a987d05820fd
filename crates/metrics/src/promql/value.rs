//! Results of queries.

use std::fmt;
use std::sync::Arc;

use super::annotations::Annotations;
use crate::histogram::NativeHistogram;
use crate::labels::Labels;
use crate::sample::{HistogramSample, Sample};
use crate::text::format_value;

/// What a query resulted in, and what to know about it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryResult {
    /// The value.
    pub value: Value,
    /// Warnings and infos.
    pub annotations: Annotations,
    /// Samples that the query read or computed on its way.
    pub samples: usize,
}

/// The value of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number without labels.
    Scalar(Sample),
    /// A text.
    String {
        /// The time of evaluation.
        timestamp_ms: i64,
        /// The text.
        text: String,
    },
    /// One sample of each series; in an order that means something only after `sort`, `topk` and `bottomk`.
    Vector(Vec<VectorSample>),
    /// Several samples of each series, sorted by labels.
    Matrix(Vec<Series>),
}

/// The value of a series at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// A number.
    Float(f64),
    /// A distribution.
    Histogram(Arc<NativeHistogram>),
}

impl SampleValue {
    /// The number, if it is one.
    pub fn float(&self) -> Option<f64> {
        match self {
            SampleValue::Float(value) => Some(*value),
            SampleValue::Histogram(_) => None,
        }
    }
}

/// As Prometheus writes it: `1.5`, `+Inf`, `{count:3, sum:7.5, (1,2]:3}`.
impl fmt::Display for SampleValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SampleValue::Float(value) => f.write_str(&format_value(*value)),
            SampleValue::Histogram(histogram) => histogram.fmt(f),
        }
    }
}

/// A series at a time.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VectorSample {
    /// Its labels.
    pub labels: Labels,
    /// The time of evaluation.
    pub timestamp_ms: i64,
    /// The value.
    pub value: SampleValue,
}

/// A series over a time.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Its floats, in the order of their times.
    pub samples: Vec<Sample>,
    /// Its histograms, in the order of their times. A series has at least one float or histogram, at each time only one.
    pub histograms: Vec<HistogramSample>,
}
