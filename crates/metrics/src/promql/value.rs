//! Results of queries.

use super::annotations::Annotations;
use crate::labels::Labels;
use crate::sample::Sample;

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
///
/// Native histograms will be fields of [`VectorSample`] and [`Series`] beside the floats, as in Prometheus.
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

/// A series at a time.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VectorSample {
    /// Its labels.
    pub labels: Labels,
    /// The time of evaluation.
    pub timestamp_ms: i64,
    /// The value.
    pub value: f64,
}

/// A series over a time.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Its samples, at least one, in the order of their times.
    pub samples: Vec<Sample>,
}
