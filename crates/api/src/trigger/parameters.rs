//! How the parameters of a trigger are read: KEDA's rules for all trigger types
//! (`scalersconfig/typed_config.go`).
//!
//! Every parameter is a string. Values are trimmed, and an empty one counts as absent. A parameter is looked
//! for in the trigger's metadata, then (as `<name>FromEnv`) in the environment of the workload's container,
//! then among the parameters of the authentication object, as far as the parameter may come from there. At
//! admission the last two are not known yet: what may still come from there is neither missing nor wrong.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::problem::{Cause, Problem};

/// What was looked up outside the trigger; `None` where nobody looked yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resolved<'a> {
    /// The environment of the workload's container.
    pub environment: Option<&'a BTreeMap<String, String>>,
    /// The parameters of the authentication object, empty if the trigger names none.
    pub authentication: Option<&'a BTreeMap<String, String>>,
}

/// Where a parameter may come from, in the order that it is looked for, under KEDA's names.
pub(super) type Sources = &'static [&'static str];

pub(super) const METADATA: Sources = &["triggerMetadata"];
pub(super) const METADATA_OR_AUTH: Sources = &["triggerMetadata", "authParams"];
pub(super) const AUTH_OR_METADATA: Sources = &["authParams", "triggerMetadata"];
pub(super) const AUTH: Sources = &["authParams"];

/// What was found of a parameter.
enum Found {
    Value(String),
    /// It may come from somewhere that is not known yet.
    Later,
    Absent,
}

/// The parameters of one trigger, and what is wrong with those read so far.
pub(super) struct Parameters<'a> {
    path: String,
    kind: &'a str,
    metadata: &'a BTreeMap<String, String>,
    resolved: Resolved<'a>,
    has_authentication: bool,
    problems: Vec<Problem>,
    incomplete: bool,
}

impl<'a> Parameters<'a> {
    pub(super) fn new(
        path: String,
        kind: &'a str,
        metadata: &'a BTreeMap<String, String>,
        resolved: Resolved<'a>,
        has_authentication: bool,
    ) -> Self {
        let (problems, incomplete) = (Vec::new(), false);
        Self { path, kind, metadata, resolved, has_authentication, problems, incomplete }
    }

    /// What is wrong with the parameters read so far.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Whether something that was asked for may still come.
    pub(super) fn incomplete(&self) -> bool {
        self.incomplete
    }

    /// Whether nothing was wrong so far.
    pub(super) fn fine(&self) -> bool {
        self.problems.is_empty()
    }

    /// Reports a parameter that was read but cannot be used.
    pub(super) fn refuse(&mut self, name: &str, message: impl AsRef<str>, help: &str) {
        let value = self.metadata.get(name).map_or(Value::Null, |text| text.trim().into());
        let mut problem = Problem::invalid(self.field(name), value, self.say(message.as_ref())).help(help);
        if !self.metadata.contains_key(name) {
            problem.value.clear();
        }
        self.problems.push(problem);
    }

    /// An optional text.
    pub(super) fn text(&mut self, names: &[&str], sources: Sources) -> Option<String> {
        match self.find(names, sources) {
            Found::Value(text) => Some(text),
            Found::Later | Found::Absent => None,
        }
    }

    /// A text that must be there; `None` also where it may still come.
    pub(super) fn required(&mut self, names: &[&str], sources: Sources, help: &str) -> Option<String> {
        match self.find(names, sources) {
            Found::Value(text) => Some(text),
            Found::Later => None,
            Found::Absent => {
                let message = format!("missing required parameter {:?} in [{}]", names[0], sources.join(" "));
                self.problems.push(Problem::required(self.field(names[0]), self.say(&message)).help(help));
                None
            }
        }
    }

    /// A finite number that must be there, written as in JSON.
    pub(super) fn required_number(&mut self, name: &str, help: &str) -> Option<f64> {
        let text = self.required(&[name], METADATA, help)?;
        self.convert(name, &text, parse_number, "write a number in quotes, such as \"0.5\"")
    }

    /// A finite number, or a default where none is written.
    pub(super) fn number_or(&mut self, name: &str, default: f64) -> Option<f64> {
        match self.text(&[name], METADATA) {
            None => Some(default),
            Some(text) => {
                self.convert(name, &text, parse_number, "write a number in quotes, such as \"0.5\"")
            }
        }
    }

