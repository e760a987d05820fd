//! Decisions from facts: our rules and KEDA's as played scenarios, and properties over random ones.

mod explain;
mod hpa;
mod joint;
mod keda;
mod keda_table;
mod live;
mod objective;
mod play;
mod properties;
mod sharing;
mod vertical;
