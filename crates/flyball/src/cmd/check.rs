//! `flyball check`: finds mistakes in manifests or in a running world.
//!
//! Manifests are checked three times: as text (is it YAML), by an API server without storage (is it accepted), and by the
//! rules of `flyball_api::lint` (does it do what was meant). `--live` adds the running world's series, scrape targets, pods
//! and decisions. All findings of all inputs are reported at once.

pub(crate) mod documents;
mod expansion;
mod facts;
pub(crate) mod inputs;
mod live;
mod refusals;
mod report;
mod sarif;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use flyball_api::lint::{self, Finding, Manifests, Origin, Severity};

use crate::cli::{Check, CheckOutput, FailOn};
use crate::output;
use documents::Document;
use inputs::Inputs;
use report::Report;

/// The exit code if an input could not be read.
const UNREADABLE: u8 = 2;

pub(crate) async fn run(options: Check) -> ExitCode {
    match check(&options).await {
        Ok(report) => {
            print(&report, &options);
            report.unreadable.iter().for_each(output::error);
            match (report.unreadable.is_empty(), report.fails(options.fail_on)) {
                (false, _) => ExitCode::from(UNREADABLE),
                (true, true) => ExitCode::FAILURE,
                (true, false) => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            output::error(&error);
            ExitCode::from(UNREADABLE)
        }
    }
}

fn print(report: &Report, options: &Check) {
    // Findings that set the exit code are always shown.
    let remarks = options.remarks || options.fail_on == FailOn::Info;
    match options.output {
        CheckOutput::Text => output::line(&report.text(output::colour_on(&std::io::stdout()), remarks)),
        CheckOutput::Table => output::line(&report.table(remarks)),
        CheckOutput::Json => output::line(&format!("{:#}", report.json())),
        CheckOutput::Yaml => {
            output::line(serde_saphyr::to_string(&report.json()).unwrap_or_default().trim_end());
        }
        CheckOutput::Sarif => output::line(&format!("{:#}", sarif::log(report))),
    }
}

async fn check(options: &Check) -> Result<Report> {
    let inputs = Inputs::of(options)?;
    match inputs {
        Inputs::Target { kind, name } => live::check_target(options, &kind, &name).await,
        Inputs::Files { documents, malformed, unreadable } => {
            let mut findings = in_manifests(&documents).await?;
            if options.live {
                live::check_files(options, &documents, &mut findings).await?;
            }
            let mut report = Report::new(documents, findings);
            report.add_malformed(malformed);
            report.unreadable = unreadable;
            Ok(report)
        }
    }
}

/// Returns the findings that the documents alone show.
async fn in_manifests(documents: &[Document]) -> Result<Vec<Finding>> {
    let (manifests, unread) = sort(documents);
    let mut findings = lint::check(&manifests, &facts::facts);
    findings.extend(defined_twice(documents));
    let refused =
        refusals::refusals(documents).await?.into_iter().filter_map(|refusal| refused(documents, refusal));
    let mut refused: Vec<Finding> = refused.chain(unread).collect();
    // For an unreadable object the server names no field, but the rules of its kind do: keep the finding with the field.
    let placed: Vec<(usize, String)> =
        refused.iter().map(|found| (found.origin.document, found.field.clone())).collect();
    refused.retain(|found| {
        let of_field = |(document, field): &(usize, String)| {
            *document == found.origin.document && !field.is_empty() && found.message.contains(field.as_str())
        };
        !found.field.is_empty() || !placed.iter().any(of_field)
    });
    for finding in refused {
        let reported = findings.iter().any(|other| {
            other.severity == Severity::Error
                && other.origin.document == finding.origin.document
                && other.field == finding.field
        });
        if !reported || finding.severity != Severity::Error {
            findings.push(finding);
        }
    }
    Ok(findings)
}

/// Sorts the documents by kind; returns a finding for each field of the wrong type.
fn sort(documents: &[Document]) -> (Manifests, Vec<Finding>) {
    let mut manifests = Manifests::default();
    let mut unread = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let added = match document.file {
            Some(_) => manifests.add(index, &document.object),
            None => manifests.add_live(index, &document.object),
        };
        let problems = added.err().unwrap_or_default();
        let origin = Origin::of(index, &document.object);
        unread.extend(problems.into_iter().filter_map(|problem| {
            let (message, help) = (problem.message.clone(), problem.help.as_str());
            Some(Finding::new(lint::rule("refused")?, origin.clone(), &problem.field, message, help))
        }));
    }
    (manifests, unread)
}

fn refused(documents: &[Document], refusal: refusals::Refusal) -> Option<Finding> {
    let origin = |document: usize| Origin::of(document, &documents[document].object);
    match refusal {
        refusals::Refusal::Field { document, field, message } => {
            // The text after the last semicolon of a cause is the fix.
            let (message, help) = message.rsplit_once("; ").unwrap_or((&message, ""));
            Some(Finding::new(lint::rule("refused")?, origin(document), &field, message.to_owned(), help))
        }
        refusals::Refusal::UnknownKind { document, kind } => {
            let message = format!("{kind} is an unknown kind, so its fields are not checked");
            let help = "check it together with its CustomResourceDefinition";
            Some(Finding::new(lint::rule("unknown-kind")?, origin(document), "kind", message, help))
        }
    }
}

/// Returns a finding for each object that repeats an earlier kind, namespace and name.
fn defined_twice(documents: &[Document]) -> Vec<Finding> {
    let mut first: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let origin = Origin::of(index, &document.object);
        if origin.name().is_empty() {
            continue;
        }
        let key = (origin.object.clone(), origin.namespace.clone());
        let Some(before) = first.get(&key) else {
            first.insert(key, index);
            continue;
        };
        let before = &documents[*before];
        let place = format!("{}:{}", before.file.as_deref().unwrap_or_default(), before.position("").line);
        let message = format!("{} is also defined at {place}", origin.object);
        let rule = lint::rule("defined-twice");
        let help = "keep one of them, or check files that are applied at different times separately";
        found.extend(rule.map(|rule| Finding::new(rule, origin, "metadata.name", message, help)));
    }
    found
}

impl Report {
    /// Returns whether a finding is at least as severe as `on`.
    fn fails(&self, on: FailOn) -> bool {
        let worst = match on {
            FailOn::Never => return false,
            FailOn::Error => Severity::Error,
            FailOn::Warning => Severity::Warning,
            FailOn::Info => Severity::Info,
        };
        self.findings.iter().any(|found| found.finding.severity <= worst)
    }
}
