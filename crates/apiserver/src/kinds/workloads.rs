//! Workloads that run until they are deleted: apps/v1 and ReplicationControllers (`pkg/apis/apps`).

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1, core};
use serde_json::{Value, json};

use super::pod::{self, template_defaults};
use super::row::{Row, Sub, namespaced};
use crate::cells::{
    AGE, NAME, age, column, containers, number, or_none, selector as selector_cell, status_count, wide,
};
use crate::names;
use crate::object::{at, default, ensure, integer, list, map, name, remove, text};
use crate::problems::{Problems, labels, number_or_percent};
use crate::selector::Labels;
use crate::status::FieldError;

const APPS: [&str; 2] = ["apps", "v1"];

pub(crate) const CONTROLLER_REVISION: Row =
    namespaced::<v1::ControllerRevision>(APPS, "ControllerRevision", "controllerrevisions");

pub(crate) const DAEMON_SET: Row = Row {
    short_names: &["ds"],
    in_all: true,
    subresources: &[Sub::Status],
    columns: const {
        &[
            NAME,
            number("Desired"),
            number("Current"),
            number("Ready"),
            number("Up-to-date"),
            number("Available"),
            column("Node Selector"),
            AGE,
            wide("Containers"),
            wide("Images"),
            wide("Selector"),
        ]
    },
    cells: daemon_set,
    defaults: |object| {
        let spec = ensure(object, "spec");
        default(spec, "revisionHistoryLimit", 10);
        default_rolling_update(
            spec,
            "updateStrategy",
            &[("maxUnavailable", json!(1)), ("maxSurge", json!(0))],
        );
        template_defaults(spec);
    },
    validate: |object, problems| selected_template(&object["spec"], "daemonset", problems),
    validate_update: selector_is_immutable,
    ..namespaced::<v1::DaemonSet>(APPS, "DaemonSet", "daemonsets")
};

pub(crate) const DEPLOYMENT: Row = Row {
    short_names: &["deploy"],
    in_all: true,
    subresources: &[Sub::Scale, Sub::Status],
    columns: const {
        &[
            NAME,
            column("Ready"),
            number("Up-to-date"),
            number("Available"),
            AGE,
            wide("Containers"),
            wide("Images"),
            wide("Selector"),
        ]
    },
    cells: deployment,
    defaults: |object| {
        let spec = ensure(object, "spec");
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "progressDeadlineSeconds", 600);
        default_rolling_update(
            spec,
            "strategy",
            &[("maxUnavailable", json!("25%")), ("maxSurge", json!("25%"))],
        );
        template_defaults(spec);
    },
    on_create: |object, _| object["status"] = json!({}),
    validate: |object, problems| {
        selected_template(&object["spec"], "deployment", problems);
        validate_deployment(&object["spec"], problems);
    },
    validate_update: selector_is_immutable,
    ..namespaced::<v1::Deployment>(APPS, "Deployment", "deployments")
};

pub(crate) const REPLICA_SET: Row = Row {
    short_names: &["rs"],
    in_all: true,
    subresources: &[Sub::Scale, Sub::Status],
    columns: const {
        &[
            NAME,
            number("Desired"),
            number("Current"),
            number("Ready"),
            AGE,
            wide("Containers"),
            wide("Images"),
            wide("Selector"),
        ]
    },
    cells: replica_set,
    field_selectors: &["status.replicas"],
    defaults: replicated,
    on_create: |object, _| object["status"] = json!({"replicas": 0}),
    validate: |object, problems| selected_template(&object["spec"], "replicaset", problems),
    validate_update: selector_is_immutable,
    ..namespaced::<v1::ReplicaSet>(APPS, "ReplicaSet", "replicasets")
};

pub(crate) const REPLICATION_CONTROLLER: Row = Row {
    short_names: &["rc"],
    in_all: true,
    subresources: &[Sub::Scale, Sub::Status],
    field_selectors: &["status.replicas"],
    defaults: replicated,
    ..namespaced::<core::v1::ReplicationController>(
        ["", "v1"],
        "ReplicationController",
        "replicationcontrollers",
    )
};

pub(crate) const STATEFUL_SET: Row = Row {
    short_names: &["sts"],
    in_all: true,
    subresources: &[Sub::Scale, Sub::Status],
    columns: const { &[NAME, column("Ready"), AGE, wide("Containers"), wide("Images")] },
    cells: stateful_set,
    defaults: |object| stateful_set_defaults(ensure(object, "spec")),
    on_create: |object, _| object["status"] = json!({"replicas": 0, "availableReplicas": 0}),
    validate: |object, problems| {
        let spec = &object["spec"];
        selected_template(spec, "statefulset", problems);
        problems.one_of(spec, "spec", "podManagementPolicy", &["OrderedReady", "Parallel"]);
        problems.one_of(spec, "spec", "updateStrategy.type", &["OnDelete", "RollingUpdate"]);
    },
    validate_update: |current, object, _, problems| stateful_set_update(current, object, problems),
    ..namespaced::<v1::StatefulSet>(APPS, "StatefulSet", "statefulsets")
};

fn replicated(object: &mut Value) {
    let spec = ensure(object, "spec");
    default(spec, "replicas", 1);
    template_defaults(spec);
}

