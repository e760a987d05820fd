//! What discovery makes of monitors, ScrapeConfigs and annotations.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn object<K: DeserializeOwned>(value: Value) -> Vec<Arc<K>> {
    vec![Arc::new(serde_json::from_value(value).unwrap())]
}

fn pod(annotations: Value, phase: &str) -> Vec<Arc<Pod>> {
    object(json!({
        "metadata": {
            "name": "model-1", "namespace": "default", "labels": { "app": "model", "tier.x": "web" },
            "annotations": annotations,
        },
        "spec": { "containers": [{ "name": "main", "ports": [
            { "containerPort": 8000 }, { "name": "metrics", "containerPort": 9100 },
        ] }], "initContainers": [{
            "name": "side", "restartPolicy": "Always", "ports": [{ "name": "side", "containerPort": 9200 }],
        }] },
        "status": { "phase": phase, "podIP": "127.64.0.9" },
    }))
}

fn service(labels: Value) -> Vec<Arc<Service>> {
    object(json!({ "metadata": { "name": "model", "namespace": "default", "labels": labels } }))
}

fn slices() -> Vec<Arc<EndpointSlice>> {
    object(json!({
        "metadata": {
            "name": "model-x", "namespace": "default", "labels": { "kubernetes.io/service-name": "model" },
        },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": ["127.64.0.9"], "targetRef": { "kind": "Pod", "name": "model-1" } }],
        "ports": [{ "name": "web", "port": 8000 }, { "name": "metrics", "port": 9100 }],
    }))
}

fn monitor(spec: Value) -> Vec<Arc<ServiceMonitor>> {
    object(json!({ "metadata": { "name": "watch", "namespace": "default" }, "spec": spec }))
}

/// Targets as `pool url job endpoint`.
fn found(objects: Objects<'_>) -> Vec<String> {
    let label = |target: &ScrapeTarget, name: &str| target.labels.get(name).cloned().unwrap_or_default();
    let text =
        |t: &ScrapeTarget| format!("{} {} {} {}", t.pool, t.url, label(t, "job"), label(t, "endpoint"));
    discover(objects).targets.iter().map(text).collect()
}

#[test]
fn a_service_monitor_selects_by_labels_of_the_service_and_names_of_its_ports() {
    let url = |rest: &str| format!("serviceMonitor/default/watch/0 {rest}");
    let all = json!({ "matchLabels": { "app": "model" } });
    let table = [
        (
            json!({ "port": "metrics", "path": "/" }),
            all.clone(),
            Some("http://127.64.0.9:9100/ model metrics"),
        ),
        (json!({ "port": "metrics" }), all.clone(), Some("http://127.64.0.9:9100/metrics model metrics")),
        (json!({ "targetPort": 8000 }), all.clone(), Some("http://127.64.0.9:8000/metrics model 8000")),
        (
            json!({ "targetPort": "metrics" }),
            all.clone(),
            Some("http://127.64.0.9:9100/metrics model metrics"),
        ),
        (
            json!({ "port": "web", "path": "m", "params": { "a": ["1 2"] } }),
            all.clone(),
            Some("http://127.64.0.9:8000/m?a=1%202 model web"),
        ),
        (json!({ "port": "9100" }), all.clone(), None),
        (json!({ "targetPort": 1 }), all.clone(), None),
        // In quotes it is a name.
        (json!({ "targetPort": "8000" }), all.clone(), None),
        (json!({ "targetPort": "side" }), all.clone(), Some("http://127.64.0.9:9200/metrics model side")),
        (json!({ "port": "metrics" }), json!({ "matchLabels": { "app": "other" } }), None),
        (
            json!({ "port": "metrics" }),
            json!({ "matchExpressions": [{ "key": "app", "operator": "Exists" }] }),
            Some("http://127.64.0.9:9100/metrics model metrics"),
        ),
    ];
    let (pods, services, slices) = (pod(json!({}), "Running"), service(json!({ "app": "model" })), slices());
    for (endpoint, selector, expected) in table {
        let monitors = monitor(json!({ "selector": selector, "endpoints": [endpoint] }));
        let objects = Objects {
            service_monitors: &monitors,
            services: &services,
            slices: &slices,
            pods: &pods,
            ..Objects::default()
        };
        let expected: Vec<String> = expected.into_iter().map(url).collect();
        assert_eq!(found(objects), expected, "{monitors:?}");
    }
}

