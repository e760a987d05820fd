//! Type checks and unknown fields: what Kubernetes detects while decoding, with all problems reported at once.
//!
//! Unknown fields are removed and their paths reported; `fieldValidation` decides whether they are errors. In
//! built-in kinds, null counts as absent, as in Go. Quantities become canonical.

use serde_json::Value;

use super::{Schema, Type};
use crate::path::{Path, shortened};
use crate::quantity::Quantity;

/// The problems found while decoding.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Paths of fields that are not in the schema.
    pub(crate) unknown: Vec<String>,
    /// A message for each value of the wrong type.
    pub(crate) wrong: Vec<String>,
    /// Number of objects in lists so far.
    items: usize,
}

/// Removes nulls that the schema does not allow and that have no default, as Kubernetes does when decoding
/// (`PruneNonNullableNullsWithoutDefaults`): `kind:` followed only by a comment counts as absent.
pub(crate) fn prune_nulls(schema: &Schema, value: &mut Value) {
    let own = schema.resolved();
    match value {
        Value::Object(map) => map.retain(|key, inner| {
            let known = own.properties.get(key.as_str()).or(own.additional.as_deref());
            match known {
                Some(schema) if inner.is_null() => schema.resolved().nullable || schema.default.is_some(),
                Some(schema) => {
                    prune_nulls(schema, inner);
                    true
                }
                None => true,
            }
        }),
        Value::Array(items) => items.iter_mut().for_each(|item| prune_nulls(schema.item(), item)),
        _ => {}
    }
}

/// Maximum number of objects in all lists of a built-in object. Each gets defaults of several times the size of
/// `{}`, and a body of three megabytes has room for a million.
const ITEMS_MAX: usize = 50_000;

/// Maximum number of problems reported per category, so that a body of a million unknown fields gets a readable
/// error.
const PROBLEMS_MAX: usize = 100;

/// Decodes a built-in kind: checks types as Go's JSON decoder does, removes nulls and unknown fields.
pub(crate) fn typed(schema: &Schema, value: &mut Value) -> Report {
    let mut report = Report::default();
    Walk { report: &mut report, strict: true }.visit(schema, value, Path::Root, "");
    report
}

/// Removes unknown fields of a custom resource; [`super::validate`] checks its types.
pub(crate) fn prune(schema: &Schema, value: &mut Value) -> Report {
    let mut report = Report::default();
    Walk { report: &mut report, strict: false }.visit(schema, value, Path::Root, "");
    report
}

struct Walk<'a> {
    report: &'a mut Report,
    /// Whether types are checked and nulls removed.
    strict: bool,
}

impl Walk<'_> {
    fn visit(&mut self, schema: &Schema, value: &mut Value, path: Path<'_>, owner: &str) {
        let own = schema.resolved();
        let owner = schema.reference.as_deref().map_or(owner, |name| name.rsplit('.').next().unwrap_or(name));
        if self.strict
            && let Err(why) = scalar(own, value)
        {
            self.wrong(path, owner, &why);
            return;
        }
        match value {
            Value::Object(map) if own.kind == Type::Object || !own.properties.is_empty() => {
                if self.strict {
                    map.retain(|_, value| !value.is_null());
                }
                map.retain(|key, inner| {
                    let path = path.field(key);
                    match own.field(key) {
                        Some(schema) => self.field(schema, inner, path, owner),
                        None => self.unknown(path),
                    }
                });
            }
            Value::Array(items) => {
                if self.strict && schema.item().resolved().kind == Type::Object {
                    self.report.items += items.len();
                }
                if self.report.items > ITEMS_MAX {
                    let why = format!(
                        "too many items: the lists of an object may have at most {ITEMS_MAX} in total"
                    );
                    self.wrong(path, owner, &Mismatch::Text(why));
                    return;
                }
                for (index, item) in items.iter_mut().enumerate() {
                    self.visit(schema.item(), item, path.item(index), owner);
                }
            }
            _ => {}
        }
    }

    /// Decodes a known field; returns whether it stays.
    fn field(&mut self, schema: &Schema, value: &mut Value, path: Path<'_>, owner: &str) -> bool {
        // Metadata is typed in custom resources too.
        let metadata = matches!(path, Path::Field(Path::Root, "metadata"));
        let mut walk = Walk { report: &mut *self.report, strict: self.strict || metadata };
        walk.visit(schema, value, path, owner);
        true
    }

    /// Reports an unknown field; returns false, so that it is removed.
    fn unknown(&mut self, path: Path<'_>) -> bool {
        if self.report.unknown.len() < PROBLEMS_MAX {
            self.report.unknown.push(path.to_string());
        }
        false
    }

    fn wrong(&mut self, path: Path<'_>, owner: &str, why: &Mismatch) {
        if self.report.wrong.len() < PROBLEMS_MAX {
            self.report.wrong.push(match why {
                Mismatch::Type { found, wanted } => {
                    format!(
                        "json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {wanted}"
                    )
                }
                Mismatch::Text(text) => format!("{path}: {text}"),
            });
        }
    }
}

