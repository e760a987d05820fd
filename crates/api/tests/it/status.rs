//! Status, conditions and events: each row one decision, and what it looks like from outside.

use std::collections::BTreeMap;

use flyball_api::keda_hpa::keda_hpa;
use flyball_api::kinds::scaled_object::{GroupVersionKindResource, ScaledObject, ScaledObjectStatus};
use flyball_api::status::{
    Decided, Outcome, checked_failed, decided, defined, hpa_events, hpa_status, scaled_object_events,
};
use flyball_api::trigger::{Resolved, Trigger};
use flyball_engine::{
    Activity, ActivityState, Cause, CurrentMetric, Decision, Measured, MetricTarget, Milli, Over, Proposal,
    Reason, Stage, Step, TargetId, Time, Unavailable,
};
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as Timestamp;
use serde_json::json;

/// One external trigger and one on CPU.
fn object() -> ScaledObject {
    serde_json::from_value(json!({
        "metadata": {"name": "model", "namespace": "shop"},
        "spec": {
            "scaleTargetRef": {"name": "model"},
            "minReplicaCount": 0,
            "fallback": {"failureThreshold": 3, "replicas": 2},
            "triggers": [
                {
                    "type": "prometheus",
                    "authenticationRef": {"name": "prometheus"},
                    "metadata": {"serverAddress": "http://prometheus:9090", "query": "up", "threshold": "0.5"},
                },
                {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}},
            ],
        },
    }))
    .unwrap()
}

fn triggers(object: &ScaledObject) -> Vec<Trigger> {
    let nothing = BTreeMap::new();
    let resolved = Resolved { environment: Some(&nothing), authentication: Some(&nothing) };
    Trigger::parse_all(&object.spec.triggers, |_| resolved).unwrap()
}

fn hpa() -> HorizontalPodAutoscaler {
    keda_hpa(&object(), &triggers(&object())).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
}

fn measured(metric: &str, replicas: u32) -> Measured {
    Measured {
        metric: metric.into(),
        value: Milli::new(94),
        target: MetricTarget::AverageValue(Milli::new(500)),
        over: Over::Replicas(1),
        sized_request: None,
        replicas,
    }
}

fn latency(replicas: u32) -> Proposal {
    Proposal {
        metric: "s0-prometheus".into(),
        replicas: Some(replicas),
        reason: Reason::AboveTarget(measured("s0-prometheus", replicas)),
        current: Some(CurrentMetric::AverageValue(Milli::new(94))),
        active: Some(true),
        failures: 0,
    }
}

fn cpu(replicas: u32) -> Proposal {
    Proposal {
        metric: "cpu".into(),
        replicas: Some(replicas),
        reason: Reason::AboveTarget(measured("cpu", replicas)),
        current: Some(CurrentMetric::Utilization { percent: 140, average: Milli::new(70) }),
        active: None,
        failures: 0,
    }
}

fn broken(metric: &str, source_type: &str, cause: Cause) -> Proposal {
    let unavailable = Unavailable {
        metric: metric.into(),
        source_type: source_type.into(),
        since: Time::from_seconds(1),
        cause,
    };
    Proposal {
        metric: metric.into(),
        replicas: None,
        reason: Reason::MetricUnavailable(unavailable),
        current: None,
        active: None,
        failures: 2,
    }
}

/// A decision whose first step is what the metrics say together, if there are any, followed by these steps.
fn decision(current: u32, desired: u32, proposals: Vec<Proposal>, steps: Vec<(Stage, Reason)>) -> Decision {
    let highest = proposals.iter().rev().max_by_key(|proposal| proposal.replicas);
    let broken = proposals.iter().find(|proposal| proposal.is_unavailable());
    let followed =
        highest.filter(|highest| broken.is_none() || highest.replicas.is_some_and(|n| n >= current));
    let recommended = followed.or(broken).map(|proposal| (Stage::Recommend, proposal.reason.clone()));
    Decision {
        target: TargetId::new("Deployment", "shop", "model"),
        at: Time::from_seconds(100),
        current,
        desired,
        steps: recommended
            .into_iter()
            .chain(steps)
            .map(|(stage, reason)| Step { stage, from: current, to: desired, reason })
            .collect(),
        proposals,
        activity: None,
        turning_points: Vec::new(),
        sizes: Vec::new(),
    }
}

