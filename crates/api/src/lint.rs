//! Mistakes that no server refuses, found in manifests before they are in production.
//!
//! Every rule is one row of [`RULES`]: a name that never changes, how bad it is, why it matters, and a
//! function that finds it. A finding names the object and the field, says what is there, and what to write
//! instead. What a query does is told by whoever can parse it, as plain facts ([`QueryFacts`]); what a running
//! world knows is told as [`live::LiveFacts`].

mod autoscalers;
mod bounds;
mod differences;
mod limits;
pub mod live;
mod manifests;
mod monitors;
mod ports;
mod queries;
mod query_facts;
mod resources;
mod rules;
mod windows;
mod workloads;

use std::fmt;

use serde::Serialize;

use crate::trigger::edits;

pub use manifests::{Manifests, Origin, Sourced, Workload};
pub use query_facts::{NotAdditive, QueryFacts};
pub use rules::RULES;

/// Tells what a query does; nothing about a query that does not parse.
pub type Facts<'a> = &'a dyn Fn(&str) -> Option<QueryFacts>;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot work as meant.
    Error,
    /// It works, but hardly as meant.
    Warning,
    /// Good to know.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        })
    }
}

/// One rule.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Its name: stable, and the anchor of its documentation.
    pub code: &'static str,
    /// How bad it is to break it.
    pub severity: Severity,
    /// Why it matters, in one sentence.
    pub why: &'static str,
    check: Check,
}

/// What finds the places where a rule is broken.
#[derive(Clone, Copy)]
enum Check {
    /// The objects alone.
    Manifests(fn(&Manifests, Facts<'_>) -> Vec<Place>),
    /// What a running world knows of one autoscaler.
    Live(fn(&live::Subject<'_>) -> Vec<Place>),
    /// Whoever reads the files: what does not parse never gets here.
    Reader,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({})", self.code)
    }
}

/// The rule of this name.
pub fn rule(code: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.code == code)
}

/// One place where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's name.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The object.
    pub origin: Origin,
    /// The field's path in the object.
    pub field: String,
    /// What is there.
    pub message: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to write instead.
    pub help: String,
}

impl Finding {
    /// A finding of a rule that is checked elsewhere: by whoever reads the files.
    pub fn new(rule: &'static Rule, origin: Origin, field: &str, message: String, help: &str) -> Finding {
        rule.found(Place { origin, field: field.to_owned(), message, help: help.to_owned() })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}] {} {}: {}", self.severity, self.code, self.origin.object, self.field, self.message)
    }
}

/// A finding before its rule is known.
struct Place {
    origin: Origin,
    field: String,
    message: String,
    help: String,
}

impl Place {
    fn new(
        origin: &Origin,
        field: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { origin: origin.clone(), field: field.into(), message: message.into(), help: help.into() }
    }
}

impl Rule {
    /// Whether it takes a running world to check it.
    pub fn is_live(&self) -> bool {
        matches!(self.check, Check::Live(_))
    }

    fn found(&self, place: Place) -> Finding {
        Finding {
            code: self.code,
            severity: self.severity,
            origin: place.origin,
            field: place.field,
            message: place.message,
            why: self.why,
            help: place.help,
        }
    }
}

/// Every finding in the objects alone, in the order of the rules and the objects.
pub fn check(manifests: &Manifests, facts: Facts<'_>) -> Vec<Finding> {
    let found = RULES.iter().flat_map(|rule| {
        let places = match rule.check {
            Check::Manifests(check) => check(manifests, facts),
            Check::Live(_) | Check::Reader => Vec::new(),
        };
        places.into_iter().map(|place| rule.found(place))
    });
    found.collect()
}

/// The texts with the fewest edits to `wanted`, nearest first, if they are near enough to be meant.
fn near<'a>(wanted: &str, texts: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = wanted.chars().count() / 2 + 1;
    let scored = texts.into_iter().map(|text| (edits(wanted, text), text));
    scored.filter(|(distance, _)| *distance <= far).min().map(|(_, text)| text)
}
