//! Decides which connections stay open when there are too many.
//!
//! The limit leaves room for every client of this machine: controllers, kubectl, thousands of watches. At the
//! limit, connections that never sent a request with the token are closed first, oldest first; then those without
//! an active request, longest idle first. A connection with an active request, such as a watch, is never closed in
//! favour of another. If all are active, the new connection is refused with an error.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// Maximum number of open connections. Each takes tens of kilobytes and a file descriptor.
const CONNECTIONS_MAX: usize = 6144;
/// Divisor of the process's file descriptor limit; pods, Services and scrapes need the rest.
const FILES_SHARE: u64 = 3;
/// Maximum number of connections that have not yet sent a request with the token.
const UNAUTHENTICATED_MAX: usize = 512;
/// Maximum number of connections over the limit that get an error response instead of a reset.
const REFUSED_MAX: usize = 64;

/// The open connections of a server.
pub(super) struct Connections {
    table: Mutex<Table>,
    limit: usize,
}

#[derive(Default)]
struct Table {
    by_id: BTreeMap<u64, Connection>,
    /// Logical clock: increases with every connection opened and request finished.
    clock: u64,
    unauthenticated: usize,
    refused: usize,
}

struct Connection {
    /// Whether it has sent a request with the token.
    authenticated: bool,
    /// Number of requests in progress.
    active: usize,
    /// Logical time when it was opened or its last request ended.
    since: u64,
    evicted: Arc<Notify>,
}

/// What happens to a new connection.
pub(super) enum Admission {
    Served(Slot),
    /// Gets an error response, because there are too many connections.
    Refused(RefusedSlot),
    /// Closed without a response, because too many are already being refused.
    Dropped,
}

/// An admitted connection's slot; dropping the last clone frees it.
#[derive(Clone)]
pub(super) struct Slot(Arc<SlotGuard>);

struct SlotGuard {
    connections: Arc<Connections>,
    id: u64,
    evicted: Arc<Notify>,
}

/// A connection that only receives the error response.
pub(super) struct RefusedSlot(Arc<Connections>);

impl Connections {
    /// Creates the table with a limit derived from the file descriptor limit.
    pub(super) fn new() -> Arc<Self> {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let share =
            files.map_or(CONNECTIONS_MAX, |files| usize::try_from(files / FILES_SHARE).unwrap_or(usize::MAX));
        Self::limited(share.min(CONNECTIONS_MAX))
    }

    fn limited(limit: usize) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), limit })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// Admits a new connection, evicting another one if necessary.
    pub(super) fn admit(self: &Arc<Self>) -> Admission {
        let mut table = self.table();
        if table.unauthenticated >= UNAUTHENTICATED_MAX.min(self.limit) {
            table.evict(|connection| !connection.authenticated);
        }
        if table.by_id.len() >= self.limit
            && !table.evict(|connection| !connection.authenticated)
            && !table.evict(|connection| connection.active == 0)
        {
            if table.refused >= REFUSED_MAX {
                return Admission::Dropped;
            }
            table.refused += 1;
            return Admission::Refused(RefusedSlot(self.clone()));
        }
        table.clock += 1;
        table.unauthenticated += 1;
        let (id, evicted) = (table.clock, Arc::new(Notify::new()));
        let connection = Connection { authenticated: false, active: 0, since: id, evicted: evicted.clone() };
        table.by_id.insert(id, connection);
        Admission::Served(Slot(Arc::new(SlotGuard { connections: self.clone(), id, evicted })))
    }

    /// Evicts the longest-idle connection, for when file descriptors run out.
    pub(super) fn make_room(&self) {
        let mut table = self.table();
        let _ = table.evict(|connection| !connection.authenticated)
            || table.evict(|connection| connection.active == 0);
    }
}

impl Table {
    /// Evicts the oldest connection that matches; returns whether there was one.
    fn evict(&mut self, matches: impl Fn(&Connection) -> bool) -> bool {
        let oldest = self
            .by_id
            .iter()
            .filter(|(_, connection)| matches(connection))
            .min_by_key(|(_, connection)| connection.since);
        let Some((id, _)) = oldest else { return false };
        let id = *id;
        self.remove(id);
        true
    }

