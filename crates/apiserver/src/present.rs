//! Responses in the form that the client accepts: objects, `PartialObjectMetadata`, or a `Table` for `kubectl get`.
//!
//! Protobuf is never sent: clients that prefer it also accept JSON.

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::kinds::Kind;
use crate::object;
use crate::store::Stored;
use crate::table;
use crate::verbs::read::ListPage;

/// The response form that a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    /// `as=PartialObjectMetadata(List)`.
    Metadata,
    /// `as=Table`, with the version of meta.k8s.io.
    Table(&'static str),
}

impl Form {
    /// Parses an Accept header: returns the first media type that can be served.
    pub(crate) fn negotiate(accept: &str) -> Self {
        for media_type in accept.split(',') {
            let mut parts = media_type.split(';').map(str::trim);
            let essence = parts.next().unwrap_or_default();
            if !["application/json", "application/*", "*/*"].contains(&essence) {
                continue;
            }
            let (mut form, mut version) = (None, "v1");
            for part in parts {
                match part.split_once('=') {
                    Some(("as", name)) => form = Some(name),
                    Some(("v", "v1beta1")) => version = "v1beta1",
                    _ => {}
                }
            }
            match form {
                None => return Self::Object,
                Some("Table") => return Self::Table(version),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Self::Metadata,
                Some(_) => {}
            }
        }
        Self::Object
    }
}

/// Renders stored objects for one request.
pub(crate) struct Presenter {
    pub(crate) kind: Arc<Kind>,
    pub(crate) form: Form,
    pub(crate) include_object: String,
    /// Whether the columns were sent; a watch sends them only with its first row.
    columns_shown: bool,
}

impl Presenter {
    pub(crate) fn new(kind: Arc<Kind>, form: Form, include_object: Option<&str>) -> Self {
        let include_object = include_object.unwrap_or("Metadata").to_owned();
        Self { kind, form, include_object, columns_shown: false }
    }

    /// Renders an object that is already in the request's version.
    pub(crate) fn object(&self, object: Value) -> Bytes {
        let shown = match self.form {
            Form::Object => object,
            Form::Metadata => partial(&object),
            Form::Table(version) => {
                let revision = object::text(&object, "metadata.resourceVersion").to_owned();
                self.table(version, vec![object], json!({"resourceVersion": revision}), true)
            }
        };
        Bytes::from(shown.to_string())
    }

    /// Renders a stored object.
    pub(crate) fn stored(&self, stored: &Stored) -> Bytes {
        if self.is_as_stored() {
            return stored.bytes.clone();
        }
        self.object(self.kind.to_version(stored.value()))
    }

    /// Renders a page of a list.
    pub(crate) fn list(&self, listed: &ListPage) -> Bytes {
        let mut metadata = json!({"resourceVersion": listed.revision.to_string()});
        if let Some(token) = &listed.continue_token {
            metadata["continue"] = token.clone().into();
        }
        if let Some(remaining) = listed.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        let objects = || listed.items.iter().map(|stored| self.kind.to_version(stored.value()));
        match self.form {
            Form::Table(version) => {
                Bytes::from(self.table(version, objects().collect(), metadata, true).to_string())
            }
            Form::Metadata => {
                let items: Vec<Value> = objects().map(|object| partial(&object)).collect();
                let (kind, api_version) = ("PartialObjectMetadataList", "meta.k8s.io/v1");
                let list =
                    json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items});
                Bytes::from(list.to_string())
            }
            Form::Object => self.plain_list(listed, &metadata),
        }
    }

    /// Concatenates the items' bytes without parsing them if they are in the right version.
    fn plain_list(&self, listed: &ListPage, metadata: &Value) -> Bytes {
        let head = format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
            self.kind.list_kind(),
            self.kind.api_version()
        );
        let size: usize = listed.items.iter().map(|stored| stored.bytes.len() + 1).sum();
        let mut bytes = BytesMut::with_capacity(head.len() + size + 2);
        bytes.extend_from_slice(head.as_bytes());
        for (index, stored) in listed.items.iter().enumerate() {
            if index > 0 {
                bytes.extend_from_slice(b",");
            }
            bytes.extend_from_slice(&self.stored(stored));
        }
        bytes.extend_from_slice(b"]}");
        bytes.freeze()
    }

    /// Returns whether stored bytes can be sent as they are, without parsing.
    fn is_as_stored(&self) -> bool {
        self.form == Form::Object && self.kind.is_stored_form()
    }

    /// Renders a watch event as a line. An object stored in the request's version is not parsed.
    pub(crate) fn event(&mut self, name: &str, bytes: &Bytes) -> Bytes {
        let (before, after) = (format!("{{\"type\":\"{name}\",\"object\":"), "}\n");
        if self.is_as_stored() {
            return [before.as_bytes(), bytes, after.as_bytes()].concat().into();
        }
        Bytes::from(before + &self.watched(bytes).to_string() + after)
    }

    fn watched(&mut self, bytes: &Bytes) -> Value {
        let object = self.kind.to_version(serde_json::from_slice(bytes).unwrap_or_default());
        match self.form {
            Form::Object => object,
            Form::Metadata => partial(&object),
            Form::Table(version) => {
                let metadata = json!({"resourceVersion": object::text(&object, "metadata.resourceVersion")});
                let columns = !std::mem::replace(&mut self.columns_shown, true);
                self.table(version, vec![object], metadata, columns)
            }
        }
    }

    /// Renders the object of a bookmark.
    pub(crate) fn bookmark(&self, metadata: Value) -> Value {
        match self.form {
            Form::Object => {
                json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata})
            }
            Form::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Form::Table(version) => {
                // client-go reads the revision from the row's object, kubectl from the table.
                let object = json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata});
                let rows = json!([{"cells": [], "object": object}]);
                let api_version = format!("meta.k8s.io/{version}");
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                json!({"kind": "Table", "apiVersion": api_version, "metadata": metadata, "columnDefinitions": [], "rows": rows})
            }
        }
    }

    fn table(&self, version: &str, objects: Vec<Value>, metadata: Value, columns: bool) -> Value {
        let now = Timestamp::now();
        let printer = table::printer(&self.kind);
        let rows: Vec<Value> = objects
            .into_iter()
            .map(|object| {
                let mut row = json!({"cells": printer.cells(&object, now)});
                if let Some(conditions) = table::conditions(&self.kind, &object) {
                    row["conditions"] = conditions;
                }
                match self.include_object.as_str() {
                    "None" => {}
                    "Object" => row["object"] = object,
                    _ => row["object"] = partial(&object),
                }
                row
            })
            .collect();
        let definitions = if columns { printer.definitions() } else { Value::Null };
        let api_version = format!("meta.k8s.io/{version}");
        json!({
            "kind": "Table", "apiVersion": api_version, "metadata": metadata,
            "columnDefinitions": definitions, "rows": rows,
        })
    }
}

fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
