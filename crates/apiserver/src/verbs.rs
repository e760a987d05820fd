//! The verbs, each implemented once for all kinds. A [`Call`] holds the request; a kind's row holds what differs
//! between kinds.
//!
//! All writes take the same path ([`write`]): decode, default, validate, admit, record field managers, store.
//! Subresources with their own rules (scale, eviction, log …) have a file each.

pub(crate) mod admit;
pub(crate) mod delete;
pub(crate) mod evict;
pub(crate) mod expire;
pub(crate) mod follow;
pub(crate) mod pod;
pub(crate) mod read;
pub(crate) mod review;
pub(crate) mod scale;
pub(crate) mod write;

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::kinds::{Kind, Sub};
use crate::object::rfc3339;
use crate::request::Parameters;
use crate::state::ServerState;
use crate::status::{Failure, Result};
use crate::store::{Key, Stored, WriteError};

/// A request for objects, as passed to every verb.
pub(crate) struct Call<'a> {
    pub(crate) server: &'a Arc<ServerState>,
    pub(crate) kind: Arc<Kind>,
    /// "" for all namespaces or a cluster-scoped kind.
    pub(crate) namespace: String,
    /// "" for a collection.
    pub(crate) name: String,
    pub(crate) sub: Option<Sub>,
    pub(crate) parameters: Parameters,
    /// The field manager: `fieldManager`, or the first part of the user agent.
    pub(crate) manager: String,
    pub(crate) now: Timestamp,
    /// Messages for the `Warning` header.
    pub(crate) warnings: Mutex<Vec<String>>,
}

impl Call<'_> {
    pub(crate) fn key(&self) -> Key {
        Key::new(&self.kind.storage, &self.namespace, &self.name)
    }

    pub(crate) fn warn(&self, sentence: impl Into<String>) {
        self.warnings.lock().push(sentence.into());
    }

    /// Returns the stored object, or 404.
    pub(crate) fn stored(&self) -> Result<Stored> {
        self.server.store.get(&self.key()).ok_or_else(|| Failure::not_found(&self.kind, &self.name))
    }

    /// Returns a call by the same client for another object or kind, with default parameters.
    pub(crate) fn for_object(&self, kind: Arc<Kind>, namespace: &str, name: &str) -> Self {
        Self {
            server: self.server,
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            sub: None,
            parameters: Parameters::default(),
            manager: self.manager.clone(),
            now: self.now,
            warnings: Mutex::default(),
        }
    }

    /// Returns a call by the server itself.
    pub(crate) fn internal<'s>(
        server: &'s Arc<ServerState>,
        kind: Arc<Kind>,
        namespace: &str,
        name: &str,
    ) -> Call<'s> {
        Call {
            server,
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            sub: None,
            parameters: Parameters::default(),
            manager: "flyball-apiserver".into(),
            now: Timestamp::now(),
            warnings: Mutex::default(),
        }
    }

    pub(crate) fn write_failure(&self, error: WriteError) -> Failure {
        match error {
            WriteError::Exists => Failure::already_exists(&self.kind, &self.name),
            WriteError::Missing => Failure::not_found(&self.kind, &self.name),
            WriteError::Modified => Failure::modified(&self.kind, &self.name),
            WriteError::TooLarge(failure) => failure,
            WriteError::Full(why) => Failure::new(
                507,
                "InsufficientStorage",
                format!(
                    "the disk of the state directory is full, nothing was changed; make room and try again: {why}"
                ),
            ),
            WriteError::Disk(why) => Failure::internal(format!(
                "the state directory cannot be written, nothing was changed: {why}"
            )),
            WriteError::Stopping => {
                Failure::unavailable("the server is stopping, nothing was changed; try again")
            }
        }
    }
}

impl Call<'_> {
    /// Returns the time of the request as metadata holds it.
    pub(crate) fn now_text(&self) -> String {
        rfc3339(self.now)
    }
}
