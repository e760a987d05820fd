//! Tables for kubectl: the columns of a kind and the cells of an object.
//!
//! Built-in kinds print as in Kubernetes' `pkg/printers/internalversion`, defined by their row. Custom kinds print
//! their CRD's columns.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cells::{Cells, Column, unquoted};
use crate::duration;
use crate::kinds::custom::PrinterColumn;
use crate::kinds::{Definition, Kind};
use crate::object;
use crate::path::shortened;

/// Renders the table rows of one kind.
pub(crate) enum Printer {
    Builtin(&'static [Column], Cells),
    Custom(Vec<PrinterColumn>),
}

/// Returns a kind's printer.
pub(crate) fn printer(kind: &Kind) -> Printer {
    match &kind.definition {
        Definition::Builtin(row) => Printer::Builtin(row.columns, row.cells),
        Definition::Custom(custom) => Printer::Custom(custom.columns.clone()),
    }
}

impl Printer {
    /// Renders `columnDefinitions`.
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

    /// Renders an object's cells.
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

/// Returns the conditions of an object's row, by which kubectl may filter it.
pub(crate) fn conditions(kind: &Kind, object: &Value) -> Option<Value> {
    kind.row().and_then(|row| (row.row_conditions)(object))
}

/// Renders the first value at the column's path by the column's type (`tableconvertor.cellForJSONValue`).
fn custom_cell(column: &PrinterColumn, object: &Value, now: Timestamp) -> Value {
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
            let texts: Vec<String> = found.iter().map(|value| unquoted(value)).collect();
            shortened(&texts.join(",")).into()
        }
        ("string", value) => shortened(&unquoted(value)).into(),
        _ => Value::Null,
    }
}
