//! The only thread that changes the store: it batches, checks, commits, then publishes changes.
//!
//! See [`crate::store`] for the order and its reasons. A batch is everything that arrived during the previous
//! commit, so a lone write pays one sync, and a hundred concurrent ones share it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::change::{Change, Event, EventType, Key, Precondition, Stored, WriteError};
use super::disk::{Disk, DiskError, FLUSH_AFTER};
use super::memory::Shared;
use crate::object;

/// Maximum number of changes per batch, so that the first does not wait long.
const BATCH_MAX: usize = 256;

type Reply = oneshot::Sender<Result<Stored, WriteError>>;

enum Message {
    Change(Box<Change>, Reply),
    Stop,
}

/// A handle of the writer thread; dropping it flushes and joins the thread.
pub(super) struct Writer {
    sender: Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(shared: Arc<Shared>, disk: Option<Disk>) -> Self {
        let (sender, receiver) = channel();
        let thread = std::thread::spawn(move || Worker { shared, disk }.run(&receiver));
        Self { sender, thread: Mutex::new(Some(thread)) }
    }

    pub(super) fn send(&self, change: Change, reply: Reply) -> Result<(), ()> {
        self.sender.send(Message::Change(Box::new(change), reply)).map_err(|_| ())
    }

    pub(super) fn stop(&self) {
        // Fails only when the thread has already ended.
        let _ = self.sender.send(Message::Stop);
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Worker {
    shared: Arc<Shared>,
    disk: Option<Disk>,
}

impl Worker {
    fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let first = match receiver.recv_timeout(FLUSH_AFTER) {
                Ok(Message::Change(change, reply)) => (change, reply),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return self.flush(),
                Err(RecvTimeoutError::Timeout) => {
                    self.flush();
                    continue;
                }
            };
            let mut batch = vec![first];
            let mut stop = false;
            while batch.len() < BATCH_MAX && !stop {
                match receiver.try_recv() {
                    Ok(Message::Change(change, reply)) => batch.push((change, reply)),
                    Ok(Message::Stop) => stop = true,
                    Err(_) => break,
                }
            }
            self.commit(batch);
            if stop {
                return self.flush();
            }
        }
    }

    fn flush(&mut self) {
        if let Some(disk) = &mut self.disk
            && let Err(error) = disk.flush()
        {
            tracing::error!(%error, "cannot write events and leases to the state directory");
        }
    }

    fn commit(&mut self, batch: Vec<(Box<Change>, Reply)>) {
        let relaxed = batch.iter().all(|(change, _)| change.relaxed);
        let mut planned: Vec<(Event, Reply)> = Vec::with_capacity(batch.len());
        for (change, reply) in batch {
            match self.plan(*change, &planned) {
                Ok(event) => planned.push((event, reply)),
                Err(refused) => {
                    // Fails only when the caller is gone.
                    let _ = reply.send(Err(refused));
                }
            }
        }
        if planned.is_empty() {
            return;
        }
        let saved = match &mut self.disk {
            Some(disk) => disk.commit(planned.iter().map(|(event, _)| event), relaxed),
            None => Ok(()),
        };
        match saved {
            Ok(()) => self.publish(planned),
            Err(error) => {
                tracing::error!(%error, "the state directory refused a write");
                let refused = match &error {
                    DiskError::Full(_) => WriteError::Full(error.to_string()),
                    _ => WriteError::Disk(error.to_string()),
                };
                for (_, reply) in planned {
                    let _ = reply.send(Err(refused.clone()));
                }
            }
        }
    }

    /// Checks the change's precondition against the state and the batch's earlier changes; returns the resulting
    /// event.
    fn plan(&self, mut change: Change, planned: &[(Event, Reply)]) -> Result<Event, WriteError> {
        let (current, revision) = self.current(&change.key, planned);
        let previous = match (change.precondition, current) {
            (Precondition::Absent, None) => None,
            (Precondition::Absent, Some(_)) => return Err(WriteError::Exists),
            (Precondition::Revision(_), None) => return Err(WriteError::Missing),
            (Precondition::Revision(precondition), Some(stored)) if stored.revision == precondition => {
                Some(stored.bytes)
            }
            (Precondition::Revision(_), Some(_)) => return Err(WriteError::Modified),
        };
        let revision = revision + 1;
        object::set(&mut change.object, "metadata.resourceVersion", revision.to_string().into());
        let event_type = match (change.delete, &previous) {
            (true, _) => EventType::Deleted,
            (false, None) => EventType::Added,
            (false, Some(_)) => EventType::Modified,
        };
        let object = Bytes::from(change.object.to_string());
        Ok(Event { revision, key: change.key, event_type, object, previous })
    }

    fn current(&self, key: &Key, planned: &[(Event, Reply)]) -> (Option<Stored>, u64) {
        let state = self.shared.state.read();
        let revision = planned.last().map_or(state.revision, |(event, _)| event.revision);
        let current = match planned.iter().rev().find(|(event, _)| event.key == *key) {
            Some((event, _)) if event.event_type == EventType::Deleted => None,
            Some((event, _)) => Some(Stored { revision: event.revision, bytes: event.object.clone() }),
            None => state
                .objects
                .get(&key.resource)
                .and_then(|objects: &BTreeMap<_, _>| objects.get(&key.path).cloned()),
        };
        (current, revision)
    }

    fn publish(&self, planned: Vec<(Event, Reply)>) {
        let mut replies = Vec::with_capacity(planned.len());
        let mut changed = BTreeSet::new();
        let revision = {
            let mut state = self.shared.state.write();
            for (event, reply) in planned {
                replies.push((reply, Stored { revision: event.revision, bytes: event.object.clone() }));
                changed.insert(event.key.resource.clone());
                state.apply(event);
            }
            state.revision
        };
        for (reply, stored) in replies {
            let _ = reply.send(Ok(stored));
        }
        self.shared.notify(&changed, revision);
    }
}
