//! Converts HorizontalPodAutoscalers between the stored autoscaling/v2 and autoscaling/v1.
//!
//! Fields that v1 lacks travel in annotations (`autoscaling.alpha.kubernetes.io/…`), as in Kubernetes, so that reading
//! and writing back in v1 loses nothing.

use serde_json::{Value, json};

use crate::object::{self, at, copy, list, remove, set, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

fn is_cpu_utilization(metric: &Value) -> bool {
    text(metric, "type") == "Resource"
        && text(metric, "resource.name") == "cpu"
        && at(metric, "resource.target.averageUtilization").is_some()
}

/// Converts autoscaling/v2 to autoscaling/v1.
pub(super) fn to_v1(v2: Value) -> Value {
    let mut v1 = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": v2["metadata"]});
    for path in [
        "spec.scaleTargetRef",
        "spec.minReplicas",
        "spec.maxReplicas",
        "status.observedGeneration",
        "status.lastScaleTime",
        "status.currentReplicas",
        "status.desiredReplicas",
    ] {
        copy(&v2, &mut v1, path);
    }
    let metrics = list(&v2, "spec.metrics");
    if let Some(cpu) = metrics.iter().find(|metric| is_cpu_utilization(metric)) {
        set(
            &mut v1,
            "spec.targetCPUUtilizationPercentage",
            cpu["resource"]["target"]["averageUtilization"].clone(),
        );
    }
    for current in
        list(&v2, "status.currentMetrics").iter().filter(|metric| text(metric, "resource.name") == "cpu")
    {
        if let Some(percent) = at(current, "resource.current.averageUtilization") {
            set(&mut v1, "status.currentCPUUtilizationPercentage", percent.clone());
        }
    }
    let others: Vec<Value> = metrics.iter().filter(|metric| !is_cpu_utilization(metric)).cloned().collect();
    annotate(&mut v1, METRICS, Some(Value::Array(others)));
    annotate(&mut v1, BEHAVIOR, at(&v2, "spec.behavior").cloned());
    annotate(&mut v1, CURRENT, at(&v2, "status.currentMetrics").cloned());
    annotate(&mut v1, CONDITIONS, at(&v2, "status.conditions").cloned());
    v1
}

fn annotate(object: &mut Value, key: &str, value: Option<Value>) {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    if let Some(value) = value.filter(|value| !empty(value)) {
        let metadata = object::ensure(object, "metadata");
        object::ensure(metadata, "annotations")[key] = value.to_string().into();
    }
}

fn annotation(object: &mut Value, key: &str) -> Option<Value> {
    let annotations = object.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()?;
    let taken = annotations.remove(key)?;
    serde_json::from_str(taken.as_str()?).ok()
}

/// Converts autoscaling/v1 to autoscaling/v2.
pub(super) fn from_v1(mut v1: Value) -> Value {
    let (metrics, behavior) = (annotation(&mut v1, METRICS), annotation(&mut v1, BEHAVIOR));
    let (current, conditions) = (annotation(&mut v1, CURRENT), annotation(&mut v1, CONDITIONS));
    if object::map(&v1, "metadata.annotations").is_some_and(serde_json::Map::is_empty) {
        remove(&mut v1, "metadata.annotations");
    }
    let mut all = Vec::new();
    if let Some(percent) = remove(&mut v1, "spec.targetCPUUtilizationPercentage") {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        all.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    all.extend(metrics.and_then(|metrics| metrics.as_array().cloned()).unwrap_or_default());
    remove(&mut v1, "status.currentCPUUtilizationPercentage");
    v1["apiVersion"] = "autoscaling/v2".into();
    if !all.is_empty() {
        set(&mut v1, "spec.metrics", Value::Array(all));
    }
    for (path, value) in
        [("spec.behavior", behavior), ("status.currentMetrics", current), ("status.conditions", conditions)]
    {
        if let Some(value) = value {
            set(&mut v1, path, value);
        }
    }
    v1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoscaler_survives_the_way_through_v1() {
        let v2 = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "m"},
            "spec": {
                "maxReplicas": 5, "scaleTargetRef": {"kind": "Deployment", "name": "m"},
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}},
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                    {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1"}}},
                ],
            },
        });
        let v1 = to_v1(v2.clone());
        assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 50);
        assert_eq!(from_v1(v1), v2);
    }
}
