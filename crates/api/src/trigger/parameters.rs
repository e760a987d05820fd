//! How the parameters of a trigger are read: KEDA's rules for all trigger types (`scalersconfig/typed_config.go`).
//!
//! Every parameter is a string. Values are trimmed, and an empty one counts as absent. A parameter is looked up in the
//! trigger's metadata, then (as `<name>FromEnv`) in the environment of the workload's container, then among the
//! parameters of the authentication object, as far as the parameter may come from there. At admission the last two are
//! not known yet: what may still come from there is neither missing nor wrong.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kinds::scaled_object::ScaleTrigger;
use crate::problem::{Cause, Problem};

/// What was looked up outside the trigger; `None` where that has not happened yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resolved<'a> {
    /// The environment of the workload's container.
    pub environment: Option<&'a BTreeMap<String, String>>,
    /// The parameters of the authentication object, empty if the trigger names none.
    pub authentication: Option<&'a BTreeMap<String, String>>,
}

/// Where a parameter may come from, in the order of the look-up, under KEDA's names.
pub(super) type Sources = &'static [&'static str];

pub(super) const METADATA: Sources = &["triggerMetadata"];
pub(super) const METADATA_OR_AUTH: Sources = &["triggerMetadata", "authParams"];
pub(super) const AUTH: Sources = &["authParams"];

/// A parameter of a type of trigger: how it is read, and what its documentation says.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name, and then the older names that KEDA still takes.
    pub names: &'static [&'static str],
    /// What it means, as a sentence fragment for the documentation.
    pub about: &'static str,
    /// The value that is assumed where none is written; `None` if there is no such value.
    pub default: Option<&'static str>,
    /// Whether the trigger is refused without it.
    pub required: bool,
    pub(super) sources: Sources,
    /// What to write where it is missing or wrong.
    pub(super) help: &'static str,
}

impl Parameter {
    /// A parameter that must be written. `help` says what to write.
    pub(super) const fn required(
        names: &'static [&'static str],
        about: &'static str,
        help: &'static str,
    ) -> Self {
        Self { names, about, default: None, required: true, sources: METADATA, help }
    }

    /// A parameter that may be left out.
    pub(super) const fn optional(names: &'static [&'static str], about: &'static str) -> Self {
        Self { names, about, default: None, required: false, sources: METADATA, help: "" }
    }

    /// The same, with the value that is assumed where none is written.
    pub(super) const fn default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// The same, from these sources instead of the trigger's metadata.
    pub(super) const fn from(self, sources: Sources) -> Self {
        Self { sources, ..self }
    }

    /// The name that KEDA documents.
    pub const fn name(&self) -> &'static str {
        self.names[0]
    }

    /// Whether it may come from the object that `authenticationRef` names.
    pub fn is_in_authentication(&self) -> bool {
        self.sources.contains(&"authParams")
    }

    /// Whether it may be written in the trigger's metadata.
    pub fn is_in_metadata(&self) -> bool {
        self.sources.contains(&"triggerMetadata")
    }
}

/// What was found of a parameter.
enum Lookup {
    Value(String),
    /// It may come from a source that is not known yet.
    Pending,
    Absent,
}

/// The parameters of one trigger, and the problems found so far.
pub(super) struct Parameters<'a> {
    path: String,
    kind: &'a str,
    listed: &'static [Parameter],
    metadata: &'a BTreeMap<String, String>,
    metric_type: Option<&'a str>,
    resolved: Resolved<'a>,
    has_authentication: bool,
    problems: Vec<Problem>,
    incomplete: bool,
}

impl<'a> Parameters<'a> {
    pub(super) fn new(
        path: String,
        listed: &'static [Parameter],
        trigger: &'a ScaleTrigger,
        resolved: Resolved<'a>,
    ) -> Self {
        Self {
            path,
            kind: &trigger.kind,
            listed,
            metadata: &trigger.metadata,
            metric_type: trigger.metric_type.as_deref().filter(|text| !text.is_empty()),
            resolved,
            has_authentication: trigger.authentication_ref.is_some(),
            problems: Vec::new(),
            incomplete: false,
        }
    }

    /// The problems of the parameters read so far.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Whether a parameter that was read may still come.
    pub(super) fn incomplete(&self) -> bool {
        self.incomplete
    }

