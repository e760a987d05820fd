//! The rules on files: `# <- rule` marks a line that breaks the rule, and there must be no other findings. See
//! `tests/check`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use flyball_api::lint::{self, Finding, RULES};
use proptest::prelude::*;

use super::documents::{self, Document};
use super::report::Report;
use super::{defined_twice, facts, in_manifests, sarif, sort};

/// A line, and a rule that is broken in it.
type Mark = (usize, String);

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check").join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Returns the marks of a file. Differences are reported everywhere, so only the file about them marks them.
fn marks(text: &str) -> BTreeSet<Mark> {
    let lines = text.lines().enumerate();
    let marked = lines.filter_map(|(index, line)| Some((index + 1, line.split_once("# <- ")?.1)));
    marked
        .flat_map(|(line, rules)| rules.split(", ").map(move |rule| (line, rule.trim().to_owned())))
        .collect()
}

fn found(report: &Report, differences: bool) -> BTreeSet<Mark> {
    let kept =
        report.findings.iter().filter(|found| differences || !found.finding.code.starts_with("difference-"));
    kept.map(|found| {
        (found.place.as_ref().map_or(0, |(_, position)| position.line), found.finding.code.to_owned())
    })
    .collect()
}

fn alone(documents: &[Document]) -> Vec<Finding> {
    let (manifests, _) = sort(documents);
    let mut findings = lint::check(&manifests, &facts::facts);
    findings.extend(defined_twice(documents));
    findings
}

#[test]
fn each_rule_is_found_where_it_is_broken_and_nowhere_else() {
    let mut unseen: BTreeSet<&str> =
        RULES.iter().filter(|rule| !rule.is_live()).map(|rule| rule.code).collect();
    for file in files("") {
        let text = std::fs::read_to_string(&file).unwrap();
        let (documents, malformed) = documents::read(&file.to_string_lossy(), &text);
        assert!(malformed.is_empty(), "{} {malformed:?}", file.display());
        let findings = alone(&documents);
        let report = Report::new(documents, findings);
        assert_eq!(found(&report, file.ends_with("differences.yaml")), marks(&text), "{}", file.display());
        unseen.retain(|rule| !marks(&text).iter().any(|(_, marked)| marked == rule));
    }
    let told_by_reading =
        BTreeSet::from(["malformed-yaml", "helm-template", "refused", "unknown-kind", "defined-twice"]);
    assert_eq!(unseen, told_by_reading, "rules without a mark");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_refuses_is_found_with_everything_else() {
    for file in files("refused") {
        let text = std::fs::read_to_string(&file).unwrap();
        let (documents, malformed) = documents::read("refused.yaml", &text);
        let findings = in_manifests(&documents).await.unwrap();
        let mut report = Report::new(documents, findings);
        report.add_malformed(
            malformed.into_iter().map(|malformed| ("refused.yaml".to_owned(), malformed)).collect(),
        );
        assert_eq!(found(&report, false), marks(&text), "{}\n{}", file.display(), report.table(true));
        let log = sarif::log(&report);
        assert_eq!(log["runs"][0]["results"].as_array().unwrap().len(), report.findings.len());
    }
}

#[test]
fn every_rule_is_documented() {
    let docs =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/check.md")).unwrap();
    let sections: Vec<&str> = docs.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let codes: Vec<&str> = RULES.iter().map(|rule| rule.code).collect();
    assert_eq!(sections, codes);
}

/// Generates values that manifests have, and some that none should.
fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("[{}]".to_owned()),
        Just("-1".to_owned()),
        Just("1e308".to_owned()),
        Just("\"\"".to_owned()),
        Just("histogram_quantile(0.9, x_bucket)".to_owned()),
        "[a-z0-9.]{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Replaces any value of a good manifest with any other: no rule panics.
    #[test]
    fn no_manifest_panics(file in 0usize..16, line in 0usize..200, value in any_value()) {
        let files = files("");
        let text = std::fs::read_to_string(&files[file % files.len()]).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let index = line % lines.len();
        if let Some((key, _)) = lines[index].clone().split_once(": ") {
            lines[index] = format!("{key}: {value}");
        }
        let (documents, _) = documents::read("f", &lines.join("\n"));
        let findings = alone(&documents);
        let report = Report::new(documents, findings);
        let _ = (report.text(true, false), report.table(false), report.json(), sarif::log(&report));
    }
}
