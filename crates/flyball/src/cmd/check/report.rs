//! The findings with their positions, formatted for people and programs.

use std::collections::{BTreeMap, BTreeSet};

use flyball_api::lint::{self, Finding, Origin, Severity};
use serde_json::{Value, json};

use super::documents::{Document, Malformed, Position};
use crate::output::{Style, paint};

/// The page that explains each rule.
const DOCS: &str = "docs/check.md";

/// A finding with its position.
#[derive(Debug)]
pub(crate) struct LocatedFinding {
    pub(crate) finding: Finding,
    /// The file and the position in it; `None` for an object of a running world.
    pub(crate) place: Option<(String, Position)>,
}

/// All findings of a check.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) findings: Vec<LocatedFinding>,
    pub(crate) unreadable: Vec<anyhow::Error>,
    objects: usize,
    files: BTreeSet<String>,
}

impl Report {
    /// Creates a report of findings about these documents.
    pub(crate) fn new(documents: Vec<Document>, findings: Vec<Finding>) -> Report {
        let place = |finding: &Finding| {
            let document = documents.get(finding.origin.document)?;
            Some((document.file.clone()?, document.position(&finding.field)))
        };
        let mut report = Report {
            objects: documents.len(),
            files: documents.iter().filter_map(|document| document.file.clone()).collect(),
            findings: findings
                .into_iter()
                .map(|finding| LocatedFinding { place: place(&finding), finding })
                .collect(),
            unreadable: Vec::new(),
        };
        report.sort();
        report
    }

    /// Sets the number of objects checked.
    pub(crate) fn about(mut self, objects: usize) -> Report {
        self.objects = objects;
        self
    }

    /// Adds malformed documents, as findings.
    pub(crate) fn add_malformed(&mut self, malformed: Vec<(String, Malformed)>) {
        for (file, Malformed { rule, position, message, help }) in malformed {
            let Some(rule) = lint::rule(rule) else { continue };
            let finding = Finding::new(rule, Origin::default(), "", message, &help);
            self.files.insert(file.clone());
            self.findings.push(LocatedFinding { finding, place: Some((file, position)) });
        }
        self.sort();
    }

    /// Sorts by severity, then by position.
    fn sort(&mut self) {
        self.findings.sort_by(|a, b| {
            let key = |found: &LocatedFinding| {
                (found.finding.severity, found.place.clone(), found.finding.origin.clone())
            };
            key(a).cmp(&key(b))
        });
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|found| found.finding.severity == severity).count()
    }

    /// Formats `2 errors, 1 warning and 3 remarks in 5 objects`.
    fn summary(&self) -> String {
        let plural =
            |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        format!(
            "{}, {} and {} in {}",
            plural(self.count(Severity::Error), "error"),
            plural(self.count(Severity::Warning), "warning"),
            plural(self.count(Severity::Info), "remark"),
            plural(self.objects, "object"),
        )
    }

    /// Returns the findings to show: errors and warnings, and remarks if `remarks`.
    fn shown(&self, remarks: bool) -> impl Iterator<Item = &LocatedFinding> {
        self.findings.iter().filter(move |found| remarks || found.finding.severity != Severity::Info)
    }

    /// Formats the line for hidden remarks: `3 remarks (difference-pace 2, moving-tag 1); --remarks shows them`.
    fn folded(&self, remarks: bool) -> Option<String> {
        let hidden = self.count(Severity::Info);
        if remarks || hidden == 0 {
            return None;
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for found in self.findings.iter().filter(|found| found.finding.severity == Severity::Info) {
            *counts.entry(found.finding.code).or_default() += 1;
        }
        let counts: Vec<String> = counts.iter().map(|(code, count)| format!("{code} {count}")).collect();
        let (word, them) = if hidden == 1 { ("remark", "it") } else { ("remarks", "them") };
        Some(format!("{hidden} {word} ({}); --remarks shows {them}", counts.join(", ")))
    }

    /// Formats each finding with its reason and fix; hidden remarks as one line.
    pub(crate) fn text(&self, colour: bool, remarks: bool) -> String {
        let mut blocks: Vec<String> = self.shown(remarks).map(|found| found.text(colour)).collect();
        blocks.extend(self.folded(remarks));
        blocks.push(paint(Style::Bold, &self.summary(), colour));
        blocks.join("\n")
    }

    /// Formats a line for each finding, in columns; hidden remarks as one line.
    pub(crate) fn table(&self, remarks: bool) -> String {
        let header = ["SEVERITY", "RULE", "PLACE", "FINDING"].map(str::to_owned);
        let rows = self.shown(remarks).map(|found| {
            let finding = &found.finding;
            let place = found.short_place();
            [finding.severity.to_string(), finding.code.to_owned(), place, finding.message.clone()]
        });
        let rows: Vec<[String; 4]> = std::iter::once(header).chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        let line = |row: &[String; 4]| {
            let [a, b, c] = widths;
            format!("{:a$}   {:b$}   {:c$}   {}", row[0], row[1], row[2], row[3])
        };
        rows.iter().map(line).chain(self.folded(remarks)).collect::<Vec<_>>().join("\n")
    }

    /// Returns the findings as JSON.
    pub(crate) fn json(&self) -> Value {
        let findings: Vec<Value> = self.findings.iter().map(LocatedFinding::json).collect();
        json!({
            "findings": findings,
            "summary": {
                "errors": self.count(Severity::Error),
                "warnings": self.count(Severity::Warning),
                "infos": self.count(Severity::Info),
                "objects": self.objects,
                "files": self.files.len(),
            },
        })
    }
}

impl LocatedFinding {
    /// Returns the link to the explanation of the rule.
    pub(crate) fn docs(&self) -> String {
        format!("{DOCS}#{}", self.finding.code)
    }

    fn short_place(&self) -> String {
        match &self.place {
            Some((file, position)) => format!("{file}:{}", position.line),
            None => self.finding.origin.object.clone(),
        }
    }

    fn text(&self, colour: bool) -> String {
        let finding = &self.finding;
        let style = match finding.severity {
            Severity::Error => Style::Red,
            Severity::Warning => Style::Yellow,
            Severity::Info => Style::Cyan,
        };
        let head = paint(style, &format!("{}[{}]", finding.severity, finding.code), colour);
        let mut lines = vec![format!("{head}: {}", finding.message)];
        let object = match finding.origin.object.as_str() {
            "" => String::new(),
            object => format!("{} {}", object, finding.field).trim_end().to_owned(),
        };
        let place = match &self.place {
            Some((file, Position { line, column })) => format!("{file}:{line}:{column}"),
            None => format!("namespace {}", finding.origin.namespace),
        };
        lines.push(format!("  {} {place}  {object}", paint(Style::Dim, "at ", colour)));
        lines.push(format!("  {} {}", paint(Style::Dim, "why", colour), finding.why));
        if !finding.help.is_empty() {
            lines.push(format!("  {} {}", paint(Style::Dim, "fix", colour), finding.help));
        }
        lines.push(format!("  {} {}\n", paint(Style::Dim, "see", colour), self.docs()));
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let finding = &self.finding;
        let mut value = json!({
            "rule": finding.code,
            "severity": finding.severity,
            "object": finding.origin.object,
            "namespace": finding.origin.namespace,
            "field": finding.field,
            "message": finding.message,
            "why": finding.why,
            "help": finding.help,
            "docs": self.docs(),
        });
        if let Some((file, position)) = &self.place {
            value["file"] = json!(file);
            value["line"] = json!(position.line);
            value["column"] = json!(position.column);
        }
        value
    }
}