    /// The type of the trigger, as the manifest has it.
    pub(super) fn kind(&self) -> &'a str {
        self.kind
    }

    /// The trigger's `metricType`, if it is written.
    pub(super) fn metric_type(&self) -> Option<&'a str> {
        self.metric_type
    }

    pub(super) fn has_no_problems(&self) -> bool {
        self.problems.is_empty()
    }

    /// Reports a parameter that was read but cannot be used.
    pub(super) fn refuse(&mut self, parameter: &Parameter, message: impl AsRef<str>, help: &str) {
        let name = parameter.name();
        let value = self.metadata.get(name).map_or(Value::Null, |text| text.trim().into());
        let mut problem = Problem::invalid(self.field(name), value, self.say(message.as_ref())).help(help);
        if !self.metadata.contains_key(name) {
            problem.value.clear();
        }
        self.problems.push(problem);
    }

    /// Reads an optional text.
    pub(super) fn text(&mut self, parameter: &Parameter) -> Option<String> {
        match self.find(parameter) {
            Lookup::Value(text) => Some(text),
            Lookup::Pending | Lookup::Absent => None,
        }
    }

    /// Reads a text that must be there; `None` also where it may still come.
    pub(super) fn required(&mut self, parameter: &Parameter) -> Option<String> {
        match self.find(parameter) {
            Lookup::Value(text) => Some(text),
            Lookup::Pending => None,
            Lookup::Absent => {
                let (name, sources) = (parameter.name(), parameter.sources.join(" "));
                let message = format!("missing required parameter {name:?} in [{sources}]");
                let problem = Problem::required(self.field(name), self.say(&message)).help(parameter.help);
                self.problems.push(problem);
                None
            }
        }
    }

    /// Reads a finite number, written as in JSON; `None` also where it may still come.
    pub(super) fn number(&mut self, parameter: &Parameter) -> Option<f64> {
        let text = match parameter.default {
            None => self.required(parameter)?,
            Some(default) => self.text(parameter).unwrap_or_else(|| default.to_owned()),
        };
        self.convert(parameter, &text, parse_number, "write a number in quotes, such as \"0.5\"")
    }

    /// Reads an optional flag, in the spellings of Go.
    pub(super) fn flag(&mut self, parameter: &Parameter) -> Option<bool> {
        let text = self.text(parameter)?;
        self.convert(parameter, &text, parse_flag, "write \"true\" or \"false\"")
    }

    /// Reads an optional duration, in whole milliseconds or as Go writes it.
    pub(super) fn duration(&mut self, parameter: &Parameter) -> Option<std::time::Duration> {
        let text = self.text(parameter)?;
        let help = "write milliseconds or a duration, such as \"3000\" or \"3s\"";
        self.convert(parameter, &text, parse_duration, help)
    }

    /// Reads a map, written `k=v,k2=v2`.
    pub(super) fn map(&mut self, parameter: &Parameter) -> BTreeMap<String, String> {
        let Some(text) = self.text(parameter) else { return BTreeMap::new() };
        self.convert(parameter, &text, parse_map, "write pairs, such as \"a=1,b=2\"").unwrap_or_default()
    }

    /// Reads a list of known words, written `a,b`.
    pub(super) fn words(&mut self, parameter: &Parameter, known: &[&str]) -> Vec<String> {
        let Some(text) = self.text(parameter) else { return Vec::new() };
        let words: Vec<String> = text.split(',').map(|word| word.trim().to_owned()).collect();
        if words.iter().any(|word| !known.contains(&word.as_str())) {
            let (name, known) = (parameter.name(), known.join(" "));
            self.refuse(parameter, format!("parameter {name:?} value {text:?} must be one of [{known}]"), "");
            if let Some(problem) = self.problems.last_mut() {
                problem.cause = Cause::NotSupported;
            }
        }
        words
    }

    fn convert<T>(
        &mut self,
        parameter: &Parameter,
        text: &str,
        parse: fn(&str) -> Result<T, String>,
        help: &str,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(why) => {
                let name = parameter.name();
                // A value from elsewhere may be a secret.
                let shown = if self.metadata.contains_key(name) { text } else { "…" };
                let message = format!("unable to set param {name:?} value {shown:?}: {why}");
                self.refuse(parameter, message, help);
                None
            }
        }
    }

    fn find(&mut self, parameter: &Parameter) -> Lookup {
        debug_assert!(
            self.listed.iter().any(|listed| listed.names == parameter.names),
            "{} reads {}, which its list of parameters lacks",
            self.kind,
            parameter.name()
        );
        let found = self.look_up(parameter);
        self.incomplete |= matches!(found, Lookup::Pending);
        found
    }

    fn look_up(&self, parameter: &Parameter) -> Lookup {
        let mut pending = false;
        for source in parameter.sources {
            let found = parameter.names.iter().find_map(|name| match *source {
                "triggerMetadata" => present(self.metadata.get(*name)),
                _ => self.resolved.authentication.and_then(|parameters| present(parameters.get(*name))),
            });
            if let Some(text) = found {
                return Lookup::Value(text);
            }
            if *source == "authParams" {
                pending |= self.has_authentication && self.resolved.authentication.is_none();
            }
        }
        match self.environment(parameter.names) {
            Lookup::Absent if pending => Lookup::Pending,
            found => found,
        }
    }

    /// Looks up the variable that `<name>FromEnv` in the metadata names.
    fn environment(&self, names: &[&str]) -> Lookup {
        let Some(variable) =
            names.iter().find_map(|name| present(self.metadata.get(&format!("{name}FromEnv"))))
        else {
            return Lookup::Absent;
        };
        match self.resolved.environment {
            None => Lookup::Pending,
            Some(environment) => present(environment.get(&variable)).map_or(Lookup::Absent, Lookup::Value),
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
