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

mod change;
pub(crate) mod disk;
mod memory;
mod overlay;
mod pages;
pub(crate) mod repair;
mod writer;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLockReadGuard;
use tokio::sync::{oneshot, watch};

pub(crate) use change::{Change, Event, Expected, Gone, Happened, Key, Refused, Stored};
use disk::Disk;
use memory::{Shared, State};

/// What a change takes besides its object.
const EVENT_BYTES: usize = 256;

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
        let shared = Arc::new(Shared::new(state));
        let writer = Arc::new(writer::Writer::start(shared.clone(), disk));
        Ok(Self { shared, writer })
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read()
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
