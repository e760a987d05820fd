//! What Kubernetes fills in when a manifest leaves it out, and what it sets at creation.
//!
//! Follows `pkg/apis/*/v1/defaults.go` and the strategies in `pkg/registry/*`. Defaults of custom resources come from
//! their schema and are applied when they are decoded.

pub(crate) mod pod;
mod workload;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::crd;
use crate::kinds::{Kind, Sub};
use crate::limits;
use crate::object::{self, at, copy, default, ensure, items_mut, set, text};

/// Fills in the defaults of a stored-form object.
pub(crate) fn apply(kind: &Kind, object: &mut Value) {
    if kind.custom.is_some() {
        return;
    }
    match &*kind.storage {
        crd::STORAGE => crd::apply_defaults(object),
        "core/pods" => pod::pod(object),
        "core/services" => service(object),
        "core/namespaces" => namespace(object),
        "core/secrets" => secret(object),
        "core/limitranges" => limits::complete(object),
        "core/persistentvolumes" => {
            let spec = ensure(object, "spec");
            default(spec, "persistentVolumeReclaimPolicy", "Retain");
            default(spec, "volumeMode", "Filesystem");
        }
        "core/persistentvolumeclaims" => default(ensure(object, "spec"), "volumeMode", "Filesystem"),
        "core/endpoints" => {
            for subset in items_mut(object, "subsets") {
                items_mut(subset, "ports").for_each(|port| default(port, "protocol", "TCP"));
            }
        }
        "core/events" => default(object, "type", "Normal"),
        "discovery.k8s.io/endpointslices" => {
            for port in items_mut(object, "ports") {
                default(port, "name", "");
                default(port, "protocol", "TCP");
            }
        }
        "autoscaling/horizontalpodautoscalers" => autoscaler(object),
        "storage.k8s.io/storageclasses" => {
            default(object, "reclaimPolicy", "Delete");
            default(object, "volumeBindingMode", "Immediate");
        }
        storage => workload::apply(storage, object),
    }
}

fn service(object: &mut Value) {
    let spec = ensure(object, "spec");
    default(spec, "type", "ClusterIP");
    default(spec, "sessionAffinity", "None");
    if text(spec, "sessionAffinity") == "ClientIP" {
        let client = ensure(ensure(spec, "sessionAffinityConfig"), "clientIP");
        default(client, "timeoutSeconds", 10_800);
    }
    let service_type = text(spec, "type").to_owned();
    if service_type != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
        default(spec, "ipFamilies", json!(["IPv4"]));
        default(spec, "ipFamilyPolicy", "SingleStack");
    }
    if ["NodePort", "LoadBalancer"].contains(&service_type.as_str()) {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    if service_type == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
    for port in items_mut(spec, "ports") {
        default(port, "protocol", "TCP");
        if [Some(&json!(0)), Some(&json!("")), None].contains(&at(port, "targetPort")) {
            let number = port["port"].clone();
            port["targetPort"] = number;
        }
    }
}

fn namespace(object: &mut Value) {
    let name = object::name(object).to_owned();
    let metadata = ensure(object, "metadata");
    default(ensure(metadata, "labels"), "kubernetes.io/metadata.name", name);
}

fn secret(object: &mut Value) {
    use base64::Engine;
    default(object, "type", "Opaque");
    let Some(Value::Object(texts)) = object::remove(object, "stringData") else { return };
    let data = ensure(object, "data");
    for (key, value) in texts {
        let bytes = value.as_str().unwrap_or_default();
        data[key] = base64::engine::general_purpose::STANDARD.encode(bytes).into();
    }
}

/// hpa.md 1.8 and 3.1: `minReplicas` 1, CPU at 80 %, and both directions of `behavior` once there is one.
fn autoscaler(object: &mut Value) {
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

/// The status and the other fields that a new object gets from the server.
pub(crate) fn prepare_for_create(kind: &Kind, object: &mut Value, now: Timestamp) {
    if kind.custom.is_some() {
        return;
    }
    match &*kind.storage {
        "core/pods" => {
            let class = pod::qos_class(object);
            object["status"] = json!({"phase": "Pending", "qosClass": class});
        }
        "core/namespaces" => {
            set(object, "spec.finalizers", json!(["kubernetes"]));
            object["status"] = json!({"phase": "Active"});
        }
        "core/services" => object["status"] = json!({"loadBalancer": {}}),
        "core/persistentvolumes" | "core/persistentvolumeclaims" => {
            object["status"] = json!({"phase": "Pending"})
        }
        "apps/deployments" => object["status"] = json!({}),
        "apps/replicasets" => object["status"] = json!({"replicas": 0}),
        "apps/statefulsets" => object["status"] = json!({"replicas": 0, "availableReplicas": 0}),
        "batch/jobs" => {
            object["status"] = json!({});
            workload::select_job(object);
        }
        "batch/cronjobs" => object["status"] = json!({}),
        "autoscaling/horizontalpodautoscalers" => {
            object["status"] = json!({"currentMetrics": null, "desiredReplicas": 0});
        }
        "certificates.k8s.io/certificatesigningrequests" => object["status"] = json!({}),
        "core/events" if at(object, "firstTimestamp").is_none() && at(object, "eventTime").is_none() => {
            set(object, "firstTimestamp", crate::verbs::second(now).into());
            let first = object["firstTimestamp"].clone();
            default(object, "lastTimestamp", first);
        }
        _ => {}
    }
}

/// What an update keeps, whatever the new object says.
pub(crate) fn prepare_for_update(kind: &Kind, current: &Value, object: &mut Value, sub: Option<Sub>) {
    match &*kind.storage {
        "core/pods" if sub == Some(Sub::Resize) => pod::only_resources(current, object),
        "core/namespaces" if sub.is_none() => copy(current, object, "spec.finalizers"),
        "batch/jobs" if kind.custom.is_none() => {
            for path in ["spec.selector", "spec.manualSelector"] {
                if at(object, path).is_none() {
                    copy(current, object, path);
                }
            }
        }
        _ => {}
    }
}
