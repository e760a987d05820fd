//! Plans: what the engine is told of an object, and what must be read for it.

use flyball_api::kinds::scaled_object::ScaledObject;
use flyball_api::plan::{Ask, Plan, plan_hpa, plan_scaled_object};
use flyball_api::trigger::{Resolved, Trigger};
use flyball_engine::{
    FallbackBehavior, MetricTarget, Milli, Pause, PolicyKind, Rules, ScalingRules, SelectPolicy, Time,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};
use std::time::Duration;

fn plan(object: Value) -> Result<Plan, Vec<String>> {
    let object: ScaledObject = serde_json::from_value(object).unwrap();
    let triggers = Trigger::parse_all(&object.spec.triggers, |_| Resolved::default()).unwrap();
    plan_scaled_object(&object, &triggers, Rules::default())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn prometheus(threshold: &str) -> Value {
    json!({
        "type": "prometheus",
        "name": "load",
        "metadata": {
            "serverAddress": "http://prometheus:9090", "query": "up", "threshold": threshold,
            "activationThreshold": "3",
        },
    })
}

#[test]
fn everything_a_scaled_object_says_reaches_the_policy() {
    let plan = plan(json!({
        "metadata": {
            "name": "model",
            "namespace": "shop",
            "creationTimestamp": "2026-03-04T05:06:07Z",
            "annotations": {"autoscaling.keda.sh/paused-scale-in": "true"},
        },
        "spec": {
            "scaleTargetRef": {"name": "model", "kind": "StatefulSet"},
            "pollingInterval": 5,
            "initialCooldownPeriod": 7,
            "cooldownPeriod": 60,
            "idleReplicaCount": 0,
            "minReplicaCount": 2,
            "maxReplicaCount": 9,
            "fallback": {"failureThreshold": 3, "replicas": 4, "behavior": "currentReplicasIfHigher"},
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {
                "scaleDown": {
                    "stabilizationWindowSeconds": 60,
                    "selectPolicy": "Min",
                    "tolerance": "50m",
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 30}],
                },
            }}},
            "triggers": [
                prometheus("0.5"),
                {"type": "metrics-api", "metricType": "Value", "metadata": {
                    "url": "http://queue/stats", "valueLocation": "queue/a", "targetValue": "2.5",
                }},
                {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}},
                {"type": "memory", "metricType": "AverageValue", "metadata": {"value": "64Mi", "containerName": "app"}},
            ],
        },
    }))
    .unwrap();

    assert_eq!(plan.target.to_string(), "StatefulSet/shop/model");
    assert_eq!(plan.api_version, "apps/v1");
    let policy = &plan.policy;
    assert_eq!((policy.bounds.min(), policy.bounds.max(), policy.bounds.idle()), (2, 9, Some(0)));
    assert_eq!(policy.pause, Pause::Directions { scale_in: true, scale_out: false });
    let fallback = policy.fallback.unwrap();
    assert_eq!((fallback.failure_threshold, fallback.replicas), (3, 4));
    assert_eq!(fallback.behavior, FallbackBehavior::CurrentReplicasIfHigher);
    let activation = policy.activation.as_ref().unwrap();
    assert_eq!(activation.cooldown, Duration::from_secs(60));
    assert_eq!(activation.initial_cooldown, Duration::from_secs(7));
    assert_eq!(activation.polling_interval, Duration::from_secs(5));
    assert_eq!(activation.created, "2026-03-04T05:06:07Z".parse::<Time>().unwrap());
    let behavior = policy.behavior.as_ref().unwrap();
    assert_eq!(behavior.scale_up, ScalingRules::default_up());
    assert_eq!(behavior.scale_down.stabilization_window(), Some(Duration::from_secs(60)));
    assert_eq!(behavior.scale_down.select(), SelectPolicy::Min);
    assert_eq!(behavior.scale_down.tolerance(), Some(0.05));
    assert_eq!(behavior.scale_down.policies()[0].kind, PolicyKind::Pods);

    let metrics: Vec<_> = policy
        .metrics
        .list()
        .iter()
        .map(|metric| (metric.name().as_str(), metric.target(), metric.activation_threshold))
        .collect();
    assert_eq!(
        metrics,
        [
            ("s0-prometheus", MetricTarget::AverageValue(Milli::new(500)), 3.0),
            ("s1-metric-api-queue-a", MetricTarget::Value(Milli::new(2500)), 0.0),
            ("cpu", MetricTarget::Utilization(50), 0.0),
            ("memory/app", MetricTarget::AverageValue(Milli::new(64 * 1024 * 1024 * 1000)), 0.0),
        ]
    );
    let queries: Vec<_> = plan.queries.iter().map(|query| query.metric.as_str()).collect();
    assert_eq!(queries, metrics.iter().map(|metric| metric.0).collect::<Vec<_>>());
    assert!(matches!(&plan.queries[0].ask, Ask::Trigger(trigger) if trigger.kind() == "prometheus"));
    assert!(matches!(&plan.queries[1].ask, Ask::Trigger(trigger) if trigger.kind() == "metrics-api"));
    assert_eq!(plan.queries[2].ask, Ask::Resource { resource: "cpu".to_owned(), container: None });
}

