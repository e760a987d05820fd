//! Writes metrics as text: Prometheus' format 0.0.4 and OpenMetrics 1.0, which differ in the name of a counter's family
//! and in the last line.
//!
//! `prometheus-client` writes OpenMetrics only, and the set of series here is fixed and small.

use std::fmt::Write;

/// The text format of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// Picks OpenMetrics if the Accept header names it, as Prometheus' does; else the older format.
    pub(super) fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Name and value, in the order in which they are written. The values are our own constants and need no escaping.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// A page of metrics being written. `counter`, `gauge`, `histogram` and `summary` open a family; its samples follow.
pub(super) struct Page {
    text: String,
    format: Format,
    family: &'static str,
}

impl Page {
    pub(super) fn new(format: Format) -> Self {
        Self { text: String::with_capacity(24 << 10), format, family: "" }
    }

    /// Opens a family of counters; `name` is without `_total`.
    pub(super) fn counter(&mut self, name: &'static str, help: &str) {
        let suffix = if self.format == Format::Prometheus { "_total" } else { "" };
        self.open(name, suffix, "counter", help);
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &str) {
        self.open(name, "", "gauge", help);
    }

    pub(super) fn histogram(&mut self, name: &'static str, help: &str) {
        self.open(name, "", "histogram", help);
    }

    pub(super) fn summary(&mut self, name: &'static str, help: &str) {
        self.open(name, "", "summary", help);
    }

    fn open(&mut self, name: &'static str, suffix: &str, kind: &str, help: &str) {
        self.family = name;
        self.push(format_args!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"));
    }

    /// Writes a sample of the open family; `suffix` is `_total`, `_sum`, `_count` or empty.
    pub(super) fn sample(&mut self, suffix: &str, labels: Labels<'_>, value: f64) {
        self.name(suffix, labels, None);
        self.push(format_args!(" {value}\n"));
    }

    /// Writes the samples of one histogram; the last entry of `counts` is for values above all `bounds`.
    pub(super) fn buckets(&mut self, labels: Labels<'_>, bounds: &[f64], counts: &[u64], sum: f64) {
        let mut cumulative = 0;
        for (index, count) in counts.iter().enumerate() {
            cumulative += count;
            self.name("_bucket", labels, Some(bounds.get(index).copied()));
            self.push(format_args!(" {cumulative}\n"));
        }
        self.sample("_sum", labels, sum);
        self.sample("_count", labels, cumulative as f64);
    }

    /// Writes name and labels; `Some(None)` is the bucket without an upper bound. Bounds always have a decimal point, as
    /// OpenMetrics requires.
    fn name(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<Option<f64>>) {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        let mut separator = '{';
        for (name, value) in labels {
            self.push(format_args!("{separator}{name}=\"{value}\""));
            separator = ',';
        }
        match bound {
            Some(Some(bound)) => self.push(format_args!("{separator}le=\"{bound:?}\"}}")),
            Some(None) => self.push(format_args!("{separator}le=\"+Inf\"}}")),
            None if separator == ',' => self.text.push('}'),
            None => {}
        }
    }

    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.text.write_fmt(arguments).expect("writing to a String cannot fail");
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(format: Format) -> String {
        let mut page = Page::new(format);
        page.counter("cats", "Cats seen.");
        page.sample("_total", &[("colour", "black")], 3.0);
        page.histogram("naps_seconds", "Length of naps.");
        page.buckets(&[], &[0.5, 1.0], &[1, 0, 2], 7.25);
        page.finish()
    }

    #[test]
    fn both_formats() {
        let histogram = "# HELP naps_seconds Length of naps.\n# TYPE naps_seconds histogram\n\
            naps_seconds_bucket{le=\"0.5\"} 1\nnaps_seconds_bucket{le=\"1.0\"} 1\nnaps_seconds_bucket{le=\"+Inf\"} 3\n\
            naps_seconds_sum 7.25\nnaps_seconds_count 3\n";
        assert_eq!(
            page(Format::Prometheus),
            format!(
                "# HELP cats_total Cats seen.\n# TYPE cats_total counter\ncats_total{{colour=\"black\"}} 3\n{histogram}"
            )
        );
        assert_eq!(
            page(Format::OpenMetrics),
            format!(
                "# HELP cats Cats seen.\n# TYPE cats counter\ncats_total{{colour=\"black\"}} 3\n{histogram}# EOF\n"
            )
        );
    }

    #[test]
    fn accept() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            ("*/*", Format::Prometheus),
            ("", Format::Prometheus),
            ("text/plain;version=0.0.4", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