    /// An optional flag, in the spellings of Go.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        let text = self.text(&[name], METADATA)?;
        self.convert(name, &text, parse_flag, "write \"true\" or \"false\"")
    }

    /// An optional duration, in whole milliseconds or as Go writes it.
    pub(super) fn duration(&mut self, name: &str) -> Option<std::time::Duration> {
        let text = self.text(&[name], METADATA)?;
        self.convert(
            name,
            &text,
            parse_duration,
            "write milliseconds or a duration, such as \"3000\" or \"3s\"",
        )
    }

    /// A map, written `k=v,k2=v2`.
    pub(super) fn map(&mut self, name: &str) -> BTreeMap<String, String> {
        let Some(text) = self.text(&[name], METADATA) else { return BTreeMap::new() };
        self.convert(name, &text, parse_map, "write pairs, such as \"a=1,b=2\"").unwrap_or_default()
    }

    /// A list of known words, written `a,b`.
    pub(super) fn words(&mut self, names: &[&str], sources: Sources, known: &[&str]) -> Vec<String> {
        let Some(text) = self.text(names, sources) else { return Vec::new() };
        let words: Vec<String> = text.split(',').map(|word| word.trim().to_owned()).collect();
        if words.iter().any(|word| !known.contains(&word.as_str())) {
            let message =
                format!("parameter {:?} value {text:?} must be one of [{}]", names[0], known.join(" "));
            self.refuse(names[0], message, "");
            if let Some(problem) = self.problems.last_mut() {
                problem.cause = Cause::NotSupported;
            }
        }
        words
    }

    fn convert<T>(
        &mut self,
        name: &str,
        text: &str,
        parse: fn(&str) -> Result<T, String>,
        help: &str,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(why) => {
                // A value from elsewhere may be a secret.
                let shown = if self.metadata.contains_key(name) { text } else { "…" };
                self.refuse(name, format!("unable to set param {name:?} value {shown:?}: {why}"), help);
                None
            }
        }
    }

    fn find(&mut self, names: &[&str], sources: Sources) -> Found {
        let found = self.look_up(names, sources);
        self.incomplete |= matches!(found, Found::Later);
        found
    }

    fn look_up(&self, names: &[&str], sources: Sources) -> Found {
        let mut later = false;
        for source in sources {
            let found = names.iter().find_map(|name| match *source {
                "triggerMetadata" => present(self.metadata.get(*name)),
                _ => self.resolved.authentication.and_then(|parameters| present(parameters.get(*name))),
            });
            if let Some(text) = found {
                return Found::Value(text);
            }
            if *source == "authParams" {
                later |= self.has_authentication && self.resolved.authentication.is_none();
            }
        }
        match self.environment(names) {
            Found::Absent if later => Found::Later,
            found => found,
        }
    }

    /// `<name>FromEnv` in the metadata names a variable.
    fn environment(&self, names: &[&str]) -> Found {
        let Some(variable) =
            names.iter().find_map(|name| present(self.metadata.get(&format!("{name}FromEnv"))))
        else {
            return Found::Absent;
        };
        match self.resolved.environment {
            None => Found::Later,
            Some(environment) => present(environment.get(&variable)).map_or(Found::Absent, Found::Value),
        }
    }

    fn field(&self, name: &str) -> String {
        format!("{}.metadata.{name}", self.path)
    }

    fn say(&self, message: &str) -> String {
        format!("error parsing {} metadata: {message}", self.kind)
    }
}

fn present(value: Option<&String>) -> Option<String> {
    value.map(|text| text.trim()).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn parse_number(text: &str) -> Result<f64, String> {
    serde_json::from_str::<f64>(text).map_err(|_| "not a number".to_owned())
}

fn parse_flag(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("not a boolean".to_owned()),
    }
}

fn parse_map(text: &str) -> Result<BTreeMap<String, String>, String> {
    text.split(',')
        .map(|pair| match pair.split('=').collect::<Vec<_>>()[..] {
            [key, value] => Ok((key.trim().to_owned(), value.trim().to_owned())),
            _ => Err(format!("expected exactly one '=' in {pair:?}")),
        })
        .collect()
}

/// Whole milliseconds, or numbers each with a unit: `300ms`, `1.5h`, `2h45m`.
fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    if let Ok(milliseconds) = text.parse::<i64>() {
        return u64::try_from(milliseconds)
            .map(std::time::Duration::from_millis)
            .map_err(|_| "duration cannot be negative".to_owned());
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits =
            rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or("missing unit in duration")?;
        let number: f64 = rest[..digits].parse().map_err(|_| "not a duration".to_owned())?;
        let after = &rest[digits..];
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (_, unit_seconds) = DURATION_UNITS
            .iter()
            .find(|(unit, _)| *unit == &after[..unit_end])
            .ok_or_else(|| format!("unknown unit {:?} in duration", &after[..unit_end]))?;
        seconds += number * unit_seconds;
        rest = &after[unit_end..];
    }
    std::time::Duration::try_from_secs_f64(seconds).map_err(|_| "duration is too long".to_owned())
}

const DURATION_UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_milliseconds_or_have_units() {
        for (text, expected) in [
            ("0", Ok(Duration::ZERO)),
            ("250", Ok(Duration::from_millis(250))),
            ("3s", Ok(Duration::from_secs(3))),
            ("1h1m1.5s", Ok(Duration::from_millis(3_661_500))),
            ("-1", Err("duration cannot be negative")),
            ("1.5", Err("missing unit in duration")),
            ("5 s", Err("unknown unit \" s\" in duration")),
            ("5d", Err("unknown unit \"d\" in duration")),
            ("s", Err("not a duration")),
        ] {
            assert_eq!(parse_duration(text), expected.map_err(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn maps_have_one_equals_sign_a_pair() {
        assert_eq!(
            parse_map("a=1, b = 2"),
            Ok([("a", "1"), ("b", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into())
        );
        assert_eq!(parse_map("a=b=c"), Err("expected exactly one '=' in \"a=b=c\"".to_owned()));
        assert_eq!(parse_map("a"), Err("expected exactly one '=' in \"a\"".to_owned()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = (parse_number(&text), parse_flag(&text), parse_map(&text), parse_duration(&text));
        }
    }
}
