//! Validation of HorizontalPodAutoscalers in the stored form, autoscaling/v2 (`pkg/apis/autoscaling/validation`,
//! hpa.md 1.8).

use serde_json::Value;

use crate::names;
use crate::object::{at, integer, list, text};
use crate::problems::{Problems, join};
use crate::quantity::Quantity;
use crate::status::FieldError;

/// Maximum stabilization window: one hour (`MaxStabilizationWindowSeconds`).
const WINDOW_SECONDS_MAX: i64 = 3600;
/// Maximum policy period: half an hour (`MaxPeriodSeconds`).
const PERIOD_SECONDS_MAX: i64 = 1800;

/// Metric sources: type, field, and permitted target types.
const SOURCES: [(&str, &str, &[&str]); 5] = [
    ("ContainerResource", "containerResource", &["averageUtilization", "averageValue"]),
    ("External", "external", &["value", "averageValue"]),
    ("Object", "object", &["value", "averageValue"]),
    ("Pods", "pods", &["averageValue"]),
    ("Resource", "resource", &["averageUtilization", "averageValue"]),
];

/// Validates an autoscaler by itself.
pub(super) fn validate(object: &Value, problems: &mut Problems) {
    let spec = at(object, "spec").unwrap_or(&Value::Null);
    let metrics = list(spec, "metrics");
    let minimum = integer(spec, "minReplicas").unwrap_or(1);
    if minimum < 0 {
        problems.invalid("spec.minReplicas", &minimum.into(), "must be greater than or equal to 0");
    } else if minimum == 0
        && !metrics.iter().any(|metric| ["Object", "External"].contains(&text(metric, "type")))
    {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        problems.push(FieldError::forbidden("spec.metrics", why));
    }
    let maximum = integer(spec, "maxReplicas").unwrap_or(0);
    if maximum < 1 {
        problems.invalid("spec.maxReplicas", &maximum.into(), "must be greater than 0");
    }
    if maximum < minimum {
        problems.invalid(
            "spec.maxReplicas",
            &maximum.into(),
            "must be greater than or equal to `minReplicas`",
        );
    }
    for key in ["kind", "name"] {
        problems.name(spec, "spec", &format!("scaleTargetRef.{key}"), names::path_segment);
    }
    for (index, metric) in metrics.iter().enumerate() {
        self::metric(metric, &format!("spec.metrics[{index}]"), problems);
    }
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = at(spec, &format!("behavior.{direction}")) {
            behavior(rules, &format!("spec.behavior.{direction}"), problems);
        }
    }
}

fn metric(metric: &Value, path: &str, problems: &mut Problems) {
    let kind = text(metric, "type");
    if kind.is_empty() {
        return problems.required(join(path, "type"), "must specify a metric source type");
    }
    let Some((_, field, targets)) = SOURCES.iter().find(|(name, ..)| *name == kind) else {
        let supported = SOURCES.map(|(name, ..)| name);
        return problems.push(FieldError::not_supported(join(path, "type"), &kind.into(), &supported));
    };
    for (_, other, _) in SOURCES.iter().filter(|(_, other, _)| other != field && at(metric, other).is_some())
    {
        let why = "must populate the given metric source only";
        problems.push(FieldError::forbidden(join(path, other), why));
    }
    let Some(source) = at(metric, field) else {
        return problems.required(join(path, field), "must populate information for the given metric source");
    };
    let path = join(path, field);
    let named = if kind.ends_with("Resource") { "name" } else { "metric.name" };
    problems.name(source, &path, named, names::path_segment);
    if kind == "ContainerResource" && text(source, "container").is_empty() {
        problems.required(join(&path, "container"), "must specify a container");
    }
    if kind == "Object" {
        for key in ["describedObject.kind", "describedObject.name"] {
            problems.name(source, &path, key, names::path_segment);
        }
    }
    target(at(source, "target").unwrap_or(&Value::Null), &join(&path, "target"), targets, problems);
}

fn target(target: &Value, path: &str, allowed: &[&str], problems: &mut Problems) {
    if text(target, "type").is_empty() {
        problems.required(join(path, "type"), "must specify a metric target type");
    }
    problems.one_of(target, path, "type", &["Utilization", "Value", "AverageValue"]);
    let set: Vec<&&str> = allowed.iter().filter(|key| at(target, key).is_some()).collect();
    match (set.len(), allowed) {
        (1, _) => {}
        (0, ["averageUtilization", ..]) => problems.required(
            join(path, "averageUtilization"),
            "must set either a target raw value or a target utilization",
        ),
        (0, ["value", ..]) => problems.required(
            join(path, "averageValue"),
            "must set either a target value for metric or a per-pod target",
        ),
        (0, _) => {
            problems.required(join(path, "averageValue"), "must specify a positive target averageValue")
        }
        (_, ["averageUtilization", ..]) => problems.push(FieldError::forbidden(
            join(path, "averageValue"),
            "may not set both a target raw value and a target utilization",
        )),
        _ => problems.push(FieldError::forbidden(
            join(path, "value"),
            "may not set both a target value for metric and a per-pod target",
        )),
    }
    if let Some(percent) = integer(target, "averageUtilization").filter(|percent| *percent < 1) {
        problems.invalid(join(path, "averageUtilization"), &percent.into(), "must be greater than 0");
    }
    for key in ["value", "averageValue"] {
        let quantity = at(target, key).and_then(Value::as_str).and_then(|text| Quantity::parse(text).ok());
        if quantity.is_some_and(|quantity| quantity.is_negative() || quantity.is_zero()) {
            problems.invalid(join(path, key), &target[key], "must be positive");
        }
    }
}

fn behavior(rules: &Value, path: &str, problems: &mut Problems) {
    if let Some(seconds) = integer(rules, "stabilizationWindowSeconds") {
        let field = join(path, "stabilizationWindowSeconds");
        if seconds < 0 {
            problems.invalid(field, &seconds.into(), "must be greater than or equal to zero");
        } else if seconds > WINDOW_SECONDS_MAX {
            problems.invalid(
                field,
                &seconds.into(),
                format!("must be less than or equal to {WINDOW_SECONDS_MAX}"),
            );
        }
    }
    problems.one_of(rules, path, "selectPolicy", &["Disabled", "Max", "Min"]);
    let tolerance =
        at(rules, "tolerance").and_then(Value::as_str).and_then(|text| Quantity::parse(text).ok());
    if tolerance.is_some_and(Quantity::is_negative) {
        problems.invalid(join(path, "tolerance"), &rules["tolerance"], "must be greater than or equal to 0");
    }
    let policies = list(rules, "policies");
    if policies.is_empty() {
        problems.required(join(path, "policies"), "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        let path = format!("{path}.policies[{index}]");
        problems.one_of(policy, &path, "type", &["Percent", "Pods"]);
        for key in ["value", "periodSeconds"] {
            if let Some(number) = integer(policy, key).filter(|number| *number <= 0) {
                problems.invalid(join(&path, key), &number.into(), "must be greater than zero");
            }
        }
        if let Some(seconds) =
            integer(policy, "periodSeconds").filter(|seconds| *seconds > PERIOD_SECONDS_MAX)
        {
            let why = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
            problems.invalid(join(&path, "periodSeconds"), &seconds.into(), why);
        }
    }
}
