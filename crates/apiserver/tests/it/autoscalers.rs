//! Every validation rule of HorizontalPodAutoscalers, and the edge cases of their numbers: a change to a valid
//! object, and the complete response.

use serde_json::{Value, json};

use crate::support::*;

const PATH: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";

fn cpu(target: Value) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
}

fn utilization(percent: Value) -> Value {
    json!([cpu(json!({"type": "Utilization", "averageUtilization": percent}))])
}

fn external(target: Value) -> Value {
    json!([{"type": "External", "external": {"metric": {"name": "q"}, "target": target}}])
}

fn behavior(direction: &str, rules: Value) -> Value {
    json!({"behavior": {direction: rules}})
}

fn policy(kind: &str, value: i64, period: i64) -> Value {
    behavior("scaleDown", json!({"policies": [{"type": kind, "value": value, "periodSeconds": period}]}))
}

/// Returns the code, and the causes or else the message.
async fn refused(server: &flyball_apiserver::ApiServer, name: &str, spec: &Value) -> (u16, Vec<String>) {
    let mut object = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "model"},
            "minReplicas": 1, "maxReplicas": 5,
        },
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    let (code, status) = post(server, PATH, &object).await;
    let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let causes = causes.iter().map(|cause| format!("{}: {}", text(&cause["field"]), text(&cause["message"])));
    (code, causes.collect())
}

