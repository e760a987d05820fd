//! Building blocks of table cells, shared by all kinds: columns, ages, counts (`pkg/printers/internalversion`).

use jiff::Timestamp;
use serde_json::Value;

use crate::duration;
use crate::object::{at, integer, list, map, name, text};
use crate::selector::Labels;

/// A column of a built-in kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// JSON type of its cells.
    pub(crate) kind: &'static str,
    /// Whether only `-o wide` shows it.
    pub(crate) wide: bool,
}

/// Renders the cells of an object as of a time, one per column.
pub(crate) type Cells = fn(&Value, Timestamp) -> Vec<Value>;

pub(crate) const NAME: Column = column("Name");
pub(crate) const AGE: Column = column("Age");

pub(crate) const fn column(name: &'static str) -> Column {
    Column { name, kind: "string", wide: false }
}

pub(crate) const fn number(name: &'static str) -> Column {
    Column { name, kind: "integer", wide: false }
}

pub(crate) const fn wide(name: &'static str) -> Column {
    Column { name, kind: "string", wide: true }
}

/// Renders the default columns, Name and Created At.
pub(crate) fn name_and_creation(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![name(object).into(), text(object, "metadata.creationTimestamp").into()]
}

/// Renders the columns Name and Age.
pub(crate) fn name_and_age(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object).into(), age(object, now)]
}

/// Renders a value as text; strings without quotes.
pub(crate) fn unquoted(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns the number of entries in the map at a path.
pub(crate) fn count(object: &Value, path: &str) -> usize {
    map(object, path).map_or(0, serde_json::Map::len)
}

pub(crate) fn or_none(text: String) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// Renders the names and images of a template's containers.
pub(crate) fn containers(object: &Value) -> [Value; 2] {
    let of = |key| {
        let texts: Vec<&str> = list(object, "spec.template.spec.containers")
            .iter()
            .map(|container| text(container, key))
            .collect();
        Value::from(texts.join(","))
    };
    [of("name"), of("image")]
}

/// Renders a workload's label selector as kubectl does.
pub(crate) fn selector(object: &Value) -> Value {
    or_none(
        at(object, "spec.selector")
            .map(|selector| Labels::from_object(selector).to_string())
            .unwrap_or_default(),
    )
}

/// Returns the count under `status`, or 0.
pub(crate) fn status_count(object: &Value, key: &str) -> i64 {
    integer(object, &format!("status.{key}")).unwrap_or(0)
}

/// Renders the time since `metadata.creationTimestamp`.
pub(crate) fn age(object: &Value, now: Timestamp) -> Value {
    since(text(object, "metadata.creationTimestamp"), now).into()
}

/// Renders the time since `time`.
pub(crate) fn since(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => duration::human(now.duration_since(time)),
        Err(_) => "<unknown>".into(),
    }
}
