//! Triggers: what is read of each type, under which name, against which target, and what is wrong with it.

use std::collections::BTreeMap;

use flyball_api::kinds::scaled_object::ScaleTrigger;
use flyball_api::trigger::prometheus::AuthHeader;
use flyball_api::trigger::{Resolved, Source, Target, Trigger};
use proptest::prelude::*;
use serde_json::{Value, json};

fn parse(trigger: Value) -> (Option<Trigger>, Vec<String>) {
    let trigger: ScaleTrigger = serde_json::from_value(trigger).unwrap();
    let (parsed, problems) = Trigger::parse(1, &trigger, Resolved::default());
    (parsed, problems.iter().map(ToString::to_string).collect())
}

fn described(trigger: Value) -> String {
    let (parsed, problems) = parse(trigger);
    assert_eq!(problems, Vec::<String>::new());
    let trigger = parsed.unwrap();
    let target = match trigger.target {
        Target::AverageValue(amount) => format!("AverageValue {amount}"),
        Target::Value(amount) => format!("Value {amount}"),
        Target::Utilization(percent) => format!("Utilization {percent}%"),
        Target::Asked { average } => format!("asked, average {average}"),
    };
    format!("{} {target}", trigger.metric_name("shop").unwrap_or_else(|| trigger.qualify("a/b")))
}

