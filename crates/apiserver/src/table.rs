//! Tables for `kubectl get`: the columns of each kind and the cells of an object.
//!
//! Built-in kinds print as Kubernetes' `pkg/printers/internalversion` does; their cells are in [`pod`] and
//! [`builtin`]. Custom kinds print the columns of their CRD. Everything else prints Name and Created At.

mod autoscaler;
mod builtin;
mod cells;
pub(crate) mod duration;
mod pod;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::crd::Column as CustomColumn;
use crate::kinds::Kind;
use crate::object::{self, text};
use crate::path::shortened;

/// A column of a built-in kind: name, type, and whether only `-o wide` shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    name: &'static str,
    kind: &'static str,
    wide: bool,
}

const fn column(name: &'static str) -> Column {
    Column { name, kind: "string", wide: false }
}

const fn number(name: &'static str) -> Column {
    Column { name, kind: "integer", wide: false }
}

const fn wide(name: &'static str) -> Column {
    Column { name, kind: "string", wide: true }
}

/// The cells of an object, at a time.
type Cells = fn(&Value, Timestamp) -> Vec<Value>;

/// What a kind's rows are made of.
struct Layout {
    columns: &'static [Column],
    cells: Cells,
}

/// Prints the objects of one kind.
pub(crate) enum Printer {
    Builtin(&'static [Column], Cells),
    Custom(Vec<CustomColumn>),
}

/// The printer of a kind.
pub(crate) fn printer(kind: &Kind) -> Printer {
    if let Some(custom) = &kind.custom {
        return Printer::Custom(custom.columns.clone());
    }
    let layout = builtin::layout(&kind.storage);
    Printer::Builtin(layout.columns, layout.cells)
}

impl Printer {
    /// `columnDefinitions`.
    pub(crate) fn definitions(&self) -> Value {
        let definition = |name: &str, kind: &str, format: &str, description: &str, priority: i64| {
            let format = if name == "Name" && format.is_empty() { "name" } else { format };
            json!({"name": name, "type": kind, "format": format, "description": description, "priority": priority})
        };
        match self {
            Self::Builtin(columns, _) => columns
                .iter()
                .map(|one| definition(one.name, one.kind, "", "", i64::from(one.wide)))
                .collect(),
            Self::Custom(columns) => {
                let name = definition("Name", "string", "name", "Name must be unique within a namespace.", 0);
                let others = columns
                    .iter()
                    .map(|one| definition(&one.name, &one.kind, &one.format, &one.description, one.priority));
                std::iter::once(name).chain(others).collect()
            }
        }
    }

    /// The cells of one object.
    pub(crate) fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        match self {
            Self::Builtin(_, cells) => cells(object, now),
            Self::Custom(columns) => {
                let others = columns.iter().map(|column| custom_cell(column, object, now));
                std::iter::once(object::name(object).into()).chain(others).collect()
            }
        }
    }
}

/// Conditions of a row: a pod that has ended is `Completed`, so that kubectl can leave it out.
pub(crate) fn conditions(kind: &Kind, object: &Value) -> Option<Value> {
    if !kind.is("core/pods") {
        return None;
    }
    let (reason, message) = match text(object, "status.phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

/// The first value at the path, by the column's type (`tableconvertor.cellForJSONValue`).
fn custom_cell(column: &CustomColumn, object: &Value, now: Timestamp) -> Value {
    let found = column.path.find(object);
    let Some(first) = found.first().filter(|value| !value.is_null()) else { return Value::Null };
    match (column.kind.as_str(), *first) {
        ("date", Value::String(time)) => match time.parse::<Timestamp>() {
            Ok(time) => duration::human(now.duration_since(time)).into(),
            Err(_) => "<invalid>".into(),
        },
        ("integer", Value::Number(number)) => {
            number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)).into()
        }
        ("number" | "boolean", value @ (Value::Number(_) | Value::Bool(_))) => value.clone(),
        ("string", _) if found.len() > 1 => {
            let texts: Vec<String> = found.iter().map(|value| plain(value)).collect();
            shortened(&texts.join(",")).into()
        }
        ("string", value) => shortened(&plain(value)).into(),
        _ => Value::Null,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// How long ago `metadata.creationTimestamp` was.
fn age(object: &Value, now: Timestamp) -> Value {
    since(text(object, "metadata.creationTimestamp"), now).into()
}

/// How long ago a time was.
fn since(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => duration::human(now.duration_since(time)),
        Err(_) => "<unknown>".into(),
    }
}
