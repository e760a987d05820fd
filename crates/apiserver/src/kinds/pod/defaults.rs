//! Defaults of pods and pod templates (`pkg/apis/core/v1/defaults.go`), and server-set fields of new pods.

use serde_json::{Value, json};

use crate::object::{self, at, default, ensure, items_mut, list, set, text};
use crate::quantity::Quantity;

/// Default mode of files in volumes: 0644.
const FILE_MODE: i64 = 420;

/// Applies defaults to a pod, as opposed to a template.
pub(crate) fn pod(object: &mut Value) {
    let pod_spec = ensure(object, "spec");
    spec(pod_spec);
    default(pod_spec, "enableServiceLinks", true);
    // Set by the ServiceAccount, Priority and DefaultTolerationSeconds admission plugins.
    let account = at(pod_spec, "serviceAccount").cloned().unwrap_or_else(|| "default".into());
    default(pod_spec, "serviceAccountName", account);
    let account = pod_spec["serviceAccountName"].clone();
    default(pod_spec, "serviceAccount", account);
    default(pod_spec, "priority", 0);
    default(pod_spec, "preemptionPolicy", "PreemptLowerPriority");
}

/// Applies defaults to the spec of a pod or template.
pub(crate) fn spec(spec: &mut Value) {
    default(spec, "restartPolicy", "Always");
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "securityContext", json!({}));
    for list in ["initContainers", "containers"] {
        items_mut(spec, list).for_each(container);
    }
    items_mut(spec, "volumes").for_each(volume);
}

fn container(container: &mut Value) {
    let image = text(container, "image");
    let tag = image.rsplit('/').next().unwrap_or_default().split_once(':').map_or("latest", |(_, tag)| tag);
    let policy = if tag == "latest" && !image.contains('@') { "Always" } else { "IfNotPresent" };
    default(container, "imagePullPolicy", policy);
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    default(container, "resources", json!({}));
    items_mut(container, "ports").for_each(|port| default(port, "protocol", "TCP"));
    // The request defaults to the limit.
    let limits = at(container, "resources.limits").cloned();
    for (name, limit) in limits.as_ref().and_then(Value::as_object).into_iter().flatten() {
        default(ensure(&mut container["resources"], "requests"), name, limit.clone());
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if at(container, name).is_some() {
            probe(&mut container[name]);
        }
    }
    for hook in ["postStart", "preStop"] {
        if at(container, &format!("lifecycle.{hook}.httpGet")).is_some() {
            http_get(&mut container["lifecycle"][hook]["httpGet"]);
        }
    }
    for variable in items_mut(container, "env") {
        if at(variable, "valueFrom.fieldRef").is_some() {
            default(&mut variable["valueFrom"]["fieldRef"], "apiVersion", "v1");
        }
    }
}

fn probe(probe: &mut Value) {
    for (key, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if object::integer(probe, key).unwrap_or(0) == 0 {
            probe[key] = value.into();
        }
    }
    if at(probe, "httpGet").is_some() {
        http_get(&mut probe["httpGet"]);
    }
    if at(probe, "grpc").is_some() {
        default(&mut probe["grpc"], "service", "");
    }
}

fn http_get(get: &mut Value) {
    default(get, "path", "/");
    default(get, "scheme", "HTTP");
}

fn volume(volume: &mut Value) {
    for source in ["secret", "configMap", "projected", "downwardAPI"] {
        if at(volume, source).is_some() {
            default(&mut volume[source], "defaultMode", FILE_MODE);
        }
    }
    if at(volume, "hostPath").is_some() {
        default(&mut volume["hostPath"], "type", "");
    }
    let sources = volume.as_object().map_or(0, serde_json::Map::len);
    if sources == 1 {
        set(volume, "emptyDir", json!({}));
    }
}

/// Returns the QoS class: Guaranteed when every container's limits are set and equal its requests, BestEffort when
/// none are set, else Burstable.
pub(crate) fn qos_class(pod: &Value) -> &'static str {
    let containers = list(pod, "spec.initContainers").iter().chain(list(pod, "spec.containers"));
    let quantity = |container: &Value, kind: &str, resource: &str| {
        let text = text(container, &format!("resources.{kind}.{resource}"));
        Quantity::parse(text).ok().filter(|quantity| !quantity.is_zero())
    };
    let (mut any, mut all) = (false, true);
    for container in containers {
        for resource in ["cpu", "memory"] {
            let (request, limit) =
                (quantity(container, "requests", resource), quantity(container, "limits", resource));
            any |= request.is_some() || limit.is_some();
            all &= limit.is_some() && request == limit;
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Restricts a `/resize` to the resources and resize policies of containers. Validation checks that the containers
/// and their order are unchanged.
pub(crate) fn only_resources(current: &Value, object: &mut Value) {
    let mut kept = current.clone();
    for key in ["containers", "initContainers"] {
        let path = format!("spec.{key}");
        if at(current, &path).is_none() && at(object, &path).is_none() {
            continue;
        }
        let resized = list(object, &path).iter().map(|wanted| {
            let same = |known: &&Value| text(known, "name") == text(wanted, "name");
            let Some(known) = list(current, &path).iter().find(same) else { return wanted.clone() };
            let mut container = known.clone();
            for field in ["resources", "resizePolicy"] {
                object::copy(wanted, &mut container, field);
            }
            container
        });
        set(&mut kept, &path, resized.collect::<Vec<_>>().into());
    }
    object::copy(object, &mut kept, "metadata.managedFields");
    *object = kept;
}
