//! How kube-controller-manager names a metric in conditions and events (`podautoscaler/horizontal.go`), such
//! as `cpu resource utilization (percentage of request)` and `external metric
//! s0-prometheus(&LabelSelector{…})`.

use std::fmt::Write as _;

use k8s_openapi::api::autoscaling::v2::{MetricSpec, MetricTarget};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// The name of a metric in sentences.
pub(super) fn sentence_name(metric: &MetricSpec) -> String {
    if let Some(resource) = &metric.resource {
        return resource_name(&resource.name, "resource", &resource.target);
    }
    if let Some(resource) = &metric.container_resource {
        return resource_name(&resource.name, "container resource", &resource.target);
    }
    if let Some(pods) = &metric.pods {
        return format!("pods metric {}", pods.metric.name);
    }
    if let Some(object) = &metric.object {
        return format!("{} metric {}", object.described_object.kind, object.metric.name);
    }
    match &metric.external {
        Some(external) => {
            format!(
                "external metric {}({})",
                external.metric.name,
                selector(external.metric.selector.as_ref())
            )
        }
        None => String::new(),
    }
}

fn resource_name(resource: &str, words: &str, target: &MetricTarget) -> String {
    match target.average_utilization {
        Some(_) => format!("{resource} {words} utilization (percentage of request)"),
        None => format!("{resource} {words}"),
    }
}

/// A selector as Go prints it.
fn selector(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".to_owned() };
    let mut text = "&LabelSelector{MatchLabels:map[string]string{".to_owned();
    for (key, value) in selector.match_labels.iter().flatten() {
        write!(text, "{key}: {value},").expect("a text can always be written to");
    }
    text.push_str("},MatchExpressions:[]LabelSelectorRequirement{");
    for requirement in selector.match_expressions.iter().flatten() {
        let values = requirement.values.as_deref().unwrap_or_default().join(" ");
        let (key, operator) = (&requirement.key, &requirement.operator);
        write!(text, "LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
            .expect("a text can always be written to");
    }
    text.push_str("},}");
    text
}

/// The words for a metric that could not be read, around the words of its source.
pub(super) fn failure(metric: &MetricSpec, error: &str) -> String {
    let named = |name: &str, words: &str| format!("failed to get {name} {words} metric value: {error}");
    if let Some(resource) = &metric.resource {
        return named(&resource.name, "resource");
    }
    if let Some(resource) = &metric.container_resource {
        return named(&resource.name, "container");
    }
    if metric.pods.is_some() {
        return format!("failed to get pods metric value: {error}");
    }
    if metric.object.is_some() {
        return format!("failed to get object metric value: {error}");
    }
    match &metric.external {
        Some(external) => named(&external.metric.name, "external"),
        None => format!("unknown metric source type \"{}\"", metric.type_),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metrics_are_named_as_kube_controller_manager_names_them() {
        for (metric, name, failed) in [
            (
                json!({"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
                }}),
                "cpu resource utilization (percentage of request)",
                "failed to get cpu resource metric value: why",
            ),
            (
                json!({"type": "ContainerResource", "containerResource": {
                    "name": "memory", "container": "app", "target": {"type": "AverageValue", "averageValue": "64Mi"},
                }}),
                "memory container resource",
                "failed to get memory container metric value: why",
            ),
            (
                json!({"type": "Pods", "pods": {
                    "metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "5"},
                }}),
                "pods metric queue",
                "failed to get pods metric value: why",
            ),
            (
                json!({"type": "Object", "object": {
                    "describedObject": {"kind": "Ingress", "name": "main"},
                    "metric": {"name": "hits"}, "target": {"type": "Value", "value": "5"},
                }}),
                "Ingress metric hits",
                "failed to get object metric value: why",
            ),
            (
                json!({"type": "External", "external": {
                    "metric": {"name": "qps"}, "target": {"type": "Value", "value": "5"},
                }}),
                "external metric qps(nil)",
                "failed to get qps external metric value: why",
            ),
            (
                json!({"type": "External", "external": {
                    "metric": {"name": "qps", "selector": {
                        "matchLabels": {"q": "a"},
                        "matchExpressions": [{"key": "k", "operator": "In", "values": ["a", "b"]}],
                    }},
                    "target": {"type": "Value", "value": "5"},
                }}),
                "external metric qps(&LabelSelector{MatchLabels:map[string]string{q: a,},MatchExpressions:\
                 []LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[a b],},},})",
                "failed to get qps external metric value: why",
            ),
        ] {
            let metric: MetricSpec = serde_json::from_value(metric).unwrap();
            assert_eq!(sentence_name(&metric), name);
            assert_eq!(failure(&metric, "why"), failed);
        }
    }
}
