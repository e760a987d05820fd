//! Label and field selectors: which objects a list, watch or deletecollection covers.
//!
//! The string form of label selectors is apimachinery's (`a=b,c!=d,e in (f,g),!h`, also `>` and `<`); the object
//! form is `LabelSelector`. A field selector compares dotted fields. Each kind supports metadata.name,
//! metadata.namespace and the fields that Kubernetes supports for it; others are refused as in Kubernetes.

use serde_json::Value;

use crate::object;
use crate::status::{Failure, Result};

/// Maximum number of requirements in a selector; users write a handful, and each costs a lookup per object.
const REQUIREMENTS_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

/// A label selector; an empty one matches everything.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Labels {
    requirements: Vec<(String, Operator)>,
}

impl Labels {
    pub(crate) fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong =
            |why: &str| Failure::bad_request(format!("unable to parse requirement: {why} in \"{text}\""));
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    break;
                }
                return Err(wrong("found an empty requirement"));
            }
            requirements.push(requirement(part).map_err(|why| wrong(&why))?);
            if requirements.len() > REQUIREMENTS_MAX {
                return Err(wrong("too many requirements"));
            }
        }
        Ok(Self { requirements })
    }

    /// Reads a `LabelSelector` object (matchLabels, matchExpressions).
    pub(crate) fn from_object(selector: &Value) -> Self {
        let mut requirements = Vec::new();
        for (key, value) in object::map(selector, "matchLabels").into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push((key.clone(), Operator::In(vec![value])));
        }
        for expression in object::list(selector, "matchExpressions") {
            let strings = object::list(expression, "values").iter().filter_map(Value::as_str);
            let values: Vec<String> = strings.map(str::to_owned).collect();
            let operator = match object::text(expression, "operator") {
                "NotIn" => Operator::NotIn(values),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::Absent,
                _ => Operator::In(values),
            };
            requirements.push((object::text(expression, "key").to_owned(), operator));
        }
        Self { requirements }
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = object::map(object, "metadata.labels");
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        self.requirements.iter().all(|(key, operator)| match (operator, label(key)) {
            (Operator::In(values), Some(value)) => values.iter().any(|one| one == value),
            (Operator::NotIn(values), Some(value)) => values.iter().all(|one| one != value),
            (Operator::Exists, value) => value.is_some(),
            (Operator::Absent, value) => value.is_none(),
            (Operator::NotIn(_), None) => true,
            (Operator::Greater(bound), Some(value)) => value.parse::<i64>().is_ok_and(|value| value > *bound),
            (Operator::Less(bound), Some(value)) => value.parse::<i64>().is_ok_and(|value| value < *bound),
            (Operator::In(_) | Operator::Greater(_) | Operator::Less(_), None) => false,
        })
    }
}

impl std::fmt::Display for Labels {
    /// Formats the canonical string form, as in `status.selector` of a Scale.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted: Vec<_> = self.requirements.iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        for (index, (key, operator)) in sorted.into_iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            match operator {
                Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0])?,
                Operator::In(values) => write!(f, "{key} in ({})", values.join(","))?,
                Operator::NotIn(values) => write!(f, "{key} notin ({})", values.join(","))?,
                Operator::Exists => f.write_str(key)?,
                Operator::Absent => write!(f, "!{key}")?,
                Operator::Greater(bound) => write!(f, "{key}>{bound}")?,
                Operator::Less(bound) => write!(f, "{key}<{bound}")?,
            }
        }
        Ok(())
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(part: &str) -> std::result::Result<(String, Operator), String> {
    if let Some(key) = part.strip_prefix('!') {
        return Ok((label_key(key)?, Operator::Absent));
    }
    if let Some((key, values)) = part.split_once('(') {
        let values = values.strip_suffix(')').ok_or("a parenthesis is not closed")?;
        let values: Vec<String> =
            values.split(',').map(label_value).collect::<std::result::Result<_, _>>()?;
        let key = key.trim_end();
        if let Some(key) = key.strip_suffix(" notin") {
            return Ok((label_key(key)?, Operator::NotIn(values)));
        }
        let key = key
            .strip_suffix(" in")
            .ok_or_else(|| format!("expected \"in\" or \"notin\" before \"{part}\""))?;
        return Ok((label_key(key)?, Operator::In(values)));
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Ok((label_key(key)?, Operator::NotIn(vec![label_value(value)?])));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok((label_key(key)?, Operator::In(vec![label_value(value)?])));
    }
    for (sign, build) in [('>', Operator::Greater as fn(i64) -> Operator), ('<', Operator::Less)] {
        if let Some((key, bound)) = part.split_once(sign) {
            let bound = bound.trim().parse().map_err(|_| format!("\"{bound}\" is not an integer"))?;
            return Ok((label_key(key)?, build(bound)));
        }
    }
    Ok((label_key(part)?, Operator::Exists))
}

