//! Networking kinds besides Services: Endpoints, EndpointSlices, Ingresses, IngressClasses, NetworkPolicies.

use jiff::Timestamp;
use k8s_openapi::api::{core, discovery, networking::v1};
use serde_json::Value;

use super::row::{Row, Sub, cluster_scoped, namespaced};
use crate::cells::{AGE, NAME, age, column, or_none};
use crate::object::{default, integer, items_mut, list, name, text};

const NETWORKING: [&str; 2] = ["networking.k8s.io", "v1"];
/// Number of addresses shown before `+ n more...`.
const ENDPOINTS_SHOWN: usize = 3;

pub(crate) const ENDPOINTS: Row = Row {
    short_names: &["ep"],
    columns: const { &[NAME, column("Endpoints"), AGE] },
    cells: endpoints,
    defaults: |object| {
        for subset in items_mut(object, "subsets") {
            items_mut(subset, "ports").for_each(|port| default(port, "protocol", "TCP"));
        }
    },
    ..namespaced::<core::v1::Endpoints>(["", "v1"], "Endpoints", "endpoints")
};

pub(crate) const ENDPOINT_SLICE: Row = Row {
    columns: const { &[NAME, column("AddressType"), column("Ports"), column("Endpoints"), AGE] },
    cells: endpoint_slice,
    defaults: |object| {
        for port in items_mut(object, "ports") {
            default(port, "name", "");
            default(port, "protocol", "TCP");
        }
    },
    validate: |object, problems| {
        if text(object, "addressType").is_empty() {
            problems.required("addressType", "");
        }
        problems.one_of(object, "", "addressType", &["FQDN", "IPv4", "IPv6"]);
    },
    validate_update: |current, object, _, problems| problems.immutable(current, object, "addressType"),
    ..namespaced::<discovery::v1::EndpointSlice>(
        ["discovery.k8s.io", "v1"],
        "EndpointSlice",
        "endpointslices",
    )
};

pub(crate) const INGRESS: Row = Row {
    short_names: &["ing"],
    subresources: &[Sub::Status],
    ..namespaced::<v1::Ingress>(NETWORKING, "Ingress", "ingresses")
};

pub(crate) const INGRESS_CLASS: Row =
    cluster_scoped::<v1::IngressClass>(NETWORKING, "IngressClass", "ingressclasses");

pub(crate) const NETWORK_POLICY: Row = Row {
    short_names: &["netpol"],
    ..namespaced::<v1::NetworkPolicy>(NETWORKING, "NetworkPolicy", "networkpolicies")
};

fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in list(object, "subsets") {
        let ports = list(subset, "ports");
        for address in list(subset, "addresses") {
            let ip = text(address, "ip");
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            all.extend(ports.iter().map(|port| format!("{ip}:{}", integer(port, "port").unwrap_or(0))));
        }
    }
    vec![name(object).into(), or_none(shortened(&all)), age(object, now)]
}

fn shortened(all: &[String]) -> String {
    let shown = all[..all.len().min(ENDPOINTS_SHOWN)].join(",");
    if all.len() > ENDPOINTS_SHOWN {
        format!("{shown} + {} more...", all.len() - ENDPOINTS_SHOWN)
    } else {
        shown
    }
}

fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(object, "ports")
        .iter()
        .map(|port| integer(port, "port").map_or_else(|| "*".into(), |port| port.to_string()))
        .collect();
    let addresses: Vec<String> = list(object, "endpoints")
        .iter()
        .flat_map(|endpoint| list(endpoint, "addresses"))
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    let unset = |text: String| if text.is_empty() { Value::from("<unset>") } else { text.into() };
    vec![
        name(object).into(),
        text(object, "addressType").into(),
        unset(shortened(&ports)),
        unset(shortened(&addresses)),
        age(object, now),
    ]
}
