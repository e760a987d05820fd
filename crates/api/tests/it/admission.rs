//! Each rule of admission, one row: what is changed in a good object, and the whole message that follows.

use flyball_api::admission::{Checks, Neighbours, admit, admit_scaled_object};
use flyball_api::kinds::scaled_object::ScaledObject;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{LimitRange, PodSpec};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A ScaledObject that breaks no rule and causes no warning.
fn good() -> Value {
    json!({
        "metadata": {"name": "model", "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"name": "model"},
            "triggers": [{
                "type": "prometheus",
                "metadata": {"serverAddress": "http://prometheus:9090", "query": "sum(up)", "threshold": "5"},
            }],
        },
    })
}

/// Merges as JSON merge patch does.
pub(crate) fn merge(target: &mut Value, patch: Value) {
    match patch {
        Value::Object(fields) => {
            if !target.is_object() {
                *target = json!({});
            }
            for (key, value) in fields {
                if value.is_null() {
                    target.as_object_mut().unwrap().remove(&key);
                } else {
                    merge(&mut target[key], value);
                }
            }
        }
        other => *target = other,
    }
}

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn changed(patch: Value) -> ScaledObject {
    let mut object = good();
    merge(&mut object, patch);
    read(object)
}

/// Stands in for the parser of PromQL: a word is enough to be wrong.
pub(crate) fn check_query(query: &str) -> Result<(), String> {
    if query.contains("oops") { Err("1:1: parse error".to_owned()) } else { Ok(()) }
}

fn admitted(patch: Value, neighbours: Neighbours<'_>) -> (Vec<String>, Vec<String>) {
    let admission = admit_scaled_object(&changed(patch), None, neighbours, &check_query);
    (admission.problems.iter().map(ToString::to_string).collect(), admission.warnings)
}

#[test]
fn a_good_object_is_admitted() {
    assert_eq!(admitted(json!({}), Neighbours::default()), (Vec::new(), Vec::new()));
}

fn prometheus(metadata: Value) -> Value {
    let mut object = good();
    merge(&mut object["spec"]["triggers"][0]["metadata"], metadata);
    json!({"spec": {"triggers": object["spec"]["triggers"]}})
}

fn trigger(trigger: Value) -> Value {
    json!({"spec": {"minReplicaCount": 1, "triggers": [trigger]}})
}

