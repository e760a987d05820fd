//! Samples, exposition formats, the time-series store and PromQL, without any I/O.
//!
//! This crate turns pages that targets answer into series ([`exposition`], [`target`]), keeps them in
//! little memory ([`Store`]), and answers PromQL about them ([`promql`]) with the values, words and errors of Prometheus 3. It
//! reads no clock, file or socket: times are arguments, in milliseconds since the Unix epoch, and the same input gives the same bytes.
//!
//! The way of a sample:
//!
//! ```
//! use flyball_metrics::exposition::Format;
//! use flyball_metrics::promql::{self, EngineOptions};
//! use flyball_metrics::target::{ScrapeReport, Target, TargetOptions};
//! use flyball_metrics::{Labels, Store, StoreOptions, response};
//!
//! let mut store = Store::new(StoreOptions::default());
//! let labels = Labels::new([("job", "model"), ("instance", "127.1.0.1:9100"), ("pod", "model-1")]);
//! let mut target = Target::new(labels, TargetOptions::default());
//!
//! // Somebody else scrapes; the page, its Content-Type and the time of the scrape come in here.
//! let format = Format::from_content_type(Some("text/plain; version=0.0.4"), None)?;
//! for second in 0..=60 {
//!     let (page, at_ms) = (format!("http_requests_total{{status=\"200\"}} {}\n", second * 5), second * 1000);
//!     let scraped = target.ingest(&mut store, page.as_bytes(), format, at_ms)?;
//!     target.report(&mut store, &ScrapeReport { up: true, duration_seconds: 0.001, scraped }, at_ms);
//! }
//!
//! // A trigger's query: parsed once, evaluated again and again.
//! let query = "sum(rate(http_requests_total[30s]))";
//! let expr = promql::parse(query)?;
//! let result = promql::eval_instant(&store, query, &expr, 60_000, &EngineOptions::default())?;
//! assert_eq!(
//!     response::query(&result),
//!     r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[60,"5"]}]}}"#,
//! );
//!
//! // Why is it empty? Because of a name.
//! let expr = promql::parse("sum(rate(http_request_total[30s]))")?;
//! let explanation = &promql::explain(&store, &expr, 60_000, &EngineOptions::default())[0];
//! assert_eq!((explanation.series_matched, &explanation.nearest[0][..]), (0, "http_requests_total"));
//!
//! // Now and then, with the time: drop what is older than the retention.
//! store.evict(60_000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod exposition;
mod hash;
pub mod histogram;
mod kahan;
mod labels;
mod matcher;
pub mod promql;
pub mod push;
mod re2;
pub mod relabel;
pub mod response;
mod sample;
mod store;
pub mod target;
mod text;
mod wire;

pub use histogram::NativeHistogram;
pub use labels::{BUCKET_LABEL, Labels, METRIC_NAME};
pub use matcher::{MatchOp, Matcher, RegexError};
pub use sample::{HistogramSample, STALE_NAN, STALE_NAN_BITS, Sample, is_stale_nan};
pub use store::{
    Changes, ChunkSize, DamagedFrame, Exemplar, FILE_HEADER, FRAME_HEADER_BYTES, FollowerId, Lend, Loading,
    Metadata, Rejected, Rejections, Saving, SeriesHandle, SeriesId, SeriesRef, Store, StoreOptions,
    StoreSize, frame_length,
};
pub use text::{
    TextError, format_duration_ms, format_exposition, format_value, parse_duration_ms, parse_step_ms,
    parse_time_ms, parse_value, quote,
};