fn label_key(text: &str) -> std::result::Result<String, String> {
    let key = text.trim();
    match crate::names::qualified_name(key) {
        None => Ok(key.to_owned()),
        Some(why) => Err(format!("invalid label key \"{key}\": {why}")),
    }
}

fn label_value(text: &str) -> std::result::Result<String, String> {
    let value = text.trim();
    match crate::names::label_value(value) {
        None => Ok(value.to_owned()),
        Some(why) => Err(format!("invalid label value \"{value}\": {why}")),
    }
}

/// A field selector; an empty one matches everything.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Fields {
    /// Field, value, and whether they must be equal rather than different.
    requirements: Vec<(String, String, bool)>,
}

impl Fields {
    pub(crate) fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    pub(crate) fn parse(text: &str, plural: &str, selectable: &[&str]) -> Result<Self> {
        let mut requirements = Vec::new();
        for part in split_unescaped(text).into_iter().filter(|part| !part.is_empty()) {
            let (field, value, equal) = if let Some((field, value)) = part.split_once("!=") {
                (field, value, false)
            } else if let Some((field, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (field, value, true)
            } else {
                return Err(Failure::bad_request(format!(
                    "invalid field selector: '{part}'; can't understand '{part}'"
                )));
            };
            if !selectable.contains(&field) {
                return Err(Failure::bad_request(format!(
                    "field label not supported: {field} (for {}: {})",
                    plural,
                    selectable.join(", ")
                )));
            }
            requirements.push((field.to_owned(), unescaped(value), equal));
            if requirements.len() > REQUIREMENTS_MAX {
                return Err(Failure::bad_request("too many requirements in the field selector"));
            }
        }
        Ok(Self { requirements })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.requirements.iter().all(|(field, value, equal)| (field_text(object, field) == *value) == *equal)
    }

    /// Returns the only name that can match, if the selector requires one; a list is then a lookup.
    pub(crate) fn only_name(&self) -> Option<&str> {
        let named = |(field, _, equal): &&(String, String, bool)| field == "metadata.name" && *equal;
        self.requirements.iter().find(named).map(|(_, name, _)| name.as_str())
    }
}

fn field_text(object: &Value, field: &str) -> String {
    let field = if field == "reportingComponent" { "source.component" } else { field };
    let found = object::at(object, field)
        .or_else(|| object::at(object, &field.replacen("involvedObject", "regarding", 1)));
    match found {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None if field == "spec.unschedulable" || field == "spec.hostNetwork" => "false".into(),
        None => String::new(),
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, character) in text.char_indices() {
        if character == ',' && !escaped {
            parts.push(&text[start..at]);
            start = at + 1;
        }
        escaped = character == '\\' && !escaped;
    }
    parts.push(&text[start..]);
    parts
}

fn unescaped(value: &str) -> String {
    value.replace("\\,", ",").replace("\\=", "=").replace("\\\\", "\\")
}
