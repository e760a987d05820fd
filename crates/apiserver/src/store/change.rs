//! The terms of the store: keys, stored objects, the changes that callers ask for and the events that result.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::status::Failure;

/// Key of an object: its kind's storage name (`apps/deployments`), namespace ("" for none) and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) resource: Arc<str>,
    /// `namespace/name`; neither may contain a slash.
    pub(crate) path: String,
}

impl Key {
    pub(crate) fn new(resource: &Arc<str>, namespace: &str, name: &str) -> Self {
        Self { resource: resource.clone(), path: format!("{namespace}/{name}") }
    }
}

/// An object as stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) revision: u64,
    pub(crate) bytes: Bytes,
}

impl Stored {
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }
}

/// The type of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventType {
    Added,
    Modified,
    Deleted,
}

/// One entry of the log.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) event_type: EventType,
    pub(crate) object: Bytes,
    /// The previous object, for watches whose selector it may have entered or left.
    pub(crate) previous: Option<Bytes>,
}

/// The precondition of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precondition {
    Absent,
    Revision(u64),
}

/// A requested change: the new object, or for a deletion the last state that watches deliver.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) precondition: Precondition,
    pub(crate) object: Value,
    pub(crate) delete: bool,
    /// Whether the change may reach the disk later; see [`crate::store`].
    pub(crate) relaxed: bool,
}

/// Why a change was not made; nothing was changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WriteError {
    /// The object exists already.
    Exists,
    /// The object does not exist (any more).
    Missing,
    /// The object has another revision.
    Modified,
    /// The object is too large or too deep.
    TooLarge(Failure),
    /// The disk is full.
    Full(String),
    /// The disk failed.
    Disk(String),
    /// The server is stopping.
    Stopping,
}

/// The requested revision has been trimmed from the log; `oldest` is the first that a watch can start from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) oldest: u64,
}
