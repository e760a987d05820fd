//! `metadata.managedFields`: the last manager of each field, updated by every write.
//!
//! Creates, updates and other patches own the fields they change (operation `Update`) and take them from previous
//! owners; appliers own the fields they apply (`Apply`). Manager, operation, version and subresource identify an
//! entry.

use serde_json::{Value, json};

use super::fields::{self, FieldSet};
use crate::kinds::Sub;
use crate::object::{self, at, list, remove, set, text};
use crate::schema::Schema;
use crate::status::Result;
use crate::verbs::Call;

/// Maximum number of separate `Update` entries; older ones are merged (`MaxUpdateManagers`).
const UPDATERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Metadata set by the server, which no manager owns.
const UNOWNED: [&str; 12] = [
    "apiVersion",
    "kind",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.creationTimestamp",
    "metadata.resourceVersion",
    "metadata.generation",
    "metadata.selfLink",
    "metadata.managedFields",
    "metadata.deletionTimestamp",
    "metadata.deletionGracePeriodSeconds",
];

/// The operation recorded for a write.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ManagedOperation<'a> {
    Update,
    /// An apply, with the configuration's fields.
    Apply(&'a FieldSet),
}

/// One entry of `managedFields`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: Option<String>,
    pub(crate) fields: FieldSet,
}

impl Entry {
    fn read(json: &Value) -> Self {
        let get = |key| text(json, key).to_owned();
        Self {
            manager: get("manager"),
            operation: get("operation"),
            api_version: get("apiVersion"),
            subresource: get("subresource"),
            time: at(json, "time").and_then(Value::as_str).map(str::to_owned),
            fields: FieldSet::read(json.get("fieldsV1").unwrap_or(&Value::Null)),
        }
    }

    fn write(&self) -> Value {
        let mut json = json!({
            "manager": self.manager, "operation": self.operation, "apiVersion": self.api_version,
            "fieldsType": "FieldsV1", "fieldsV1": self.fields.write(),
        });
        if let Some(time) = &self.time {
            json["time"] = time.clone().into();
        }
        if !self.subresource.is_empty() {
            json["subresource"] = self.subresource.clone().into();
        }
        json
    }

    fn same_writer(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.api_version == other.api_version
            && self.subresource == other.subresource
    }

    /// Describes the manager as conflict messages do.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == "Update" {
            text.push_str(&format!(" using {}", self.api_version));
            if let Some(time) = &self.time {
                text.push_str(&format!(" at {time}"));
            }
        }
        text
    }
}

/// Reads the entries of an object.
pub(crate) fn read(object: &Value) -> Vec<Entry> {
    list(object, "metadata.managedFields").iter().map(Entry::read).collect()
}

/// Returns whether an apply by this call replaces the entry.
pub(crate) fn is_applier(call: &Call<'_>, entry: &Entry) -> bool {
    entry.operation == "Apply" && entry.manager == call.manager && entry.subresource == subresource(call)
}

fn subresource(call: &Call<'_>) -> &'static str {
    match call.sub {
        Some(sub @ (Sub::Status | Sub::Scale | Sub::Resize)) => sub.name(),
        _ => "",
    }
}

/// Removes fields that a write through this resource or subresource cannot set.
pub(crate) fn strip(call: &Call<'_>, object: &mut Value) {
    if call.sub == Some(Sub::Status) {
        let status = remove(object, "status");
        *object = json!({});
        if let Some(status) = status {
            object["status"] = status;
        }
        return;
    }
    // The resourceVersion of an applied object stays: it is a precondition, and `owned` ignores it.
    if call.kind.has(Sub::Status) {
        remove(object, "status");
    }
    for path in UNOWNED.iter().filter(|path| **path != "metadata.resourceVersion") {
        remove(object, path);
    }
}

/// Returns the fields that a configuration sets.
pub(crate) fn owned(call: &Call<'_>, schema: &Schema, config: &Value) -> FieldSet {
    let mut config = config.clone();
    strip(call, &mut config);
    remove(&mut config, "metadata.resourceVersion");
    // An empty metadata is not a field.
    if object::map(&config, "metadata").is_some_and(serde_json::Map::is_empty) {
        remove(&mut config, "metadata");
    }
    fields::of(schema, &config)
}

/// Updates the managedFields of `object`, which replaces `old`.
pub(crate) fn record(
    call: &Call<'_>,
    mode: ManagedOperation<'_>,
    old: Option<&Value>,
    object: &mut Value,
) -> Result<()> {
    if old.is_some()
        && at(object, "metadata.managedFields").and_then(Value::as_array).is_some_and(Vec::is_empty)
    {
        // An explicit empty list resets managedFields.
        remove(object, "metadata.managedFields");
        return Ok(());
    }
    let before = old.map_or_else(|| json!({}), |old| ownable(call, old));
    let schema = call.kind.stored_schema();
    let (changed, removed) = fields::compare(&schema, &before, &ownable(call, object));
    let mut entries = old.map(read).unwrap_or_default();
    let operation = if matches!(mode, ManagedOperation::Update) { "Update" } else { "Apply" };
    let mut own = Entry {
        manager: call.manager.clone(),
        operation: operation.into(),
        api_version: call.kind.stored_api_version.clone(),
        subresource: subresource(call).into(),
        time: Some(call.now_text()),
        fields: FieldSet::default(),
    };
    let place = match mode {
        ManagedOperation::Update => entries.iter().position(|entry| entry.same_writer(&own)),
        ManagedOperation::Apply(_) => entries.iter().position(|entry| is_applier(call, entry)),
    };
    let previous = place.map(|place| entries.remove(place));
    for entry in &mut entries {
        entry.fields = entry.fields.difference(&changed).difference(&removed);
    }
    let held = previous.as_ref().map(|entry| entry.fields.clone()).unwrap_or_default();
    own.fields = match mode {
        ManagedOperation::Update => held.union(&changed).difference(&removed),
        ManagedOperation::Apply(applied) => applied.clone(),
    };
    if let Some(previous) =
        previous.filter(|previous| previous.fields == own.fields && changed.is_empty() && removed.is_empty())
    {
        own.time = previous.time;
    }
    entries.retain(|entry| !entry.fields.is_empty());
    let at = place.unwrap_or(entries.len()).min(entries.len());
    if !own.fields.is_empty() {
        entries.insert(at, own);
    }
    merge_oldest_updates(&mut entries);
    if entries.is_empty() {
        remove(object, "metadata.managedFields");
    } else {
        set(object, "metadata.managedFields", entries.iter().map(Entry::write).collect());
    }
    Ok(())
}

/// Returns the object without fields that nobody owns or that this write cannot set.
fn ownable(call: &Call<'_>, object: &Value) -> Value {
    let mut ownable = object.clone();
    UNOWNED.iter().for_each(|path| drop(remove(&mut ownable, path)));
    if call.kind.has(Sub::Status) && call.sub != Some(Sub::Status) {
        remove(&mut ownable, "status");
    }
    ownable
}

/// Merges the oldest `Update` entries when there are too many.
fn merge_oldest_updates(entries: &mut Vec<Entry>) {
    while entries.iter().filter(|entry| entry.operation == "Update").count() > UPDATERS_MAX {
        let mut oldest: Vec<usize> =
            (0..entries.len()).filter(|index| entries[*index].operation == "Update").collect();
        oldest.sort_by(|a, b| entries[*a].time.cmp(&entries[*b].time));
        let [first, second, ..] = oldest[..] else { return };
        let merged = entries[first].fields.union(&entries[second].fields);
        entries[second].fields = merged;
        entries[second].manager = ANCIENT.into();
        entries.remove(first);
    }
}
