//! Mistakes in manifests: each rule on an object that breaks it, none on objects that are well, and the real
//! causes on the course page's own.

use std::time::Duration;

use flyball_api::lint::{Finding, Manifests, QueryFacts, RULES, check};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::seed;

/// What the queries of these tests do, as a parser would tell it.
fn facts(query: &str) -> Option<QueryFacts> {
    let metrics = ["http_request_duration_seconds_bucket", "http_requests_total"];
    let metrics = metrics.into_iter().filter(|metric| query.contains(metric)).map(str::to_owned).collect();
    let seconds = if query.contains("[1m]") { 60 } else { 120 };
    Some(QueryFacts {
        metrics,
        range_windows: vec![Duration::from_secs(seconds)],
        is_not_additive: query.contains("quantile"),
        loses_le: query.contains("quantile") && !query.contains("le)"),
        may_return_many_series: !query.contains("sum"),
    })
}

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn sort(objects: Vec<Value>) -> Manifests {
    let mut manifests = Manifests::default();
    for object in objects {
        match object["kind"].as_str().unwrap() {
            "ScaledObject" => manifests.scaled_objects.push(read(object)),
            "VerticalPodAutoscaler" => manifests.vertical_pod_autoscalers.push(read(object)),
            "Deployment" => manifests.deployments.push(read(object)),
            "Service" => manifests.services.push(read(object)),
            "ServiceMonitor" => manifests.service_monitors.push(read(object)),
            "PodMonitor" => manifests.pod_monitors.push(read(object)),
            kind => panic!("{kind}"),
        }
    }
    manifests
}

fn codes(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.code).collect()
}

fn scaled_object(query: &str, threshold: &str) -> Value {
    json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "model"},
        "spec": {"scaleTargetRef": {"name": "model"}, "triggers": [{
            "type": "prometheus", "metricType": "Value",
            "metadata": {"serverAddress": "http://prometheus:9090", "query": query, "threshold": threshold},
        }]},
    })
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "model"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "model"}},
            "template": {
                "metadata": {"labels": {"app": "model"}},
                "spec": {"containers": [{
                    "name": "model",
                    "ports": [{"containerPort": 9100}],
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": 8000}},
                }]},
            },
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "model", "labels": {"app": "model"}},
        "spec": {"selector": {"app": "model"}, "ports": [{"name": "metrics", "port": 9100, "targetPort": 9100}]},
    })
}

fn monitor() -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor",
        "metadata": {"name": "model", "labels": {"release": "prom"}},
        "spec": {
            "selector": {"matchLabels": {"app": "model"}},
            "endpoints": [{"port": "metrics", "interval": "15s"}],
        },
    })
}

fn vpa() -> Value {
    json!({
        "apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler", "metadata": {"name": "model"},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "model"},
            "resourcePolicy": {"containerPolicies": [{"containerName": "*", "controlledResources": ["memory"]}]},
        },
    })
}

const LATENCY: &str = "histogram_quantile(0.95, sum(rate(http_request_duration_seconds_bucket[1m])) by (le))";

/// Objects that are well together, with one of them changed.
fn with(kind: &str, pointer: &str, value: Value) -> Vec<Value> {
    let mut objects = vec![scaled_object(LATENCY, "0.5"), deployment(), service(), monitor(), vpa()];
    let object = objects.iter_mut().find(|object| object["kind"] == kind).unwrap();
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[last.parse::<usize>().unwrap()] = value,
        fields => fields[last] = value,
    }
    objects
}