    fn remove(&mut self, id: u64) {
        if let Some(connection) = self.by_id.remove(&id) {
            self.unauthenticated -= usize::from(!connection.authenticated);
            connection.evicted.notify_one();
        }
    }
}

impl Slot {
    /// Resolves when the connection is evicted.
    pub(super) async fn evicted(&self) {
        self.0.evicted.notified().await;
    }

    /// Returns whether the connection has sent a request with the token.
    pub(super) fn is_authenticated(&self) -> bool {
        self.0.connections.table().by_id.get(&self.0.id).is_some_and(|connection| connection.authenticated)
    }

    /// Marks the connection authenticated and a request active until the returned guard is dropped.
    pub(super) fn request(&self) -> ActiveRequest {
        let mut table = self.0.connections.table();
        let table = &mut *table;
        if let Some(connection) = table.by_id.get_mut(&self.0.id) {
            table.unauthenticated -= usize::from(!connection.authenticated);
            connection.authenticated = true;
            connection.active += 1;
        }
        ActiveRequest(self.clone())
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.connections.table().remove(self.id);
    }
}

impl Drop for RefusedSlot {
    fn drop(&mut self) {
        self.0.table().refused -= 1;
    }
}

/// Guard of a request in progress.
pub(super) struct ActiveRequest(Slot);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut table = self.0.0.connections.table();
        table.clock += 1;
        let now = table.clock;
        if let Some(connection) = table.by_id.get_mut(&self.0.0.id) {
            connection.active -= 1;
            connection.since = now;
        }
    }
}

/// A response body that keeps its request active until it is sent.
struct TrackedBody {
    body: Body,
    _active: ActiveRequest,
}

/// Wraps a body so that the request stays active until the body is sent.
pub(super) fn track_until_sent(body: Body, active: ActiveRequest) -> Body {
    Body::new(TrackedBody { body, _active: active })
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(connections: &Arc<Connections>) -> Slot {
        match connections.admit() {
            Admission::Served(slot) => slot,
            _ => panic!("there is no place"),
        }
    }

    fn is_out(slot: &Slot) -> bool {
        !slot.0.connections.table().by_id.contains_key(&slot.0.id)
    }

    #[test]
    fn the_silent_go_first_then_the_idle_and_the_busy_never() {
        let connections = Connections::limited(3);
        let (busy, idle, unauthenticated) = (slot(&connections), slot(&connections), slot(&connections));
        let watch = busy.request();
        drop(idle.request());
        let fourth = slot(&connections);
        assert_eq!([&busy, &idle, &unauthenticated].map(is_out), [false, false, true]);
        let requests = fourth.request();
        let fifth = slot(&connections);
        let more = fifth.request();
        assert_eq!([&busy, &idle, &fourth].map(is_out), [false, true, false]);
        assert!(matches!(connections.admit(), Admission::Refused(_)), "all wait for an answer");
        drop((watch, requests, more));
        drop(slot(&connections));
        assert!(is_out(&busy), "it has been idle for the longest");
        drop((busy, idle, unauthenticated, fourth, fifth));
        let table = connections.table();
        assert_eq!((table.by_id.len(), table.unauthenticated, table.refused), (0, 0, 0));
    }

    #[test]
    fn the_silent_are_few_and_the_refused_too() {
        let connections = Connections::limited(CONNECTIONS_MAX);
        let slots: Vec<Slot> = (0..UNAUTHENTICATED_MAX + 10).map(|_| slot(&connections)).collect();
        assert_eq!(slots.iter().filter(|slot| is_out(slot)).count(), 10);
        assert!(slots[..10].iter().all(is_out), "the oldest go");
        let full = Connections::limited(1);
        let only = slot(&full);
        let _watch = only.request();
        let refused: Vec<Admission> = (0..REFUSED_MAX + 1).map(|_| full.admit()).collect();
        assert!(matches!(refused.last(), Some(Admission::Dropped)));
    }
}
