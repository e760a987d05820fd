//! Defaults of what runs pods: apps/v1 and batch/v1.

use serde_json::{Value, json};

use super::pod;
use crate::object::{at, default, ensure, set, text};

/// Fills in the defaults of a workload; other kinds are left alone.
pub(super) fn apply(storage: &str, object: &mut Value) {
    match storage {
        "apps/deployments" => deployment(ensure(object, "spec")),
        "apps/replicasets" | "core/replicationcontrollers" => {
            let spec = ensure(object, "spec");
            default(spec, "replicas", 1);
            template(spec);
        }
        "apps/statefulsets" => stateful_set(ensure(object, "spec")),
        "apps/daemonsets" => {
            let spec = ensure(object, "spec");
            default(spec, "revisionHistoryLimit", 10);
            rolling(spec, "updateStrategy", &[("maxUnavailable", json!(1)), ("maxSurge", json!(0))]);
            template(spec);
        }
        "batch/jobs" => job(ensure(object, "spec")),
        "batch/cronjobs" => {
            let spec = ensure(object, "spec");
            default(spec, "concurrencyPolicy", "Allow");
            default(spec, "suspend", false);
            default(spec, "successfulJobsHistoryLimit", 3);
            default(spec, "failedJobsHistoryLimit", 1);
            if let Some(template) = spec.get_mut("jobTemplate") {
                let job = ensure(template, "spec");
                if let Some(pods) = job.get_mut("template") {
                    pod::spec(ensure(pods, "spec"));
                }
            }
        }
        "core/podtemplates" => template(object),
        _ => {}
    }
}

fn template(parent: &mut Value) {
    if at(parent, "template").is_some() {
        pod::spec(ensure(&mut parent["template"], "spec"));
    }
}

/// `RollingUpdate` with its parameters, unless another strategy is chosen.
fn rolling(spec: &mut Value, key: &str, parameters: &[(&str, Value)]) {
    let strategy = ensure(spec, key);
    default(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let update = ensure(strategy, "rollingUpdate");
        parameters.iter().for_each(|(key, value)| default(update, key, value.clone()));
    }
}

fn deployment(spec: &mut Value) {
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    rolling(spec, "strategy", &[("maxUnavailable", json!("25%")), ("maxSurge", json!("25%"))]);
    template(spec);
}

fn stateful_set(spec: &mut Value) {
    default(spec, "replicas", 1);
    default(spec, "podManagementPolicy", "OrderedReady");
    default(spec, "revisionHistoryLimit", 10);
    rolling(spec, "updateStrategy", &[("partition", json!(0))]);
    let retention = ensure(spec, "persistentVolumeClaimRetentionPolicy");
    default(retention, "whenDeleted", "Retain");
    default(retention, "whenScaled", "Retain");
    template(spec);
}

fn job(spec: &mut Value) {
    if at(spec, "completions").is_none() && at(spec, "parallelism").is_none() {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", 6);
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "podReplacementPolicy", "TerminatingOrFailed");
    default(spec, "manualSelector", false);
    template(spec);
}

/// A Job selects its pods by its own uid, unless it says `manualSelector`.
pub(super) fn select_job(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (job["metadata"]["uid"].clone(), job["metadata"]["name"].clone());
    let metadata = ensure(ensure(ensure(job, "spec"), "template"), "metadata");
    let labels = ensure(metadata, "labels");
    for prefix in ["batch.kubernetes.io/", ""] {
        labels[format!("{prefix}controller-uid")] = uid.clone();
        labels[format!("{prefix}job-name")] = name.clone();
    }
    set(job, "spec.selector", json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
}
