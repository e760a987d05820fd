//! A load generator with hey's flags and summary.
