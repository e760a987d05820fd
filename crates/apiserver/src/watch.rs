//! Watches: a stream of events after a revision, with bookmarks, until the client disconnects or the timeout
//! expires.
//!
//! A watch has no queue. It reads a little from the store whenever its client has consumed the previous events, and
//! shares the store's bytes. A slow client that falls behind the log gets 410 Gone, so it costs no memory.
//!
//! Without a resourceVersion, or with 0, existing objects are first sent as ADDED, page by page; with
//! `sendInitialEvents` a bookmark marks their end. Each page has its own revision, so a change is sent only if it
//! is newer than the page with its object. With a selector, an object that starts to match is ADDED and one that
//! stops matching is DELETED.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::kinds::Kind;
use crate::present::Presenter;
use crate::request::Parameters;
use crate::state::ServerState;
use crate::status::{Failure, Result};
use crate::store::{Event, EventType, Gone};
use crate::verbs::Call;
use crate::verbs::read::{Selection, revision};

/// Maximum number of open watches across all clients; each holds a few kilobytes plus its pending events.
const WATCHES_MAX: usize = 8192;
/// Maximum bytes a watch reads from the log in one step.
const READ_BYTES_MAX: usize = 64 << 10;
/// Number of existing objects per page when a watch starts.
const PAGE_OBJECTS: usize = 64;
/// Interval of bookmarks on an idle watch.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Default timeout, without `timeoutSeconds`; clients then restart the watch.
const TIMEOUT: Duration = Duration::from_secs(45 * 60);

/// A permit that counts an open watch until it is dropped.
struct WatchPermit(Arc<ServerState>);

impl WatchPermit {
    fn new(server: &Arc<ServerState>) -> Result<Self> {
        use std::sync::atomic::Ordering::Relaxed;
        if server.watches.fetch_add(1, Relaxed) >= WATCHES_MAX {
            server.watches.fetch_sub(1, Relaxed);
            return Err(Failure::too_many_requests("too many watches are open, try again later", 1));
        }
        Ok(Self(server.clone()))
    }
}

