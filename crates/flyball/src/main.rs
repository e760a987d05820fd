//! An autoscaler for model servers: the command line.
fn main() {}
