//! The state in memory: every object as bytes, the revision, and the bounded logs that watches read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::watch;

use super::change::{Event, Happened, Stored};

/// Changes kept for watches. At the tens of writes a second of a busy machine, a minute or more.
const LOG_EVENTS_MAX: usize = 4096;
/// Bytes of changes kept for watches, so that big objects don't make the log big.
const LOG_BYTES_MAX: usize = 4 << 20;

/// The changes of one resource.
#[derive(Default)]
pub(super) struct Log {
    pub(super) events: VecDeque<Event>,
    /// The newest change that the log no longer has.
    pub(super) forgotten: u64,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) revision: u64,
    pub(super) objects: BTreeMap<Arc<str>, BTreeMap<String, Stored>>,
    pub(super) logs: BTreeMap<Arc<str>, Log>,
    /// The resources of all changes in the logs, the oldest first.
    pub(super) logged: VecDeque<Arc<str>>,
    pub(super) log_bytes: usize,
    /// The revision that the server started with: nobody knows what changed before.
    pub(super) started_at: u64,
}

pub(super) struct Shared {
    pub(super) state: RwLock<State>,
    pub(super) revision: watch::Sender<u64>,
    /// Wakes those who wait for one resource.
    resources: Mutex<BTreeMap<Arc<str>, watch::Sender<u64>>>,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        let revision = watch::Sender::new(state.revision);
        Self { state: RwLock::new(state), revision, resources: Mutex::default() }
    }

    pub(super) fn resources(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, watch::Sender<u64>>> {
        self.resources.lock()
    }

    /// Wakes who waits for one of these resources, or for any.
    pub(super) fn tell(&self, resources: &BTreeSet<Arc<str>>, revision: u64) {
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

impl State {
    pub(super) fn apply(&mut self, event: Event) {
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
