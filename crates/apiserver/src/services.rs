//! Allocates addresses of Services: a ClusterIP for each, and a node port for each port of NodePort and
//! LoadBalancer Services.
//!
//! ClusterIPs come from [`CLUSTER_IPS`] (`127.96.0.0/12`): loopback addresses that exist on every Linux machine and
//! are otherwise unused, so the node can listen on them without privileges. Node ports come from Kubernetes' range.
//! Each allocation reads the addresses in use from the stored Services, under a lock, so there is no separate
//! record that could diverge.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::kinds::Kind;
use crate::kinds::service::SERVICE;
use crate::object::{self, items_mut, set, text};
use crate::state::ServerState;
use crate::status::FieldError;

/// First address and count of ClusterIPs: 127.96.0.0/12.
const CLUSTER_IPS: (Ipv4Addr, u32) = (Ipv4Addr::new(127, 96, 0, 0), 1 << 20);
/// Kubernetes' default `--service-node-port-range`.
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30000..=32767;

/// Addresses and node ports of the other Services.
#[derive(Default)]
struct Allocated {
    ips: BTreeSet<Ipv4Addr>,
    /// Node ports by protocol and number.
    ports: BTreeSet<(String, i64)>,
}

impl Allocated {
    fn read(server: &ServerState, except_uid: &str) -> Self {
        let mut allocated = Self::default();
        let (services, _) = server.store.list(&SERVICE.storage().into(), "", None);
        for service in services.iter().map(crate::store::Stored::value) {
            if text(&service, "metadata.uid") == except_uid {
                continue;
            }
            allocated.ips.extend(text(&service, "spec.clusterIP").parse::<Ipv4Addr>());
            for port in object::list(&service, "spec.ports") {
                if let Some(number) = object::integer(port, "nodePort") {
                    allocated.ports.insert((text(port, "protocol").to_owned(), number));
                }
            }
        }
        allocated
    }
}

/// Locks allocation for a write of a Service, from choosing addresses to storing them, so that none is allocated
/// twice. Other kinds need no lock.
pub(crate) async fn lock_allocation<'a>(
    server: &'a ServerState,
    kind: &Kind,
) -> Option<tokio::sync::MutexGuard<'a, ()>> {
    if kind.is(&SERVICE) { Some(server.allocation.lock().await) } else { None }
}

/// Fills in the addresses of a Service; returns errors for requested ones that are unavailable.
pub(crate) fn allocate(
    server: &ServerState,
    kind: &Kind,
    service: &mut Value,
    old: Option<&Value>,
) -> Vec<FieldError> {
    if !kind.is(&SERVICE) {
        return Vec::new();
    }
    let allocated = Allocated::read(server, text(service, "metadata.uid"));
    let mut errors = Vec::new();
    let service_type = text(service, "spec.type").to_owned();
    if service_type == "ExternalName" {
        for path in ["spec.clusterIP", "spec.clusterIPs"] {
            object::remove(service, path);
        }
    } else {
        cluster_ip(service, old, &allocated, &mut errors);
    }
    if ["NodePort", "LoadBalancer"].contains(&service_type.as_str()) {
        node_ports(service, old, allocated, &mut errors);
    } else if old.is_some_and(|old| text(old, "spec.type") != service_type) {
        for port in items_mut(object::ensure(service, "spec"), "ports") {
            object::remove(port, "nodePort");
        }
    }
    errors
}

