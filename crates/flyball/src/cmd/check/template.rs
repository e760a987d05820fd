//! Recognizes Helm templates, which are not manifests until rendered.
//!
//! `{{` alone proves nothing: alerts, dashboards and workflows contain it. A file is a template if it is not YAML and has
//! `{{` outside of comments, or if it is YAML and a single-line value refers to a name that only Helm defines.

use serde_json::Value;

use super::documents::{Malformed, Position};

/// Names that only Helm templates use.
const ROOTS: [&str; 7] =
    [".Values.", ".Release.", ".Chart.", ".Capabilities.", ".Files.", "include \"", "tpl ("];

/// Returns the position of a template's first action outside of comments.
pub(super) fn first_action(text: &str) -> Option<Position> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#'));
    lines
        .filter_map(|(index, line)| Some((index, line, line.find("{{")?)))
        .next()
        .map(|(index, line, at)| Position { line: index + 1, column: line[..at].chars().count() + 1 })
}

/// Returns whether a value refers to a name that only Helm defines. Multi-line strings and the data of ConfigMaps and
/// Secrets may be templates for other programs, and do not count.
pub(super) fn is_unrendered(object: &Value) -> bool {
    match object {
        Value::String(text) => {
            text.contains("{{") && !text.contains('\n') && ROOTS.iter().any(|root| text.contains(root))
        }
        Value::Array(items) => items.iter().any(is_unrendered),
        Value::Object(fields) => {
            let holds_data =
                matches!(fields.get("kind").and_then(Value::as_str), Some("ConfigMap" | "Secret"));
            let mut fields = fields.iter();
            fields.any(|(name, value)| {
                !(holds_data && name.ends_with("ata") && name != "metadata") && is_unrendered(value)
            })
        }
        _ => false,
    }
}

/// Returns the problem of an unrendered template.
pub(super) fn malformed(file: &str, position: Position) -> Malformed {
    let chart = match file.split_once("/templates/") {
        Some((chart, _)) => chart,
        None => "<chart>",
    };
    Malformed {
        rule: "helm-template",
        position,
        message: "this is a Helm template, which is not a manifest until it is rendered".to_owned(),
        help: format!("render it first: helm template {chart} | flyball check -"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::documents::read;

    /// Returns the rules that a file breaks, with their lines.
    fn rules(file: &str, text: &str) -> String {
        let (documents, malformed) = read(file, text);
        let malformed = malformed.iter().map(|found| format!("{}:{}", found.rule, found.position.line));
        let mut said: Vec<String> = malformed.collect();
        said.extend((!documents.is_empty()).then(|| format!("{} read", documents.len())));
        said.join(" ")
    }

    #[test]
    fn a_template_is_told_from_yaml() {
        for (text, expected) in [
            ("kind: A\nspec: {replicas: {{ .Values.replicas }}}\n", "helm-template:2"),
            ("{{- if .Values.on }}\nkind: A\n{{- end }}\n", "helm-template:1"),
            ("# {{ a comment }}\nkind: A\nname: {{ include \"x.name\" . }}\n", "helm-template:3"),
            ("kind: A\nname: \"{{ .Release.Name }}-x\"\n", "helm-template:2"),
            ("kind: A\n---\nkind: B\nname: '{{ .Chart.Name }}'\n", "helm-template:4"),
            ("labels:\n  {{- toYaml .Values.labels | nindent 4 }}\n", "helm-template:2"),
            // Double braces of other programs.
            ("kind: PrometheusRule\nspec: {summary: 'pod {{ $labels.pod }}'}\n", "1 read"),
            ("kind: ConfigMap\ndata: {a: '{{ .Values.b }}'}\n", "1 read"),
            ("kind: A\nspec:\n  template: |\n    x: {{ .Values.b }}\n    y: 1\n", "1 read"),
            ("kind: Workflow\nspec: {args: ['{{inputs.parameters.x}}']}\n", "1 read"),
            // Malformed YAML, not templates.
            ("kind: [\n", "malformed-yaml:1"),
            ("# {{ .Values.x }}\nkind: [\n", "malformed-yaml:2"),
        ] {
            assert_eq!(rules("f.yaml", text), expected, "{text}");
        }
    }

    #[test]
    fn the_chart_of_a_template_is_named() {
        let (_, malformed) = read("charts/model/templates/a.yaml", "a: {{ .Values.x }}");
        assert_eq!(malformed[0].help, "render it first: helm template charts/model | flyball check -");
    }
}
