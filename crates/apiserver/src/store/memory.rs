//! The state in memory: every object as bytes, the revision, and the bounded logs that watches read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::watch;

use super::change::{Event, EventType, Stored};

/// Maximum number of changes in all logs. At tens of writes a second they span a minute or more.
const LOG_EVENTS_MAX: usize = 4096;
/// Maximum bytes of objects in all logs, so that large objects don't make them large.
const LOG_BYTES_MAX: usize = 4 << 20;

/// The recent changes of one resource.
#[derive(Default)]
pub(super) struct Log {
    pub(super) events: VecDeque<Event>,
    /// Revision of the newest change that was trimmed from the log.
    pub(super) last_trimmed: u64,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) revision: u64,
    pub(super) objects: BTreeMap<Arc<str>, BTreeMap<String, Stored>>,
    pub(super) logs: BTreeMap<Arc<str>, Log>,
    /// The resource of each change in the logs, oldest first.
    pub(super) logged: VecDeque<Arc<str>>,
    pub(super) log_bytes: usize,
    /// The revision at start; earlier changes are unknown.
    pub(super) started_at: u64,
}

pub(super) struct Shared {
    pub(super) state: RwLock<State>,
    pub(super) revision: watch::Sender<u64>,
    /// Wakes the watches of one resource.
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

    /// Notifies the subscribers of these resources, and those of any change.
    pub(super) fn notify(&self, resources: &BTreeSet<Arc<str>>, revision: u64) {
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
        if event.event_type == EventType::Deleted {
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
            log.last_trimmed = oldest.revision;
        }
    }
}