#[test]
fn each_rule_is_found_where_it_is_broken_and_nowhere_else() {
    let trigger = "/spec/triggers/0/metadata";
    let utilization = json!({"type": "memory", "metricType": "Utilization", "metadata": {"value": "50"}});
    let cases = [
        ("", with("ScaledObject", &format!("{trigger}/threshold"), json!("0.5"))),
        ("average-of-quantile", with("ScaledObject", "/spec/triggers/0/metricType", json!("AverageValue"))),
        ("average-of-quantile", with("ScaledObject", "/spec/triggers/0/metricType", Value::Null)),
        (
            "quantile-without-le",
            with(
                "ScaledObject",
                &format!("{trigger}/query"),
                json!("histogram_quantile(0.95, sum(rate(http_request_duration_seconds_bucket[1m])))"),
            ),
        ),
        (
            "several-series",
            with("ScaledObject", &format!("{trigger}/query"), json!("rate(http_requests_total[1m])")),
        ),
        ("threshold-unit", with("ScaledObject", &format!("{trigger}/threshold"), json!("500"))),
        ("ignored-parameter", with("ScaledObject", &format!("{trigger}/metricName"), json!("latency"))),
        ("short-window", with("ServiceMonitor", "/spec/endpoints/0/interval", json!("16s"))),
        (
            "nothing-scraped monitor-selects-nothing",
            with("ServiceMonitor", "/spec/selector/matchLabels", json!({"app": "modle"})),
        ),
        (
            "nothing-scraped monitor-selects-nothing",
            with("ServiceMonitor", "/spec/namespaceSelector", json!({"matchNames": ["shop"]})),
        ),
        ("", with("ServiceMonitor", "/spec/namespaceSelector", json!({"any": true}))),
        ("monitor-port-unknown", with("ServiceMonitor", "/spec/endpoints/0/port", json!("9100"))),
        ("monitor-release-label", with("ServiceMonitor", "/metadata/labels", json!({}))),
        (
            "nothing-scraped service-selects-nothing",
            with("Service", "/spec/selector", json!({"app": "modle"})),
        ),
        ("metrics-port-undeclared", with("Service", "/spec/ports/0/targetPort", json!(9101))),
        ("metrics-port-undeclared", with("Service", "/spec/ports/0/targetPort", json!("metrics"))),
        (
            "no-readiness-probe",
            with("Deployment", "/spec/template/spec/containers/0/readinessProbe", Value::Null),
        ),
        ("vpa-single-replica", with("Deployment", "/spec/replicas", json!(1))),
        ("", {
            let mut objects = with("Deployment", "/spec/replicas", json!(1));
            objects[4]["spec"]["updatePolicy"] = json!({"updateMode": "Off"});
            objects
        }),
        ("two-axes-one-resource", with("ScaledObject", "/spec/triggers/0", utilization.clone())),
        ("", {
            let mut objects = with("ScaledObject", "/spec/triggers/0", utilization);
            objects[4]["spec"]["resourcePolicy"]["containerPolicies"][0]["controlledResources"] =
                json!(["cpu"]);
            objects
        }),
    ];
    let mut unseen: Vec<&str> = RULES.iter().map(|rule| rule.code).collect();
    for (expected, objects) in cases {
        let findings = check(&sort(objects.clone()), &facts);
        assert_eq!(codes(&findings).join(" "), expected, "{objects:#?}");
        unseen.retain(|code| !expected.contains(code));
    }
    assert_eq!(unseen, Vec::<&str>::new(), "rules without a row");
}

#[test]
fn the_pages_own_failure_is_explained() {
    let manifests = seed::manifests();
    if manifests.is_empty() {
        return;
    }
    let pick = |names: &[&str]| -> Vec<Value> {
        let chosen = manifests.iter().filter(|(file, _)| names.contains(&file.as_str()));
        chosen.map(|(_, manifest)| manifest.clone()).collect()
    };
    for (files, expected) in [
        (
            vec!["deployment.yaml", "scaledobject-latency-rate.yaml"],
            "average-of-quantile nothing-scraped no-readiness-probe ignored-parameter ignored-parameter",
        ),
        (
            vec![
                "deployment.yaml",
                "scaledobject-low-thresholds.yaml",
                "service.yaml",
                "servicemonitor.yaml",
            ],
            "average-of-quantile metrics-port-undeclared no-readiness-probe ignored-parameter \
            ignored-parameter",
        ),
        (
            vec![
                "deployment.yaml",
                "scaledobject-cpu.yaml",
                "service.yaml",
                "servicemonitor.yaml",
                "vpa.yaml",
            ],
            "average-of-quantile metrics-port-undeclared two-axes-one-resource vpa-single-replica no-readiness-probe \
             ignored-parameter",
        ),
    ] {
        let findings = check(&sort(pick(&files)), &facts);
        assert_eq!(codes(&findings).join(" "), expected, "{files:?}");
    }
}

#[test]
fn a_finding_says_where_and_what_to_do() {
    let objects = with("ScaledObject", "/spec/triggers/0/metricType", Value::Null);
    let findings = check(&sort(objects), &facts);
    assert_eq!(
        findings[0].to_string(),
        "error[average-of-quantile] scaledobject/model spec.triggers[0].metricType: metricType AverageValue, the default, \
         is used for a quantile, average or ratio, which replicas do not add up to"
    );
    assert_eq!(findings[0].help, "write metricType: Value");
    assert_eq!(findings[0].namespace, "default");
}
