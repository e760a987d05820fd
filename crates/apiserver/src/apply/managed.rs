//! `metadata.managedFields`: who set which field last, kept up to date by every write.
//!
//! Creates, updates and the other patches own what they change (operation `Update`), and take it from whoever had it;
//! appliers own what they apply (`Apply`). An entry is told apart by manager, operation, version and subresource.

use serde_json::{Value, json};

use super::fields::{self, Set};
use crate::kinds::Sub;
use crate::object::{self, at, list, remove, set, text};
use crate::schema::Schema;
use crate::status::Result;
use crate::verbs::Call;

/// Entries of updates kept apart; older ones are put together (`MaxUpdateManagers`).
const UPDATERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Metadata that belongs to the server and is nobody's field.
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

/// How an object is written, for the book.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How<'a> {
    Update,
    /// With the fields of the configuration.
    Apply(&'a Set),
}

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: Option<String>,
    pub(crate) fields: Set,
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
            fields: Set::read(json.get("fieldsV1").unwrap_or(&Value::Null)),
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

    /// As conflicts name it.
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

/// The entries of an object.
pub(crate) fn read(object: &Value) -> Vec<Entry> {
    list(object, "metadata.managedFields").iter().map(Entry::read).collect()
}

/// Is this the entry that the call, an apply, replaces?
pub(crate) fn is_applier(call: &Call<'_>, entry: &Entry) -> bool {
    entry.operation == "Apply" && entry.manager == call.manager && entry.subresource == subresource(call)
}

fn subresource(call: &Call<'_>) -> &'static str {
    match call.sub {
        Some(sub @ (Sub::Status | Sub::Scale | Sub::Resize)) => sub.name(),
        _ => "",
    }
}

/// Removes what a write through this resource or subresource cannot set.
pub(crate) fn strip(call: &Call<'_>, object: &mut Value) {
    if call.sub == Some(Sub::Status) {
        let status = remove(object, "status");
        *object = json!({});
        if let Some(status) = status {
            object["status"] = status;
        }
        return;
    }
    // The version of an applied object stays: it is a precondition, and `owned` does not count it.
    if call.kind.has(Sub::Status) {
        remove(object, "status");
    }
    for path in UNOWNED.iter().filter(|path| **path != "metadata.resourceVersion") {
        remove(object, path);
    }
}

/// The fields that a configuration sets.
pub(crate) fn owned(call: &Call<'_>, schema: &Schema, config: &Value) -> Set {
    let mut config = config.clone();
    strip(call, &mut config);
    remove(&mut config, "metadata.resourceVersion");
    // An empty metadata is no field.
    if object::map(&config, "metadata").is_some_and(serde_json::Map::is_empty) {
        remove(&mut config, "metadata");
    }
    fields::of(schema, &config)
}

/// Brings the book of `object`, which replaces `old`, up to date.
pub(crate) fn record(call: &Call<'_>, how: How<'_>, old: Option<&Value>, object: &mut Value) -> Result<()> {
    if old.is_some()
        && at(object, "metadata.managedFields").and_then(Value::as_array).is_some_and(Vec::is_empty)
    {
        // An explicit empty list starts the book anew.
        remove(object, "metadata.managedFields");
        return Ok(());
    }
    let before = old.map_or_else(|| json!({}), |old| bare(call, old));
    let schema = call.kind.stored_schema();
    let (changed, removed) = fields::compare(&schema, &before, &bare(call, object));
    let mut entries = old.map(read).unwrap_or_default();
    let operation = if matches!(how, How::Update) { "Update" } else { "Apply" };
    let mut own = Entry {
        manager: call.manager.clone(),
        operation: operation.into(),
        api_version: call.kind.stored_api_version.clone(),
        subresource: subresource(call).into(),
        time: Some(call.now_text()),
        fields: Set::default(),
    };
    let place = match how {
        How::Update => entries.iter().position(|entry| entry.same_writer(&own)),
        How::Apply(_) => entries.iter().position(|entry| is_applier(call, entry)),
    };
    let previous = place.map(|place| entries.remove(place));
    for entry in &mut entries {
        entry.fields = entry.fields.difference(&changed).difference(&removed);
    }
    let held = previous.as_ref().map(|entry| entry.fields.clone()).unwrap_or_default();
    own.fields = match how {
        How::Update => held.union(&changed).difference(&removed),
        How::Apply(applied) => applied.clone(),
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
    forget_oldest(&mut entries);
    if entries.is_empty() {
        remove(object, "metadata.managedFields");
    } else {
        set(object, "metadata.managedFields", entries.iter().map(Entry::write).collect());
    }
    Ok(())
}

/// The object without what nobody owns, or cannot be set this way.
fn bare(call: &Call<'_>, object: &Value) -> Value {
    let mut bare = object.clone();
    UNOWNED.iter().for_each(|path| drop(remove(&mut bare, path)));
    if call.kind.has(Sub::Status) && call.sub != Some(Sub::Status) {
        remove(&mut bare, "status");
    }
    bare
}

/// Puts the oldest updates together when there are too many.
fn forget_oldest(entries: &mut Vec<Entry>) {
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