#[tokio::test]
async fn each_rule_has_its_message_and_field() {
    let server = server().await;
    let both = json!({"type": "Utilization", "averageUtilization": 50, "averageValue": "1"});
    let table: Vec<(Value, &[&str])> = vec![
        (json!({}), &[]),
        (json!({"minReplicas": 5, "maxReplicas": 5}), &[]),
        (json!({"maxReplicas": i32::MAX}), &[]),
        (
            json!({"minReplicas": -1}),
            &["spec.minReplicas: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            json!({"minReplicas": 0}),
            &[
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ],
        ),
        (json!({"minReplicas": 0, "metrics": external(json!({"type": "Value", "value": "1"}))}), &[]),
        (
            json!({"maxReplicas": 0}),
            &[
                "spec.maxReplicas: Invalid value: 0: must be greater than 0",
                "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
            ],
        ),
        (
            json!({"minReplicas": 6}),
            &["spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`"],
        ),
        (
            json!({"scaleTargetRef": {"kind": "", "name": "a/b"}}),
            &[
                "spec.scaleTargetRef.kind: Required value",
                "spec.scaleTargetRef.name: Invalid value: \"a/b\": may not contain '/'",
            ],
        ),
        (json!({"metrics": utilization(json!(1))}), &[]),
        (json!({"metrics": utilization(json!(i32::MAX))}), &[]),
        (
            json!({"metrics": utilization(json!(0))}),
            &["spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0"],
        ),
        (
            json!({"metrics": utilization(json!(i32::MIN))}),
            &[
                "spec.metrics[0].resource.target.averageUtilization: Invalid value: -2147483648: must be greater than 0",
            ],
        ),
        (
            json!({"metrics": [cpu(both)]}),
            &[
                "spec.metrics[0].resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization",
            ],
        ),
        (
            json!({"metrics": [cpu(json!({"type": "Utilization"}))]}),
            &[
                "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
            ],
        ),
        (
            json!({"metrics": [cpu(json!({"type": "AverageValue", "averageValue": "0"}))]}),
            &["spec.metrics[0].resource.target.averageValue: Invalid value: \"0\": must be positive"],
        ),
        (
            json!({"metrics": external(json!({"type": "Value", "value": "-1m"}))}),
            &["spec.metrics[0].external.target.value: Invalid value: \"-1m\": must be positive"],
        ),
        (json!({"metrics": external(json!({"type": "Value", "value": "1n"}))}), &[]),
        (json!({"metrics": external(json!({"type": "Value", "value": "9223372036854775807"}))}), &[]),
        (
            json!({"metrics": external(json!({"type": "Value"}))}),
            &[
                "spec.metrics[0].external.target.averageValue: Required value: must set either a target value for metric or a per-pod target",
            ],
        ),
        (
            json!({"metrics": external(json!({"type": "Value", "value": "1", "averageValue": "1"}))}),
            &[
                "spec.metrics[0].external.target.value: Forbidden: may not set both a target value for metric and a per-pod target",
            ],
        ),
        (
            json!({"metrics": [{"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue"}}}]}),
            &[
                "spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue",
            ],
        ),
        (
            json!({"metrics": [{"type": "Pods"}]}),
            &["spec.metrics[0].pods: Required value: must populate information for the given metric source"],
        ),
        (
            json!({"metrics": [{"type": "Weather"}]}),
            &[
                "spec.metrics[0].type: Unsupported value: \"Weather\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"",
            ],
        ),
        (
            json!({"metrics": [{"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "", "target": {"type": "Utilization", "averageUtilization": 5}}}]}),
            &["spec.metrics[0].containerResource.container: Required value: must specify a container"],
        ),
        (behavior("scaleUp", json!({"stabilizationWindowSeconds": 3600})), &[]),
        (
            behavior("scaleUp", json!({"stabilizationWindowSeconds": 3601})),
            &[
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
            ],
        ),
        (
            behavior("scaleUp", json!({"stabilizationWindowSeconds": -1})),
            &[
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: -1: must be greater than or equal to zero",
            ],
        ),
        (
            behavior("scaleDown", json!({"policies": []})),
            &["spec.behavior.scaleDown.policies: Required value: must specify at least one Policy"],
        ),
        (
            behavior("scaleDown", json!({"selectPolicy": "Most"})),
            &[
                "spec.behavior.scaleDown.selectPolicy: Unsupported value: \"Most\": supported values: \"Disabled\", \"Max\", \"Min\"",
            ],
        ),
        (
            behavior("scaleDown", json!({"tolerance": "-1m"})),
            &[
                "spec.behavior.scaleDown.tolerance: Invalid value: \"-1m\": must be greater than or equal to 0",
            ],
        ),
        (behavior("scaleDown", json!({"tolerance": "0"})), &[]),
        (policy("Pods", 1, 1800), &[]),
        (policy("Percent", i64::from(i32::MAX), 1), &[]),
        (
            policy("Replicas", 1, 1),
            &[
                "spec.behavior.scaleDown.policies[0].type: Unsupported value: \"Replicas\": supported values: \"Percent\", \"Pods\"",
            ],
        ),
        (
            policy("Pods", 0, 0),
            &[
                "spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero",
                "spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 0: must be greater than zero",
            ],
        ),
        (
            policy("Pods", -5, 1801),
            &[
                "spec.behavior.scaleDown.policies[0].value: Invalid value: -5: must be greater than zero",
                "spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
            ],
        ),
    ];
    for (index, (spec, expected)) in table.iter().enumerate() {
        let (code, causes) = refused(&server, &format!("h{index}"), spec).await;
        assert_eq!(causes, *expected, "{spec}");
        assert_eq!(code, if expected.is_empty() { 201 } else { 422 }, "{spec}");
    }
}

/// Values that are not numbers, or that Kubernetes cannot represent, fail before validation.
#[tokio::test]
async fn numbers_that_are_none_are_refused() {
    let server = server().await;
    for spec in [
        json!({"maxReplicas": i64::from(i32::MAX) + 1}),
        json!({"maxReplicas": i64::MAX}),
        json!({"maxReplicas": 1e300}),
        json!({"maxReplicas": 1.5}),
        json!({"maxReplicas": "5"}),
        json!({"metrics": utilization(json!(i64::MIN))}),
        json!({"metrics": utilization(json!("NaN"))}),
        json!({"metrics": external(json!({"type": "Value", "value": "NaN"}))}),
        json!({"metrics": external(json!({"type": "Value", "value": "inf"}))}),
        json!({"metrics": external(json!({"type": "Value", "value": ""}))}),
    ] {
        let (code, _) = refused(&server, "h", &spec).await;
        assert!(code == 400 || code == 422, "{spec}: {code}");
    }
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once() {
    let server = server().await;
    let spec = json!({
        "minReplicas": -1, "maxReplicas": -2,
        "metrics": [cpu(json!({"type": "Utilization", "averageUtilization": 0})), {"type": "Pods"}],
        "behavior": {"scaleUp": {"stabilizationWindowSeconds": -1, "policies": []}},
    });
    let (code, causes) = refused(&server, "h", &spec).await;
    let fields: Vec<&str> = causes.iter().filter_map(|cause| cause.split(": ").next()).collect();
    assert_eq!(
        (code, fields),
        (
            422,
            vec![
                "spec.minReplicas",
                "spec.maxReplicas",
                "spec.maxReplicas",
                "spec.metrics[0].resource.target.averageUtilization",
                "spec.metrics[1].pods",
                "spec.behavior.scaleUp.stabilizationWindowSeconds",
                "spec.behavior.scaleUp.policies",
            ]
        )
    );
}