/// Defaults the strategy under `key` to `RollingUpdate` with `parameters`, unless another is set.
fn default_rolling_update(spec: &mut Value, key: &str, parameters: &[(&str, Value)]) {
    let strategy = ensure(spec, key);
    default(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let update = ensure(strategy, "rollingUpdate");
        parameters.iter().for_each(|(key, value)| default(update, key, value.clone()));
    }
}

fn stateful_set_defaults(spec: &mut Value) {
    default(spec, "replicas", 1);
    default(spec, "podManagementPolicy", "OrderedReady");
    default(spec, "revisionHistoryLimit", 10);
    default_rolling_update(spec, "updateStrategy", &[("partition", json!(0))]);
    let retention = ensure(spec, "persistentVolumeClaimRetentionPolicy");
    default(retention, "whenDeleted", "Retain");
    default(retention, "whenScaled", "Retain");
    template_defaults(spec);
}

fn selector_is_immutable(current: &Value, object: &Value, _: Option<Sub>, problems: &mut Problems) {
    problems.immutable(current, object, "spec.selector");
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
    labels(selector, "matchLabels", problems);
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
                problems.push(FieldError::forbidden(format!("{path}.values"), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => problems.invalid(
                format!("{path}.operator"),
                &operator.into(),
                "not a valid selector operator",
            ),
        }
        problems.name(expression, &path, "key", names::qualified_name);
    }
}

pub(super) fn template(spec: &Value, path: &str, restart_policies: &[&str], problems: &mut Problems) {
    let path = format!("{path}.template");
    let Some(template) = at(spec, "template") else {
        return problems.required(path, "");
    };
    for (key, value) in map(template, "metadata.labels").into_iter().flatten() {
        let wrong = names::qualified_name(key)
            .map(|why| (Value::from(key.as_str()), why))
            .or_else(|| Some((value.clone(), names::label_value(value.as_str()?)?)));
        if let Some((value, why)) = wrong {
            problems.invalid(format!("{path}.labels"), &value, why);
        }
    }
    let pod_spec = at(template, "spec").unwrap_or(&Value::Null);
    let spec_path = format!("{path}.spec");
    pod::validate::spec(pod_spec, &spec_path, problems);
    let policy = text(pod_spec, "restartPolicy");
    if ["Always", "OnFailure", "Never"].contains(&policy) && !restart_policies.contains(&policy) {
        let field = format!("{spec_path}.restartPolicy");
        problems.push(FieldError::not_supported(field, &policy.into(), restart_policies));
    }
}

fn validate_deployment(spec: &Value, problems: &mut Problems) {
    problems.one_of(spec, "spec", "strategy.type", &["Recreate", "RollingUpdate"]);
    let rolling_update = at(spec, "strategy.rollingUpdate");
    if text(spec, "strategy.type") == "Recreate" && rolling_update.is_some() {
        let why = "may not be specified when strategy `type` is 'Recreate'";
        problems.push(FieldError::forbidden("spec.strategy.rollingUpdate", why));
    } else if let Some(rolling_update) = rolling_update {
        let path = "spec.strategy.rollingUpdate";
        for key in ["maxUnavailable", "maxSurge"] {
            number_or_percent(rolling_update, path, key, problems);
        }
        let zero = |key| at(rolling_update, key).is_some_and(|value| *value == 0 || *value == "0%");
        if zero("maxUnavailable") && zero("maxSurge") {
            let why = "may not be 0 when `maxSurge` is 0";
            problems.invalid(format!("{path}.maxUnavailable"), &rolling_update["maxUnavailable"], why);
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

fn stateful_set_update(current: &Value, object: &Value, problems: &mut Problems) {
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
        problems.push(FieldError::forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ));
    }
}

fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = format!(
        "{}/{}",
        status_count(object, "readyReplicas"),
        integer(object, "spec.replicas").unwrap_or(0)
    );
    let [names, images] = containers(object);
    vec![
        name(object).into(),
        ready.into(),
        status_count(object, "updatedReplicas").into(),
        status_count(object, "availableReplicas").into(),
        age(object, now),
        names,
        images,
        selector_cell(object),
    ]
}

fn replica_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object);
    vec![
        name(object).into(),
        integer(object, "spec.replicas").unwrap_or(0).into(),
        status_count(object, "replicas").into(),
        status_count(object, "readyReplicas").into(),
        age(object, now),
        names,
        images,
        selector_cell(object),
    ]
}

fn stateful_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = format!(
        "{}/{}",
        status_count(object, "readyReplicas"),
        integer(object, "spec.replicas").unwrap_or(0)
    );
    let [names, images] = containers(object);
    vec![name(object).into(), ready.into(), age(object, now), names, images]
}

fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object);
    let node_selector = at(object, "spec.template.spec.nodeSelector").cloned().unwrap_or_default();
    let node_selector = Labels::from_object(&serde_json::json!({"matchLabels": node_selector})).to_string();
    let counts = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ];
    let mut cells = vec![name(object).into()];
    cells.extend(counts.map(|key| Value::from(status_count(object, key))));
    cells.extend([or_none(node_selector), age(object, now), names, images, selector_cell(object)]);
    cells
}
