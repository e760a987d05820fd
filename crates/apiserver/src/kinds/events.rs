//! Events, in core/v1 and events.k8s.io/v1.

mod convert;

use jiff::Timestamp;
use k8s_openapi::api::{core, events};
use serde_json::Value;

use super::row::{Row, StoredAs, namespaced};
use crate::cells::{column, since, wide};
use crate::object::{at, default, integer, name, rfc3339, set, text};

pub(crate) const EVENT: Row = Row {
    short_names: &["ev"],
    columns: const {
        &[
            column("Last Seen"),
            column("Type"),
            column("Reason"),
            column("Object"),
            wide("Subobject"),
            wide("Source"),
            column("Message"),
            wide("First Seen"),
            wide("Count"),
            wide("Name"),
        ]
    },
    cells: event,
    field_selectors: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    defaults: |object| default(object, "type", "Normal"),
    on_create: |object, now| {
        if at(object, "firstTimestamp").is_none() && at(object, "eventTime").is_none() {
            set(object, "firstTimestamp", rfc3339(now).into());
            let first = object["firstTimestamp"].clone();
            default(object, "lastTimestamp", first);
        }
    },
    relaxed: true,
    ..namespaced::<core::v1::Event>(["", "v1"], "Event", "events")
};

pub(crate) const EVENT_V1: Row = Row {
    group: "events.k8s.io",
    stored_as: Some(StoredAs {
        group: "core",
        api_version: "v1",
        from_stored: convert::to_events_v1,
        to_stored: convert::to_core_v1,
    }),
    schema: namespaced::<events::v1::Event>(["", ""], "", "").schema,
    ..EVENT
};

fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let first_of = |paths: &[&str]| {
        paths
            .iter()
            .map(|path| text(object, path))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    // Each time has an old and a new field name, depending on the version printed.
    let first = first_of(&["firstTimestamp", "deprecatedFirstTimestamp", "eventTime"]);
    let last =
        first_of(&["series.lastObservedTime", "lastTimestamp", "deprecatedLastTimestamp", "eventTime"]);
    let about =
        if at(object, "regarding").is_some() { &object["regarding"] } else { &object["involvedObject"] };
    let source = first_of(&[
        "source.component",
        "deprecatedSource.component",
        "reportingComponent",
        "reportingController",
    ]);
    let host = first_of(&["source.host", "deprecatedSource.host"]);
    let source = if host.is_empty() { source } else { format!("{source}, {host}") };
    let times = integer(object, "series.count")
        .or_else(|| integer(object, "count"))
        .or_else(|| integer(object, "deprecatedCount"))
        .unwrap_or(1);
    let message = first_of(&["message", "note"]);
    vec![
        since(&last, now).into(),
        text(object, "type").into(),
        text(object, "reason").into(),
        format!("{}/{}", text(about, "kind").to_lowercase(), text(about, "name")).into(),
        text(about, "fieldPath").into(),
        source.into(),
        message.trim().into(),
        since(&first, now).into(),
        times.into(),
        name(object).into(),
    ]
}