#[test]
fn pauses_are_read_from_annotations() {
    for (annotations, expected) in [
        (json!({}), Pause::No),
        (json!({"autoscaling.keda.sh/paused": "true"}), Pause::AtCurrent),
        (json!({"autoscaling.keda.sh/paused": "yes"}), Pause::AtCurrent),
        (json!({"autoscaling.keda.sh/paused": "false"}), Pause::No),
        (
            json!({"autoscaling.keda.sh/paused": "true", "autoscaling.keda.sh/paused-replicas": "0"}),
            Pause::AtReplicas(0),
        ),
        (
            json!({"autoscaling.keda.sh/paused-scale-out": "true"}),
            Pause::Directions { scale_in: false, scale_out: true },
        ),
    ] {
        let object = json!({
            "metadata": {"name": "model", "annotations": annotations},
            "spec": {"scaleTargetRef": {"name": "model"}, "triggers": [prometheus("5")]},
        });
        assert_eq!(plan(object).unwrap().policy.pause, expected, "{annotations}");
    }
}

#[test]
fn all_that_makes_no_sense_is_told() {
    let problems = plan(json!({
        "metadata": {"name": "model", "annotations": {"autoscaling.keda.sh/paused-replicas": "many"}},
        "spec": {
            "scaleTargetRef": {"name": "model"},
            "minReplicaCount": 6,
            "maxReplicaCount": 5,
            "advanced": {
                "horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": {"stabilizationWindowSeconds": -1}}},
                "scalingModifiers": {"formula": "load +", "target": "5"},
            },
            "triggers": [prometheus("5")],
        },
    }))
    .unwrap_err();
    let fields: Vec<&str> = problems.iter().filter_map(|problem| problem.split(": ").next()).collect();
    assert_eq!(
        fields,
        [
            "spec.minReplicaCount",
            "spec.advanced.scalingModifiers.formula",
            "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.stabilizationWindowSeconds",
            "metadata.annotations[autoscaling.keda.sh/paused-replicas]",
        ],
        "{problems:#?}"
    );
}

#[test]
fn a_formula_is_planned_over_its_triggers() {
    let with_formula = |formula: &str| {
        let usage = json!({
            "type": "cpu", "name": "usage", "metricType": "Utilization", "metadata": {"value": "60"},
        });
        plan(json!({
            "metadata": {"name": "model"},
            "spec": {
                "scaleTargetRef": {"name": "model"},
                "advanced": {"scalingModifiers": {"formula": formula, "target": "2.5", "metricType": "Value"}},
                "triggers": [prometheus("5"), usage],
            },
        }))
    };
    let plan = with_formula("load * 2").unwrap();
    let composite = plan.policy.metrics.composite().unwrap();
    assert_eq!(composite.target(), MetricTarget::Value(Milli::new(2500)));
    for (formula, why) in [
        ("other * 2", "the formula uses `other`, and no trigger has that name"),
        ("load + usage", "the formula uses `usage`, a cpu or memory trigger, and those feed no formula"),
        ("let load = 2; load", "the formula declares `load` with `let`, and a trigger has that name"),
    ] {
        let problems = with_formula(formula).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].starts_with("spec.advanced.scalingModifiers.formula: "), "{problems:#?}");
        assert!(problems[0].contains(why), "{problems:#?}");
    }
}

