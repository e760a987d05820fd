//! Triggers: what is read of each type, under which name, against which target, and what is wrong with it.

use std::collections::BTreeMap;

use flyball_api::kinds::scaled_object::ScaleTrigger;
use flyball_api::trigger::prometheus::AuthHeader;
use flyball_api::trigger::{
    Resolved, Trigger, TriggerMetric, TriggerSource, TriggerTarget, descriptions, documentation,
};
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
        TriggerTarget::AverageValue(amount) => format!("AverageValue {amount}"),
        TriggerTarget::Value(amount) => format!("Value {amount}"),
        TriggerTarget::Utilization(percent) => format!("Utilization {percent}%"),
    };
    let (TriggerMetric::External(name) | TriggerMetric::Resource { resource: name, .. }) =
        trigger.metric("shop");
    format!("{name} {target}")
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
            json!({"type": "slo", "metadata": {"objective": "p95 < 100ms and errors < 1%", "risk": "1%", "startUp": "35s"}}),
            "s1-slo AverageValue 1",
        ),
    ] {
        assert_eq!(described(trigger.clone()), expected, "{trigger}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_field() {
    for (trigger, expected) in [
        (
            json!({"type": "slo", "metadata": {"objective": "p95 > 1s", "risk": "2", "startUp": "soon"}}),
            vec![
                "spec.triggers[1].metadata.objective: Invalid value: \"p95 > 1s\": error parsing slo metadata: objective \
                 `p95 > 1s`: it promises that something is slow; write `<`; write a promise, such as \"p95 < 100ms\"",
                "spec.triggers[1].metadata.risk: Invalid value: \"2\": error parsing slo metadata: \"2\" is no share between \
                 0% and 100%; write a percentage, such as \"2%\"",
                "spec.triggers[1].metadata.startUp: Invalid value: \"soon\": error parsing slo metadata: unable to set param \
                 \"startUp\" value \"soon\": not a duration; write milliseconds or a duration, such as \"3000\" \
                 or \"3s\"",
            ],
        ),
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
    let TriggerSource::Prometheus(prometheus) = parsed.source else { panic!("{:?}", parsed.source) };
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
    let Some(Trigger { source: TriggerSource::Cron(cron), .. }) = parse(trigger).0 else {
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

#[test]
fn a_cron_window_holds_over_changes_of_the_clocks() {
    // zone, start, end; times at which the window is open, and at which it is shut
    type Row = (&'static str, &'static str, &'static str, &'static [&'static str], &'static [&'static str]);
    let table: &[Row] = &[
        // Berlin, spring: 02:00 to 03:00 do not exist on 29 March, 01:00 UTC. The end is skipped: shut when they are.
        (
            "Europe/Berlin",
            "0 22 * * *",
            "30 2 * * *",
            &["2026-03-28T21:00:00Z", "2026-03-28T23:30:00Z", "2026-03-29T00:59:59Z", "2026-03-29T20:00:00Z"],
            &["2026-03-28T20:59:59Z", "2026-03-29T01:00:00Z", "2026-03-29T19:59:59Z", "2026-03-30T00:30:00Z"],
        ),
        // The start is skipped: open when it is.
        (
            "Europe/Berlin",
            "30 2 * * *",
            "0 8 * * *",
            &["2026-03-29T01:00:00Z", "2026-03-29T05:59:59Z", "2026-03-30T00:30:00Z"],
            &["2026-03-28T20:00:00Z", "2026-03-29T00:59:59Z", "2026-03-29T06:00:00Z"],
        ),
        // Both are skipped: what would have opened and shut stays shut, the other way round it opens.
        (
            "Europe/Berlin",
            "15 2 * * *",
            "45 2 * * *",
            &["2026-03-28T01:20:00Z", "2026-03-30T00:20:00Z"],
            &["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T12:00:00Z"],
        ),
        (
            "Europe/Berlin",
            "45 2 * * *",
            "15 2 * * *",
            &["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T12:00:00Z"],
            &["2026-03-28T01:20:00Z", "2026-03-30T00:20:00Z"],
        ),
        // A window around the gap, and one that begins where it ends.
        (
            "Europe/Berlin",
            "30 1 * * *",
            "30 3 * * *",
            &["2026-03-29T00:30:00Z", "2026-03-29T01:29:59Z"],
            &["2026-03-29T00:29:59Z", "2026-03-29T01:30:00Z"],
        ),
        (
            "Europe/Berlin",
            "0 3 * * *",
            "30 2 * * *",
            &["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"],
            &["2026-03-28T01:45:00Z", "2026-03-30T00:45:00Z"],
        ),
        // Berlin, autumn: 02:00 to 03:00 come twice on 25 October, from 00:00 and from 01:00 UTC.
        (
            "Europe/Berlin",
            "0 22 * * *",
            "30 2 * * *",
            &["2026-10-24T20:00:00Z", "2026-10-25T00:29:59Z", "2026-10-25T21:00:00Z"],
            &["2026-10-25T00:30:00Z", "2026-10-25T01:15:00Z", "2026-10-25T01:30:00Z", "2026-10-25T20:59:59Z"],
        ),
        (
            "Europe/Berlin",
            "30 2 * * *",
            "0 8 * * *",
            &["2026-10-25T00:30:00Z", "2026-10-25T01:15:00Z", "2026-10-25T06:59:59Z"],
            &["2026-10-25T00:29:59Z", "2026-10-25T07:00:00Z"],
        ),
        (
            "Europe/Berlin",
            "15 2 * * *",
            "45 2 * * *",
            &["2026-10-25T00:20:00Z", "2026-10-25T01:20:00Z"],
            &["2026-10-25T00:50:00Z", "2026-10-25T01:10:00Z", "2026-10-25T01:45:00Z"],
        ),
        // New York: 02:00 to 03:00 do not exist on 8 March, 07:00 UTC; 01:00 to 02:00 come twice on 1 November.
        (
            "America/New_York",
            "0 20 * * *",
            "15 2 * * *",
            &["2026-03-08T01:00:00Z", "2026-03-08T06:59:59Z"],
            &["2026-03-08T07:00:00Z", "2026-03-08T23:59:59Z"],
        ),
        (
            "America/New_York",
            "30 1 * * *",
            "0 6 * * *",
            &["2026-11-01T05:30:00Z", "2026-11-01T06:15:00Z", "2026-11-01T10:59:59Z"],
            &["2026-11-01T05:29:59Z", "2026-11-01T11:00:00Z"],
        ),
        // The south: Sydney puts its clocks forward on 4 October at 02:00, 16:00 UTC, and back on 5 April at 03:00.
        (
            "Australia/Sydney",
            "30 2 * * *",
            "0 8 * * *",
            &["2026-10-03T16:00:00Z", "2026-10-03T20:59:59Z"],
            &["2026-10-03T15:59:59Z", "2026-10-03T21:00:00Z", "2026-10-03T12:00:00Z"],
        ),
        (
            "Australia/Sydney",
            "0 22 * * *",
            "30 2 * * *",
            &["2026-04-04T11:00:00Z", "2026-04-04T15:29:59Z", "2026-10-03T15:59:59Z"],
            &["2026-04-04T15:30:00Z", "2026-04-04T16:30:00Z", "2026-10-03T16:00:00Z"],
        ),
        // Half an hour only: Lord Howe skips 02:00 to 02:30 on 4 October, 15:30 UTC.
        (
            "Australia/Lord_Howe",
            "15 2 * * *",
            "0 4 * * *",
            &["2026-10-03T15:30:00Z", "2026-10-03T16:59:59Z"],
            &["2026-10-03T15:29:59Z", "2026-10-03T17:00:00Z"],
        ),
        // Midnight itself does not exist: Santiago, 6 September, 04:00 UTC. It comes twice, as 23:00, on 4 April.
        (
            "America/Santiago",
            "0 18 * * *",
            "0 0 * * *",
            &["2026-09-05T22:00:00Z", "2026-09-06T03:59:59Z", "2026-04-05T02:30:00Z", "2026-04-05T03:59:59Z"],
            &["2026-09-06T04:00:00Z", "2026-09-06T20:59:59Z", "2026-04-05T04:00:00Z"],
        ),
        (
            "America/Santiago",
            "30 0 * * *",
            "0 6 * * *",
            &["2026-09-06T04:00:00Z", "2026-09-06T08:59:59Z"],
            &["2026-09-06T03:59:59Z", "2026-09-06T09:00:00Z"],
        ),
        // Days and weeks: from Friday evening to Monday morning, over the change.
        (
            "Europe/Berlin",
            "0 18 * * 5",
            "0 6 * * 1",
            &["2026-03-27T17:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T03:59:59Z"],
            &["2026-03-27T16:59:59Z", "2026-03-30T04:00:00Z"],
        ),
        // It closes more often than it opens, and is shut in between; KEDA has it open from Tuesday to Sunday.
        (
            "UTC",
            "0 8 * * 1",
            "0 20 * * *",
            &["2026-03-02T08:00:00Z", "2026-03-02T19:59:59Z"],
            &["2026-03-02T20:00:00Z", "2026-03-03T09:00:00Z", "2026-03-06T12:00:00Z"],
        ),
        // It never opens; it never closes; both at once opens.
        ("UTC", "0 0 30 2 *", "0 8 * * *", &[], &["2026-03-04T07:00:00Z", "2026-03-04T09:00:00Z"]),
        ("UTC", "0 8 * * *", "0 0 30 2 *", &["2026-03-04T07:00:00Z", "2026-03-04T09:00:00Z"], &[]),
        ("UTC", "0 8 * * *", "0 8,20 * * *", &["2026-03-04T08:00:00Z"], &["2026-03-04T20:00:00Z"]),
    ];
    for (zone, start, end, open, shut) in table {
        let trigger = json!({"type": "cron", "metadata": {
            "timezone": zone, "start": start, "end": end, "desiredReplicas": "4",
        }});
        let Some(Trigger { source: TriggerSource::Cron(cron), .. }) = parse(trigger).0 else {
            panic!("not a cron trigger")
        };
        let times = open.iter().map(|at| (at, true)).chain(shut.iter().map(|at| (at, false)));
        for (at, expected) in times {
            assert_eq!(cron.is_open(at.parse().unwrap()), expected, "{start} to {end} in {zone} at {at}");
        }
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

/// What the page says is what is read: it is made from the parameters themselves.
#[test]
fn the_documentation_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/triggers.md");
    let page = std::fs::read_to_string(path).expect("docs/triggers.md");
    let again = "cargo run -p flyball-api --example trigger_docs > docs/triggers.md";
    assert!(page == documentation(), "docs/triggers.md is out of date; run {again}");
}

/// The examples of the page are triggers that can be read.
#[test]
fn documented_examples_can_be_read() {
    for description in descriptions() {
        let triggers: Vec<Value> = serde_saphyr::from_str(description.example).unwrap();
        for trigger in triggers {
            assert_eq!(parse(trigger).1, Vec::<String>::new(), "{:?}", description.names);
        }
    }
}
