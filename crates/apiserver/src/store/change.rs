//! The terms of the store: keys, stored objects, the changes that callers ask for and the events that result.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::status::Failure;

/// Where an object lives: the storage name of its kind (`apps/deployments`), namespace ("" for none) and name.
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

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happened {
    Added,
    Modified,
    Deleted,
}

/// One entry of the log.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) happened: Happened,
    pub(crate) object: Bytes,
    /// The object before, for watches with a selector that it has left or entered.
    pub(crate) previous: Option<Bytes>,
}

/// What must hold for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Absent,
    Revision(u64),
}

/// A change: the new object, or (for a deletion) the last state that watches are shown.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) expected: Expected,
    pub(crate) object: Value,
    pub(crate) delete: bool,
    /// May reach the disk a little later.
    pub(crate) relaxed: bool,
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refused {
    /// There is such an object already.
    Exists,
    /// There is no such object (any more).
    Missing,
    /// The object has another revision.
    Modified,
    /// The object is too large or too deep.
    TooLarge(Failure),
    /// The disk is full; nothing was changed.
    Full(String),
    /// The disk failed; nothing was changed.
    Disk(String),
    /// The server stops; nothing was changed.
    Stopping,
}

/// The watch asked for a revision that the log no longer has; the oldest it could start from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) oldest: u64,
}
