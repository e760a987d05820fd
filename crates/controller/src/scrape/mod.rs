//! Pages of metrics, from their discovery to the store.

pub(crate) mod discover;
pub(crate) mod fetch;
pub(crate) mod node;
pub(crate) mod pool;
