//! What a running world shows of an autoscaler: each rule on facts that break it, none on facts that are well. The
//! rules about manifests are tested by files, with `flyball check`.

use flyball_api::lint::live::{
    LiveDecisions, LiveFacts, LiveHistory, LiveQuery, LiveSelector, PodWithoutRoom, ScrapedTarget, asked,
    check,
};
use flyball_api::lint::{Manifests, NotAdditive, QueryFacts, RULES};
use serde_json::json;

fn facts(query: &str) -> Option<QueryFacts> {
    let not_additive = query.contains("quantile").then_some(NotAdditive::Quantile);
    Some(QueryFacts { not_additive, ..QueryFacts::default() })
}

/// A ScaledObject with one query, whose threshold is 0.3 for at most four replicas.
fn manifests(metric_type: &str) -> Manifests {
    let object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "model"},
        "spec": {"scaleTargetRef": {"name": "model"}, "maxReplicaCount": 4, "triggers": [{
            "type": "prometheus", "metricType": metric_type, "metadata":
                {"serverAddress": "http://p:9090", "query": "histogram_quantile(0.95, x)", "threshold": "0.3"},
        }]},
    });
    let mut manifests = Manifests::default();
    manifests.add(7, &object).unwrap();
    manifests
}

/// Facts of a world where all is well.
fn well() -> LiveFacts {
    LiveFacts {
        queries: vec![LiveQuery {
            selectors: vec![LiveSelector {
                selector: "x[1m]".to_owned(),
                series: 3,
                samples: 12,
                newest_age_seconds: Some(1.0),
                ..LiveSelector::default()
            }],
            history: Some(LiveHistory { seconds: 3600.0, min: 0.01, max: 0.4 }),
            bucket_bounds: vec![0.1, 0.2, 0.3, 0.5],
            ..LiveQuery::default()
        }],
        scraped: vec![ScrapedTarget {
            url: "http://10.0.0.1:9100/metrics".to_owned(),
            up: Some(true),
            ..Default::default()
        }],
        pods_running: 1,
        ..LiveFacts::default()
    }
}

/// The codes and messages of what is found once the facts are changed.
fn found(metric_type: &str, change: impl Fn(&mut LiveFacts)) -> Vec<(&'static str, String)> {
    let mut live = well();
    change(&mut live);
    let asked = asked(&manifests(metric_type), &facts);
    let findings = check(&asked[0], &live);
    assert!(findings.iter().all(|finding| finding.origin.document == 7));
    findings
        .into_iter()
        .map(|finding| (finding.code, format!("{}; {}", finding.message, finding.help)))
        .collect()
}

type Change = fn(&mut LiveFacts);

