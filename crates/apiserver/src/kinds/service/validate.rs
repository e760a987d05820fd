//! Validation of Services (`ValidateService`); addresses are checked by their allocation ([`crate::services`]).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kinds::pod::validate as pod;
use crate::names;
use crate::object::{at, integer, list, text};
use crate::problems::Problems;
use crate::status::FieldError;

/// Validates a Service by itself.
pub(super) fn validate(object: &Value, problems: &mut Problems) {
    let spec = at(object, "spec").unwrap_or(&Value::Null);
    problems.one_of(spec, "spec", "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    problems.one_of(spec, "spec", "sessionAffinity", &["ClientIP", "None"]);
    let (service_type, headless) = (text(spec, "type"), text(spec, "clusterIP") == "None");
    let ports = list(spec, "ports");
    if ports.is_empty() && !headless && service_type != "ExternalName" {
        problems.required("spec.ports", "");
    }
    if service_type == "ExternalName" && text(spec, "externalName").is_empty() {
        problems.required("spec.externalName", "");
    }
    if headless && ["NodePort", "LoadBalancer"].contains(&service_type) {
        let why = format!("may not be set to 'None' for {service_type} services");
        problems.invalid("spec.clusterIPs[0]", &"None".into(), why);
    }
    for (key, value) in crate::object::map(spec, "selector").into_iter().flatten() {
        if let Some(why) = names::qualified_name(key) {
            problems.invalid("spec.selector", &key.as_str().into(), why);
        }
        if let Some(why) = names::label_value(value.as_str().unwrap_or_default()) {
            problems.invalid("spec.selector", value, why);
        }
    }
    let (mut seen_names, mut seen_ports) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        self::port(port, &path, ports.len() > 1, service_type, problems);
        let name = text(port, "name");
        if !name.is_empty() && !seen_names.insert(name) {
            problems.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
        }
        if !seen_ports.insert((text(port, "protocol"), integer(port, "port"))) {
            problems.push(FieldError::duplicate(path, port));
        }
    }
}

fn port(port: &Value, path: &str, several: bool, service_type: &str, problems: &mut Problems) {
    let name = text(port, "name");
    if name.is_empty() {
        if several {
            problems.required(format!("{path}.name"), "");
        }
    } else if let Some(why) = names::dns_label(name) {
        problems.invalid(format!("{path}.name"), &name.into(), why);
    }
    pod::port(integer(port, "port").unwrap_or(0), &format!("{path}.port"), problems);
    problems.one_of(port, path, "protocol", &["SCTP", "TCP", "UDP"]);
    if let Some(target) = at(port, "targetPort") {
        pod::target_port(target, &format!("{path}.targetPort"), problems);
    }
    let node_port = integer(port, "nodePort").filter(|number| *number != 0);
    if node_port.is_some() && ["ClusterIP", "ExternalName"].contains(&service_type) {
        let why = format!("may not be used when `type` is '{service_type}'");
        problems.push(FieldError::forbidden(format!("{path}.nodePort"), &why));
    }
}

/// Validates an update: the ClusterIP is immutable.
pub(super) fn transition(current: &Value, object: &Value, problems: &mut Problems) {
    let (before, after) = (text(current, "spec.clusterIP"), text(object, "spec.clusterIP"));
    if !before.is_empty() && before != after && text(object, "spec.type") != "ExternalName" {
        let why = "may not change once set";
        problems.invalid("spec.clusterIPs[0]", &serde_json::json!([after]), why);
    }
}
