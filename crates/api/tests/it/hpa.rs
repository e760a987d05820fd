//! The HorizontalPodAutoscaler that KEDA would make: each row one setting, and what it changes.

use flyball_api::keda_hpa::keda_hpa;
use flyball_api::kinds::scaled_object::ScaledObject;
use flyball_api::trigger::{Resolved, Trigger};
use serde_json::{Value, json};

use crate::admission::merge;

fn hpa(patch: Value) -> Result<Value, Vec<String>> {
    let mut object = json!({
        "metadata": {"name": "model", "namespace": "shop", "uid": "1"},
        "spec": {"scaleTargetRef": {"name": "model"}, "triggers": [prometheus("a"), cpu(None)]},
    });
    merge(&mut object, patch);
    let object: ScaledObject = serde_json::from_value(object).unwrap();
    let triggers = Trigger::parse_all(&object.spec.triggers, |_| Resolved::default()).unwrap();
    keda_hpa(&object, &triggers)
        .map(|hpa| serde_json::to_value(hpa).unwrap())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn prometheus(name: &str) -> Value {
    let metadata = json!({"serverAddress": "http://prometheus:9090", "query": "up", "threshold": "5"});
    json!({"type": "prometheus", "name": name, "metadata": metadata})
}

fn cpu(container: Option<&str>) -> Value {
    let mut metadata = json!({"value": "50"});
    if let Some(container) = container {
        metadata["containerName"] = json!(container);
    }
    json!({"type": "cpu", "metricType": "Utilization", "metadata": metadata})
}

#[test]
fn each_setting_reaches_the_hpa() {
    let annotated = |key: &str, value: &str| json!({"metadata": {"annotations": {key: value}}});
    let modifiers = |more: Value| {
        let mut modifiers = json!({"formula": "a", "target": "2.5"});
        merge(&mut modifiers, more);
        json!({"spec": {"advanced": {"scalingModifiers": modifiers}}})
    };
    let labels = json!({"metadata": {
        "labels": {"team": "ml", "app.kubernetes.io/part-of": "shop", "secret": "x"},
        "annotations": {"scaledobject.keda.sh/hpa-excluded-labels": "secret,other"},
    }});
    for (patch, pointer, expected) in [
        (json!({}), "/spec/minReplicas", json!(1)),
        (json!({}), "/spec/maxReplicas", json!(100)),
        (json!({"spec": {"minReplicaCount": 0}}), "/spec/minReplicas", json!(1)),
        (json!({"spec": {"minReplicaCount": 3, "maxReplicaCount": 7}}), "/spec/minReplicas", json!(3)),
        (
            json!({"spec": {"advanced": {"horizontalPodAutoscalerConfig": {"name": "web"}}}}),
            "/metadata/name",
            json!("web"),
        ),
        (
            json!({"spec": {"scaleTargetRef": {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}}}),
            "/spec/scaleTargetRef",
            json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "model"}),
        ),
        (
            labels,
            "/metadata/labels",
            json!({
                "app.kubernetes.io/name": "keda-hpa-model",
                "app.kubernetes.io/version": "2.21.0",
                "app.kubernetes.io/part-of": "shop",
                "app.kubernetes.io/managed-by": "keda-operator",
                "scaledobject.keda.sh/name": "model",
                "team": "ml",
            }),
        ),
        (annotated("note", "kept"), "/metadata/annotations", json!({"note": "kept"})),
        (
            annotated("autoscaling.keda.sh/paused-scale-in", "true"),
            "/spec/behavior",
            json!({"scaleDown": {"selectPolicy": "Disabled"}}),
        ),
        (
            annotated("autoscaling.keda.sh/paused-scale-out", "true"),
            "/spec/behavior",
            json!({"scaleUp": {"selectPolicy": "Disabled"}}),
        ),
        (annotated("autoscaling.keda.sh/paused-scale-out", "false"), "/spec/behavior", Value::Null),
        (
            modifiers(json!({})),
            "/spec/metrics/0/external",
            json!({
                "metric": {
                    "name": "composite-metric",
                    "selector": {"matchLabels": {"scaledobject.keda.sh/name": "model"}},
                },
                "target": {"type": "AverageValue", "averageValue": "2500m"},
            }),
        ),
        (
            modifiers(json!({"metricType": "Value", "target": "3"})),
            "/spec/metrics/0/external/target",
            json!({"type": "Value", "value": "3"}),
        ),
    ] {
        let hpa = hpa(patch.clone()).unwrap();
        assert_eq!(hpa.pointer(pointer).unwrap_or(&Value::Null), &expected, "{patch} {pointer}");
    }
}

#[test]
fn metrics_are_sorted_by_type_and_then_by_trigger() {
    let triggers = |triggers: Value| json!({"spec": {"triggers": triggers}});
    for (patch, expected) in [
        (
            triggers(json!([cpu(None), prometheus("a"), cpu(Some("app")), prometheus("b")])),
            vec!["ContainerResource cpu", "External s1-prometheus", "External s3-prometheus", "Resource cpu"],
        ),
        (triggers(json!([cpu(None), prometheus("a")])), vec!["External s1-prometheus", "Resource cpu"]),
    ] {
        let hpa = hpa(patch).unwrap();
        let describe = |metric: &Value| {
            let name = ["/external/metric/name", "/resource/name", "/containerResource/name"];
            let name = name.into_iter().find_map(|pointer| metric.pointer(pointer)).unwrap();
            format!("{} {}", metric["type"].as_str().unwrap(), name.as_str().unwrap())
        };
        let metrics: Vec<String> = hpa["spec"]["metrics"].as_array().unwrap().iter().map(describe).collect();
        assert_eq!(metrics, expected);
    }
}

#[test]
fn what_makes_no_hpa_is_told_in_kedas_words() {
    for (patch, expected) in [
        (json!({"spec": {"triggers": [prometheus("a")]}}), None),
        (
            json!({"spec": {"triggers": []}}),
            Some(
                "spec.triggers: Required value: no metric specs returned from scalers for ScaledObject \
                shop/model",
            ),
        ),
        (
            json!({"spec": {"advanced": {"scalingModifiers": {"formula": "a", "target": "none"}}}}),
            Some(
                "spec.advanced.scalingModifiers.target: Invalid value: \"none\": error converting target for \
                 scalingModifiers (string->float) to valid target; write a number greater than 0 in quotes",
            ),
        ),
    ] {
        assert_eq!(hpa(patch).err().unwrap_or_default(), Vec::from_iter(expected));
    }
}
