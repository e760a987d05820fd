//! The TARGETS column of `kubectl get hpa` (hpa.md 4.1, `formatHPAMetrics`): status i belongs to spec i, by index.

use serde_json::Value;

use crate::object::{at, list, text};

/// Maximum number of metrics shown; the rest are counted.
const SHOWN_MAX: usize = 2;

/// Renders TARGETS: `cpu: 50%/80%, 94m/500m (avg) + 1 more...`.
pub(super) fn targets(hpa: &Value) -> String {
    let specs = list(hpa, "spec.metrics");
    if specs.is_empty() {
        return "<none>".into();
    }
    let statuses = list(hpa, "status.currentMetrics");
    let shown: Vec<String> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| target(spec, statuses.get(index).unwrap_or(&Value::Null)))
        .collect();
    let first = shown[..shown.len().min(SHOWN_MAX)].join(", ");
    if shown.len() > SHOWN_MAX { format!("{first} + {} more...", shown.len() - SHOWN_MAX) } else { first }
}

fn target(spec: &Value, status: &Value) -> String {
    let kind = text(spec, "type");
    let field = match kind {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".into(),
    };
    let current = |key: &str| metric_value(status, &format!("{field}.current.{key}"), "<unknown>");
    let wanted = |key: &str| metric_value(spec, &format!("{field}.target.{key}"), "<nil>");
    let averaged = at(spec, &format!("{field}.target.averageValue")).is_some();
    match (kind, averaged) {
        ("Pods", _) => format!("{}/{}", current("averageValue"), wanted("averageValue")),
        ("Resource" | "ContainerResource", true) => {
            format!("{}: {}/{}", text(&spec[field], "name"), current("averageValue"), wanted("averageValue"))
        }
        ("Resource" | "ContainerResource", false) => {
            let percent = |value: Option<&Value>, none: &str| {
                value.map_or(none.to_owned(), |value| format!("{value}%"))
            };
            let current = percent(at(status, &format!("{field}.current.averageUtilization")), "<unknown>");
            let wanted = percent(at(spec, &format!("{field}.target.averageUtilization")), "<auto>");
            format!("{}: {current}/{wanted}", text(&spec[field], "name"))
        }
        (_, true) => format!("{}/{} (avg)", current("averageValue"), wanted("averageValue")),
        (_, false) => format!("{}/{}", current("value"), wanted("value")),
    }
}

fn metric_value(object: &Value, path: &str, none: &str) -> String {
    match at(object, path) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => none.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    #[test]
    fn targets_as_kubectl_shows_them() {
        let cpu =
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}});
        let memory =
            json!({"type": "Resource", "resource": {"name": "memory", "target": {"averageValue": "100Mi"}}});
        let external = json!({"type": "External", "external": {"target": {"averageValue": "500m"}}});
        let value = json!({"type": "External", "external": {"target": {"value": "5"}}});
        let auto = json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "target": {}}});
        let cpu_now = json!({"resource": {"current": {"averageUtilization": 50}}});
        let memory_now = json!({"resource": {"current": {"averageValue": "12Mi"}}});
        let external_now = json!({"external": {"current": {"averageValue": "94m"}}});
        let check = |specs: Value, statuses: Value, expected: &str| {
            let hpa = json!({"spec": {"metrics": specs}, "status": {"currentMetrics": statuses}});
            assert_eq!(super::targets(&hpa), expected);
        };
        check(json!([]), json!([]), "<none>");
        check(json!([cpu]), json!([cpu_now]), "cpu: 50%/80%");
        check(json!([cpu]), Value::Null, "cpu: <unknown>/80%");
        check(json!([external]), json!([external_now]), "94m/500m (avg)");
        check(json!([value]), json!([{}]), "<unknown>/5");
        check(json!([auto]), json!([]), "cpu: <unknown>/<auto>");
        check(
            json!([cpu, memory, external, value]),
            json!([cpu_now, memory_now]),
            "cpu: 50%/80%, memory: 12Mi/100Mi + 2 more...",
        );
    }
}
