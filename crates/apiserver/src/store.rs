//! The object store: objects, one revision counter, and the log that watches read.
//!
//! Objects are kept as the bytes that clients receive, resourceVersion included: a GET or LIST of the stored
//! version needs no parsing, and an object takes the memory of its JSON. All changes go through one writer thread.
//! It takes the waiting changes as a batch, checks each one's precondition against the state with the batch's
//! earlier changes applied, commits the batch to disk in one transaction, and only then makes it visible and
//! acknowledges it. So a change that was acknowledged, or that a watch has delivered, survives a `kill -9`. If the
//! disk refuses a batch, all its changes fail and none was ever visible.
//!
//! Events and leases are *relaxed*: visible at once, and on disk with the next durable commit or after
//! [`disk::FLUSH_AFTER`] at the latest. A crash may lose the last of them, which does no harm. Revisions still
//! never repeat: each start skips more of them than relaxed changes can have used.
//!
//! Each resource has its own log, so that a watch wakes only for changes of its resource. All logs together are
//! bounded by count and bytes. A watch that needs a change that has been trimmed gets 410 Gone and lists again.

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

pub(crate) use change::{Change, Event, EventType, Gone, Key, Precondition, Stored, WriteError};
use disk::Disk;
use memory::{Shared, State};

/// Memory of a log entry besides its object.
const EVENT_BYTES: usize = 256;

/// A handle of the store; cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    writer: Arc<writer::Writer>,
}

impl Store {
    /// Loads the objects from disk and starts the writer; `None` keeps everything in memory only.
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

    /// Returns the current revision.
    pub(crate) fn revision(&self) -> u64 {
        self.read().revision
    }

    /// Subscribes to changes of the revision.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    /// Subscribes to revisions that change an object of the resource.
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

    /// Returns the objects of a resource, ordered by namespace and name and starting after `after`, with the
    /// revision of this snapshot.
    pub(crate) fn list(
        &self,
        resource: &Arc<str>,
        namespace: &str,
        after: Option<&str>,
    ) -> (Vec<Stored>, u64) {
        let (found, revision) = self.page(resource, namespace, after, usize::MAX);
        (found.into_iter().map(|(_, stored)| stored).collect(), revision)
    }

    /// Returns at most `count` objects as [`Self::list`] does, with their paths.
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

    /// Returns the total bytes of a resource's objects.
    pub(crate) fn bytes(&self, resource: &str) -> usize {
        let state = self.read();
        state
            .objects
            .get(resource)
            .map_or(0, |objects| objects.values().map(|stored| stored.bytes.len()).sum())
    }

    /// Returns the number of a resource's objects.
    pub(crate) fn count(&self, resource: &str) -> usize {
        self.read().objects.get(resource).map_or(0, BTreeMap::len)
    }

    /// Returns a resource's next changes after `revision`, and the revision up to which they are complete: about
    /// `bytes` worth of them, but at least one.
    pub(crate) fn since(
        &self,
        resource: &str,
        revision: u64,
        bytes: usize,
    ) -> Result<(Vec<Event>, u64), Gone> {
        let state = self.read();
        let log = state.logs.get(resource);
        let oldest = log.map_or(0, |log| log.last_trimmed).max(state.started_at);
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

    /// Makes a change, durably unless it is relaxed. Returns the stored object, or for a deletion its last state.
    pub(crate) async fn write(&self, change: Change) -> Result<Stored, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(change, reply).map_err(|()| WriteError::Stopping)?;
        answer.await.unwrap_or(Err(WriteError::Stopping))
    }

    /// Flushes relaxed changes, stops the writer and releases the disk.
    pub(crate) fn close(&self) {
        self.writer.stop();
    }
}
