//! What the cells of tables are made of, for all kinds: columns, ages, counts (`pkg/printers/internalversion`).

use jiff::Timestamp;
use serde_json::Value;

use crate::duration;
use crate::object::{at, integer, list, map, name, text};
use crate::selector::Labels;

/// A column of a built-in kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// The JSON type of its cells.
    pub(crate) kind: &'static str,
    /// Shown by `-o wide` only.
    pub(crate) wide: bool,
}

/// The cells of an object at a time, one for each column.
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

/// The cells of a kind that has no columns of its own: Name and Created At.
pub(crate) fn name_and_creation(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![name(object).into(), text(object, "metadata.creationTimestamp").into()]
}

/// The cells of a kind that shows its age beside its name.
pub(crate) fn name_and_age(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object).into(), age(object, now)]
}

/// A value as text: strings without quotes.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The number of entries of the map at a path.
pub(crate) fn count(object: &Value, path: &str) -> usize {
    map(object, path).map_or(0, serde_json::Map::len)
}

pub(crate) fn or_none(text: String) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// Names and images of the containers of a template.
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

/// The label selector of a workload, as kubectl writes it.
pub(crate) fn selector(object: &Value) -> Value {
    or_none(
        at(object, "spec.selector")
            .map(|selector| Labels::from_object(selector).to_string())
            .unwrap_or_default(),
    )
}

/// The count under `status`, 0 if there is none.
pub(crate) fn status_count(object: &Value, key: &str) -> i64 {
    integer(object, &format!("status.{key}")).unwrap_or(0)
}

/// How long ago `metadata.creationTimestamp` was.
pub(crate) fn age(object: &Value, now: Timestamp) -> Value {
    since(text(object, "metadata.creationTimestamp"), now).into()
}

/// How long ago a time was.
pub(crate) fn since(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => duration::human(now.duration_since(time)),
        Err(_) => "<unknown>".into(),
    }
}