#[test]
fn names_and_targets_are_kedas() {
    let prometheus = |threshold: &str, metric_type: Value| {
        json!({
            "type": "prometheus",
            "metricType": metric_type,
            "metadata": {"serverAddress": "http://prometheus:9090", "query": "up", "threshold": threshold},
        })
    };
    let cron = |start: &str, end: &str| {
        json!({"type": "cron", "metadata": {
            "timezone": "Etc/UTC", "start": start, "end": end, "desiredReplicas": "2",
        }})
    };
    for (trigger, expected) in [
        (prometheus("0.5", json!(null)), "s1-prometheus AverageValue 500m"),
        (prometheus(" 0.5 ", json!("")), "s1-prometheus AverageValue 500m"),
        (prometheus("1000", json!("Value")), "s1-prometheus Value 1k"),
        (prometheus("1e3", json!("Value")), "s1-prometheus Value 1k"),
        (prometheus("0.0016", json!(null)), "s1-prometheus AverageValue 2m"),
        (
            json!({"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}}),
            "cpu Utilization 50%",
        ),
        (
            json!({"type": "memory", "metricType": "AverageValue", "metadata": {"value": "64Mi"}}),
            "memory AverageValue 64Mi",
        ),
        (cron("0 0 * * *", "0 8 * * *"), "s1-cron-Etc-UTC-00xxx-08xxx AverageValue 1"),
        (cron("*/5 8,9 ? * *", "0 18 * * *"), "s1-cron-Etc-UTC-xSl58Cm9Qmxx-018xxx AverageValue 1"),
        (
            json!({"type": "kubernetes-workload", "metadata": {"podSelector": "app=queue", "value": "2.5"}}),
            "s1-workload-shop AverageValue 2500m",
        ),
        (
            json!({"type": "metrics-api", "metadata": {
                "url": "http://model:8000/stats", "valueLocation": "queue.length", "targetValue": "10",
            }}),
            "s1-metric-api-queue-length AverageValue 10",
        ),
        (
            json!({"type": "external", "metadata": {"scalerAddress": "scaler:9090"}}),
            "s1-a-b asked, average true",
        ),
    ] {
        assert_eq!(described(trigger.clone()), expected, "{trigger}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_field() {
    for (trigger, expected) in [
        (
            json!({"type": "cron", "metadata": {
                "timezone": "Mars/Olympus", "start": "61 * * * *", "end": "0 8 * *", "desiredReplicas": "0",
            }}),
            vec![
                "spec.triggers[1].metadata.desiredReplicas: Invalid value: \"0\": error parsing cron metadata: no \
                 desiredReplicas specified; write the number of replicas in quotes, such as \"5\"",
                "spec.triggers[1].metadata.timezone: Invalid value: \"Mars/Olympus\": error parsing cron metadata: unable \
                 to load timezone: unknown time zone Mars/Olympus; write a zone of the IANA database, such \
                 as \
                 \"Europe/Berlin\"",
                "spec.triggers[1].metadata.start: Invalid value: \"61 * * * *\": error parsing cron metadata: error parsing \
                 start schedule: end of range (61) above maximum (59): 61; write minute, hour, day of \
                 month, month and \
                 day of week, such as \"0 8 * * 1-5\"",
                "spec.triggers[1].metadata.end: Invalid value: \"0 8 * *\": error parsing cron metadata: error parsing end \
                 schedule: expected exactly 5 fields, found 4: [0 8 * *]; write minute, hour, day of \
                 month, month and day \
                 of week, such as \"0 8 * * 1-5\"",
            ],
        ),
        (
            json!({"type": "cron", "metadata": {
                "timezone": "UTC", "start": "0 8 * * *", "end": "0 8 * * *", "desiredReplicas": "2",
            }}),
            vec![
                "spec.triggers[1].metadata.end: Invalid value: \"0 8 * * *\": error parsing cron metadata: start and end \
                 can not have exactly same time input",
            ],
        ),
        (
            json!({"type": "kubernetes-workload", "metadata": {"podSelector": "app in queue", "value": "0"}}),
            vec![
                "spec.triggers[1].metadata.value: Invalid value: \"0\": error parsing kubernetes-workload metadata: value \
                 must be a float greater than 0",
                "spec.triggers[1].metadata.podSelector: Invalid value: \"app in queue\": error parsing kubernetes-workload \
                 metadata: unable to parse requirement \"app in queue\": expected a list in parentheses; \
                 write labels, \
                 such as \"app=queue\"",
            ],
        ),
        (
            json!({"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50%"}}),
            vec![
                "spec.triggers[1].metadata.value: Invalid value: \"50%\": error parsing cpu metadata: unable to set param \
                 \"value\" value \"50%\": must be a whole number greater than 0; write a percentage \
                 without a sign, such \
                 as \"50\"",
            ],
        ),
        (
            json!({"type": "memory", "metricType": "AverageValue", "metadata": {"value": "64MB"}}),
            vec![
                "spec.triggers[1].metadata.value: Invalid value: \"64MB\": error parsing memory metadata: unable to set \
                 param \"value\" value \"64MB\": quantities must match the regular expression \
                 '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'; write an amount, such as \"500m\" or \
                 \"512Mi\"",
            ],
        ),
        (
            json!({"type": "metrics-api", "metadata": {
                "url": "http://model:8000", "valueLocation": "a", "targetValue": "0", "format": "csv",
            }}),
            vec![
                "spec.triggers[1].metadata.format: Unsupported value: \"csv\": error parsing metrics-api metadata: \
                 parameter \"format\" value \"csv\" must be one of [json prometheus xml yaml]",
                "spec.triggers[1].metadata.targetValue: Invalid value: \"0\": error parsing metrics-api metadata: no \
                 targetValue given in metadata; write a number greater than 0",
            ],
        ),
        (
            json!({"type": "prometheus", "metadata": {
                "serverAddress": "http://prometheus:9090", "query": "up", "threshold": "5",
                "authModes": "bearer,basic", "timeout": "-1", "ignoreNullValues": "maybe",
            }}),
            vec![
                "spec.triggers[1].metadata.ignoreNullValues: Invalid value: \"maybe\": error parsing prometheus metadata: \
                 unable to set param \"ignoreNullValues\" value \"maybe\": not a boolean; write \"true\" \
                 or \"false\"",
                "spec.triggers[1].metadata.timeout: Invalid value: \"-1\": error parsing prometheus metadata: unable to \
                 set param \"timeout\" value \"-1\": duration cannot be negative; write milliseconds or a \
                 duration, such \
                 as \"3000\" or \"3s\"",
                "spec.triggers[1].metadata.authModes: Invalid value: \"bearer,basic\": error parsing prometheus metadata: \
                 parameter \"authModes\" value \"bearer,basic\" must contain only one of [bearer basic \
                 oauth]; keep one \
                 of them",
                "spec.triggers[1].metadata.bearerToken: Required value: error parsing prometheus metadata: missing \
                 required parameter \"bearerToken\" in [authParams]; name a TriggerAuthentication that has \
                 it in \
                 authenticationRef",
            ],
        ),
    ] {
        assert_eq!(
            parse(trigger.clone()),
            (None, expected.into_iter().map(str::to_owned).collect()),
            "{trigger}"
        );
    }
}

#[test]
fn what_may_still_be_looked_up_is_not_missing() {
    let trigger: ScaleTrigger = serde_json::from_value(json!({
        "type": "prometheus",
        "authenticationRef": {"name": "prometheus"},
        "metadata": {
            "serverAddressFromEnv": "PROMETHEUS", "query": "up", "threshold": "5", "authModes": "bearer",
        },
    }))
    .unwrap();
    assert_eq!(Trigger::parse(0, &trigger, Resolved::default()), (None, Vec::new()));

    let optional: ScaleTrigger = serde_json::from_value(json!({"type": "prometheus", "metadata": {
        "serverAddress": "http://prometheus:9090", "query": "up", "threshold": "5",
        "activationThresholdFromEnv": "ACTIVATION",
    }}))
    .unwrap();
    assert_eq!(Trigger::parse(0, &optional, Resolved::default()), (None, Vec::new()));
    let environment = BTreeMap::from([("ACTIVATION".to_owned(), "hidden".to_owned())]);
    let resolved = Resolved { environment: Some(&environment), authentication: None };
    let problems = Trigger::parse(0, &optional, resolved).1;
    assert_eq!(problems.len(), 1);
    assert!(!problems[0].to_string().contains("hidden"), "{}", problems[0]);

    let environment = BTreeMap::from([("PROMETHEUS".to_owned(), "http://prometheus:9090".to_owned())]);
    let authentication = BTreeMap::from([("bearerToken".to_owned(), "hidden".to_owned())]);
    let resolved = Resolved { environment: Some(&environment), authentication: Some(&authentication) };
    let (parsed, problems) = Trigger::parse(0, &trigger, resolved);
    assert_eq!(problems, Vec::new());
    let parsed = parsed.unwrap();
    assert!(!format!("{parsed:?}").contains("hidden"));
    let Source::Prometheus(prometheus) = parsed.source else { panic!("{:?}", parsed.source) };
    assert_eq!(prometheus.server_address, "http://prometheus:9090");
    assert_eq!(prometheus.authentication.header, Some(AuthHeader::Bearer("hidden".to_owned().into())));

    let nothing = BTreeMap::new();
    let resolved = Resolved { environment: Some(&nothing), authentication: Some(&nothing) };
    let fields: Vec<String> =
        Trigger::parse(0, &trigger, resolved).1.into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["spec.triggers[0].metadata.serverAddress", "spec.triggers[0].metadata.bearerToken"]);
}

#[test]
fn a_cron_window_is_open_between_its_ends() {
    let trigger = json!({"type": "cron", "metadata": {
        "timezone": "Europe/Berlin", "start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "desiredReplicas": "4",
    }});
    let Some(Trigger { source: Source::Cron(cron), .. }) = parse(trigger).0 else {
        panic!("not a cron trigger")
    };
    for (now, expected) in [
        ("2026-03-04T06:59:59Z", 0.0),
        ("2026-03-04T07:00:00Z", 4.0),
        ("2026-03-04T16:59:59Z", 4.0),
        ("2026-03-04T17:00:00Z", 0.0),
        ("2026-03-07T12:00:00Z", 0.0),
        ("2026-07-01T06:00:00Z", 4.0),
    ] {
        assert_eq!(cron.value(now.parse().unwrap()), expected, "{now}");
    }
}

proptest! {
    /// Whatever the metadata, a trigger is read or its problems are told, and never both or neither.
    #[test]
    fn any_metadata_is_read_or_refused(
        kind in prop::sample::select(vec![
            "prometheus", "cpu", "memory", "cron", "kubernetes-workload", "metrics-api", "external", "nothing",
        ]),
        metric_type in prop::option::of("(AverageValue|Value|Utilization|[a-z]{0,3})"),
        metadata in prop::collection::btree_map(
            "(serverAddress|query|threshold|value|timezone|start|end|desiredReplicas|podSelector|url|valueLocation|\
             targetValue|authModes|timeout|queryParameters|scalerAddress)",
            ".{0,12}",
            0..12,
        ),
    ) {
        let trigger = ScaleTrigger { kind: kind.to_owned(), metric_type, metadata, ..ScaleTrigger::default() };
        let (parsed, problems) = Trigger::parse(0, &trigger, Resolved::default());
        prop_assert_eq!(parsed.is_some(), problems.is_empty());
    }
}