#[test]
fn namespaces_and_ended_pods_are_respected() {
    let check = |namespace_selector: Value, phase: &str, expected: usize| {
        let spec = json!({
            "selector": {}, "endpoints": [{ "port": "metrics" }], "namespaceSelector": namespace_selector,
        });
        let (monitors, pods) = (monitor(spec), pod(json!({}), phase));
        let (services, slices) = (service(json!({})), slices());
        let objects = Objects {
            service_monitors: &monitors,
            services: &services,
            slices: &slices,
            pods: &pods,
            ..Objects::default()
        };
        assert_eq!(found(objects).len(), expected, "{namespace_selector} {phase}");
    };
    check(json!({}), "Running", 1);
    check(json!({ "matchNames": ["default"] }), "Running", 1);
    check(json!({ "matchNames": ["monitoring"] }), "Running", 0);
    check(json!({ "any": true }), "Running", 1);
    check(json!({}), "Succeeded", 0);
}

#[test]
fn annotated_pods_are_scraped_once() {
    let asks = json!({ "prometheus.io/scrape": "true", "prometheus.io/port": "9100" });
    let pods = pod(asks, "Running");
    let alone = Objects { pods: &pods, ..Objects::default() };
    assert_eq!(found(alone), ["annotation/pods http://127.64.0.9:9100/metrics kubernetes-pods "]);
    let pod_monitors: Vec<Arc<PodMonitor>> = object(json!({
        "metadata": { "name": "pods", "namespace": "default" },
        "spec": { "selector": {}, "podMetricsEndpoints": [{ "port": "metrics" }], "podTargetLabels": ["tier.x"] },
    }));
    let both = Objects { pods: &pods, pod_monitors: &pod_monitors, ..Objects::default() };
    assert_eq!(
        found(both),
        ["podMonitor/default/pods/0 http://127.64.0.9:9100/metrics default/pods metrics"]
    );
    assert_eq!(discover(both).targets[0].labels.get("tier_x").map(String::as_str), Some("web"));
    let silent = pod(json!({}), "Running");
    assert_eq!(found(Objects { pods: &silent, ..Objects::default() }), Vec::<String>::new());
}

#[test]
fn relabelings_rewrite_and_drop_targets() {
    let (pods, services, slices) =
        (pod(json!({ "team": "a" }), "Running"), service(json!({ "app": "model" })), slices());
    let check = |endpoint: Value, check: &dyn Fn(&Discovered)| {
        let mut endpoint = endpoint;
        endpoint["port"] = "metrics".into();
        let spec = json!({ "selector": {}, "endpoints": [endpoint], "targetLimit": 5, "labelLimit": 9 });
        let monitors = monitor(spec);
        let objects = Objects {
            service_monitors: &monitors,
            services: &services,
            slices: &slices,
            pods: &pods,
            ..Objects::default()
        };
        check(&discover(objects));
    };
    let rules = json!({ "params": { "q": ["1"] }, "interval": "5s", "relabelings": [
        { "action": "labelmap", "regex": "__meta_kubernetes_pod_annotation_(.+)" },
        { "sourceLabels": ["__meta_kubernetes_pod_container_port_name", "__meta_kubernetes_endpoint_port_name"], "targetLabel": "ports" },
        { "sourceLabels": ["__address__"], "regex": "(.*):.*", "targetLabel": "__address__", "replacement": "$1:81" },
        { "targetLabel": "__param_q", "replacement": "2" },
        { "targetLabel": "__metrics_path__", "replacement": "/m" },
        { "targetLabel": "__scrape_timeout__", "replacement": "3s" },
        { "action": "LabelDrop", "regex": "endpoint|container" },
    ]});
    check(rules, &|found| {
        let target = &found.targets[0];
        assert_eq!(target.url, "http://127.64.0.9:81/m?q=2");
        let labels: Vec<String> =
            target.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = [
            "instance=127.64.0.9:81",
            "job=model",
            "namespace=default",
            "pod=model-1",
            "ports=metrics;metrics",
            "service=model",
            "team=a",
        ];
        assert_eq!(labels, expected);
        assert_eq!(
            (target.interval.as_secs(), target.timeout.as_secs(), target.options.limits.label_limit),
            (5, 3, 9)
        );
        assert_eq!(target.discovered["__meta_kubernetes_service_label_app"], "model");
    });
    check(
        json!({ "relabelings": [{ "action": "drop", "sourceLabels": ["pod"], "regex": "model-.*" }] }),
        &|found| {
            assert_eq!((found.targets.len(), found.pools.dropped.len()), (0, 1));
        },
    );
    check(json!({ "metricRelabelings": [{ "action": "hashmod", "targetLabel": "x" }] }), &|found| {
        let problem = "metricRelabelings[0]: relabel configuration for hashmod requires non-zero modulus";
        assert_eq!(found.problems.first().map(|(_, problem)| problem.as_str()), Some(problem));
    });
    check(json!({ "relabelings": [{ "targetLabel": "__address__", "replacement": "" }] }), &|found| {
        assert_eq!(found.problems.first().map(|(_, problem)| problem.as_str()), Some("no address"));
    });
}
