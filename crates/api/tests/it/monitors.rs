//! The rules of ServiceMonitors, PodMonitors and ScrapeConfigs, one row each.

use flyball_api::admission::{Checks, Neighbours, admit};
use flyball_api::kinds::monitor::RelabelConfig;
use serde_json::{Value, json};

use crate::admission::check_query;

/// Rules need a target label, and may not be an open bracket.
fn check_relabeling(rule: &RelabelConfig) -> Vec<(&'static str, String)> {
    let regex = rule.regex.as_deref() == Some("(");
    let regex = regex.then(|| ("regex", "not a regex".to_owned()));
    let target = rule.target_label.is_none().then(|| ("targetLabel", "needed".to_owned()));
    regex.into_iter().chain(target).collect()
}

fn checks() -> Checks<'static> {
    Checks { query: &check_query, relabeling: &check_relabeling }
}

#[test]
fn wrong_monitors_are_refused() {
    for (object, expected) in [
        (
            json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "spec": {
                "selector": {},
                "endpoints": [
                    {"port": "a", "interval": "15s", "scrapeTimeout": "10s"},
                    {"port": "b", "interval": "15s", "scrapeTimeout": "1m"},
                ],
            }}),
            vec![
                "spec.endpoints[1].scrapeTimeout: Invalid value: \"1m\": scrapeTimeout \"1m\" greater than scrapeInterval \
                 \"15s\"; write at most the interval",
            ],
        ),
        (
            json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "spec": {
                "selector": {}, "podMetricsEndpoints": [{"port": "a", "interval": "often"}],
            }}),
            vec![
                "spec.podMetricsEndpoints[0].interval: Invalid value: \"often\": not a valid duration string: \"often\"; \
                 write it as 15s, 1m30s or 500ms",
            ],
        ),
        (
            json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "spec": {
                "selector": {}, "endpoints": [{"port": "a", "relabelings": [{"regex": "x"}], "metricRelabelings": [
                    {"targetLabel": "y"}, {"regex": "("},
                ]}],
            }}),
            vec![
                "spec.endpoints[0].metricRelabelings[1].regex: Invalid value: \"(\": not a regex",
                "spec.endpoints[0].metricRelabelings[1].targetLabel: Required value: needed",
                "spec.endpoints[0].relabelings[0].targetLabel: Required value: needed",
            ],
        ),
        (
            json!({"apiVersion": "monitoring.coreos.com/v1alpha1", "kind": "ScrapeConfig", "spec": {
                "staticConfigs": [{"targets": ["a:1", "http://a:1/metrics"], "labels": {"": "x"}}],
                "scrapeInterval": "5s", "scrapeTimeout": "10s", "relabelings": [{"regex": "x"}],
                "kubernetesSDConfigs": [{"role": "Pod"}], "dnsSDConfigs": [{"names": ["a"]}],
            }}),
            vec![
                "spec.dnsSDConfigs: Forbidden: this way to discover targets is not supported; write the addresses into \
                 staticConfigs",
                "spec.kubernetesSDConfigs: Forbidden: this way to discover targets is not supported; write a \
                 ServiceMonitor or a PodMonitor",
                "spec.staticConfigs[0].targets[1]: Invalid value: \"http://a:1/metrics\": \"http://a:1/metrics\" is not a \
                 valid hostname; write host:port, and scheme and metricsPath in fields of their own",
                "spec.staticConfigs[0].labels: Invalid value: \"\": a label must have a name",
                "spec.scrapeTimeout: Invalid value: \"10s\": scrapeTimeout \"10s\" greater than scrapeInterval \"5s\"; \
                 write at most the interval",
                "spec.relabelings[0].targetLabel: Required value: needed",
            ],
        ),
    ] {
        let mut object = object;
        object["metadata"] = json!({"name": "a"});
        let admission = admit(&object, None, Neighbours::default(), checks()).unwrap();
        let problems: Vec<String> = admission.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, expected, "{object}");
    }
}

#[test]
fn what_monitors_ask_in_vain_is_told() {
    let warnings = |kind: &str, spec: Value| {
        let version = if kind == "ScrapeConfig" { "v1alpha1" } else { "v1" };
        let version = format!("monitoring.coreos.com/{version}");
        let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec});
        let admission = admit(&object, None, Neighbours::default(), checks()).unwrap();
        assert_eq!(admission.problems, []);
        admission.warnings
    };
    let class =
        "spec.scrapeClass: there is no Prometheus object here that could define \"tls\"; it has no effect";
    let proxies =
        "proxies are not supported: the target is asked directly or not at all; its targets are not scraped";
    let told = warnings("ScrapeConfig", json!({"scrapeClass": "tls", "proxyUrl": "http://p:1"}));
    assert_eq!(told, [format!("spec.proxyUrl: {proxies}"), class.to_owned()]);
    let endpoint = json!({"port": "a", "proxyFromEnvironment": true});
    let monitor = json!({"selector": {}, "endpoints": [endpoint], "attachMetadata": {"node": true},
        "convertClassicHistogramsToNHCB": true});
    assert_eq!(
        warnings("ServiceMonitor", monitor),
        [
            &format!("spec.endpoints[0].proxyFromEnvironment: {proxies}"),
            "spec.attachMetadata.node: labels of the node are not attached",
            "spec.convertClassicHistogramsToNHCB: classic histograms are kept as they are",
        ]
    );
    let usual = json!({"staticConfigs": [{"targets": ["a:1"], "labels": {"team": "x"}}], "jobName": "a"});
    assert!(warnings("ScrapeConfig", usual).is_empty());
}
