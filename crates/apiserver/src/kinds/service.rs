//! Services; [`crate::services`] allocates their addresses.

mod validate;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use serde_json::{Value, json};

use super::row::{Generation, Row, Sub, namespaced};
use crate::cells::{AGE, NAME, age, column, or_none, wide};
use crate::names;
use crate::object::{at, default, ensure, integer, items_mut, list, name, text};
use crate::selector::Labels;

pub(crate) const SERVICE: Row = Row {
    short_names: &["svc"],
    in_all: true,
    subresources: &[Sub::Status],
    columns: const {
        &[
            NAME,
            column("Type"),
            column("Cluster-IP"),
            column("External-IP"),
            column("Port(s)"),
            AGE,
            wide("Selector"),
        ]
    },
    cells: service,
    field_selectors: &["spec.clusterIP", "spec.type"],
    name_rule: names::dns_1035_label,
    defaults,
    on_create: |object, _| object["status"] = json!({"loadBalancer": {}}),
    validate: validate::validate,
    validate_update: |current, object, _, problems| validate::transition(current, object, problems),
    generation: Generation::Never,
    ..namespaced::<v1::Service>(["", "v1"], "Service", "services")
};

fn defaults(object: &mut Value) {
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

fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(object, "spec.ports")
        .iter()
        .map(|port| {
            let (number, protocol) = (integer(port, "port").unwrap_or(0), text(port, "protocol"));
            match integer(port, "nodePort").filter(|number| *number != 0) {
                Some(node_port) => format!("{number}:{node_port}/{protocol}"),
                None => format!("{number}/{protocol}"),
            }
        })
        .collect();
    let external: Vec<&str> = list(object, "spec.externalIPs").iter().filter_map(Value::as_str).collect();
    let balanced: Vec<&str> = list(object, "status.loadBalancer.ingress")
        .iter()
        .map(|one| if text(one, "ip").is_empty() { text(one, "hostname") } else { text(one, "ip") })
        .collect();
    let external = match text(object, "spec.type") {
        "ExternalName" => text(object, "spec.externalName").to_owned(),
        "LoadBalancer" if external.is_empty() && balanced.is_empty() => "<pending>".to_owned(),
        "LoadBalancer" => [balanced, external].concat().join(","),
        _ => external.join(","),
    };
    let labels = at(object, "spec.selector").map(|labels| serde_json::json!({"matchLabels": labels}));
    let selector = labels.map(|labels| Labels::from_object(&labels).to_string()).unwrap_or_default();
    vec![
        name(object).into(),
        text(object, "spec.type").into(),
        or_none(text(object, "spec.clusterIP").into()),
        or_none(external),
        or_none(ports.join(",")),
        age(object, now),
        or_none(selector),
    ]
}