fn stabilized() -> Reason {
    Reason::ScaleDownStabilized {
        highest: 3,
        seen_at: Time::from_seconds(90),
        window: std::time::Duration::from_secs(300),
        disabled: false,
    }
}

const VALID: &str = "ScalingActive=True/ValidMetricFound the HPA was able to successfully calculate a replica count from \
                     cpu resource utilization (percentage of request)";
const READY: &str = "AbleToScale=True/ReadyForNewScale recommended size matches current size";
const READ: &str =
    "AbleToScale=True/SucceededGetScale the HPA controller was able to get the target's current scale";
const IN_RANGE: &str =
    "ScalingLimited=False/DesiredWithinRange the desired count is within the acceptable range";

fn hpa_conditions(status: &HorizontalPodAutoscalerStatus) -> Vec<String> {
    let describe = |condition: &k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerCondition| {
        let (reason, message) = (condition.reason.clone().unwrap(), condition.message.clone().unwrap());
        format!("{}={}/{reason} {message}", condition.type_, condition.status)
    };
    status.conditions.iter().flatten().map(describe).collect()
}

#[test]
fn the_hpa_has_the_conditions_of_kube_controller_manager() {
    let failed = || Cause::Failed("connection refused".to_owned());
    for (name, decision, outcome, expected) in [
        (
            "nothing to change",
            decision(3, 3, vec![latency(1), cpu(3)], vec![]),
            Outcome::Kept,
            vec![READY, VALID, IN_RANGE],
        ),
        (
            "rescaled, and limited by pace",
            decision(
                3,
                6,
                vec![latency(1), cpu(9)],
                vec![(
                    Stage::Pace,
                    Reason::ScaleUpLimit(flyball_engine::Pace {
                        allowed: 6,
                        rule: flyball_engine::PaceRule::Disabled,
                    }),
                )],
            ),
            Outcome::Rescaled,
            vec![
                "AbleToScale=True/SucceededRescale the HPA controller was able to update the target scale \
                to 6",
                VALID,
                "ScalingLimited=True/ScaleUpLimit the desired replica count is increasing faster than the \
                maximum scale rate",
            ],
        ),
        (
            "not rescaled",
            decision(3, 6, vec![cpu(6)], vec![]),
            Outcome::Failed { error: "conflict".to_owned() },
            vec![
                "AbleToScale=False/FailedUpdateScale the HPA controller was unable to update the target \
                scale: conflict",
                VALID,
                IN_RANGE,
            ],
        ),
        (
            "stabilized, and at the maximum",
            decision(
                3,
                3,
                vec![cpu(1)],
                vec![(Stage::Stabilize, stabilized()), (Stage::Bound, Reason::TooManyReplicas { max: 3 })],
            ),
            Outcome::Kept,
            vec![
                "AbleToScale=True/ScaleDownStabilized recent recommendations were higher than current one, applying the \
                 highest recent recommendation",
                VALID,
                "ScalingLimited=True/TooManyReplicas the desired replica count is more than the maximum \
                replica count",
            ],
        ),
        (
            "one metric failed, the other scales out",
            decision(3, 6, vec![broken("s0-prometheus", "External", failed()), cpu(6)], vec![]),
            Outcome::Kept,
            vec![READY, VALID, IN_RANGE],
        ),
        (
            "one metric failed, the other would scale in",
            decision(3, 3, vec![broken("s0-prometheus", "External", failed()), cpu(1)], vec![]),
            Outcome::Kept,
            vec![
                READ,
                "ScalingActive=False/FailedGetExternalMetric the HPA was unable to compute the replica count: failed to \
                 get s0-prometheus external metric value: connection refused",
            ],
        ),
        (
            "all metrics failed",
            decision(
                3,
                3,
                vec![
                    broken("cpu", "Resource", Cause::NotRead),
                    broken("s0-prometheus", "External", Cause::Missing("no series".to_owned())),
                ],
                vec![],
            ),
            Outcome::Kept,
            vec![
                READ,
                "ScalingActive=False/FailedGetResourceMetric the HPA was unable to compute the replica count: failed to \
                 get cpu resource metric value: it has not been read yet",
            ],
        ),
        (
            "switched off",
            decision(0, 0, vec![], vec![(Stage::Recommend, Reason::ScalingDisabled)]),
            Outcome::Kept,
            vec![
                READ,
                "ScalingActive=False/ScalingDisabled scaling is disabled since the replica count of the \
                target is zero",
            ],
        ),
        (
            "above the maximum",
            decision(9, 5, vec![], vec![(Stage::Bound, Reason::TooManyReplicas { max: 5 })]),
            Outcome::Rescaled,
            vec![
                "AbleToScale=True/SucceededRescale the HPA controller was able to update the target scale \
                to 5",
            ],
        ),
        (
            "no scale subresource",
            decision(
                0,
                0,
                vec![],
                vec![(Stage::Recommend, Reason::FailedGetScale { error: "not found".to_owned() })],
            ),
            Outcome::Kept,
            vec![
                "AbleToScale=False/FailedGetScale the HPA controller was unable to get the target's current scale: not \
                 found",
            ],
        ),
    ] {
        let status = hpa_status(None, &hpa(), &decision, None, &outcome, at(100));
        assert_eq!(hpa_conditions(&status), expected, "{name}");
    }
}