enum Mismatch {
    Type { found: &'static str, wanted: &'static str },
    Text(String),
}

/// Checks a scalar, and makes a quantity canonical.
fn scalar(schema: &Schema, value: &mut Value) -> Result<(), Mismatch> {
    let wanted = match (schema.kind, &*value) {
        (Type::Quantity, Value::String(_) | Value::Number(_)) => return quantity(value),
        (Type::String, Value::String(text)) => return formatted(schema, text),
        (Type::Integer, Value::Number(number)) => return integer(schema, number),
        (Type::Any, _)
        | (_, Value::Null)
        | (Type::Object, Value::Object(_))
        | (Type::Array, Value::Array(_))
        | (Type::Number, Value::Number(_))
        | (Type::Boolean, Value::Bool(_))
        | (Type::IntOrString, Value::String(_)) => return Ok(()),
        (Type::IntOrString, Value::Number(number)) if number.is_i64() => return Ok(()),
        (Type::Object, _) if schema.additional.is_some() => "map[string]string",
        (Type::Object, _) => "struct",
        (Type::Array, _) => "[]struct",
        (Type::String, _) => "string",
        (Type::Integer, _) => integer_type(schema),
        (Type::Number, _) => "float64",
        (Type::Boolean, _) => "bool",
        (Type::IntOrString, _) => "intstr.IntOrString",
        (Type::Quantity, _) => "resource.Quantity",
    };
    Err(Mismatch::Type { found: found(value), wanted })
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn integer_type(schema: &Schema) -> &'static str {
    if schema.format.as_deref() == Some("int64") { "int64" } else { "int32" }
}

fn integer(schema: &Schema, number: &serde_json::Number) -> Result<(), Mismatch> {
    let small = schema.format.as_deref() == Some("int32");
    match number.as_i64() {
        Some(value) if !small || i32::try_from(value).is_ok() => Ok(()),
        _ => Err(Mismatch::Type { found: "number", wanted: integer_type(schema) }),
    }
}

fn quantity(value: &mut Value) -> Result<(), Mismatch> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match Quantity::parse(&text) {
        Ok(quantity) => {
            *value = Value::String(quantity.to_string());
            Ok(())
        }
        Err(why) => Err(Mismatch::Text(why)),
    }
}

fn formatted(schema: &Schema, text: &str) -> Result<(), Mismatch> {
    match schema.format.as_deref() {
        Some("date-time") if text.parse::<jiff::Timestamp>().is_err() => Err(Mismatch::Text(format!(
            "parsing time \"{}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse it; write it like 2026-01-02T15:04:05Z",
            shortened(text)
        ))),
        Some("byte") => {
            use base64::Engine;
            match base64::engine::general_purpose::STANDARD.decode(text) {
                Ok(_) => Ok(()),
                Err(error) => Err(Mismatch::Text(format!("illegal base64 data: {error}"))),
            }
        }
        _ => Ok(()),
    }
}