#[test]
fn each_rule_of_one_object_has_its_message() {
    let long = "x".repeat(64);
    for (name, patch, expected) in [
        (
            "5: min above max",
            json!({"spec": {"minReplicaCount": 6, "maxReplicaCount": 5}}),
            vec![
                "spec.minReplicaCount: Invalid value: 6: MinReplicaCount=6 must be less than MaxReplicaCount=5; lower \
                 minReplicaCount or raise maxReplicaCount",
            ],
        ),
        (
            "5: min equal to max is fine",
            json!({"spec": {"minReplicaCount": 5, "maxReplicaCount": 5}}),
            vec![],
        ),
        (
            "5: idle not below min",
            json!({"spec": {"minReplicaCount": 2, "idleReplicaCount": 2}}),
            vec![
                "spec.idleReplicaCount: Invalid value: 2: IdleReplicaCount=2 must be less than MinReplicaCount=2; lower \
                 idleReplicaCount or raise minReplicaCount",
            ],
        ),
        (
            "5: idle 0 without min",
            json!({"spec": {"idleReplicaCount": 0}}),
            vec![
                "spec.idleReplicaCount: Invalid value: 0: IdleReplicaCount=0 must be less than MinReplicaCount=0; lower \
                 idleReplicaCount or raise minReplicaCount",
            ],
        ),
        (
            "5: idle 0 with min 0 written out",
            json!({"spec": {"idleReplicaCount": 0, "minReplicaCount": 0}}),
            vec![],
        ),
        (
            "6: negative fallback",
            json!({"spec": {"fallback": {"failureThreshold": -1, "replicas": 2}}}),
            vec![
                "spec.fallback.failureThreshold: Invalid value: -1: FailureThreshold=-1 & Replicas=2 must both be greater \
                 than or equal to 0",
            ],
        ),
        (
            "7: fallback for resources only",
            json!({"spec": {
                "minReplicaCount": 1,
                "fallback": {"failureThreshold": 3, "replicas": 2},
                "triggers": [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}}],
            }}),
            vec![
                "spec.fallback: Forbidden: {\"behavior\":\"static\",\"failureThreshold\":3,\"replicas\":2}: at least one \
                 trigger (that is not cpu or memory) has to have the `AverageValue` type for the fallback \
                 to be enabled; \
                 leave fallback out or add a trigger",
            ],
        ),
        (
            "10 and 11: neither formula nor target",
            json!({"spec": {"advanced": {"scalingModifiers": {"activationTarget": "1"}}}}),
            vec![
                "spec.advanced.scalingModifiers.formula: Required value: error ScalingModifiers.Formula is \
                mandatory",
                "spec.advanced.scalingModifiers.target: Required value: error validating formula in ScalingModifiers: \
                 formula is given but target is empty; write a number greater than 0 in quotes",
            ],
        ),
        (
            "12 and 13: a formula and a target that do not parse",
            json!({"spec": {"advanced": {"scalingModifiers": {"formula": "rate", "target": "-1"}}}}),
            vec![
                "spec.advanced.scalingModifiers.formula: Invalid value: \"rate\": error validating formula in \
                 ScalingModifiers: unknown name rate; the named triggers are []",
                "spec.advanced.scalingModifiers.target: Invalid value: \"-1\": error validating target in \
                 ScalingModifiers: error converting target for scalingModifiers (string->float) to valid \
                 target: must be \
                 greater than 0; write a number greater than 0 in quotes",
            ],
        ),
        (
            "12: cpu and memory triggers feed no formula, nor does a variable hide a trigger",
            json!({"spec": {
                "advanced": {"scalingModifiers": {"formula": "let a = 1; a + usage + gone", "target": "1"}},
                "triggers": [
                    {
                        "type": "prometheus",
                        "name": "a",
                        "metadata": {"serverAddress": "http://prometheus:9090", "query": "up", "threshold": "5"},
                    },
                    {"type": "cpu", "name": "usage", "metricType": "Utilization", "metadata": {"value": "50"}},
                ],
            }}),
            vec![
                "spec.advanced.scalingModifiers.formula: Invalid value: \"let a = 1; a + usage + gone\": error \
                 validating formula in ScalingModifiers: usage is a cpu or memory trigger, and those feed no \
                 formula: they ask for replicas beside it; for usage in a formula, read it with a prometheus \
                 trigger; the named triggers are [a]",
                "spec.advanced.scalingModifiers.formula: Invalid value: \"let a = 1; a + usage + gone\": error \
                 validating formula in ScalingModifiers: unknown name gone; the named triggers are [a]",
                "spec.advanced.scalingModifiers.formula: Invalid value: \"let a = 1; a + usage + gone\": error \
                 validating formula in ScalingModifiers: cannot redeclare a, which is a trigger; the named \
                 triggers are [a]",
            ],
        ),
        (
            "14: composite utilization",
            json!({"spec": {
                "advanced": {"scalingModifiers": {"formula": "a", "target": "1", "metricType": "Utilization"}},
                "triggers": [{
                    "type": "prometheus",
                    "name": "a",
                    "metadata": {"serverAddress": "http://prometheus:9090", "query": "up", "threshold": "5"},
                }],
            }}),
            vec![
                "spec.advanced.scalingModifiers.metricType: Unsupported value: \"Utilization\": error trigger type is \
                 Utilization, but it needs to be AverageValue or Value for external metrics",
            ],
        ),
        (
            "15: fallback by formula without one",
            json!({"spec": {"fallback": {"failureThreshold": 3, "replicas": 2, "behavior": "scalingModifiers"}}}),
            vec![
                "spec.fallback.behavior: Invalid value: \"scalingModifiers\": scalingModifiers fallback behavior requires \
                 scalingModifiers.formula to be defined",
            ],
        ),
        (
            "16: a long name, under another name for the HPA",
            json!({
                "metadata": {"name": long},
                "spec": {"advanced": {"horizontalPodAutoscalerConfig": {"name": "short"}}},
            }),
            vec![
                "metadata.name: Too long: \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\": scaledobject \
                 name \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\" is 64 \
                 characters long; must be \
                 no more than 63 characters because it is used as the \"scaledobject.keda.sh/name\" label \
                 value",
            ],
        ),
        (
            "17: a long name for the HPA",
            json!({"metadata": {"name": "y".repeat(60)}}),
            vec![
                "spec.advanced.horizontalPodAutoscalerConfig.name: Too long: \
                 \"keda-hpa-yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\": HPA name \
                 \"keda-hpa-yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\" derived from \
                 scaledobject is 69 \
                 characters long; must be no more than 63 characters; set \
                 spec.advanced.horizontalPodAutoscalerConfig.name \
                 to a shorter name or shorten the scaledobject name",
            ],
        ),
        (
            "18: no triggers",
            json!({"spec": {"triggers": []}}),
            vec!["spec.triggers: Required value: no triggers defined in the ScaledObject/ScaledJob"],
        ),
        (
            "19: cached cron",
            trigger(json!({
                "type": "cron",
                "useCachedMetrics": true,
                "metadata": {"timezone": "UTC", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": "2"},
            })),
            vec![
                "spec.triggers[0].useCachedMetrics: Forbidden: true: property \"useCachedMetrics\" is not supported for \
                 \"cron\" scaler; leave it out",
            ],
        ),
        (
            "20: one name twice",
            json!({"spec": {"minReplicaCount": 1, "triggers": [
                {"type": "cpu", "name": "a", "metricType": "Utilization", "metadata": {"value": "50"}},
                {"type": "memory", "name": "a", "metricType": "AverageValue", "metadata": {"value": "64Mi"}},
            ]}}),
            vec![
                "spec.triggers[1].name: Duplicate value: \"a\": triggerName \"a\" is defined multiple times in the \
                 ScaledObject/ScaledJob, but it must be unique",
            ],
        ),
        (
            "a list that nobody meant",
            json!({"spec": {"triggers": vec![good()["spec"]["triggers"][0].clone(); 257]}}),
            vec!["spec.triggers: Too long: 257: must have at most 256 items"],
        ),
        (
            "an unknown type",
            trigger(json!({"type": "prometeus", "metadata": {}})),
            vec![
                "spec.triggers[0].type: Unsupported value: \"prometeus\": no scaler found for type: prometeus; did you \
                 mean \"prometheus\"?",
            ],
        ),
        (
            "a threshold that is no number",
            prometheus(json!({"threshold": "fast"})),
            vec![
                "spec.triggers[0].metadata.threshold: Invalid value: \"fast\": error parsing prometheus metadata: unable \
                 to set param \"threshold\" value \"fast\": not a number; write a number in quotes, such \
                 as \"0.5\"",
            ],
        ),
        (
            "a threshold of nothing",
            prometheus(json!({"threshold": "0.0004"})),
            vec![
                "spec.triggers[0].metadata.threshold: Invalid value: \"0.0004\": error parsing prometheus metadata: target \
                 0.0004 is 0 to three decimals, and must be positive; write a number of at least 0.001, in \
                 a smaller unit \
                 if need be",
            ],
        ),
        (
            "everything missing, at once",
            trigger(json!({"type": "prometheus", "metadata": {"activationThreshold": "x"}})),
            vec![
                "spec.triggers[0].metadata.serverAddress: Required value: error parsing prometheus metadata: missing \
                 required parameter \"serverAddress\" in [triggerMetadata]; write the URL of Prometheus, \
                 such as \
                 \"http://prometheus.monitoring.svc:9090\"",
                "spec.triggers[0].metadata.query: Required value: error parsing prometheus metadata: missing required \
                 parameter \"query\" in [triggerMetadata]; write a PromQL query",
                "spec.triggers[0].metadata.threshold: Required value: error parsing prometheus metadata: missing required \
                 parameter \"threshold\" in [triggerMetadata]; write the wanted value in quotes, such as \
                 \"0.5\"",
                "spec.triggers[0].metadata.activationThreshold: Invalid value: \"x\": error parsing prometheus metadata: \
                 unable to set param \"activationThreshold\" value \"x\": not a number; write a number in \
                 quotes, such as \
                 \"0.5\"",
            ],
        ),
        (
            "a query that does not parse",
            prometheus(json!({"query": "oops("})),
            vec![
                "spec.triggers[0].metadata.query: Invalid value: \"oops(\": invalid PromQL query: 1:1: \
                parse error",
            ],
        ),
        (
            "a resource without a metric type",
            trigger(json!({"type": "cpu", "metadata": {"value": "50"}})),
            vec![
                "spec.triggers[0].metricType: Required value: unknown metric type: , allowed values are 'Utilization' or \
                 'AverageValue'; write Utilization or AverageValue",
            ],
        ),
        (
            "utilization of a query",
            json!({"spec": {"triggers": [{
                "type": "prometheus",
                "metricType": "Utilization",
                "metadata": {"serverAddress": "http://prometheus:9090", "query": "up", "threshold": "5"},
            }]}}),
            vec![
                "spec.triggers[0].metricType: Unsupported value: \"Utilization\": 'Utilization' metric type is unsupported \
                 for external metrics, allowed values are 'Value' or 'AverageValue'; write AverageValue or \
                 Value",
            ],
        ),
        (
            "a behavior that Kubernetes would refuse",
            json!({"spec": {"advanced": {"horizontalPodAutoscalerConfig": {"behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 3601, "policies": []},
                "scaleDown": {
                    "selectPolicy": "None",
                    "policies": [{"type": "Pod", "value": 0, "periodSeconds": 1801}],
                },
            }}}}}),
            vec![
                "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: \
                 3601: must be less than or equal to 3600",
                "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.policies: Required value: must specify at \
                 least one Policy",
                "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.selectPolicy: Unsupported value: \"None\": \
                 supported values: \"Disabled\", \"Max\", \"Min\"",
                "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies[0].type: Unsupported value: \
                 \"Pod\": supported values: \"Percent\", \"Pods\"",
                "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies[0].value: Invalid value: 0: must \
                 be greater than zero",
                "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies[0].periodSeconds: Invalid value: \
                 1801: must be less than or equal to 1800",
            ],
        ),
    ] {
        assert_eq!(admitted(patch, Neighbours::default()).0, expected, "{name}");
    }
}

