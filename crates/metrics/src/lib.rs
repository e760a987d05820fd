//! Samples, exposition formats, the time-series store and PromQL, without any I/O.
