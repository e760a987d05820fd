//! A published course's manifests for scaling a model, which must work as they are: in `FLYBALL_SEED`, or beside the
//! repository.
#![allow(clippy::disallowed_methods, reason = "these tests read manifests from disk")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a test result")]

#[path = "../../../../tests/outside.rs"]
mod outside;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use flyball_api::admission::{Neighbours, admit_scaled_object, admit_vertical_pod_autoscaler};
use flyball_api::keda_hpa::keda_hpa;
use flyball_api::kinds::crds;
use flyball_api::kinds::monitor::ServiceMonitor;
use flyball_api::kinds::scaled_object::{ScaledObject, ScaledObjectStatus};
use flyball_api::plan::{Ask, Plan, plan_scaled_object};
use flyball_api::status::{Outcome, decided, hpa_status};
use flyball_api::trigger::{Resolved, Trigger};
use flyball_engine::{
    ContainerRequests, Engine, Milli, Observation, Phase, Pod, PodRequests, PodValue, Readiness, Reading,
    Rules, Scale, Selector, Time,
};
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as Timestamp;
use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};

/// The manifests, by file name.
type Manifests = [(String, Value)];

fn main() -> ExitCode {
    let directory = outside::find("FLYBALL_SEED", "seed");
    let trial = |name: &str, test: fn(&Manifests)| match &directory {
        Err(missing) => missing.trial(name),
        Ok(directory) => {
            let directory = directory.clone();
            Trial::test(name, move || {
                test(&manifests(&directory));
                Ok(())
            })
        }
    };
    let trials = vec![
        trial("no_field_is_unknown", no_field_is_unknown),
        trial(
            "scaled_objects_are_admitted_with_kedas_warnings",
            scaled_objects_are_admitted_with_kedas_warnings,
        ),
        trial(
            "the_vertical_pod_autoscaler_is_admitted_with_a_warning",
            the_vertical_pod_autoscaler_is_admitted_with_a_warning,
        ),
        trial("monitors_are_read_as_they_are_written", monitors_are_read_as_they_are_written),
        trial("each_scaled_object_has_kedas_hpa", each_scaled_object_has_kedas_hpa),
        trial(
            "the_page_scales_out_by_cpu_and_says_what_is_missing",
            the_page_scales_out_by_cpu_and_says_what_is_missing,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Every manifest, by file name.
fn manifests(directory: &Path) -> Vec<(String, Value)> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no manifest in {}", directory.display());
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, serde_saphyr::from_str(&text).unwrap())
        })
        .collect()
}

fn unknown_fields(path: &str, value: &Value, schema: &Value, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, child) in fields {
                let inner = &schema["properties"][name];
                let inner = if inner.is_null() { &schema["additionalProperties"] } else { inner };
                if inner.is_null() {
                    unknown.push(format!("{path}.{name}"));
                } else {
                    unknown_fields(&format!("{path}.{name}"), child, inner, unknown);
                }
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter().enumerate() {
                unknown_fields(&format!("{path}[{index}]"), child, &schema["items"], unknown);
            }
        }
        _ => {}
    }
}

fn no_field_is_unknown(manifests: &Manifests) {
    let definitions: Vec<Value> = crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
    for (file, manifest) in manifests {
        let kind = &manifest["kind"];
        let Some(crd) = definitions.iter().find(|crd| crd["spec"]["names"]["kind"] == *kind) else {
            continue;
        };
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut unknown = Vec::new();
        unknown_fields("spec", &manifest["spec"], schema, &mut unknown);
        assert_eq!(unknown, Vec::<String>::new(), "{file}");
    }
}

/// The pods of the page's Deployment.
fn pod(manifests: &Manifests) -> PodSpec {
    let deployment = manifests.iter().find(|(_, manifest)| manifest["kind"] == "Deployment").unwrap();
    serde_json::from_value(deployment.1["spec"]["template"]["spec"].clone()).unwrap()
}

fn scaled_objects(manifests: &Manifests) -> Vec<(&str, ScaledObject)> {
    let of_kind = manifests.iter().filter(|(_, manifest)| manifest["kind"] == "ScaledObject");
    of_kind
        .map(|(file, manifest)| (file.as_str(), serde_json::from_value(manifest.clone()).unwrap()))
        .collect()
}

fn scaled_objects_are_admitted_with_kedas_warnings(manifests: &Manifests) {
    let pod = pod(manifests);
    let neighbours = Neighbours { pod: Some(&pod), ..Neighbours::default() };
    let objects = scaled_objects(manifests);
    assert_eq!(objects.len(), 4);
    for (file, object) in objects {
        let admission = admit_scaled_object(&object, None, neighbours, &|_| Ok(()));
        assert_eq!(admission.problems, Vec::new(), "{file}");
        let settings: Vec<&str> =
            admission.warnings.iter().filter_map(|warning| warning.split(' ').next()).collect();
        assert_eq!(settings, ["PollingInterval", "CooldownPeriod"], "{file}");
    }
}

fn the_vertical_pod_autoscaler_is_admitted_with_a_warning(manifests: &Manifests) {
    for (file, manifest) in
        manifests.iter().filter(|(_, manifest)| manifest["kind"] == "VerticalPodAutoscaler")
    {
        let admission = admit_vertical_pod_autoscaler(&serde_json::from_value(manifest.clone()).unwrap());
        assert_eq!(admission.problems, Vec::new(), "{file}");
        assert_eq!(admission.warnings.len(), 1, "{file}: {:?}", admission.warnings);
    }
}

fn monitors_are_read_as_they_are_written(manifests: &Manifests) {
    for (file, manifest) in manifests.iter().filter(|(_, manifest)| manifest["kind"] == "ServiceMonitor") {
        let monitor: ServiceMonitor = serde_json::from_value(manifest.clone()).unwrap();
        assert_eq!(serde_json::to_value(&monitor.spec).unwrap(), manifest["spec"], "{file}");
    }
}

