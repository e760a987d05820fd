//! Pages of metrics, from their discovery to the store.

mod clients;
pub(crate) mod discover;
pub(crate) mod fetch;
pub(crate) mod health;
mod meta;
pub(crate) mod node;
pub(crate) mod pools;
pub(crate) mod scraper;
pub(crate) mod status;
pub(crate) mod target;
