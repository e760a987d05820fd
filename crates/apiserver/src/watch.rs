//! Watches: a stream of events from a revision on, with bookmarks, until the client or the time-out ends it.
//!
//! A watch has no queue: it reads the store a little at a time, when its client has taken what was read before, and
//! keeps only handles of what the store has anyway. One that is too slow finds its place gone from the log and is told
//! so (410 Gone), so a slow reader costs no memory.
//!
//! Without a resourceVersion, or with 0, the present objects come first as ADDED, page by page; with
//! `sendInitialEvents` they are followed by a bookmark that says they were all. Each page is of its own revision, so a
//! change is shown only when it is newer than the page that its object was on. A selector turns an object that starts to match into ADDED and
//! one that stops into DELETED.

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
use crate::store::{Event, Gone, Happened};
use crate::verbs::Call;
use crate::verbs::read::{Selection, revision};

/// Watches at once, of all clients together; each holds some kilobytes, and what is read for it.
const WATCHES_MAX: usize = 8192;
/// What a watch reads from the log at once.
const READ_BYTES_MAX: usize = 64 << 10;
/// Objects that a watch reads at once when it starts.
const PAGE_OBJECTS: usize = 64;
/// How often a quiet watch hears how far the server is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Watches without `timeoutSeconds` end after this time, and are started anew by their clients.
const TIMEOUT: Duration = Duration::from_secs(45 * 60);

/// Counts a watch while it lives.
struct Counted(Arc<ServerState>);

impl Counted {
    fn new(server: &Arc<ServerState>) -> Result<Self> {
        use std::sync::atomic::Ordering::Relaxed;
        if server.watches.fetch_add(1, Relaxed) >= WATCHES_MAX {
            server.watches.fetch_sub(1, Relaxed);
            return Err(Failure::too_many_requests("too many watches are open, try again later", 1));
        }
        Ok(Self(server.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// An event that was read and not yet sent.
enum Pending {
    /// An object, as the store has it.
    Object(&'static str, Bytes),
    /// A bookmark or an error.
    Ready(Value),
}

/// The present objects, as far as they were shown.
struct Listing {
    /// The place of the last one.
    after: Option<String>,
    /// All were shown.
    complete: bool,
    mark_end: bool,
}

/// Up to this place, objects were shown as of this revision; the last page has no end.
struct Page {
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
    listing: Option<Listing>,
    pages: Vec<Page>,
    pending: VecDeque<Pending>,
    moved: watch::Receiver<u64>,
    deadline: Instant,
    next_bookmark: Instant,
    ended: bool,
    _counted: Counted,
}

/// The events as lines of JSON.
pub(crate) fn watch(
    call: &Call<'_>,
    presenter: Presenter,
) -> Result<impl Stream<Item = Bytes> + Send + use<>> {
    let selection = Selection::read(call)?;
    let parameters = &call.parameters;
    check_match(parameters)?;
    // The receiver comes first: what happens from here on wakes the watch.
    let moved = call.server.store.subscribe_to(&call.kind.storage);
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
        listing: initial.then_some(Listing {
            after: None,
            complete: false,
            mark_end: parameters.send_initial_events,
        }),
        pages: Vec::new(),
        pending: VecDeque::new(),
        moved,
        deadline: now + parameters.timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(TIMEOUT),
        next_bookmark: now + BOOKMARK_EVERY,
        ended: false,
        _counted: Counted::new(call.server)?,
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
                changed = self.moved.changed() => self.ended = changed.is_err(),
                () = tokio::time::sleep_until(self.next_bookmark.min(self.deadline)) => self.tick(),
                () = self.server.stopped() => self.ended = true,
            }
        }
    }

    /// Reads a little more; false when there is nothing more.
    fn read(&mut self) -> bool {
        match &self.listing {
            Some(listing) if !listing.complete => self.read_page(),
            _ => self.read_log(),
        }
    }

    /// The next of the present objects.
    fn read_page(&mut self) -> bool {
        let Some(listing) = &mut self.listing else { return false };
        let (found, revision) = self.server.store.page(
            &self.kind.storage,
            &self.namespace,
            listing.after.as_deref(),
            PAGE_OBJECTS,
        );
        if self.pages.is_empty() {
            // The changes that some pages lack are those since the first one.
            self.revision = revision;
        }
        listing.complete = found.len() < PAGE_OBJECTS;
        listing.after = found.last().map(|(place, _)| place.clone());
        let last = listing.after.clone().filter(|_| !listing.complete);
        match self.pages.last_mut() {
            Some(page) if page.revision == revision => page.last = last,
            _ => self.pages.push(Page { last, revision }),
        }
        for (_, stored) in found {
            if self.selection.matches(&stored.bytes) {
                self.pending.push_back(Pending::Object("ADDED", stored.bytes));
            }
        }
        true
    }

    /// The next changes.
    fn read_log(&mut self) -> bool {
        let before = self.revision;
        match self.server.store.since(&self.kind.storage, self.revision, READ_BYTES_MAX) {
            Ok((events, revision)) => {
                for event in &events {
                    self.pending.extend(self.shown(event));
                }
                self.revision = self.revision.max(revision);
                self.end_listing();
                self.revision != before || !self.pending.is_empty()
            }
            Err(Gone { oldest }) => {
                let failure =
                    Failure::expired(format!("too old resource version: {} ({oldest})", self.revision));
                let error = json!({"type": "ERROR", "object": failure.status()});
                self.pending.push_back(Pending::Ready(error));
                self.ended = true;
                true
            }
        }
    }

    /// Once the changes have caught up with all pages, the present objects are told.
    fn end_listing(&mut self) {
        if self.listing.is_none() || self.pages.iter().any(|page| page.revision > self.revision) {
            return;
        }
        self.pages = Vec::new();
        if self.listing.take().is_some_and(|listing| listing.mark_end) {
            let mut bookmark = self.bookmark();
            bookmark["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            self.pending.push_back(Pending::Ready(bookmark));
        }
    }

    fn tick(&mut self) {
        self.ended = Instant::now() >= self.deadline;
        self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
        // A bookmark promises that nothing before it is missing.
        while self.listing.is_none() && self.pending.is_empty() && self.read_log() {}
        if self.bookmarks && self.listing.is_none() && self.pending.is_empty() {
            let bookmark = self.bookmark();
            self.pending.push_back(Pending::Ready(bookmark));
        }
    }

    fn shown(&self, event: &Event) -> Option<Pending> {
        let path = &event.key.path;
        let here = self.namespace.is_empty()
            || path.strip_prefix(self.namespace.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let page = self.pages.iter().find(|page| page.last.as_ref().is_none_or(|last| path <= last));
        if !here || page.is_some_and(|page| event.revision <= page.revision) {
            return None;
        }
        let before = event.previous.as_ref().is_some_and(|bytes| self.selection.matches(bytes));
        let after = event.happened != Happened::Deleted && self.selection.matches(&event.object);
        let name = match (before, after) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        Some(Pending::Object(name, event.object.clone()))
    }

    fn line(&mut self, event: Pending) -> Bytes {
        match event {
            Pending::Object(name, bytes) => self.presenter.event(name, &bytes),
            Pending::Ready(event) => Bytes::from(event.to_string() + "\n"),
        }
    }

    fn bookmark(&self) -> Value {
        let metadata = json!({"resourceVersion": self.revision.to_string(), "creationTimestamp": null});
        let object = self.presenter.bookmark(metadata);
        json!({"type": "BOOKMARK", "object": object})
    }
}
