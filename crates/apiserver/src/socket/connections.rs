//! Which connections may stay when there are too many.
//!
//! Every client of this machine has its place: controllers, kubectl, thousands of watches. Who takes a place and says
//! nothing gives it up first: connections that never sent a request with the token, the oldest first; then those that
//! are open without a request, the longest idle first. A connection that waits for an answer, as a watch does, is
//! never closed for another one; when all do, a new one is told so.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// Connections at once. Each takes some tens of kilobytes, and a file.
const CONNECTIONS_MAX: usize = 6144;
/// The share of the files that may be open in this process: pods, Services and scrapes need theirs.
const FILES_SHARE: u64 = 3;
/// Connections that have not yet sent a request with the token.
const SILENT_MAX: usize = 512;
/// Connections beyond the limit that get an answer instead of a reset.
const REFUSED_MAX: usize = 64;

/// All connections of a server.
pub(super) struct Connections {
    open: Mutex<Open>,
    limit: usize,
}

#[derive(Default)]
struct Open {
    places: BTreeMap<u64, Place>,
    /// Counts what happens, so that older is less.
    clock: u64,
    silent: usize,
    refused: usize,
}

struct Place {
    /// It has sent a request with the token.
    known: bool,
    /// Requests that are being answered.
    active: usize,
    /// When it was opened, or its last request ended.
    since: u64,
    evicted: Arc<Notify>,
}

/// What becomes of a new connection.
pub(super) enum Admission {
    Served(Seat),
    /// It is told that there are too many.
    Refused(Refusal),
    /// Even of those there are too many.
    Dropped,
}

/// The place of a connection; dropped with it.
#[derive(Clone)]
pub(super) struct Seat(Arc<Taken>);

struct Taken {
    connections: Arc<Connections>,
    id: u64,
    evicted: Arc<Notify>,
}

/// A connection that is only told why it cannot stay.
pub(super) struct Refusal(Arc<Connections>);

impl Connections {
    /// As many as the files allow.
    pub(super) fn new() -> Arc<Self> {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let share =
            files.map_or(CONNECTIONS_MAX, |files| usize::try_from(files / FILES_SHARE).unwrap_or(usize::MAX));
        Self::limited(share.min(CONNECTIONS_MAX))
    }

    fn limited(limit: usize) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), limit })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }

    /// A place for a new connection, which may cost another one its own.
    pub(super) fn admit(self: &Arc<Self>) -> Admission {
        let mut open = self.open();
        if open.silent >= SILENT_MAX.min(self.limit) {
            open.evict(|place| !place.known);
        }
        if open.places.len() >= self.limit
            && !open.evict(|place| !place.known)
            && !open.evict(|place| place.active == 0)
        {
            if open.refused >= REFUSED_MAX {
                return Admission::Dropped;
            }
            open.refused += 1;
            return Admission::Refused(Refusal(self.clone()));
        }
        open.clock += 1;
        open.silent += 1;
        let (id, evicted) = (open.clock, Arc::new(Notify::new()));
        let place = Place { known: false, active: 0, since: id, evicted: evicted.clone() };
        open.places.insert(id, place);
        Admission::Served(Seat(Arc::new(Taken { connections: self.clone(), id, evicted })))
    }

    /// Closes the connection that has been idle for the longest, as when there are no more files.
    pub(super) fn make_room(&self) {
        let mut open = self.open();
        let _ = open.evict(|place| !place.known) || open.evict(|place| place.active == 0);
    }
}

impl Open {
    /// Puts out the oldest of those that match.
    fn evict(&mut self, matches: impl Fn(&Place) -> bool) -> bool {
        let oldest =
            self.places.iter().filter(|(_, place)| matches(place)).min_by_key(|(_, place)| place.since);
        let Some((id, _)) = oldest else { return false };
        let id = *id;
        self.remove(id);
        true
    }

    fn remove(&mut self, id: u64) {
        if let Some(place) = self.places.remove(&id) {
            self.silent -= usize::from(!place.known);
            place.evicted.notify_one();
        }
    }
}

impl Seat {
    /// Resolves when the connection has to go.
    pub(super) async fn evicted(&self) {
        self.0.evicted.notified().await;
    }

    /// Has it sent a request with the token?
    pub(super) fn is_known(&self) -> bool {
        self.0.connections.open().places.get(&self.0.id).is_some_and(|place| place.known)
    }

    /// A request with the token came; it lasts as long as what is returned.
    pub(super) fn request(&self) -> Active {
        let mut open = self.0.connections.open();
        let open = &mut *open;
        if let Some(place) = open.places.get_mut(&self.0.id) {
            open.silent -= usize::from(!place.known);
            place.known = true;
            place.active += 1;
        }
        Active(self.clone())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.connections.open().remove(self.id);
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        self.0.open().refused -= 1;
    }
}

/// A request that is being answered.
pub(super) struct Active(Seat);

impl Drop for Active {
    fn drop(&mut self) {
        let mut open = self.0.0.connections.open();
        open.clock += 1;
        let now = open.clock;
        if let Some(place) = open.places.get_mut(&self.0.0.id) {
            place.active -= 1;
            place.since = now;
        }
    }
}

/// An answer's body that keeps its request active until it was sent.
struct Lasting {
    body: Body,
    _active: Active,
}

/// The body, with the request active until its end.
pub(super) fn lasting(body: Body, active: Active) -> Body {
    Body::new(Lasting { body, _active: active })
}

impl HttpBody for Lasting {
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

    fn seat(connections: &Arc<Connections>) -> Seat {
        match connections.admit() {
            Admission::Served(seat) => seat,
            _ => panic!("there is no place"),
        }
    }

    fn is_out(seat: &Seat) -> bool {
        !seat.0.connections.open().places.contains_key(&seat.0.id)
    }

    #[test]
    fn the_silent_go_first_then_the_idle_and_the_busy_never() {
        let connections = Connections::limited(3);
        let (busy, idle, silent) = (seat(&connections), seat(&connections), seat(&connections));
        let watch = busy.request();
        drop(idle.request());
        let fourth = seat(&connections);
        assert_eq!([&busy, &idle, &silent].map(is_out), [false, false, true]);
        let requests = fourth.request();
        let fifth = seat(&connections);
        let more = fifth.request();
        assert_eq!([&busy, &idle, &fourth].map(is_out), [false, true, false]);
        assert!(matches!(connections.admit(), Admission::Refused(_)), "all wait for an answer");
        drop((watch, requests, more));
        drop(seat(&connections));
        assert!(is_out(&busy), "it has been idle for the longest");
        drop((busy, idle, silent, fourth, fifth));
        let open = connections.open();
        assert_eq!((open.places.len(), open.silent, open.refused), (0, 0, 0));
    }

    #[test]
    fn the_silent_are_few_and_the_refused_too() {
        let connections = Connections::limited(CONNECTIONS_MAX);
        let seats: Vec<Seat> = (0..SILENT_MAX + 10).map(|_| seat(&connections)).collect();
        assert_eq!(seats.iter().filter(|seat| is_out(seat)).count(), 10);
        assert!(seats[..10].iter().all(is_out), "the oldest go");
        let full = Connections::limited(1);
        let only = seat(&full);
        let _watch = only.request();
        let refused: Vec<Admission> = (0..REFUSED_MAX + 1).map(|_| full.admit()).collect();
        assert!(matches!(refused.last(), Some(Admission::Dropped)));
    }
}