#[test]
fn the_hpa_shows_what_was_read() {
    let keep = decision(1, 1, vec![latency(1), cpu(1)], vec![]);
    let mut numbered = hpa();
    numbered.metadata.generation = Some(7);
    let status = hpa_status(None, &numbered, &keep, None, &Outcome::Kept, at(100));
    let shown = serde_json::to_value(&status).unwrap();
    assert_eq!(
        shown["currentMetrics"],
        json!([
            {
                "type": "External",
                "external": {
                    "metric": {
                        "name": "s0-prometheus",
                        "selector": {"matchLabels": {"scaledobject.keda.sh/name": "model"}},
                    },
                    "current": {"averageValue": "94m"},
                },
            },
            {
                "type": "Resource",
                "resource": {"name": "cpu", "current": {"averageUtilization": 140, "averageValue": "70m"}},
            },
        ])
    );
    assert_eq!((&shown["currentReplicas"], &shown["desiredReplicas"]), (&json!(1), &json!(1)));
    assert_eq!(shown["observedGeneration"], json!(7));
    assert_eq!(shown.get("lastScaleTime"), None);

    let failed = Cause::Failed("timeout".to_owned());
    let half = decision(1, 1, vec![broken("s0-prometheus", "External", failed), cpu(1)], vec![]);
    let status = hpa_status(None, &hpa(), &half, None, &Outcome::Kept, at(100));
    let shown = serde_json::to_value(&status).unwrap();
    assert_eq!(
        (&shown["currentMetrics"][0]["type"], &shown["currentMetrics"][1]["type"]),
        (&json!(""), &json!("Resource"))
    );
}

#[test]
fn a_transition_time_changes_with_the_status_only() {
    let hpa = hpa();
    let times = |status: &HorizontalPodAutoscalerStatus| -> Vec<i64> {
        let conditions = status.conditions.iter().flatten();
        conditions.map(|condition| condition.last_transition_time.as_ref().unwrap().0.as_second()).collect()
    };
    let first =
        hpa_status(None, &hpa, &decision(3, 6, vec![cpu(6)], vec![]), None, &Outcome::Rescaled, at(100));
    assert_eq!(times(&first), [100, 100, 100]);
    let kept = decision(6, 6, vec![cpu(6)], vec![]);
    let second = hpa_status(Some(&first), &hpa, &kept, None, &Outcome::Kept, at(200));
    assert_eq!(times(&second), [100, 100, 100]);
    assert_eq!(second.last_scale_time, first.last_scale_time);
    let failed = decision(6, 6, vec![broken("cpu", "Resource", Cause::NotRead)], vec![]);
    let third = hpa_status(Some(&second), &hpa, &failed, None, &Outcome::Kept, at(300));
    assert_eq!(times(&third), [100, 300, 100]);
    assert_eq!(third.desired_replicas, 6);
}

fn activity(state: ActivityState) -> Activity {
    Activity { state, failing: false, fallback: false, last_active: None }
}