impl Drop for WatchPermit {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// An event read but not yet sent.
enum PendingEvent {
    /// Event type and stored bytes of an object.
    Object(&'static str, Bytes),
    /// A bookmark or an error.
    Ready(Value),
}

/// Progress through the objects that existed when the watch started.
struct InitialList {
    /// Key of the last object sent.
    after: Option<String>,
    /// All have been read.
    complete: bool,
    mark_end: bool,
}

/// Objects up to the key `last` were sent as of this revision; the last page is unbounded.
struct ListedPage {
    last: Option<String>,
    revision: u64,
}

struct Watch {
    server: Arc<ServerState>,
    kind: Arc<Kind>,
    namespace: String,
    selection: Selection,
    presenter: Presenter,
    bookmarks: bool,
    revision: u64,
    listing: Option<InitialList>,
    pages: Vec<ListedPage>,
    pending: VecDeque<PendingEvent>,
    revisions: watch::Receiver<u64>,
    deadline: Instant,
    next_bookmark: Instant,
    ended: bool,
    _permit: WatchPermit,
}

/// Starts a watch; the stream yields events as lines of JSON.
pub(crate) fn watch(
    call: &Call<'_>,
    presenter: Presenter,
) -> Result<impl Stream<Item = Bytes> + Send + use<>> {
    let selection = Selection::read(call)?;
    let parameters = &call.parameters;
    check_match(parameters)?;
    // Subscribe first, so that every later change wakes the watch.
    let revisions = call.server.store.subscribe_to(&call.kind.storage);
    let from = parameters.resource_version.as_deref().map(revision).transpose()?.unwrap_or(0);
    let initial = parameters.send_initial_events || from == 0;
    let now = Instant::now();
    let watch = Watch {
        server: call.server.clone(),
        kind: call.kind.clone(),
        namespace: call.namespace.clone(),
        selection,
        presenter,
        bookmarks: parameters.allow_watch_bookmarks,
        revision: from,
        listing: initial.then_some(InitialList {
            after: None,
            complete: false,
            mark_end: parameters.send_initial_events,
        }),
        pages: Vec::new(),
        pending: VecDeque::new(),
        revisions,
        deadline: now + parameters.timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(TIMEOUT),
        next_bookmark: now + BOOKMARK_EVERY,
        ended: false,
        _permit: WatchPermit::new(call.server)?,
    };
    Ok(futures::stream::unfold(watch, |mut watch| async move { Some((watch.next().await?, watch)) }))
}

fn check_match(parameters: &Parameters) -> Result<()> {
    let invalid = |text: &str| {
        Err(Failure::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {text}")))
    };
    match (parameters.send_initial_events, parameters.resource_version_match.as_deref()) {
        (true, Some("NotOlderThan")) | (false, None) => Ok(()),
        (true, _) => invalid(
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (false, Some(_)) => invalid(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
    }
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(self.line(event));
            }
            self.pending = VecDeque::new();
            if self.ended {
                return None;
            }
            if self.read() {
                continue;
            }
            tokio::select! {
                changed = self.revisions.changed() => self.ended = changed.is_err(),
                () = tokio::time::sleep_until(self.next_bookmark.min(self.deadline)) => self.tick(),
                () = self.server.stopped() => self.ended = true,
            }
        }
    }

    /// Reads one more step; returns false when there is nothing new.
    fn read(&mut self) -> bool {
        match &self.listing {
            Some(listing) if !listing.complete => self.read_page(),
            _ => self.read_log(),
        }
    }

    /// Reads the next page of existing objects.
    fn read_page(&mut self) -> bool {
        let Some(listing) = &mut self.listing else { return false };
        let (found, revision) = self.server.store.page(
            &self.kind.storage,
            &self.namespace,
            listing.after.as_deref(),
            PAGE_OBJECTS,
        );
        if self.pages.is_empty() {
            // Some page may lack any change after the first page.
            self.revision = revision;
        }
        listing.complete = found.len() < PAGE_OBJECTS;
        listing.after = found.last().map(|(place, _)| place.clone());
        let last = listing.after.clone().filter(|_| !listing.complete);
        match self.pages.last_mut() {
            Some(page) if page.revision == revision => page.last = last,
            _ => self.pages.push(ListedPage { last, revision }),
        }
        for (_, stored) in found {
            if self.selection.matches(&stored.bytes) {
                self.pending.push_back(PendingEvent::Object("ADDED", stored.bytes));
            }
        }
        true
    }

    /// Reads the next changes from the log.
    fn read_log(&mut self) -> bool {
        let before = self.revision;
        match self.server.store.since(&self.kind.storage, self.revision, READ_BYTES_MAX) {
            Ok((events, revision)) => {
                for event in &events {
                    self.pending.extend(self.visible_event(event));
                }
                self.revision = self.revision.max(revision);
                self.end_listing();
                self.revision != before || !self.pending.is_empty()
            }
            Err(Gone { oldest }) => {
                let failure =
                    Failure::expired(format!("too old resource version: {} ({oldest})", self.revision));
                let error = json!({"type": "ERROR", "object": failure.status()});
                self.pending.push_back(PendingEvent::Ready(error));
                self.ended = true;
                true
            }
        }
    }

    /// Completes the initial list once the log has caught up with every page.
    fn end_listing(&mut self) {
        if self.listing.is_none() || self.pages.iter().any(|page| page.revision > self.revision) {
            return;
        }
        self.pages = Vec::new();
        if self.listing.take().is_some_and(|listing| listing.mark_end) {
            let mut bookmark = self.bookmark();
            bookmark["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            self.pending.push_back(PendingEvent::Ready(bookmark));
        }
    }

    fn tick(&mut self) {
        self.ended = Instant::now() >= self.deadline;
        self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
        // A bookmark promises that all earlier events have been sent.
        while self.listing.is_none() && self.pending.is_empty() && self.read_log() {}
        if self.bookmarks && self.listing.is_none() && self.pending.is_empty() {
            let bookmark = self.bookmark();
            self.pending.push_back(PendingEvent::Ready(bookmark));
        }
    }

    fn visible_event(&self, event: &Event) -> Option<PendingEvent> {
        let path = &event.key.path;
        let here = self.namespace.is_empty()
            || path.strip_prefix(self.namespace.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let page = self.pages.iter().find(|page| page.last.as_ref().is_none_or(|last| path <= last));
        if !here || page.is_some_and(|page| event.revision <= page.revision) {
            return None;
        }
        let before = event.previous.as_ref().is_some_and(|bytes| self.selection.matches(bytes));
        let after = event.event_type != EventType::Deleted && self.selection.matches(&event.object);
        let name = match (before, after) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        Some(PendingEvent::Object(name, event.object.clone()))
    }

    fn line(&mut self, event: PendingEvent) -> Bytes {
        match event {
            PendingEvent::Object(name, bytes) => self.presenter.event(name, &bytes),
            PendingEvent::Ready(event) => Bytes::from(event.to_string() + "\n"),
        }
    }

    fn bookmark(&self) -> Value {
        let metadata = json!({"resourceVersion": self.revision.to_string(), "creationTimestamp": null});
        let object = self.presenter.bookmark(metadata);
        json!({"type": "BOOKMARK", "object": object})
    }
}