fn cluster_ip(service: &mut Value, old: Option<&Value>, allocated: &Allocated, errors: &mut Vec<FieldError>) {
    let before = old.map_or("", |old| text(old, "spec.clusterIP"));
    if text(service, "spec.clusterIP").is_empty() && !before.is_empty() {
        set(service, "spec.clusterIP", before.into());
    }
    let wanted = text(service, "spec.clusterIP").to_owned();
    if wanted == "None" {
        set(service, "spec.clusterIPs", json!(["None"]));
        return;
    }
    if wanted.is_empty() {
        match free_ip(allocated, text(service, "metadata.uid")) {
            Some(ip) => set(service, "spec.clusterIP", ip.to_string().into()),
            None => errors.push(FieldError::invalid(
                "spec.clusterIPs",
                &json!([]),
                "failed to allocate IP: range is full",
            )),
        }
    } else if wanted != before {
        let problem = match wanted.parse::<Ipv4Addr>() {
            Err(_) => Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()),
            Ok(ip) if !in_range(ip) => Some(format!(
                "failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid range. The range of valid IPs is 127.96.0.0/12"
            )),
            Ok(ip) if allocated.ips.contains(&ip) => {
                Some(format!("failed to allocate IP {ip}: provided IP is already allocated"))
            }
            Ok(_) => None,
        };
        errors.extend(problem.map(|why| FieldError::invalid("spec.clusterIPs", &json!([wanted]), why)));
    }
    let ip = service["spec"]["clusterIP"].clone();
    set(service, "spec.clusterIPs", json!([ip]));
}

fn in_range(ip: Ipv4Addr) -> bool {
    let offset = u32::from(ip).wrapping_sub(u32::from(CLUSTER_IPS.0));
    offset > 0 && offset < CLUSTER_IPS.1 - 1
}

/// Finds a free IP. The search starts at a hash of the uid, so that a freed address is not reused at once.
fn free_ip(allocated: &Allocated, uid: &str) -> Option<Ipv4Addr> {
    let start = u32::from_str_radix(uid.get(..8).unwrap_or("0"), 16).unwrap_or(0);
    let candidate = |step: u32| {
        let offset = 1 + (start.wrapping_add(step)) % (CLUSTER_IPS.1 - 2);
        Ipv4Addr::from(u32::from(CLUSTER_IPS.0) + offset)
    };
    (0..CLUSTER_IPS.1).map(candidate).find(|ip| !allocated.ips.contains(ip))
}

fn node_ports(
    service: &mut Value,
    old: Option<&Value>,
    mut allocated: Allocated,
    errors: &mut Vec<FieldError>,
) {
    let before = |port: &Value| {
        let same =
            |other: &&Value| text(other, "name") == text(port, "name") && other["port"] == port["port"];
        let found = old.into_iter().flat_map(|old| object::list(old, "spec.ports")).find(same);
        found.and_then(|found| object::integer(found, "nodePort"))
    };
    let start = u32::from_str_radix(text(service, "metadata.uid").get(..6).unwrap_or("0"), 16).unwrap_or(0);
    for (index, port) in items_mut(object::ensure(service, "spec"), "ports").enumerate() {
        let protocol = text(port, "protocol").to_owned();
        let path = format!("spec.ports[{index}].nodePort");
        // An update that names no node port keeps the one it had.
        let wanted = object::integer(port, "nodePort").filter(|number| *number != 0).or_else(|| before(port));
        let number = match wanted {
            Some(number) if !NODE_PORTS.contains(&number) => {
                errors.push(FieldError::invalid(
                    path,
                    &number.into(),
                    "provided port is not in the valid range. The range of valid ports is 30000-32767",
                ));
                continue;
            }
            Some(number) if allocated.ports.contains(&(protocol.clone(), number)) => {
                errors.push(FieldError::invalid(path, &number.into(), "provided port is already allocated"));
                continue;
            }
            Some(number) => number,
            None => match free_port(&allocated, &protocol, start) {
                Some(number) => number,
                None => {
                    errors.push(FieldError::invalid(
                        path,
                        &0.into(),
                        "failed to allocate a nodePort: range is full",
                    ));
                    continue;
                }
            },
        };
        port["nodePort"] = number.into();
        allocated.ports.insert((protocol, number));
    }
}

fn free_port(allocated: &Allocated, protocol: &str, start: u32) -> Option<i64> {
    let count = NODE_PORTS.end() - NODE_PORTS.start() + 1;
    let candidate = |step: i64| NODE_PORTS.start() + (i64::from(start) + step) % count;
    (0..count).map(candidate).find(|number| !allocated.ports.contains(&(protocol.to_owned(), *number)))
}