fn conditions(status: &ScaledObjectStatus) -> Vec<String> {
    let describe = |condition: &flyball_api::kinds::condition::PlainCondition| {
        let reason = condition.reason.as_deref().unwrap_or("-");
        format!("{}={}/{reason}", condition.kind, condition.status)
    };
    status.conditions.iter().map(describe).collect()
}

#[test]
fn a_scaled_object_has_kedas_conditions() {
    let calm = activity(ActivityState::Inactive);
    for (name, fallback, activity, expected) in [
        (
            "active",
            true,
            activity(ActivityState::Active),
            "Ready=True/ScaledObjectReady Active=True/ScalerActive Fallback=False/NoFallbackFound \
            Paused=False/-",
        ),
        (
            "forced",
            true,
            activity(ActivityState::Forced),
            "Ready=True/ScaledObjectReady Active=True/ScalerActive Fallback=False/NoFallbackFound \
            Paused=False/-",
        ),
        (
            "cooling down",
            true,
            activity(ActivityState::CoolingDown),
            "Ready=True/ScaledObjectReady Active=False/ScalerCooldown Fallback=False/NoFallbackFound \
            Paused=False/-",
        ),
        (
            "active, one fails",
            true,
            Activity { state: ActivityState::Active, failing: true, ..calm },
            "Ready=Unknown/PartialTriggerError Active=True/ScalerActive Fallback=False/NoFallbackFound \
            Paused=False/-",
        ),
        (
            "not active, one fails, no fallback",
            false,
            Activity { state: ActivityState::Unknown, failing: true, ..calm },
            "Ready=False/TriggerError Active=False/ScalerNotActive Fallback=False/NoFallbackFound \
            Paused=False/-",
        ),
        (
            "not active, one fails, the fallback is still to come",
            true,
            Activity { state: ActivityState::Unknown, failing: true, ..calm },
            "Ready=Unknown/- Active=False/ScalerNotActive Fallback=False/NoFallbackFound Paused=False/-",
        ),
        (
            "falling back",
            true,
            Activity { state: ActivityState::Active, failing: true, fallback: true, ..calm },
            "Ready=Unknown/PartialTriggerError Active=True/ScalerActive Fallback=True/FallbackExists \
            Paused=False/-",
        ),
    ] {
        let mut object = object();
        if !fallback {
            object.spec.fallback = None;
        }
        let failed = || broken("s0-prometheus", "External", Cause::Failed("timeout".to_owned()));
        let proposal = if activity.failing { failed() } else { latency(1) };
        let mut decision = decision(1, 1, vec![proposal], vec![]);
        decision.activity = Some(activity);
        let names = vec!["s0-prometheus".to_owned()];
        let status = ScaledObjectStatus { external_metric_names: names, ..ScaledObjectStatus::default() };
        let status = decided(status, &object, &decision, None);
        assert_eq!(conditions(&status).join(" "), expected, "{name}");
    }
}

#[test]
fn a_scaled_object_shows_its_definition_and_what_was_read() {
    let object = object();
    let target = GroupVersionKindResource {
        group: "apps".to_owned(),
        version: "v1".to_owned(),
        kind: "Deployment".to_owned(),
        resource: "deployments".to_owned(),
    };
    let status = defined(ScaledObjectStatus::default(), &object, &triggers(&object), target.clone(), 2);
    let again = defined(status.clone(), &object, &triggers(&object), target, 5);
    assert_eq!(again, status, "the original replicas are those that were first seen");

    let mut decision = decision(1, 1, vec![latency(1), cpu(1)], vec![]);
    decision.activity =
        Some(Activity { last_active: Some(Time::from_millis(99_900)), ..activity(ActivityState::Active) });
    let hpa = hpa_status(None, &hpa(), &decision, None, &Outcome::Kept, at(100));
    let status = decided(status, &object, &decision, Some(&hpa));
    let mut shown = serde_json::to_value(&status).unwrap();
    shown.as_object_mut().unwrap().remove("conditions");
    assert_eq!(
        shown,
        json!({
            "scaleTargetKind": "apps/v1.Deployment",
            "scaleTargetGVKR": {"group": "apps", "version": "v1", "kind": "Deployment", "resource": "deployments"},
            "originalReplicaCount": 2,
            "lastActiveTime": "1970-01-01T00:01:39Z",
            "externalMetricNames": ["s0-prometheus"],
            "resourceMetricNames": ["cpu"],
            "health": {"s0-prometheus": {"numberOfFailures": 0, "status": "Happy"}},
            "triggersActivity": {"s0-prometheus": {"isActive": true}},
            "hpaName": "keda-hpa-model",
            "triggersTypes": "prometheus,cpu",
            "authenticationsTypes": "prometheus",
        })
    );
    assert_eq!(conditions(&status).last().unwrap(), "HPAActive=True/HPAActive");
}

