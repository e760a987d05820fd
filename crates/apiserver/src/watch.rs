//! Watches: a stream of events from a revision on, with bookmarks, until the client or the time-out ends it.
//!
//! A watch has no queue: it reads the store's log from where it is whenever the revision moves. One that is too
//! slow finds its place gone from the log and is told so (410 Gone), so a slow reader costs no memory.
//!
//! Without a resourceVersion, or with 0, the present objects come first as ADDED; with `sendInitialEvents` they are
//! followed by a bookmark that says they were all. A selector turns an object that starts to match into ADDED and
//! one that stops into DELETED.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::kinds::Kind;
use crate::present::Presenter;
use crate::request::Parameters;
use crate::server::Inner;
use crate::status::{Failure, Result};
use crate::store::{Event, Gone, Happened};
use crate::verbs::Call;
use crate::verbs::read::{Selection, revision};

/// Watches at once; each holds a connection and a few hundred bytes. Controllers and kubectl need some dozens.
const WATCHES_MAX: usize = 1000;
/// How often a quiet watch hears how far the server is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Watches without `timeoutSeconds` end after this time, and are started anew by their clients.
const TIMEOUT: Duration = Duration::from_secs(45 * 60);

/// Counts a watch while it lives.
struct Counted(Arc<Inner>);

impl Counted {
    fn new(server: &Arc<Inner>) -> Result<Self> {
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

struct Watch {
    server: Arc<Inner>,
    kind: Arc<Kind>,
    namespace: String,
    selection: Selection,
    presenter: Presenter,
    bookmarks: bool,
    revision: u64,
    pending: VecDeque<Bytes>,
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
    let mut moved = call.server.store.subscribe();
    moved.mark_unchanged();
    let from = parameters.resource_version.as_deref().map(revision).transpose()?.unwrap_or(0);
    let initial = parameters.send_initial_events || from == 0;
    let now = Instant::now();
    let mut watch = Watch {
        server: call.server.clone(),
        kind: call.kind.clone(),
        namespace: call.namespace.clone(),
        selection,
        presenter,
        bookmarks: parameters.allow_watch_bookmarks,
        revision: from,
        pending: VecDeque::new(),
        moved,
        deadline: now + parameters.timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(TIMEOUT),
        next_bookmark: now + BOOKMARK_EVERY,
        ended: false,
        _counted: Counted::new(call.server)?,
    };
    if initial {
        watch.start(parameters.send_initial_events);
    } else {
        watch.read_log();
    }
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
    fn start(&mut self, mark_end: bool) {
        let (found, revision) = self.server.store.list(&self.kind.storage, &self.namespace, None);
        for stored in found {
            if self.selection.matches(&stored.bytes) {
                let event = self.event("ADDED", &stored.bytes);
                self.pending.push_back(event);
            }
        }
        self.revision = revision;
        if mark_end {
            let mut bookmark = self.bookmark();
            bookmark["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            self.pending.push_back(line(&bookmark));
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                changed = self.moved.changed() => match changed {
                    Ok(()) => self.read_log(),
                    Err(_) => self.ended = true,
                },
                () = tokio::time::sleep_until(self.next_bookmark.min(self.deadline)) => self.tick(),
                () = self.server.stopped() => self.ended = true,
            }
        }
    }

    fn tick(&mut self) {
        self.ended = Instant::now() >= self.deadline;
        self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
        if self.bookmarks {
            let bookmark = self.bookmark();
            self.pending.push_back(line(&bookmark));
        }
    }

    fn read_log(&mut self) {
        match self.server.store.since(&self.kind.storage, self.revision) {
            Ok((events, revision)) => {
                for event in &events {
                    if let Some(shown) = self.shown(event) {
                        self.pending.push_back(shown);
                    }
                }
                self.revision = self.revision.max(revision);
            }
            Err(Gone { oldest }) => {
                let failure =
                    Failure::expired(format!("too old resource version: {} ({oldest})", self.revision));
                self.pending.push_back(line(&json!({"type": "ERROR", "object": failure.status()})));
                self.ended = true;
            }
        }
    }

    fn shown(&mut self, event: &Event) -> Option<Bytes> {
        let path = &event.key.path;
        let here = self.namespace.is_empty()
            || path.strip_prefix(self.namespace.as_str()).is_some_and(|rest| rest.starts_with('/'));
        if !here {
            return None;
        }
        let before = event.previous.as_ref().is_some_and(|bytes| self.selection.matches(bytes));
        let after = event.happened != Happened::Deleted && self.selection.matches(&event.object);
        match (before, after) {
            (false, true) => Some(self.event("ADDED", &event.object)),
            (true, true) => Some(self.event("MODIFIED", &event.object)),
            (true, false) => Some(self.event("DELETED", &event.object)),
            (false, false) => None,
        }
    }

    /// What most watches are shown is what is stored, and is passed on unread: a change costs each of them a copy.
    fn event(&mut self, kind: &str, bytes: &Bytes) -> Bytes {
        if !self.presenter.is_as_stored() {
            return line(&json!({"type": kind, "object": self.presenter.watched(bytes)}));
        }
        let (head, tail) = (format!("{{\"type\":\"{kind}\",\"object\":"), b"}\n");
        let mut event = BytesMut::with_capacity(head.len() + bytes.len() + tail.len());
        event.extend_from_slice(head.as_bytes());
        event.extend_from_slice(bytes);
        event.extend_from_slice(tail);
        event.freeze()
    }

    fn bookmark(&self) -> Value {
        let metadata = json!({"resourceVersion": self.revision.to_string(), "creationTimestamp": null});
        let object = self.presenter.bookmark(metadata);
        json!({"type": "BOOKMARK", "object": object})
    }
}

fn line(event: &Value) -> Bytes {
    Bytes::from(event.to_string() + "\n")
}