fn planned_hpa(spec: Value) -> Result<Plan, Vec<String>> {
    let object: HorizontalPodAutoscaler =
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}))
            .unwrap();
    plan_hpa(&object, Rules::hpa()).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[test]
fn a_horizontal_pod_autoscaler_is_planned_with_kubernetes_defaults() {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let plan = planned_hpa(json!({"scaleTargetRef": target, "maxReplicas": 4})).unwrap();
    assert_eq!((plan.policy.bounds.min(), plan.policy.bounds.max()), (1, 4));
    assert_eq!(plan.policy.metrics.list()[0].target(), MetricTarget::Utilization(80));
    assert_eq!(plan.policy.behavior, None);

    let plan = planned_hpa(json!({
        "scaleTargetRef": target,
        "minReplicas": 2,
        "maxReplicas": 4,
        "metrics": [
            {"type": "Pods", "pods": {
                "metric": {"name": "queue", "selector": {"matchLabels": {"kind": "fast"}}},
                "target": {"type": "AverageValue", "averageValue": "5"},
            }},
            {"type": "Object", "object": {
                "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"},
                "metric": {"name": "hits"},
                "target": {"type": "Value", "value": "1k"},
            }},
            {"type": "External", "external": {
                "metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "1500m"},
            }},
            {"type": "Resource", "resource": {
                "name": "memory", "target": {"type": "AverageValue", "averageValue": "64Mi"},
            }},
            {"type": "Gpu"},
        ],
    }))
    .unwrap();
    let metrics: Vec<_> = plan
        .policy
        .metrics
        .list()
        .iter()
        .map(|metric| (metric.name().as_str(), metric.source().type_name()))
        .collect();
    assert_eq!(
        metrics,
        [
            ("queue", "Pods"),
            ("Ingress/main/hits", "Object"),
            ("queue#2", "External"),
            ("memory", "Resource"),
            ("", "Gpu"),
        ]
    );
    let Ask::Pods { metric, selector } = &plan.queries[0].ask else { panic!("{:?}", plan.queries[0]) };
    assert_eq!((metric.as_str(), selector.to_string().as_str()), ("queue", "kind=fast"));
}

#[test]
fn a_horizontal_pod_autoscaler_that_makes_no_sense_is_told_everything() {
    let problems = planned_hpa(json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 5,
        "maxReplicas": 4,
        "metrics": [
            {"type": "Resource"},
            {"type": "External", "external": {
                "metric": {"name": "queue"}, "target": {"type": "Value", "value": "fast"},
            }},
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}},
        ],
        "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 0}]}},
    }))
    .unwrap_err();
    let fields: Vec<&str> = problems.iter().filter_map(|problem| problem.split(": ").next()).collect();
    assert_eq!(
        fields,
        [
            "spec.maxReplicas",
            "spec.metrics[0].resource",
            "spec.metrics[1].external.target.value",
            "spec.metrics[2].resource.target",
            "spec.behavior.scaleUp.policies[0].periodSeconds",
        ],
        "{problems:#?}"
    );
}

/// An objective stands alone or beside other triggers, once, and says itself how fast.
#[test]
fn an_objective_is_a_policy_of_its_own() {
    let slo = |objective: &str| json!({"type": "slo", "metadata": {"objective": objective}});
    let cpu = json!({"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}});
    let planned = |triggers: Value| {
        plan(json!({
            "metadata": {"name": "model", "namespace": "shop"},
            "spec": {"scaleTargetRef": {"name": "model"}, "triggers": triggers},
        }))
    };
    let alone = planned(json!([slo("p95 < 100ms")])).unwrap();
    assert_eq!(alone.policy.slo.map(|slo| slo.objectives.to_string()).as_deref(), Some("p95 < 100ms"));
    assert!(
        alone.policy.metrics.list().is_empty() && alone.queries.is_empty() && alone.policy.behavior.is_some()
    );
    let beside = planned(json!([slo("p95 < 100ms"), cpu])).unwrap();
    assert!(beside.policy.slo.is_some());
    assert_eq!(beside.policy.metrics.list().len(), 1);
    let twice = planned(json!([slo("p95 < 100ms"), slo("errors < 1%")])).unwrap_err();
    let message = "spec.triggers[1].type: Invalid value: \"slo\": a target has at most one objective; join the promises in one \
                   trigger: \"p95 < 100ms and errors < 1%\"";
    assert_eq!(twice, [message]);
}
