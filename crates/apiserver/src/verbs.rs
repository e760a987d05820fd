//! Each verb once, for every kind: what is asked is in a [`Call`], what a kind needs is in its row.
//!
//! Writing goes one way for all verbs ([`write`]): decode, default, validate, admit, record who set what, store.
//! Subresources with rules of their own (scale, eviction, log …) have a file each.

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
use crate::object::second;
use crate::request::Parameters;
use crate::state::ServerState;
use crate::status::{Failure, Result};
use crate::store::{Key, Refused, Stored};

/// A request for objects, as every verb gets it.
pub(crate) struct Call<'a> {
    pub(crate) server: &'a Arc<ServerState>,
    pub(crate) kind: Arc<Kind>,
    /// "" for all namespaces or a cluster-scoped kind.
    pub(crate) namespace: String,
    /// "" for a collection.
    pub(crate) name: String,
    pub(crate) sub: Option<Sub>,
    pub(crate) parameters: Parameters,
    /// Who writes, for managedFields: `fieldManager`, or the first part of the user agent.
    pub(crate) manager: String,
    pub(crate) now: Timestamp,
    /// Sentences for the `Warning` header.
    pub(crate) warnings: Mutex<Vec<String>>,
}

impl Call<'_> {
    pub(crate) fn key(&self) -> Key {
        Key::new(&self.kind.storage, &self.namespace, &self.name)
    }

    pub(crate) fn warn(&self, sentence: impl Into<String>) {
        self.warnings.lock().push(sentence.into());
    }

    /// The stored object, or 404.
    pub(crate) fn stored(&self) -> Result<Stored> {
        self.server.store.get(&self.key()).ok_or_else(|| Failure::not_found(&self.kind, &self.name))
    }

    /// The same request for another object or kind, without its parameters.
    pub(crate) fn about(&self, kind: Arc<Kind>, namespace: &str, name: &str) -> Self {
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

    /// A call by the server itself.
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

    pub(crate) fn refused(&self, refused: Refused) -> Failure {
        match refused {
            Refused::Exists => Failure::already_exists(&self.kind, &self.name),
            Refused::Missing => Failure::not_found(&self.kind, &self.name),
            Refused::Modified => Failure::modified(&self.kind, &self.name),
            Refused::TooLarge(failure) => failure,
            Refused::Full(why) => Failure::new(
                507,
                "InsufficientStorage",
                format!(
                    "the disk of the state directory is full, nothing was changed; make room and try again: {why}"
                ),
            ),
            Refused::Disk(why) => Failure::internal(format!(
                "the state directory cannot be written, nothing was changed: {why}"
            )),
            Refused::Stopping => {
                Failure::unavailable("the server is stopping, nothing was changed; try again")
            }
        }
    }
}

impl Call<'_> {
    /// The time of the request, as metadata has it.
    pub(crate) fn now_text(&self) -> String {
        second(self.now)
    }
}