/// What KEDA makes of each ScaledObject: the metrics differ, everything else does not.
fn each_scaled_object_has_kedas_hpa(manifests: &Manifests) {
    let external = |index: usize, threshold: &str| {
        json!({
            "type": "External",
            "external": {
                "metric": {
                    "name": format!("s{index}-prometheus"),
                    "selector": {"matchLabels": {"scaledobject.keda.sh/name": "fastapi-latency-autoscaler"}},
                },
                "target": {"type": "AverageValue", "averageValue": threshold},
            },
        })
    };
    let cpu = json!({
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
    });
    for (file, object) in scaled_objects(manifests) {
        let metrics = match file {
            "scaledobject-cpu.yaml" => vec![external(0, "100m"), cpu.clone()],
            "scaledobject-latency.yaml" => vec![external(0, "500m")],
            "scaledobject-latency-rate.yaml" => vec![external(0, "500m"), external(1, "1k")],
            "scaledobject-low-thresholds.yaml" => vec![external(0, "80m"), external(1, "20")],
            _ => panic!("{file} has no expectation"),
        };
        let expected = json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {
                "name": "keda-hpa-fastapi-latency-autoscaler",
                "namespace": "default",
                "labels": {
                    "app.kubernetes.io/name": "keda-hpa-fastapi-latency-autoscaler",
                    "app.kubernetes.io/version": "2.21.0",
                    "app.kubernetes.io/part-of": "fastapi-latency-autoscaler",
                    "app.kubernetes.io/managed-by": "keda-operator",
                    "scaledobject.keda.sh/name": "fastapi-latency-autoscaler",
                },
                "ownerReferences": [{
                    "apiVersion": "keda.sh/v1alpha1",
                    "kind": "ScaledObject",
                    "name": "fastapi-latency-autoscaler",
                    "uid": "",
                    "controller": true,
                    "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "minReplicas": 1,
                "maxReplicas": 5,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "model"},
                "metrics": metrics,
            },
        });
        let triggers = triggers(&object);
        let hpa = keda_hpa(&object, &triggers).unwrap();
        assert_eq!(serde_json::to_value(&hpa).unwrap(), expected, "{file}");
    }
}

/// The whole way of the page's last ScaledObject: the CPU is at 140 %, and nothing is known of the latency.
fn the_page_scales_out_by_cpu_and_says_what_is_missing(manifests: &Manifests) {
    let now = Time::from_seconds(1_000);
    for (file, object) in scaled_objects(manifests) {
        let triggers = triggers(&object);
        let plan = plan_scaled_object(&object, &triggers, Rules::default()).unwrap();
        let hpa = keda_hpa(&object, &triggers).unwrap();
        let mut engine = Engine::new();
        for observation in facts(&plan, now) {
            engine.observe(now, observation);
        }
        let decision = engine.evaluate(now).remove(0);
        let status = hpa_status(
            None,
            &hpa,
            &decision,
            engine.memory(&plan.target),
            &Outcome::Kept,
            Timestamp(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
        );
        let scaled = decided(ScaledObjectStatus::default(), &object, &decision, Some(&status));
        let active =
            status.conditions.iter().flatten().find(|condition| condition.type_ == "ScalingActive").unwrap();
        let by_cpu = file == "scaledobject-cpu.yaml";
        assert_eq!(decision.desired, if by_cpu { 3 } else { 1 }, "{file}: {decision}");
        assert_eq!(active.status, if by_cpu { "True" } else { "False" }, "{file}: {active:?}");
        let shown = serde_json::to_value(status.current_metrics.unwrap().pop().unwrap()).unwrap();
        if by_cpu {
            assert_eq!(
                shown["resource"]["current"],
                json!({"averageUtilization": 140, "averageValue": "70m"})
            );
        } else {
            assert_eq!(shown, json!({"type": ""}), "{file}");
        }
        assert_eq!(scaled.conditions.last().unwrap().kind, "HPAActive", "{file}");
    }
}

/// One ready pod that uses 70m of the 50m CPU it asked for, and no answer to any query.
fn facts(plan: &Plan, now: Time) -> Vec<Observation> {
    let target = || plan.target.clone();
    let pod = Pod {
        name: "model-1".into(),
        phase: Phase::Running,
        deleting: false,
        started: Some(Time::default()),
        ready: Some(Readiness { ready: true, since: Time::default() }),
        requests: PodRequests {
            containers: vec![ContainerRequests {
                name: "house-price-model".into(),
                requests: [("cpu".into(), Milli::new(50))].into(),
            }],
            ..PodRequests::default()
        },
    };
    let used = PodValue {
        pod: pod.name.clone(),
        value: Milli::new(70),
        at: now,
        window: Duration::from_secs(15),
        starting: false,
    };
    let scale = Scale { spec_replicas: 1, status_replicas: 1, selector: Selector::Valid };
    let mut facts = vec![
        Observation::Policy { target: target(), policy: Box::new(plan.policy.clone()) },
        Observation::Scale { target: target(), scale },
        Observation::Pods { target: target(), pods: vec![pod] },
    ];
    facts.extend(plan.queries.iter().map(|query| Observation::Metric {
        target: target(),
        metric: query.metric.clone(),
        reading: match &query.ask {
            Ask::Resource { .. } => Reading::PerPod { values: vec![used.clone()], at: now },
            _ => Reading::Missing { why: "no series".to_owned() },
        },
    }));
    facts
}

fn triggers(object: &ScaledObject) -> Vec<Trigger> {
    Trigger::parse_all(&object.spec.triggers, |_| Resolved::default()).unwrap()
}
