//! The subset of JSONPath used by printer columns, scale paths and field selectors of CRDs.
//!
//! Supported: `.spec.a`, `['a']`, `[0]`, `[-1]`, `[*]`, and filters that compare one path of an item with a
//! literal, `.status.conditions[?(@.type=="Ready")].status`. A backslash escapes a dot in a name. `..` is not
//! supported.

use serde_json::Value;

/// Maximum number of steps in a path; real ones have fewer than ten.
const STEPS_MAX: usize = 64;
/// Maximum bytes of a path.
const PATH_BYTES_MAX: usize = 2048;
/// Maximum nesting of filters. Each level visits all items for each item of the level above.
const FILTERS_MAX: usize = 2;
/// Maximum number of values that a path yields; nobody reads a longer cell.
const FOUND_MAX: usize = 1000;

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter { path: Vec<Step>, equal: bool, literal: Value },
}

/// A parsed JSONPath.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonPath(Vec<Step>);

impl JsonPath {
    /// Parses a path; the error says where parsing stopped.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > PATH_BYTES_MAX {
            return Err(format!("the path is longer than {PATH_BYTES_MAX} bytes"));
        }
        let inner = text.trim();
        let inner = inner.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(inner);
        let inner = inner.strip_prefix('$').unwrap_or(inner);
        let (steps, rest) = steps(inner, FILTERS_MAX)?;
        if !rest.is_empty() {
            return Err(format!("cannot read \"{rest}\" in the path \"{text}\""));
        }
        Ok(Self(steps))
    }

    /// Returns the values at the path, at most [`FOUND_MAX`].
    pub(crate) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        find(&self.0, value)
    }
}

fn steps(mut text: &str, filters: usize) -> Result<(Vec<Step>, &str), String> {
    let mut found = Vec::new();
    loop {
        if found.len() > STEPS_MAX {
            return Err("the path is too long".into());
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (step, rest) = bracket(rest, filters)?;
            found.push(step);
            text = rest;
        } else if let Some(rest) = text.strip_prefix('.') {
            let (name, rest) = name(rest);
            match name.as_str() {
                "*" => found.push(Step::All),
                "" if rest.is_empty() || rest.starts_with('[') => {}
                "" => return Err(format!("a name is missing before \"{rest}\"")),
                _ => found.push(Step::Field(name)),
            }
            text = rest;
        } else {
            return Ok((found, text));
        }
    }
}

fn name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
            '.' | '[' | ']' | '=' | '!' | '<' | '>' | ')' | ' ' => return (name, &text[at..]),
            other => name.push(other),
        }
    }
    (name, "")
}

fn bracket(text: &str, filters: usize) -> Result<(Step, &str), String> {
    let unclosed = || format!("\"[{text}\" is not closed");
    if let Some(rest) = text.strip_prefix("?(") {
        return filter(rest, filters);
    }
    if let Some(quote) = text.chars().next().filter(|c| "'\"".contains(*c)) {
        let (name, rest) = text[1..].split_once(quote).ok_or_else(unclosed)?;
        let rest = rest.strip_prefix(']').ok_or_else(unclosed)?;
        return Ok((Step::Field(name.to_owned()), rest));
    }
    let (inside, rest) = text.split_once(']').ok_or_else(unclosed)?;
    match inside.trim() {
        "*" => Ok((Step::All, rest)),
        number => match number.parse() {
            Ok(index) => Ok((Step::Index(index), rest)),
            Err(_) => Err(format!("\"[{inside}]\" is neither an index, a name in quotes, `*` nor a filter")),
        },
    }
}

fn filter(text: &str, filters: usize) -> Result<(Step, &str), String> {
    let filters = filters.checked_sub(1).ok_or("filters are nested too deep")?;
    let inner = text.trim_start().strip_prefix('@').ok_or("a filter must start with `@`")?;
    let (path, rest) = steps(inner, filters)?;
    let rest = rest.trim_start();
    let (equal, rest) = match (rest.strip_prefix("=="), rest.strip_prefix("!=")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err(format!("a filter must compare with `==` or `!=`, not \"{rest}\"")),
    };
    let rest = rest.trim_start();
    let (literal, rest) = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let (literal, rest) = rest[1..].split_once(quote).ok_or("a string in a filter is not closed")?;
            (Value::from(literal), rest)
        }
        _ => {
            let end = rest.find(')').ok_or("a filter is not closed")?;
            let literal = rest[..end].trim();
            (serde_json::from_str(literal).unwrap_or_else(|_| literal.into()), &rest[end..])
        }
    };
    let rest = rest.trim_start().strip_prefix(")]").ok_or("a filter must end with `)]`")?;
    Ok((Step::Filter { path, equal, literal }, rest))
}

fn find<'a>(steps: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![value];
    for step in steps {
        found = found.into_iter().flat_map(|value| take(step, value)).take(FOUND_MAX).collect();
    }
    found
}

fn take<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match (step, value) {
        (Step::Field(name), value) => value.get(name).into_iter().collect(),
        (Step::Index(index), Value::Array(items)) => {
            let at = if *index < 0 {
                items.len().checked_add_signed(*index as isize)
            } else {
                usize::try_from(*index).ok()
            };
            at.and_then(|at| items.get(at)).into_iter().collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Filter { path, equal, literal }, Value::Array(items)) => {
            items.iter().filter(|item| (find(path, item) == [literal]) == *equal).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::JsonPath;
    use serde_json::{Value, json};

    #[test]
    fn finds_what_printer_columns_ask_for() {
        let object = json!({
            "spec": {"triggers": [{"type": "cpu"}, {"type": "cron"}], "a.b": 1},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Active", "status": "False"}]},
        });
        for (path, expected) in [
            (".spec.triggers[*].type", json!(["cpu", "cron"])),
            (".spec.triggers[0].type", json!(["cpu"])),
            (".spec.triggers[-1].type", json!(["cron"])),
            (".spec.a\\.b", json!([1])),
            (".spec['a.b']", json!([1])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Active')].status", json!(["False"])),
            (".status.conditions[?(@.type!='Active')].status", json!(["True"])),
            (".status.nothing[0].here", json!([])),
            ("{.spec.triggers[0].type}", json!(["cpu"])),
        ] {
            let parsed = JsonPath::parse(path).unwrap_or_else(|why| panic!("{path}: {why}"));
            let found: Vec<Value> = parsed.find(&object).into_iter().cloned().collect();
            assert_eq!(Value::from(found), expected, "{path}");
        }
        let nested = format!(".a{}", "[?(@".repeat(500));
        let long = ".a".repeat(super::PATH_BYTES_MAX);
        for wrong in [nested.as_str(), &long, ".a[", ".a[x]", ".a[?(@.b)]", "a", ".a[?(b==1)]", ".a]"] {
            assert!(JsonPath::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in r#"[.\[\]?()@=!'"\\*a-c0-9é-]{0,30}"#) {
            if let Ok(path) = JsonPath::parse(&text) {
                path.find(&json!({"a": [{"b": 1}, 2], "c": {"a": "x"}}));
            }
        }
    }
}
