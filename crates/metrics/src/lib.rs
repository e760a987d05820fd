//! Samples, exposition formats, the time-series store and PromQL, without any I/O.

pub mod exposition;
mod labels;
mod matcher;
mod sample;
pub mod promql;
pub mod response;
mod store;
pub mod target;
mod text;

pub use labels::{BUCKET_LABEL, Labels, METRIC_NAME};
pub use matcher::{MatchOp, Matcher, RegexError};
pub use sample::{STALE_NAN, STALE_NAN_BITS, Sample, is_stale_nan};
pub use store::{Metadata, Rejected, Rejections, SeriesId, SeriesRef, Store, StoreOptions, StoreSize};
pub use text::{
    TextError, format_duration_ms, format_value, parse_duration_ms, parse_step_ms, parse_time_ms, parse_value, quote,
};
