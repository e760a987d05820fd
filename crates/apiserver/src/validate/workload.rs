//! Workloads: apps/v1 and batch/v1 (`pkg/apis/apps/validation`, `pkg/apis/batch/validation`).

use serde_json::Value;

use super::{Problems, number_or_percent, pod};
use crate::object::{at, integer, list, map, remove, text};
use crate::selector::Labels;
use crate::status::FieldError;

/// A workload; other kinds have no rules here.
pub(super) fn validate(storage: &str, object: &Value, problems: &mut Problems) {
    let none = Value::Null;
    let spec = at(object, "spec").unwrap_or(&none);
    match storage {
        "apps/deployments" => {
            selected_template(spec, "deployment", problems);
            deployment(spec, problems);
        }
        "apps/replicasets" => selected_template(spec, "replicaset", problems),
        "apps/statefulsets" => {
            selected_template(spec, "statefulset", problems);
            problems.one_of(spec, "spec", "podManagementPolicy", &["OrderedReady", "Parallel"]);
            problems.one_of(spec, "spec", "updateStrategy.type", &["OnDelete", "RollingUpdate"]);
        }
        "apps/daemonsets" => selected_template(spec, "daemonset", problems),
        "batch/jobs" => job(spec, "spec", problems),
        "batch/cronjobs" => cron_job(spec, problems),
        _ => {}
    }
}

fn selected_template(spec: &Value, kind: &str, problems: &mut Problems) {
    for key in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        problems.not_negative(spec, "spec", key);
    }
    match at(spec, "selector") {
        None => problems.required("spec.selector", ""),
        Some(selector) => {
            self::selector(selector, problems);
            if Labels::from_object(selector).is_empty() {
                problems.invalid("spec.selector", selector, format!("empty selector is invalid for {kind}"));
            } else if !Labels::from_object(selector).matches(&spec["template"]) {
                let labels =
                    at(spec, "template.metadata.labels").cloned().unwrap_or_else(|| serde_json::json!({}));
                let why = "`selector` does not match template `labels`";
                problems.invalid("spec.template.metadata.labels", &labels, why);
            }
        }
    }
    template(spec, "spec", &["Always"], problems);
}

fn selector(selector: &Value, problems: &mut Problems) {
    super::labels(selector, "matchLabels", problems);
    for (index, expression) in list(selector, "matchExpressions").iter().enumerate() {
        let path = format!("spec.selector.matchExpressions[{index}]");
        let (operator, count) = (text(expression, "operator"), list(expression, "values").len());
        match operator {
            "In" | "NotIn" if count == 0 => {
                problems.required(
                    format!("{path}.values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                );
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                problems.0.push(FieldError::forbidden(format!("{path}.values"), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => problems.invalid(
                format!("{path}.operator"),
                &operator.into(),
                "not a valid selector operator",
            ),
        }
        problems.name(expression, &path, "key", super::names::qualified_name);
    }
}

fn template(spec: &Value, path: &str, restart_policies: &[&str], problems: &mut Problems) {
    let path = format!("{path}.template");
    let Some(template) = at(spec, "template") else {
        return problems.required(path, "");
    };
    for (key, value) in map(template, "metadata.labels").into_iter().flatten() {
        let wrong = super::names::qualified_name(key)
            .map(|why| (Value::from(key.as_str()), why))
            .or_else(|| Some((value.clone(), super::names::label_value(value.as_str()?)?)));
        if let Some((value, why)) = wrong {
            problems.invalid(format!("{path}.labels"), &value, why);
        }
    }
    let pod_spec = at(template, "spec").unwrap_or(&Value::Null);
    let spec_path = format!("{path}.spec");
    pod::spec(pod_spec, &spec_path, problems);
    let policy = text(pod_spec, "restartPolicy");
    if ["Always", "OnFailure", "Never"].contains(&policy) && !restart_policies.contains(&policy) {
        let field = format!("{spec_path}.restartPolicy");
        problems.0.push(FieldError::not_supported(field, &policy.into(), restart_policies));
    }
}

fn deployment(spec: &Value, problems: &mut Problems) {
    problems.one_of(spec, "spec", "strategy.type", &["Recreate", "RollingUpdate"]);
    let rolling = at(spec, "strategy.rollingUpdate");
    if text(spec, "strategy.type") == "Recreate" && rolling.is_some() {
        let why = "may not be specified when strategy `type` is 'Recreate'";
        problems.0.push(FieldError::forbidden("spec.strategy.rollingUpdate", why));
    } else if let Some(rolling) = rolling {
        let path = "spec.strategy.rollingUpdate";
        for key in ["maxUnavailable", "maxSurge"] {
            number_or_percent(rolling, path, key, problems);
        }
        let zero = |key| at(rolling, key).is_some_and(|value| *value == 0 || *value == "0%");
        if zero("maxUnavailable") && zero("maxSurge") {
            let why = "may not be 0 when `maxSurge` is 0";
            problems.invalid(format!("{path}.maxUnavailable"), &rolling["maxUnavailable"], why);
        }
    }
    problems.not_negative(spec, "spec", "progressDeadlineSeconds");
    let (deadline, ready) =
        (integer(spec, "progressDeadlineSeconds"), integer(spec, "minReadySeconds").unwrap_or(0));
    if let Some(deadline) = deadline.filter(|deadline| *deadline >= 0 && *deadline <= ready) {
        let why = "must be greater than minReadySeconds";
        problems.invalid("spec.progressDeadlineSeconds", &deadline.into(), why);
    }
}

fn job(spec: &Value, path: &str, problems: &mut Problems) {
    for key in
        ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"]
    {
        problems.not_negative(spec, path, key);
    }
    problems.one_of(spec, path, "completionMode", &["Indexed", "NonIndexed"]);
    template(spec, path, &["OnFailure", "Never"], problems);
}

fn cron_job(spec: &Value, problems: &mut Problems) {
    let schedule = text(spec, "schedule");
    if schedule.is_empty() {
        problems.required("spec.schedule", "");
    } else if !schedule.starts_with('@') && schedule.split_whitespace().count() != 5 {
        let count = schedule.split_whitespace().count();
        problems.invalid(
            "spec.schedule",
            &schedule.into(),
            format!("expected exactly 5 fields, found {count}: [{schedule}]"),
        );
    }
    problems.one_of(spec, "spec", "concurrencyPolicy", &["Allow", "Forbid", "Replace"]);
    job(at(spec, "jobTemplate.spec").unwrap_or(&Value::Null), "spec.jobTemplate.spec", problems);
}

/// What may not change.
pub(super) fn transition(storage: &str, current: &Value, object: &Value, problems: &mut Problems) {
    match storage {
        "apps/deployments" | "apps/replicasets" | "apps/daemonsets" => {
            problems.immutable(current, object, "spec.selector");
        }
        "apps/statefulsets" => stateful_set(current, object, problems),
        "batch/jobs" => {
            for path in ["spec.selector", "spec.completionMode"] {
                problems.immutable(current, object, path);
            }
            if at(object, "spec.suspend") != Some(&Value::Bool(true)) {
                problems.immutable(current, object, "spec.template");
            }
        }
        _ => {}
    }
}

fn stateful_set(current: &Value, object: &Value, problems: &mut Problems) {
    let fixed = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        for path in [
            "replicas",
            "ordinals",
            "template",
            "updateStrategy",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
        ] {
            remove(&mut spec, path);
        }
        spec
    };
    if fixed(current) != fixed(object) {
        problems.0.push(FieldError::forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ));
    }
}