#[test]
fn pausing_and_failing_checks_are_told() {
    let mut paused = object();
    paused.metadata.annotations = Some([("autoscaling.keda.sh/paused".to_owned(), "true".to_owned())].into());
    let keep = decision(1, 1, vec![], vec![(Stage::Bound, Reason::ScaledObjectPaused { replicas: None })]);
    let status = decided(ScaledObjectStatus::default(), &paused, &keep, None);
    assert_eq!(
        conditions(&status).join(" "),
        "Ready=True/ScaledObjectReady Active=Unknown/- Fallback=Unknown/- Paused=True/ScaledObjectPaused"
    );
    let resumed = decided(status.clone(), &object(), &keep, None);
    assert!(conditions(&resumed).contains(&"Paused=False/ScaledObjectUnpaused".to_owned()));
    let events = scaled_object_events(&object(), &status, &resumed, Some(first(&keep, &Outcome::Kept)));
    let reasons: Vec<&str> = events.iter().map(|event| event.reason.as_str()).collect();
    let started = "KEDAScalersStarted";
    assert_eq!(reasons, [started, started, started, "ScaledObjectUnpaused"]);
    let messages: Vec<&str> = events.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "Scaler prometheus is built",
            "Scaler cpu is built",
            "Started scalers watch",
            "pause annotation removed for ScaledObject",
        ]
    );
    let stopped = scaled_object_events(&paused, &resumed, &status, Some(first(&keep, &Outcome::Kept)));
    let reasons: Vec<&str> = stopped.iter().map(|event| event.reason.as_str()).collect();
    assert_eq!(reasons, ["KEDAScalersStopped", "ScaledObjectPaused"]);

    let failed =
        checked_failed(ScaledObjectStatus::default(), "failed to ensure HPA is correctly created", "why");
    assert_eq!(
        conditions(&failed).join(" "),
        "Ready=False/ScaledObjectCheckFailed Active=Unknown/UnknownState Fallback=Unknown/- Paused=False/-"
    );
    let events = scaled_object_events(&object(), &ScaledObjectStatus::default(), &failed, None);
    assert_eq!(events.len(), 1);
    assert!(events[0].warning);
    assert_eq!(
        (events[0].reason.as_str(), events[0].message.as_str()),
        ("ScaledObjectCheckFailed", "failed to ensure HPA is correctly created: why")
    );
}

/// The first decision after a start.
fn first<'a>(decision: &'a Decision, outcome: &'a Outcome) -> Decided<'a> {
    Decided { previous: None, decision, outcome }
}

#[test]
fn events_say_what_keeps_the_autoscaler_from_deciding() {
    let hpa = hpa();
    let keep = |reason| decision(2, 2, vec![], vec![(Stage::Recommend, reason)]);
    let ambiguous = Reason::AmbiguousSelector {
        selector: "app=model".to_owned(),
        autoscalers: vec!["shop/a".to_owned(), "shop/b".to_owned()],
    };
    let many = "pods by selector app=model are controlled by multiple HPAs: [shop/a shop/b]";
    let unparsable = "couldn't convert selector into a corresponding internal selector object: no";
    for (reason, expected) in [
        (Reason::FailedGetScale { error: "gone".to_owned() }, vec![("FailedGetScale", "gone")]),
        (
            Reason::SelectorRequired,
            vec![
                ("SelectorRequired", "selector is required"),
                ("FailedComputeMetricsReplicas", "selector is required"),
            ],
        ),
        (
            Reason::InvalidSelector { error: "no".to_owned() },
            vec![("InvalidSelector", unparsable), ("FailedComputeMetricsReplicas", unparsable)],
        ),
        (ambiguous, vec![("AmbiguousSelector", many), ("FailedComputeMetricsReplicas", many)]),
        (Reason::ScalingDisabled, vec![]),
    ] {
        let made = keep(reason);
        let events = hpa_events(None, &hpa.spec, &made, &Outcome::Kept);
        let found: Vec<(&str, &str)> =
            events.iter().map(|event| (event.reason.as_str(), event.message.as_str())).collect();
        assert_eq!(found, expected);
        assert!(events.iter().all(|event| event.warning));
        assert_eq!(hpa_events(Some(&made), &hpa.spec, &made, &Outcome::Kept), [], "it is told once");
    }
}

