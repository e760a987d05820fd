//! Validation of pod specs in pods and templates (`pkg/apis/core/validation/validation.go`).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::names;
use crate::object::{at, integer, list, map, remove, text};
use crate::problems::{Problems, join};
use crate::quantity::Quantity;
use crate::status::FieldError;

const PORTS: std::ops::RangeInclusive<i64> = 1..=65535;

/// Validates the pod spec at `path`.
pub(crate) fn spec(spec: &Value, path: &str, problems: &mut Problems) {
    let volumes = volumes(spec, path, problems);
    if list(spec, "containers").is_empty() {
        problems.required(join(path, "containers"), "");
    }
    let mut seen = BTreeSet::new();
    for kind in ["initContainers", "containers"] {
        for (index, one) in list(spec, kind).iter().enumerate() {
            let at = format!("{path}.{kind}[{index}]");
            container(one, &at, kind == "initContainers", &volumes, problems);
            resize_policies(one, &at, text(spec, "restartPolicy"), problems);
            if !text(one, "name").is_empty() && !seen.insert(text(one, "name").to_owned()) {
                problems.push(FieldError::duplicate(format!("{at}.name"), &one["name"]));
            }
        }
    }
    problems.one_of(spec, path, "restartPolicy", &["Always", "OnFailure", "Never"]);
    problems.one_of(spec, path, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    problems.not_negative(spec, path, "terminationGracePeriodSeconds");
    if let Some(seconds) = integer(spec, "activeDeadlineSeconds").filter(|seconds| *seconds < 1) {
        let why = "must be between 1 and 2147483647, inclusive";
        problems.invalid(join(path, "activeDeadlineSeconds"), &seconds.into(), why);
    }
    for (index, value) in list(spec, "imagePullSecrets").iter().enumerate() {
        if text(value, "name").is_empty() {
            problems.required(format!("{path}.imagePullSecrets[{index}].name"), "");
        }
    }
}

fn volumes(spec: &Value, path: &str, problems: &mut Problems) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let at = format!("{path}.volumes[{index}]");
        problems.name(volume, &at, "name", names::dns_label);
        if !known.insert(text(volume, "name").to_owned()) {
            problems.push(FieldError::duplicate(format!("{at}.name"), &volume["name"]));
        }
        if volume.as_object().map_or(0, serde_json::Map::len) > 2 {
            problems.push(FieldError::forbidden(at, "may not specify more than 1 volume type"));
        }
    }
    known
}

fn container(container: &Value, path: &str, init: bool, volumes: &BTreeSet<String>, problems: &mut Problems) {
    problems.name(container, path, "name", names::dns_label);
    let image = text(container, "image");
    if image.is_empty() {
        problems.required(join(path, "image"), "");
    } else if image.trim() != image {
        problems.invalid(join(path, "image"), &image.into(), "must not have leading or trailing whitespace");
    }
    problems.one_of(container, path, "imagePullPolicy", &["Always", "IfNotPresent", "Never"]);
    problems.one_of(container, path, "terminationMessagePolicy", &["FallbackToLogsOnError", "File"]);
    ports(container, path, problems);
    for (index, variable) in list(container, "env").iter().enumerate() {
        let at = format!("{path}.env[{index}]");
        environment(variable, &at, problems);
    }
    resources(container, path, problems);
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        let at = format!("{path}.volumeMounts[{index}]");
        let name = text(mount, "name");
        if name.is_empty() {
            problems.required(format!("{at}.name"), "");
        } else if !volumes.contains(name) {
            problems.push(FieldError::not_found(format!("{at}.name"), &name.into()));
        }
        if text(mount, "mountPath").is_empty() {
            problems.required(format!("{at}.mountPath"), "");
        }
    }
    let restartable = text(container, "restartPolicy") == "Always";
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(value) = at(container, name) else { continue };
        if init && !restartable {
            problems.push(FieldError::forbidden(
                join(path, name),
                "may not be set for init containers without restartPolicy=Always",
            ));
        } else {
            probe(value, &join(path, name), name != "readinessProbe", problems);
        }
    }
}

fn ports(container: &Value, path: &str, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, port) in list(container, "ports").iter().enumerate() {
        let at = format!("{path}.ports[{index}]");
        let name = text(port, "name");
        if let Some(why) = Some(name).filter(|name| !name.is_empty()).and_then(names::port_name) {
            problems.invalid(format!("{at}.name"), &name.into(), why);
        }
        if !name.is_empty() && !seen.insert(name) {
            problems.push(FieldError::duplicate(format!("{at}.name"), &name.into()));
        }
        match integer(port, "containerPort") {
            None | Some(0) => problems.required(format!("{at}.containerPort"), ""),
            Some(number) => self::port(number, &format!("{at}.containerPort"), problems),
        }
        if let Some(number) = integer(port, "hostPort").filter(|number| *number != 0) {
            self::port(number, &format!("{at}.hostPort"), problems);
        }
        problems.one_of(port, &at, "protocol", &["SCTP", "TCP", "UDP"]);
    }
}

/// Validates a port number.
pub(crate) fn port(number: i64, path: &str, problems: &mut Problems) {
    if !PORTS.contains(&number) {
        problems.invalid(path, &number.into(), "must be between 1 and 65535, inclusive");
    }
}

