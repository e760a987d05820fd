//! The objects, one revision counter, and the log that watches read.
//!
//! Objects are kept as the bytes that clients get (resourceVersion included): a GET or a LIST of the stored
//! version needs no parsing, and memory is what the JSON takes. Every change goes through one writer thread:
//! it takes all changes that wait, checks each one's precondition against the state with the earlier ones of
//! the batch applied, commits the batch to disk in one transaction, and only then makes it visible and
//! acknowledges it. So a change that was acknowledged, or that a watch has shown, survives a `kill -9`; and when
//! the disk refuses, the whole batch is refused and nothing was seen of it.
//!
//! Events and leases are *relaxed*: they are visible at once and reach the disk with the next durable commit, or
//! at the latest after [`disk::FLUSH_AFTER`]; losing the last of them in a crash costs nobody anything.
//! Revisions never repeat nevertheless: a start skips more of them than relaxed changes can have used.
//!
//! The log is bounded by count and bytes. A watch from before its start gets 410 Gone, and lists again.

pub(crate) mod disk;
mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use disk::Disk;

/// Changes kept for watches. At the tens of writes a second of a busy machine, a minute or more.
const LOG_EVENTS_MAX: usize = 4096;
/// Bytes of changes kept for watches, so that big objects don't make the log big.
const LOG_BYTES_MAX: usize = 4 << 20;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is such an object already.
    Exists,
    /// There is no such object (any more).
    Missing,
    /// The object has another revision.
    Modified,
    /// The disk failed; nothing was changed.
    Disk(String),
}

/// The watch asked for a revision that the log no longer has; the oldest it could start from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) oldest: u64,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Arc<str>, BTreeMap<String, Stored>>,
    log: VecDeque<Event>,
    log_bytes: usize,
    /// The revision before the first entry of the log: a watch may start here.
    log_floor: u64,
}

struct Shared {
    state: RwLock<State>,
    revision: watch::Sender<u64>,
}

/// The store; cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    writer: Arc<writer::Writer>,
}

impl Store {
    /// Starts from what the disk has; `None` keeps everything in memory only.
    pub(crate) fn open(mut disk: Option<Disk>) -> Result<Self, disk::DiskError> {
        let mut state = State::default();
        if let Some(disk) = &mut disk {
            state.revision = disk.load(|resource, path, stored| {
                let resource: Arc<str> = resource.into();
                state.objects.entry(resource).or_default().insert(path.to_owned(), stored);
            })?;
        }
        state.log_floor = state.revision;
        let revision = watch::Sender::new(state.revision);
        let shared = Arc::new(Shared { state: RwLock::new(state), revision });
        let writer = Arc::new(writer::Writer::start(shared.clone(), disk));
        Ok(Self { shared, writer })
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The current revision.
    pub(crate) fn revision(&self) -> u64 {
        self.read().revision
    }

    /// Sees the revision change; for watches to wait on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Stored> {
        self.read().objects.get(&key.resource)?.get(&key.path).cloned()
    }

    /// The objects of a resource in order of namespace and name, after `after`, with the revision they belong to.
    pub(crate) fn list(
        &self,
        resource: &Arc<str>,
        namespace: &str,
        after: Option<&str>,
    ) -> (Vec<Stored>, u64) {
        let state = self.read();
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let start = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix.as_str()),
        };
        let found = state.objects.get(resource).map_or_else(Vec::new, |objects| {
            let range = objects.range::<str, _>((start, Bound::Unbounded));
            range
                .take_while(|(path, _)| path.starts_with(&prefix))
                .map(|(_, stored)| stored.clone())
                .collect()
        });
        (found, state.revision)
    }

    /// How many objects a resource has.
    pub(crate) fn count(&self, resource: &str) -> usize {
        self.read().objects.get(resource).map_or(0, BTreeMap::len)
    }

    /// The changes of a resource after `revision`, and the revision up to which that is all.
    pub(crate) fn since(&self, resource: &str, revision: u64) -> Result<(Vec<Event>, u64), Gone> {
        let state = self.read();
        if revision < state.log_floor {
            return Err(Gone { oldest: state.log_floor });
        }
        let first = state.log.partition_point(|event| event.revision <= revision);
        let events =
            state.log.range(first..).filter(|event| &*event.key.resource == resource).cloned().collect();
        Ok((events, state.revision))
    }

    /// Makes a change, durably unless it is relaxed. What was stored is returned; for a deletion, the last state.
    pub(crate) async fn write(&self, change: Change) -> Result<Stored, Refused> {
        let (reply, answer) = oneshot::channel();
        let stopped = || Refused::Disk("the store has stopped".into());
        self.writer.send(change, reply).map_err(|()| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Flushes what is relaxed, stops the writer and releases the disk.
    pub(crate) fn close(&self) {
        self.writer.stop();
    }
}

impl State {
    fn apply(&mut self, event: Event) {
        let objects = self.objects.entry(event.key.resource.clone()).or_default();
        if event.happened == Happened::Deleted {
            objects.remove(&event.key.path);
        } else {
            let stored = Stored { revision: event.revision, bytes: event.object.clone() };
            objects.insert(event.key.path.clone(), stored);
        }
        self.revision = event.revision;
        self.log_bytes += event.object.len();
        self.log.push_back(event);
        while self.log.len() > LOG_EVENTS_MAX || self.log_bytes > LOG_BYTES_MAX {
            let Some(oldest) = self.log.pop_front() else { break };
            self.log_bytes -= oldest.object.len();
            self.log_floor = oldest.revision;
        }
    }
}