#[test]
fn each_live_rule_is_found_where_it_is_broken_and_nowhere_else() {
    let table: [(&str, &str, Change, &str); 25] = [
        ("", "Value", |_| {}, ""),
        (
            "query-fails",
            "Value",
            |live| live.queries[0].error = Some("parse error".to_owned()),
            "parse error",
        ),
        (
            "series-missing",
            "Value",
            |live| {
                live.queries[0].selectors[0] = LiveSelector {
                    selector: "y".to_owned(),
                    nearest: vec!["x".to_owned()],
                    ..Default::default()
                }
            },
            "no series matches y; did you mean x?",
        ),
        // A part that may be empty: errors / all or vector(0).
        (
            "",
            "Value",
            |live| {
                live.queries[0].selectors[0] =
                    LiveSelector { selector: "y".to_owned(), ..Default::default() };
                live.queries[0].has_result = true;
            },
            "",
        ),
        (
            "samples-old",
            "Value",
            |live| {
                live.queries[0].selectors[0].samples = 0;
                live.queries[0].selectors[0].newest_age_seconds = Some(300.0);
            },
            "no sample of x[1m] is in the window: the newest is 5 min old",
        ),
        (
            "target-down",
            "Value",
            |live| {
                live.scraped[0] = ScrapedTarget {
                    url: "http://a/".to_owned(),
                    up: Some(false),
                    error: "connection refused".to_owned(),
                }
            },
            "http://a/ cannot be scraped: connection refused",
        ),
        ("", "Value", |live| live.scraped[0].up = None, ""),
        (
            "series-missing pods-not-scraped",
            "Value",
            |live| {
                live.scraped.clear();
                live.queries[0].selectors[0].series = 0;
            },
            "",
        ),
        // The series come from elsewhere: they are pushed, or those of another workload.
        ("", "Value", |live| live.scraped.clear(), ""),
        ("", "Value", |live| (live.pods_running, live.scraped) = (0, Vec::new()), ""),
        (
            "threshold-never-near",
            "Value",
            |live| live.queries[0].history = Some(LiveHistory { seconds: 3600.0, min: 0.0, max: 0.1 }),
            "in the last 60 min the value never rose above 0.1; the threshold is 0.3",
        ),
        (
            "",
            "Value",
            |live| live.queries[0].history = Some(LiveHistory { seconds: 60.0, min: 0.0, max: 0.1 }),
            "",
        ),
        (
            "threshold-never-left",
            "Value",
            |live| live.queries[0].history = Some(LiveHistory { seconds: 1200.0, min: 0.31, max: 0.5 }),
            "in the last 20 min the value never fell below 0.31; the threshold is 0.3",
        ),
        (
            "",
            "AverageValue",
            |live| live.queries[0].history = Some(LiveHistory { seconds: 1200.0, min: 0.31, max: 0.5 }),
            "",
        ),
        (
            "threshold-never-left",
            "AverageValue",
            |live| live.queries[0].history = Some(LiveHistory { seconds: 1200.0, min: 1.3, max: 2.5 }),
            "the threshold is 0.3 for each of 4 replicas",
        ),
        (
            "coarse-buckets",
            "Value",
            |live| live.queries[0].bucket_bounds = vec![0.1, 0.5, 1.0],
            "the threshold 0.3 lies in the bucket from 0.1 to 0.5",
        ),
        (
            "coarse-buckets",
            "Value",
            |live| live.queries[0].bucket_bounds = vec![0.1],
            "lies above the last bucket",
        ),
        (
            "waiting-in-front",
            "Value",
            |live| {
                (live.service_mean_seconds, live.queries[0].server_mean_seconds) =
                    (Some(0.156), Some(0.00114))
            },
            "the Service measures 0.156 s a request, the pods themselves 0.00114 s",
        ),
        (
            "",
            "Value",
            |live| {
                (live.service_mean_seconds, live.queries[0].server_mean_seconds) = (Some(0.004), Some(0.001))
            },
            "",
        ),
        (
            "",
            "Value",
            |live| (live.service_mean_seconds, live.queries[0].server_mean_seconds) = (Some(0.3), Some(0.2)),
            "",
        ),
        (
            "pinned-at-max",
            "Value",
            |live| live.decisions = LiveDecisions { pinned_seconds: Some(1800.0), wanted: Some(9), turns: 0 },
            "held at the maximum of 4 for 30 min; the metrics ask for 9",
        ),
        ("", "Value", |live| live.decisions.pinned_seconds = Some(30.0), ""),
        (
            "pods-without-room",
            "Value",
            |live| {
                live.pods_without_room = vec![PodWithoutRoom {
                    name: "model-1".to_owned(),
                    message: "Insufficient cpu.".to_owned(),
                }]
            },
            "no node has room for pod model-1: Insufficient cpu.",
        ),
        ("flapping", "Value", |live| live.decisions.turns = 6, "the replicas turned 6 times"),
        // What another server answers is not ours to judge.
        (
            "",
            "Value",
            |live| {
                live.queries[0] = LiveQuery {
                    server: Some("http://p:9090".to_owned()),
                    error: Some("x".to_owned()),
                    ..Default::default()
                }
            },
            "",
        ),
    ];
    let mut unseen: Vec<&str> = RULES.iter().filter(|rule| rule.is_live()).map(|rule| rule.code).collect();
    for (index, (code, metric_type, change, message)) in table.into_iter().enumerate() {
        let found = found(metric_type, change);
        let codes: Vec<&str> = found.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes.join(" "), code, "row {index}: {found:?}");
        assert!(found.iter().all(|(_, said)| said.contains(message)), "row {index}: {found:?}");
        unseen.retain(|rule| !codes.contains(rule));
    }
    assert_eq!(unseen, Vec::<&str>::new(), "rules without a row");
}