/// One metric of several that fails keeps nothing from scaling out, and still is told.
#[test]
fn a_metric_that_fails_beside_others_has_its_event() {
    let hpa = hpa();
    let failed = || broken("s0-prometheus", "External", Cause::Failed("refused".to_owned()));
    let made = decision(1, 3, vec![cpu(3), failed()], vec![]);
    let events = hpa_events(None, &hpa.spec, &made, &Outcome::Rescaled);
    let reasons: Vec<&str> = events.iter().map(|event| event.reason.as_str()).collect();
    assert_eq!(reasons, ["FailedGetExternalMetric", "SuccessfulRescale"]);
    let status = ScaledObjectStatus {
        external_metric_names: vec!["s0-prometheus".to_owned()],
        ..ScaledObjectStatus::default()
    };
    let told = scaled_object_events(&object(), &status, &status, Some(first(&made, &Outcome::Kept)));
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].reason.as_str(), told[0].message.as_str()),
        ("KEDAScalerFailed", "s0-prometheus: refused")
    );
    let again = Decided { previous: Some(&made), ..first(&made, &Outcome::Kept) };
    assert_eq!(scaled_object_events(&object(), &status, &status, Some(again)), []);
}

/// Another cause is told, the same one with other numbers is not.
#[test]
fn a_failure_for_another_reason_has_its_own_event() {
    let (hpa, object) = (hpa(), object());
    let failing = |why: &str| {
        let failed = broken("s0-prometheus", "External", Cause::Failed(why.to_owned()));
        decision(1, 1, vec![failed], vec![])
    };
    let status = ScaledObjectStatus {
        external_metric_names: vec!["s0-prometheus".to_owned()],
        ..ScaledObjectStatus::default()
    };
    let before = failing("no sample for 31 s");
    for (next, expected) in [
        ("no sample for 32 s", vec![]),
        ("no sample for 310 s", vec![]),
        (
            "connection refused",
            vec!["FailedGetExternalMetric", "FailedComputeMetricsReplicas", "KEDAScalerFailed"],
        ),
    ] {
        let after = failing(next);
        let mut events = hpa_events(Some(&before), &hpa.spec, &after, &Outcome::Kept);
        let decided = Decided { previous: Some(&before), ..first(&after, &Outcome::Kept) };
        events.extend(scaled_object_events(&object, &status, &status, Some(decided)));
        let reasons: Vec<&str> = events.iter().map(|event| event.reason.as_str()).collect();
        assert_eq!(reasons, expected, "{next}");
        assert!(events.iter().all(|event| event.message.contains(next)), "{events:?}");
    }
}

