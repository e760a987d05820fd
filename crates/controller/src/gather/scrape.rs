//! Pages of metrics, from their discovery to the store.

mod clients;
pub(crate) mod discover;
pub(crate) mod fetch;
mod meta;
pub(crate) mod node;
pub(crate) mod pool;
pub(crate) mod pools;
pub(crate) mod standing;
pub(crate) mod status;
pub(crate) mod target;
