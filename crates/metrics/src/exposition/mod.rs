//! Exposition formats: the pages that targets answer to a scrape.
//!
//! One line-by-line reader for Prometheus text 0.0.4 and 1.0.0 and for OpenMetrics 1.0; the Content-Type decides which. It
//! hands out slices of the page: nothing is allocated for a line, and labels are only put together when asked for
//! ([`Parser::labels`]), which a target that is scraped every second needs once per series, not once per scrape
//! (see [`crate::target`]).
//!
//! A page that breaks the grammar is refused at the first broken line, with line and column, as Prometheus does: half a
//! page would look like vanished series.

mod comment;
mod cursor;
mod number;
mod pairs;
mod parser;
pub(crate) mod protobuf;
mod sample;
mod series;

pub use parser::Parser;
pub(crate) use series::FamilyKind;
pub use series::{Exemplar, SeriesLine};

/// Bytes of a page after decompression. Prometheus has no limit; 64 MiB is ten times the largest page we know of.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// Samples of one page. Large kube-state-metrics pages have about 200,000.
pub const PAGE_SAMPLES_MAX: usize = 1_000_000;
/// Labels of one sample.
pub const LABELS_MAX: usize = 128;
/// Bytes of a label's or metric's name.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Bytes of a label's value; build information and user agents stay far below.
pub const VALUE_BYTES_MAX: usize = 16 << 10;

const NO_EOF: &str = "data does not end with # EOF";

/// The grammar of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/plain`: Prometheus text 0.0.4, or 1.0.0 with quoted names. Timestamps in milliseconds.
    Text,
    /// `application/openmetrics-text`. Timestamps in seconds, ends with `# EOF`.
    OpenMetrics,
    /// `application/vnd.google.protobuf`: messages, the only format with native histograms. [`Parser`] does not read it.
    Protobuf,
}

impl Format {
    /// The format that a Content-Type header names. A missing or unknown one fails the scrape unless the monitor
    /// names a fallback protocol (Prometheus 3).
    pub fn from_content_type(content_type: Option<&str>, fallback: Option<Format>) -> Result<Format, String> {
        let media_type = content_type.unwrap_or("").split(';').next().unwrap_or("").trim();
        match media_type.to_ascii_lowercase().as_str() {
            "text/plain" => Ok(Format::Text),
            "application/openmetrics-text" => Ok(Format::OpenMetrics),
            "application/vnd.google.protobuf" => Ok(Format::Protobuf),
            other => fallback.ok_or_else(|| match other {
                "" => "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target".into(),
                _ => format!(
                    "received unsupported Content-Type \"{}\" and no fallback_scrape_protocol specified for target",
                    content_type.unwrap_or("")
                ),
            }),
        }
    }
}

/// One line of a page that means something; blank lines and comments are passed over.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    /// `# HELP family text`, escapes as they stand on the page.
    Help {
        /// The metric family.
        family: &'a str,
        /// The rest of the line.
        text: &'a str,
    },
    /// `# TYPE family kind`.
    Type {
        /// The metric family.
        family: &'a str,
        /// `counter`, `gauge`, …
        kind: &'a str,
    },
    /// `# UNIT family unit` (OpenMetrics).
    Unit {
        /// The metric family.
        family: &'a str,
        /// The unit.
        unit: &'a str,
    },
    /// A sample.
    Series(SeriesLine<'a>),
}

/// Where and why a page breaks the grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ExpositionError {
    /// From 1.
    pub line: usize,
    /// In bytes, from 1.
    pub column: usize,
    /// What was expected and what stands there.
    pub message: String,
}

#[cfg(test)]
mod tests;