#[test]
fn events_say_what_happened_once() {
    let hpa = hpa();
    let describe = |events: Vec<flyball_api::status::Event>| -> Vec<String> {
        events
            .into_iter()
            .map(|event| format!("{} {} {}", event.warning, event.reason, event.message))
            .collect()
    };
    let out = decision(1, 3, vec![cpu(3)], vec![]);
    assert_eq!(
        describe(hpa_events(None, &hpa.spec, &out, &Outcome::Rescaled)),
        ["false SuccessfulRescale New size: 3; reason: cpu resource utilization (percentage of request) \
            above target"]
    );
    let back = decision(3, 1, vec![cpu(1)], vec![]);
    assert_eq!(
        describe(hpa_events(None, &hpa.spec, &back, &Outcome::Failed { error: "conflict".to_owned() })),
        ["true FailedRescale New size: 1; reason: All metrics below target; error: conflict"]
    );
    let unread = decision(1, 1, vec![broken("cpu", "Resource", Cause::NotRead)], vec![]);
    assert_eq!(describe(hpa_events(None, &hpa.spec, &unread, &Outcome::Kept)), Vec::<String>::new());
    let failed = Cause::Failed("timeout".to_owned());
    let failing = decision(1, 1, vec![broken("cpu", "Resource", failed)], vec![]);
    assert_eq!(
        describe(hpa_events(None, &hpa.spec, &failing, &Outcome::Kept)),
        [
            "true FailedGetResourceMetric failed to get cpu resource metric value: timeout",
            "true FailedComputeMetricsReplicas invalid metrics (1 invalid out of 1), first error is: failed to get cpu \
             resource metric value: timeout",
        ]
    );
    assert_eq!(
        describe(hpa_events(Some(&failing), &hpa.spec, &failing, &Outcome::Kept)),
        Vec::<String>::new()
    );

    let active = Reason::ScalerActive {
        metric: "s0-prometheus".into(),
        value: Milli::new(1000),
        threshold: Milli::new(0),
    };
    let idle = Reason::ScalerNotActive { last_active: None };
    let status = ScaledObjectStatus::default();
    for (decision, outcome, expected) in [
        (
            decision(0, 1, vec![latency(1)], vec![(Stage::Activate, active)]),
            Outcome::Rescaled,
            "false KEDAScaleTargetActivated Scaled apps/v1.Deployment shop/model from 0 to 1, triggered by \
            s0-prometheus",
        ),
        (
            decision(3, 0, vec![], vec![(Stage::Activate, idle.clone())]),
            Outcome::Rescaled,
            "false KEDAScaleTargetDeactivated Deactivated apps/v1.Deployment shop/model from 3 to 0",
        ),
        (
            decision(3, 0, vec![], vec![(Stage::Activate, idle)]),
            Outcome::Failed { error: "conflict".to_owned() },
            "true KEDAScaleTargetDeactivationFailed Failed to deactivate apps/v1.Deployment shop/model \
            from 3 to 0",
        ),
    ] {
        let events = scaled_object_events(&object(), &status, &status, Some(first(&decision, &outcome)));
        assert_eq!(describe(events), [expected]);
    }
}

#[test]
fn the_last_active_time_is_written_once_in_a_polling_interval() {
    let object = object();
    let at_second = |second: u64, state: ActivityState, before: &ScaledObjectStatus| {
        let mut decision = decision(1, 1, vec![latency(1)], vec![]);
        decision.activity =
            Some(Activity { last_active: Some(Time::from_seconds(second)), ..activity(state) });
        let after = decided(before.clone(), &object, &decision, None);
        let seconds = after.last_active_time.as_ref().unwrap().0.as_second();
        (after, seconds)
    };
    let mut status = ScaledObjectStatus::default();
    for (second, state, expected) in [
        (100, ActivityState::Active, 100),
        (101, ActivityState::Active, 100),
        (129, ActivityState::Active, 100),
        (130, ActivityState::Active, 130),
        (135, ActivityState::CoolingDown, 135),
        (135, ActivityState::Inactive, 135),
        (20, ActivityState::Active, 20),
    ] {
        let (after, seconds) = at_second(second, state, &status);
        assert_eq!(seconds, expected, "{second} {state:?}");
        status = after;
    }
}

#[test]
fn nothing_is_said_before_anything_is_read() {
    let mut unread = decision(1, 1, vec![broken("s0-prometheus", "External", Cause::NotRead)], vec![]);
    unread.activity = Some(Activity { failing: true, ..activity(ActivityState::Unknown) });
    let names = vec!["s0-prometheus".to_owned()];
    let status = ScaledObjectStatus { external_metric_names: names, ..ScaledObjectStatus::default() };
    let status = decided(status, &object(), &unread, None);
    assert_eq!(
        conditions(&status).join(" "),
        "Ready=True/ScaledObjectReady Active=Unknown/- Fallback=False/NoFallbackFound Paused=False/-"
    );
}
