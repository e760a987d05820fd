//! HorizontalPodAutoscalers, in both versions.

mod convert;
mod targets;
mod validate;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::{v1, v2};
use serde_json::{Value, json};

use super::row::{Row, StoredAs, Sub, namespaced};
use crate::cells::{AGE, NAME, age, column, status_count};
use crate::object::{self, at, default, ensure, integer, name, text};

const PLURAL: &str = "horizontalpodautoscalers";

pub(crate) const HORIZONTAL_POD_AUTOSCALER: Row = Row {
    short_names: &["hpa"],
    in_all: true,
    subresources: &[Sub::Status],
    columns: const {
        &[
            NAME,
            column("Reference"),
            column("Targets"),
            column("MinPods"),
            column("MaxPods"),
            column("Replicas"),
            AGE,
        ]
    },
    cells: autoscaler,
    defaults,
    on_create: |object, _| object["status"] = json!({"currentMetrics": null, "desiredReplicas": 0}),
    validate: validate::validate,
    ..namespaced::<v2::HorizontalPodAutoscaler>(["autoscaling", "v2"], "HorizontalPodAutoscaler", PLURAL)
};

pub(crate) const HORIZONTAL_POD_AUTOSCALER_V1: Row = Row {
    version: "v1",
    stored_as: Some(StoredAs {
        group: "autoscaling",
        api_version: "autoscaling/v2",
        from_stored: convert::to_v1,
        to_stored: convert::from_v1,
    }),
    schema: namespaced::<v1::HorizontalPodAutoscaler>(["", ""], "", "").schema,
    ..HORIZONTAL_POD_AUTOSCALER
};

/// Sets `minReplicas` 1, CPU at 80 %, and both directions of `behavior` if there is any (hpa.md 1.8 and 3.1).
fn defaults(object: &mut Value) {
    let spec = ensure(object, "spec");
    default(spec, "minReplicas", 1);
    if object::list(spec, "metrics").is_empty() {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        spec["metrics"] = json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
    }
    if at(spec, "behavior").is_none() {
        return;
    }
    let behavior = ensure(spec, "behavior");
    let up = ensure(behavior, "scaleUp");
    default(up, "stabilizationWindowSeconds", 0);
    default(up, "selectPolicy", "Max");
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    default(up, "policies", json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, percent]));
    let down = ensure(behavior, "scaleDown");
    default(down, "selectPolicy", "Max");
    default(down, "policies", json!([percent]));
}

fn autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
    // autoscaling/v1 prints like its stored form.
    let converted;
    let object = if text(object, "apiVersion") == "autoscaling/v1" {
        converted = convert::from_v1(object.clone());
        &converted
    } else {
        object
    };
    let reference =
        format!("{}/{}", text(object, "spec.scaleTargetRef.kind"), text(object, "spec.scaleTargetRef.name"));
    let minimum =
        integer(object, "spec.minReplicas").map_or_else(|| "<unset>".to_owned(), |number| number.to_string());
    vec![
        name(object).into(),
        reference.into(),
        targets::targets(object).into(),
        minimum.into(),
        integer(object, "spec.maxReplicas").unwrap_or(0).to_string().into(),
        status_count(object, "currentReplicas").into(),
        age(object, now),
    ]
}
