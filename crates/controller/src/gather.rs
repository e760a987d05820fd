//! What decisions rest on: the watched objects, the scraped pages, the pods' usage, and the readings of triggers.

pub(crate) mod cluster;
pub(crate) mod demand;
pub(crate) mod facts;
pub(crate) mod names;
pub(crate) mod pods;
pub(crate) mod polled;
pub(crate) mod scrape;
pub(crate) mod selector;
pub(crate) mod source;
pub(crate) mod tls;
pub(crate) mod url;
pub(crate) mod usage;
pub(crate) mod workload;
