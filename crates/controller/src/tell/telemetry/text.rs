//! A page in Prometheus' text format, for values that are read where they are kept.

use std::fmt::Write as _;

use flyball_metrics::Labels;

/// A page in the text format.
#[derive(Default)]
pub(super) struct Text(pub(super) String);

impl Text {
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n").expect("a text can be written to");
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels =
            if labels.is_empty() { String::new() } else { Labels::new(labels.iter().copied()).to_string() };
        writeln!(self.0, "{name}{labels} {value}").expect("a text can be written to");
    }
}