/// A query on what Services measure needs no scrape of pods, and is not told to have one.
#[test]
fn what_services_measure_needs_no_scrape() {
    let metric = |query: &str| {
        let name = query.trim_start_matches("sum(").trim_end_matches(')').to_owned();
        Some(QueryFacts { metrics: vec![name], ..QueryFacts::default() })
    };
    for (query, expected) in [
        ("sum(flyball_service_requests_in_flight)", vec!["series-missing"]),
        ("sum(http_requests_total)", vec!["series-missing", "pods-not-scraped"]),
    ] {
        let object = json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "model"},
            "spec": {"scaleTargetRef": {"name": "model"}, "triggers": [{
                "type": "prometheus", "metadata": {"serverAddress": "http://p", "query": query, "threshold": "1"},
            }]},
        });
        let mut manifests = Manifests::default();
        manifests.add(0, &object).unwrap();
        let live = LiveFacts {
            queries: vec![LiveQuery { selectors: vec![LiveSelector::default()], ..LiveQuery::default() }],
            pods_running: 2,
            ..LiveFacts::default()
        };
        let codes: Vec<&str> =
            check(&asked(&manifests, &metric)[0], &live).iter().map(|finding| finding.code).collect();
        assert_eq!(codes, expected, "{query}");
    }
}

/// What a world shows takes back what manifests alone seem to say, and nothing else.
#[test]
fn a_world_refutes_what_it_shows() {
    let asked = asked(&manifests("Value"), &facts);
    let origin = asked[0].origin.clone();
    let service = flyball_api::lint::Origin { object: "service/model".to_owned(), ..origin.clone() };
    let undeclared = "no container of model declares port 9100";
    let path = |path: &str| format!("the path {path:?} is not where servers usually have their metrics");
    let table: [(&str, &flyball_api::lint::Origin, &str, String, Change, bool); 9] = [
        ("nothing-scraped", &origin, "spec.triggers", String::new(), |_| {}, true),
        (
            "nothing-scraped",
            &origin,
            "spec.triggers",
            String::new(),
            |live| live.queries[0].selectors[0].series = 0,
            false,
        ),
        ("nothing-scraped", &service, "spec.triggers", String::new(), |_| {}, false),
        ("coarse-histogram", &origin, "spec.triggers[0].metadata.query", String::new(), |_| {}, true),
        (
            "coarse-histogram",
            &origin,
            "spec.triggers[0].metadata.query",
            String::new(),
            |live| live.queries[0].bucket_bounds.truncate(3),
            false,
        ),
        (
            "metrics-port-undeclared",
            &service,
            "spec.ports[0].targetPort",
            undeclared.to_owned(),
            |_| {},
            true,
        ),
        (
            "metrics-port-undeclared",
            &service,
            "spec.ports[0].targetPort",
            undeclared.to_owned(),
            |live| live.scraped[0].up = Some(false),
            false,
        ),
        ("metrics-path", &service, "", path("/metrics"), |_| {}, true),
        ("metrics-path", &service, "", path("/"), |_| {}, false),
    ];
    for (index, (code, origin, field, message, change, expected)) in table.into_iter().enumerate() {
        let mut live = well();
        change(&mut live);
        let rule = flyball_api::lint::rule(code).unwrap();
        let finding = flyball_api::lint::Finding::new(rule, origin.clone(), field, message, "");
        assert_eq!(flyball_api::lint::live::refutes(&asked[0], &live, &finding), expected, "row {index}");
    }
}

/// `replicas` of a running workload counts as written only where a manifest says so.
#[test]
fn replicas_that_nobody_wrote_are_no_finding() {
    let last = |spec: &str| json!({"kubectl.kubernetes.io/last-applied-configuration": format!("{{\"spec\":{spec}}}")});
    let owns = |operation: &str, subresource: Option<&str>| {
        json!([{"manager": "m", "operation": operation, "subresource": subresource,
                "fieldsV1": {"f:spec": {"f:replicas": {}}}}])
    };
    for (what, annotations, managed, expected) in [
        ("applied with replicas", last("{\"replicas\":2}"), json!([]), 1),
        ("applied without, defaulted", last("{}"), owns("Update", None), 0),
        ("created without apply", json!({}), owns("Update", None), 0),
        ("applied at the server", json!({}), owns("Apply", None), 1),
        ("scaled", last("{}"), owns("Apply", Some("scale")), 0),
        ("broken annotation", json!({"kubectl.kubernetes.io/last-applied-configuration": "{"}), json!([]), 0),
    ] {
        let workload = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "model", "annotations": annotations, "managedFields": managed},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "c", "image": "model:1"}]}}},
        });
        let object = json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "model"},
            "spec": {"scaleTargetRef": {"name": "model"}, "triggers": []},
        });
        let mut manifests = Manifests::default();
        manifests.add_live(0, &workload).unwrap();
        manifests.add_live(1, &object).unwrap();
        let found = flyball_api::lint::check(&manifests, &|_| None);
        let count = found.iter().filter(|finding| finding.code == "replicas-in-manifest").count();
        assert_eq!(count, expected, "{what}");
    }
}
