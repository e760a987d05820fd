//! The commands, one file each.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod follow_log;
pub(crate) mod kubeconfig;
pub(crate) mod query;
pub(crate) mod serve;
pub(crate) mod simulate;
mod simulate_plot;
pub(crate) mod train;
pub(crate) mod up;
pub(crate) mod version;
pub(crate) mod vpa;
pub(crate) mod why;