/// Validates a port number or name.
pub(crate) fn target_port(value: &Value, path: &str, problems: &mut Problems) {
    match value {
        Value::String(name) => {
            if let Some(why) = names::port_name(name) {
                problems.invalid(path, value, why);
            }
        }
        other => port(other.as_i64().unwrap_or(0), path, problems),
    }
}

fn environment(variable: &Value, path: &str, problems: &mut Problems) {
    let name = text(variable, "name");
    if name.is_empty() {
        problems.required(format!("{path}.name"), "");
    } else if !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=') {
        let why = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        problems.invalid(format!("{path}.name"), &name.into(), why);
    }
    let Some(source) = map(variable, "valueFrom") else { return };
    if !text(variable, "value").is_empty() {
        let why = "may not be specified when `value` is not empty";
        problems.invalid(format!("{path}.valueFrom"), &"".into(), why);
    }
    if source.len() != 1 {
        let why = "must specify exactly one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
        problems.invalid(format!("{path}.valueFrom"), &"".into(), why);
    }
}

fn resources(container: &Value, path: &str, problems: &mut Problems) {
    for kind in ["limits", "requests"] {
        for (name, value) in map(container, &format!("resources.{kind}")).into_iter().flatten() {
            let at = format!("{path}.resources.{kind}[{name}]");
            let Ok(quantity) = Quantity::parse(value.as_str().unwrap_or_default()) else { continue };
            if !["cpu", "memory", "ephemeral-storage"].contains(&name.as_str())
                && !name.contains('/')
                && !name.starts_with("hugepages-")
            {
                problems.invalid(
                    at.clone(),
                    &name.as_str().into(),
                    "must be a standard resource for containers",
                );
            }
            if quantity.is_negative() {
                problems.invalid(at.clone(), value, "must be greater than or equal to 0");
            }
            if name.contains('/') && !quantity.is_integer() {
                problems.invalid(at, value, "must be an integer");
            }
        }
    }
    for (name, request) in map(container, "resources.requests").into_iter().flatten() {
        let Some(limit) = at(container, "resources.limits").and_then(|limits| limits.get(name)) else {
            continue;
        };
        let parse = |value: &Value| Quantity::parse(value.as_str().unwrap_or_default()).ok();
        if let (Some(wanted), Some(most)) = (parse(request), parse(limit))
            && wanted > most
        {
            let why = format!("must be less than or equal to {name} limit of {most}");
            problems.invalid(format!("{path}.resources.requests"), request, why);
        }
    }
}

/// Validates a container's resize policies (`validateResizePolicy`).
fn resize_policies(container: &Value, path: &str, pod_restart_policy: &str, problems: &mut Problems) {
    let at = join(path, "resizePolicy");
    let mut seen = BTreeSet::new();
    for (index, policy) in list(container, "resizePolicy").iter().enumerate() {
        let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if !seen.insert(resource) {
            problems.push(FieldError::duplicate(format!("{at}[{index}]"), &resource.into()));
        }
        for (value, known) in [(resource, ["cpu", "memory"]), (restart, ["NotRequired", "RestartContainer"])]
        {
            if value.is_empty() {
                problems.required(at.clone(), "");
            } else if !known.contains(&value) {
                problems.push(FieldError::not_supported(at.clone(), &value.into(), &known));
            }
        }
        if pod_restart_policy == "Never" && restart == "RestartContainer" {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            problems.invalid(at.clone(), &restart.into(), why);
        }
    }
}

fn probe(probe: &Value, path: &str, once: bool, problems: &mut Problems) {
    let handlers = ["exec", "httpGet", "tcpSocket", "grpc"];
    match handlers.iter().filter(|handler| at(probe, handler).is_some()).count() {
        0 => problems.required(path, "must specify a handler type"),
        1 => {}
        _ => problems.push(FieldError::forbidden(path, "may not specify more than 1 handler type")),
    }
    if at(probe, "exec").is_some() && list(probe, "exec.command").is_empty() {
        problems.required(join(path, "exec.command"), "");
    }
    for (handler, key) in [("httpGet", "httpGet.port"), ("tcpSocket", "tcpSocket.port")] {
        if at(probe, handler).is_some() {
            target_port(at(probe, key).unwrap_or(&Value::Null), &join(path, key), problems);
        }
    }
    if at(probe, "httpGet").is_some() {
        problems.one_of(probe, path, "httpGet.scheme", &["HTTP", "HTTPS"]);
    }
    for key in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        problems.not_negative(probe, path, key);
    }
    if let Some(count) = integer(probe, "successThreshold").filter(|count| once && *count > 1) {
        problems.invalid(join(path, "successThreshold"), &count.into(), "must be 1");
    }
}

/// Validates an update of a pod: few fields may change.
pub(crate) fn transition(current: &Value, object: &Value, problems: &mut Problems) {
    let fixed = |pod: &Value| {
        let mut spec = pod.get("spec").cloned().unwrap_or_default();
        for list in ["containers", "initContainers"] {
            for container in crate::object::items_mut(&mut spec, list) {
                remove(container, "image");
            }
        }
        for path in
            ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"]
        {
            remove(&mut spec, path);
        }
        spec
    };
    if fixed(current) != fixed(object) {
        problems.push(FieldError::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
}
