//! Formats the findings as SARIF 2.1.0 (OASIS), for code scanning.

use flyball_api::lint::{RULES, Severity};
use serde_json::{Value, json};

use super::report::{LocatedFinding, Report};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// Returns the log of one run, with all rules and the findings.
pub(crate) fn log(report: &Report) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.code,
                "shortDescription": { "text": rule.code.replace('-', " ") },
                "fullDescription": { "text": rule.why },
                "defaultConfiguration": { "level": level(rule.severity) },
                "help": { "text": format!("See docs/check.md#{}", rule.code) },
            })
        })
        .collect();
    let results: Vec<Value> = report.findings.iter().map(result).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "flyball check",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

fn result(found: &LocatedFinding) -> Value {
    let finding = &found.finding;
    let text = match finding.help.as_str() {
        "" => finding.message.clone(),
        help => format!("{}; {help}", finding.message),
    };
    let mut location = json!({
        "logicalLocations": [{
            "fullyQualifiedName": format!("{}/{} {}", finding.origin.namespace, finding.origin.object, finding.field),
            "kind": "object",
        }],
    });
    if let Some((file, position)) = &found.place {
        location["physicalLocation"] = json!({
            "artifactLocation": { "uri": uri(file) },
            "region": { "startLine": position.line, "startColumn": position.column },
        });
    }
    json!({
        "ruleId": finding.code,
        "ruleIndex": RULES.iter().position(|rule| rule.code == finding.code),
        "level": level(finding.severity),
        "message": { "text": text },
        "locations": [location],
    })
}

/// Returns a path as a URI reference; relative ones stay relative, since code scanning resolves them in the repository.
fn uri(file: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let path = file.strip_prefix("./").unwrap_or(file);
    let encoded: String = path
        .bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    if path.starts_with('/') { format!("file://{encoded}") } else { encoded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_uris() {
        for (path, expected) in [
            ("./a/b.yaml", "a/b.yaml"),
            ("/tmp/a b.yaml", "file:///tmp/a%20b.yaml"),
            ("-", "-"),
            ("é.yaml", "%C3%A9.yaml"),
        ] {
            assert_eq!(uri(path), expected);
        }
    }
}
