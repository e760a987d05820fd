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
//! Each resource has its log, so that a watch is woken, and looks, for nothing else; all logs together are bounded by
//! count and bytes. A watch that missed something which the log no longer has gets 410 Gone, and lists again.

pub(crate) mod disk;
mod overlay;
mod pages;
pub(crate) mod repair;
mod writer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::status::Failure;
use disk::Disk;

/// Changes kept for watches. At the tens of writes a second of a busy machine, a minute or more.
const LOG_EVENTS_MAX: usize = 4096;
/// Bytes of changes kept for watches, so that big objects don't make the log big.
const LOG_BYTES_MAX: usize = 4 << 20;

/// What a change takes besides its object.
const EVENT_BYTES: usize = 256;

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

/// The changes of one resource.
#[derive(Default)]
struct Log {
    events: VecDeque<Event>,
    /// The newest change that the log no longer has.
    forgotten: u64,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Arc<str>, BTreeMap<String, Stored>>,
    logs: BTreeMap<Arc<str>, Log>,
    /// The resources of all changes in the logs, the oldest first.
    logged: VecDeque<Arc<str>>,
    log_bytes: usize,
    /// The revision that the server started with: nobody knows what changed before.
    started_at: u64,
}

struct Shared {
    state: RwLock<State>,
    revision: watch::Sender<u64>,
    /// Wakes those who wait for one resource.
    resources: Mutex<BTreeMap<Arc<str>, watch::Sender<u64>>>,
}

impl Shared {
    fn resources(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, watch::Sender<u64>>> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes who waits for one of these resources, or for any.
    fn tell(&self, resources: &BTreeSet<Arc<str>>, revision: u64) {
        let mut waiting = self.resources();
        for resource in resources {
            if let Some(sender) = waiting.get(resource) {
                sender.send_replace(revision);
            }
        }
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        drop(waiting);
        self.revision.send_replace(revision);
    }
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
        state.started_at = state.revision;
        let revision = watch::Sender::new(state.revision);
        let shared = Arc::new(Shared { state: RwLock::new(state), revision, resources: Mutex::default() });
        let writer = Arc::new(writer::Writer::start(shared.clone(), disk));
        Ok(Self { shared, writer })
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current revision.
    pub(crate) fn revision(&self) -> u64 {
        self.read().revision
    }

    /// Sees the revision change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    /// Sees the revision change when an object of the resource does; for watches to wait on.
    pub(crate) fn subscribe_to(&self, resource: &Arc<str>) -> watch::Receiver<u64> {
        let mut resources = self.shared.resources();
        let sender = resources.entry(resource.clone()).or_insert_with(|| watch::Sender::new(0));
        let mut receiver = sender.subscribe();
        receiver.mark_unchanged();
        receiver
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
        let (found, revision) = self.page(resource, namespace, after, usize::MAX);
        (found.into_iter().map(|(_, stored)| stored).collect(), revision)
    }

    /// As [`Self::list`], up to a number of objects, with their places.
    pub(crate) fn page(
        &self,
        resource: &Arc<str>,
        namespace: &str,
        after: Option<&str>,
        count: usize,
    ) -> (Vec<(String, Stored)>, u64) {
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
                .take(count)
                .map(|(path, stored)| (path.clone(), stored.clone()))
                .collect()
        });
        (found, state.revision)
    }

    /// The bytes of all objects of a resource.
    pub(crate) fn bytes(&self, resource: &str) -> usize {
        let state = self.read();
        state
            .objects
            .get(resource)
            .map_or(0, |objects| objects.values().map(|stored| stored.bytes.len()).sum())
    }

    /// How many objects a resource has.
    pub(crate) fn count(&self, resource: &str) -> usize {
        self.read().objects.get(resource).map_or(0, BTreeMap::len)
    }

    /// The next changes of a resource after `revision`, and the revision up to which that is all: as many as are worth
    /// `bytes`, but at least one.
    pub(crate) fn since(
        &self,
        resource: &str,
        revision: u64,
        bytes: usize,
    ) -> Result<(Vec<Event>, u64), Gone> {
        let state = self.read();
        let log = state.logs.get(resource);
        let oldest = log.map_or(0, |log| log.forgotten).max(state.started_at);
        if revision < oldest {
            return Err(Gone { oldest });
        }
        let Some(log) = log else { return Ok((Vec::new(), state.revision)) };
        let first = log.events.partition_point(|event| event.revision <= revision);
        let mut left = bytes;
        let mut found = Vec::new();
        for event in log.events.range(first..) {
            if left == 0 {
                let reached = found.last().map_or(revision, |event: &Event| event.revision);
                return Ok((found, reached));
            }
            left = left.saturating_sub(EVENT_BYTES + event.object.len());
            found.push(event.clone());
        }
        Ok((found, state.revision))
    }

    /// Makes a change, durably unless it is relaxed. What was stored is returned; for a deletion, the last state.
    pub(crate) async fn write(&self, change: Change) -> Result<Stored, Refused> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(change, reply).map_err(|()| Refused::Stopping)?;
        answer.await.unwrap_or(Err(Refused::Stopping))
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
        self.logged.push_back(event.key.resource.clone());
        self.logs.entry(event.key.resource.clone()).or_default().events.push_back(event);
        while self.logged.len() > LOG_EVENTS_MAX || self.log_bytes > LOG_BYTES_MAX {
            let Some(resource) = self.logged.pop_front() else { break };
            let Some(log) = self.logs.get_mut(&resource) else { continue };
            let Some(oldest) = log.events.pop_front() else { continue };
            self.log_bytes -= oldest.object.len();
            log.forgotten = oldest.revision;
        }
    }
}