fn pod() -> PodSpec {
    read(json!({"containers": [
        {"name": "asks", "resources": {"requests": {"cpu": "50m"}}},
        {"name": "limited", "resources": {"limits": {"cpu": "1"}}},
        {"name": "neither"},
    ]}))
}

const CPU: &str =
    "the scaledobject has a cpu trigger but the container neither doesn't have the cpu request defined";

#[test]
fn each_rule_about_other_objects_has_its_message() {
    let other: ScaledObject = {
        let mut other = good();
        merge(&mut other, json!({"metadata": {"name": "other"}}));
        read(other)
    };
    let renamed = changed(json!({
        "metadata": {"name": "renamed"},
        "spec": {
            "scaleTargetRef": {"name": "another"},
            "advanced": {"horizontalPodAutoscalerConfig": {"name": "keda-hpa-model"}},
        },
    }));
    let hpa = |metadata: Value| -> HorizontalPodAutoscaler {
        let mut hpa = json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "maxReplicas": 3,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "model"},
            },
        });
        merge(&mut hpa["metadata"], metadata);
        read(hpa)
    };
    let transfer =
        json!({"metadata": {"annotations": {"scaledobject.keda.sh/transfer-hpa-ownership": "true"}}});
    let named = {
        let mut named = transfer.clone();
        merge(&mut named, json!({"spec": {"advanced": {"horizontalPodAutoscalerConfig": {"name": "web"}}}}));
        named
    };
    let cpu = trigger(json!({"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}}));
    let cpu_of = |container: &str| {
        trigger(json!({
            "type": "cpu",
            "metricType": "Utilization",
            "metadata": {"value": "50", "containerName": container},
        }))
    };
    let mut cpu_from_zero = cpu.clone();
    merge(&mut cpu_from_zero, json!({"spec": {"minReplicaCount": null}}));
    let default: LimitRange =
        read(json!({"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}}));
    let pod = pod();
    let none = Neighbours::default();
    let with_pod = Neighbours { pod: Some(&pod), ..none };
    for (name, patch, neighbours, expected) in [
        (
            "1: the same workload",
            json!({}),
            Neighbours { scaled_objects: std::slice::from_ref(&other), ..none },
            Some(
                "the workload 'model' of type 'apps/v1.Deployment' is already managed by the ScaledObject \
                'other'",
            ),
        ),
        (
            "2: the same HPA",
            json!({}),
            Neighbours { scaled_objects: std::slice::from_ref(&renamed), ..none },
            Some("the HPA 'keda-hpa-model' is already managed by the ScaledObject 'renamed'"),
        ),
        (
            "3: a foreign HPA",
            json!({}),
            Neighbours { hpas: &[hpa(json!({}))], ..none },
            Some("the workload 'model' of type 'apps/v1.Deployment' is already managed by the hpa 'web'"),
        ),
        (
            "3: its own HPA",
            json!({}),
            Neighbours {
                hpas: &[hpa(json!({"ownerReferences": [
                    {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "model", "uid": "1"},
                ]}))],
                ..none
            },
            None,
        ),
        (
            "3: an HPA that does not mind",
            json!({}),
            Neighbours {
                hpas: &[hpa(json!({"annotations": {"validations.keda.sh/hpa-ownership": "false"}}))],
                ..none
            },
            None,
        ),
        (
            "4: a transfer without the name",
            transfer,
            Neighbours { hpas: &[hpa(json!({}))], ..none },
            Some(
                "the existing hpa 'web' for workload 'model' of type 'apps/v1.Deployment' must be specified by name in \
                 advanced settings to enable ownership transfer",
            ),
        ),
        ("4: a transfer with the name", named, Neighbours { hpas: &[hpa(json!({}))], ..none }, None),
        ("8: a missing request", cpu.clone(), with_pod, Some(CPU)),
        ("8: of a container that does not count", cpu_of("asks"), with_pod, None),
        ("8: of the container that counts", cpu_of("neither"), with_pod, Some(CPU)),
        (
            "8: a default request",
            cpu.clone(),
            Neighbours { limit_ranges: std::slice::from_ref(&default), ..with_pod },
            None,
        ),
        ("8: on a dry run", cpu, Neighbours { dry_run: true, ..with_pod }, None),
        (
            "9: to zero by CPU only",
            cpu_from_zero,
            none,
            Some(
                "scaledobject has only cpu/memory triggers AND minReplica is 0 (scale to zero doesn't work \
                in this case)",
            ),
        ),
    ] {
        let admission = admit_scaled_object(&changed(patch), None, neighbours, &check_query);
        let messages: Vec<&str> = admission.problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, Vec::from_iter(expected), "{name}");
    }
}

#[test]
fn settings_without_effect_are_warned_about() {
    let polling = "PollingInterval is configured but is not relevant. PollingInterval is only relevant when \
                   minReplicaCount = 0, idleReplicaCount is set, or useCachedMetrics is enabled";
    let cooldown = "CooldownPeriod is configured but is not relevant. CooldownPeriod is only relevant when \
                    minReplicaCount = 0 or idleReplicaCount is set";
    let both = |more: Value| {
        let mut patch = json!({"spec": {"minReplicaCount": 1, "pollingInterval": 30, "cooldownPeriod": 300}});
        merge(&mut patch, more);
        patch
    };
    let mut cached = good()["spec"]["triggers"].clone();
    cached[0]["useCachedMetrics"] = json!(true);
    for (name, patch, expected) in [
        ("W1 and W2", both(json!({})), vec![polling, cooldown]),
        ("with a cached trigger", both(json!({"spec": {"triggers": cached}})), vec![cooldown]),
        ("with idle replicas", both(json!({"spec": {"idleReplicaCount": 0}})), vec![]),
        ("with a minimum of 0", both(json!({"spec": {"minReplicaCount": 0}})), vec![]),
        (
            "a trigger that only KEDA can read",
            trigger(json!({"type": "kafka", "metadata": {}})),
            vec![
                "spec.triggers[0].type: Unsupported value: \"kafka\": trigger type \"kafka\" is one of KEDA's, but cannot \
                 be read here; use one of prometheus, cpu, memory, cron, kubernetes-workload, metrics-api \
                 and slo",
            ],
        ),
    ] {
        let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(admitted(patch, Neighbours::default()), (Vec::new(), expected), "{name}");
    }
}

#[test]
fn deletion_is_not_held_up() {
    let broken = json!({"spec": {"minReplicaCount": 6, "maxReplicaCount": 5}});
    let new = changed(broken.clone());
    let mut old = changed(broken);
    old.metadata.finalizers = Some(vec!["finalizer.keda.sh".to_owned()]);
    let admission = admit_scaled_object(&new, Some(&old), Neighbours::default(), &check_query);
    assert_eq!(admission.problems, Vec::new());
}

#[test]
fn each_kind_has_its_rules() {
    let secret = json!({"valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}});
    let authentication = |spec: Value| json!({"apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication", "spec": spec});
    let vpa = |spec: Value| {
        let mut vpa = json!({
            "apiVersion": "autoscaling.k8s.io/v1",
            "kind": "VerticalPodAutoscaler",
            "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "model"}},
        });
        merge(&mut vpa["spec"], spec);
        vpa
    };
    let policy = |policy: Value| vpa(json!({"resourcePolicy": {"containerPolicies": [policy]}}));
    let checks = Checks { query: &check_query, relabeling: &|_| Vec::new() };
    for (object, expected) in [
        (
            authentication(json!({"podIdentity": {
                "provider": "azure-workload", "identityId": "", "identityAuthorityHost": "https://login.example.com",
            }})),
            vec![
                "spec.podIdentity.identityId: Invalid value: \"\": identityId of PodIdentity should not be empty. If it's \
                 set, identityId has to be different than \"\"",
                "spec.podIdentity.identityTenantId: Required value: identityTenantID of PodIdentity should not be nil or \
                 empty when identityAuthorityHost of PodIdentity is set",
            ],
        ),
        (
            authentication(json!({"podIdentity": {"provider": "azure-workload", "identityTenantId": ""}})),
            vec![
                "spec.podIdentity.identityTenantId: Invalid value: \"\": identityTenantId of PodIdentity should not be \
                 empty. If it's set, identityTenantId has to be different than \"\"",
            ],
        ),
        (
            authentication(
                json!({"podIdentity": {"provider": "aws", "roleArn": "arn", "identityOwner": "workload"}}),
            ),
            vec![
                "spec.podIdentity.roleArn: Invalid value: \"arn\": roleArn of PodIdentity can't be set if KEDA isn't \
                 identityOwner",
            ],
        ),
        (
            authentication(json!({"podIdentity": {"provider": "aws", "externalID": "7"}})),
            vec![
                "spec.podIdentity.externalID: Invalid value: \"7\": externalID of PodIdentity requires \
                roleArn to be set",
            ],
        ),
        (
            authentication(json!({"oauth2": {"clientId": "", "clientSecret": secret, "tokenUrl": ""}})),
            vec![
                "spec.oauth2.clientId: Required value: oauth2.clientId is required when oauth2 is configured",
                "spec.oauth2.tokenUrl: Required value: oauth2.tokenUrl is required when oauth2 is configured",
            ],
        ),
        (
            authentication(json!({"oauth2": {"clientId": "a", "tokenUrl": "ftp://example.com"}})),
            vec![
                "spec.oauth2.tokenUrl: Invalid value: \"ftp://example.com\": oauth2.tokenUrl must be a valid http or https \
                 URL",
            ],
        ),
        (
            json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob", "spec": {
                "jobTargetRef": {"template": {}},
                "triggers": [{
                    "type": "prometheus",
                    "metricType": "Value",
                    "metadata": {"serverAddress": "http://prometheus:9090", "query": "up", "threshold": "5"},
                }],
            }}),
            vec![
                "spec.triggers[0].metricType: Forbidden: \"Value\": metricType is set in one of the ScaledJob scaler; leave \
                 it out",
            ],
        ),
        (
            vpa(json!({
                "updatePolicy": {"minReplicas": 0},
                "recommenders": [{"name": "a"}, {"name": "b"}],
            })),
            vec![
                "spec.updatePolicy.updateMode: Required value: updateMode is required if UpdatePolicy is used; write Off, \
                 Initial, Recreate or InPlaceOrRecreate",
                "spec.updatePolicy.minReplicas: Invalid value: 0: minReplicas has to be positive, got 0",
                "spec.recommenders: Invalid value: [\"a\",\"b\"]: the current version of VPA object shouldn't specify more \
                 than one recommenders",
            ],
        ),
        (
            policy(json!({
                "minAllowed": {"cpu": "1", "memory": "1.5"},
                "maxAllowed": {"cpu": "500u", "memory": "lots"},
                "controlledResources": ["cpu", "gpu"],
            })),
            vec![
                "spec.resourcePolicy.containerPolicies[0].minAllowed.memory: Invalid value: \"1.5\": must be a whole number \
                 of bytes",
                "spec.resourcePolicy.containerPolicies[0].maxAllowed.cpu: Invalid value: \"500u\": must be a whole number \
                 of milli CPUs",
                "spec.resourcePolicy.containerPolicies[0].maxAllowed.memory: Invalid value: \"lots\": quantities must match \
                 the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                "spec.resourcePolicy.containerPolicies[0].minAllowed.cpu: Invalid value: \"1\": max resource for cpu is \
                 lower than min",
                "spec.resourcePolicy.containerPolicies[0].controlledResources[1]: Unsupported value: \"gpu\": supported \
                 values: \"cpu\", \"memory\"",
            ],
        ),
        (
            policy(json!({"mode": "Off", "controlledValues": "RequestsAndLimits"})),
            vec![
                "spec.resourcePolicy.containerPolicies[0].controlledValues: Invalid value: \"RequestsAndLimits\": \
                 controlledValues shouldn't be specified if container scaling mode is off.",
            ],
        ),
        (policy(json!({"minAllowed": {"cpu": "50m"}, "maxAllowed": {"cpu": "500m"}})), vec![]),
    ] {
        let mut object = object;
        merge(&mut object, json!({"metadata": {"name": "a"}}));
        let admission = admit(&object, None, Neighbours::default(), checks).unwrap();
        let problems: Vec<String> = admission.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, expected, "{object}");
    }
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    assert_eq!(admit(&other, None, Neighbours::default(), checks), None);
}
