//! Resolves host names as a cluster's DNS does, from the watched Services and EndpointSlices.
//!
//! A Service is `name`, `name.namespace`, `name.namespace.svc` or `name.namespace.svc.cluster.local`; the first form
//! means the namespace of who asks. The last two are of the cluster and nothing else. The first two may also be names
//! outside, as in a pod, whose resolver tries the cluster first: there a Service that exists wins. `a.b` without such a
//! Service is a name outside if `b` is a suffix that is used outside and no namespace here.
//! A final dot makes a name absolute: `prometheus.` is a host outside.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::gather::cluster::Cluster;

/// The default domain of clusters, and that of the embedded one.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Last labels of names with two that mean a host outside: reserved (RFC 2606, 6761, 6762, 8375; ICANN for `internal`),
/// commonly used inside of organisations, and the oldest of the internet. Those of countries have two letters.
const SUFFIXES_OUTSIDE: [&str; 24] = [
    "alt",
    "arpa",
    "biz",
    "com",
    "corp",
    "edu",
    "example",
    "gov",
    "home",
    "info",
    "int",
    "internal",
    "intranet",
    "invalid",
    "io",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "mil",
    "net",
    "onion",
    "org",
    "test",
];

/// A Service: its namespace and name.
pub(crate) type ServiceKey = (String, String);

/// What a host's name can mean.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// A Service, and nothing else.
    Service(ServiceKey),
    /// A Service or, if there is none, a host outside.
    Either(ServiceKey),
    /// An endpoint of a headless Service, by its hostname.
    Endpoint(String, ServiceKey),
    /// In the cluster's domain, where nothing has such a name.
    Nobody,
    /// A host outside.
    Outside,
}

/// The resolution of a host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// A Service's address, or those of the ready endpoints of a headless one.
    Addresses(ServiceKey, Vec<IpAddr>),
    /// A Service that stands for a host outside (type `ExternalName`).
    Alias(ServiceKey, String),
    /// A Service without an address; the sentence says why.
    Unreachable(ServiceKey, String),
    /// The name of a Service that does not exist. `only`: it can't be a host outside either.
    NoSuchService { service: ServiceKey, only: bool },
    /// A name in the cluster's domain that nothing has; the text is a sentence for users.
    Nobody(String),
    /// The name of a host outside.
    Outside,
}

/// Resolves a host name as seen from `namespace`.
pub(crate) fn look_up(cluster: &Cluster, host: &str, namespace: &str) -> Resolved {
    let services = &cluster.services;
    let get = |(namespace, name): &ServiceKey| services.get(&ObjectRef::new(name).within(namespace));
    match parse(host, namespace) {
        Host::Outside => Resolved::Outside,
        Host::Nobody => Resolved::Nobody(format!("nothing in {CLUSTER_DOMAIN} is named {host}")),
        Host::Endpoint(hostname, service) => {
            let addresses = addresses(&cluster.slices.state(), &service, Some(&hostname));
            match addresses.is_empty() {
                true => Resolved::Nobody(format!("no ready endpoint of a Service is named {host}")),
                false => Resolved::Addresses(service, addresses),
            }
        }
        Host::Service(key) => match get(&key) {
            Some(service) => of_service(cluster, key, &service),
            None => Resolved::NoSuchService { service: key, only: true },
        },
        Host::Either(key) => match get(&key) {
            Some(service) => of_service(cluster, key, &service),
            None if key.0 != namespace && is_suffix_outside(&key.0) && !is_namespace(cluster, &key.0) => {
                Resolved::Outside
            }
            None => Resolved::NoSuchService { service: key, only: false },
        },
    }
}

fn of_service(cluster: &Cluster, key: ServiceKey, service: &Service) -> Resolved {
    let spec = service.spec.as_ref();
    let kind = spec.and_then(|spec| spec.type_.as_deref());
    if kind == Some("ExternalName") {
        let target = spec.and_then(|spec| spec.external_name.clone()).unwrap_or_default();
        return Resolved::Alias(key, target);
    }
    let address = spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    if let Ok(address) = address.parse() {
        return Resolved::Addresses(key, vec![address]);
    }
    let (namespace, name) = &key;
    if address != "None" {
        let why = format!("Service {name} in namespace {namespace} has no address yet");
        return Resolved::Unreachable(key, why);
    }
    let addresses = addresses(&cluster.slices.state(), &key, None);
    if addresses.is_empty() {
        let why = format!("headless Service {name} in namespace {namespace} has no ready endpoint");
        return Resolved::Unreachable(key, why);
    }
    Resolved::Addresses(key, addresses)
}

/// The addresses of a Service's ready endpoints; of one hostname, if it is given.
fn addresses(
    slices: &[std::sync::Arc<EndpointSlice>],
    (namespace, name): &ServiceKey,
    hostname: Option<&str>,
) -> Vec<IpAddr> {
    let own = slices.iter().filter(|slice| {
        slice.namespace().as_deref() == Some(namespace)
            && slice.labels().get("kubernetes.io/service-name").is_some_and(|service| service == name)
    });
    let ready = own.flat_map(|slice| slice.endpoints.iter().flatten()).filter(|endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
            && hostname.is_none_or(|hostname| endpoint.hostname.as_deref() == Some(hostname))
    });
    let found: BTreeSet<IpAddr> =
        ready.flat_map(|endpoint| &endpoint.addresses).filter_map(|address| address.parse().ok()).collect();
    found.into_iter().collect()
}

/// The addresses of the ready endpoints of the Service that a host's name means, whatever its type.
pub(crate) fn endpoints(cluster: &Cluster, host: &str, namespace: &str) -> Vec<IpAddr> {
    service(host, namespace).map_or_else(Vec::new, |key| addresses(&cluster.slices.state(), &key, None))
}

fn parse(host: &str, namespace: &str) -> Host {
    let host = host.to_ascii_lowercase();
    let (host, is_absolute) = match host.strip_suffix('.') {
        Some(host) => (host, true),
        None => (host.as_str(), false),
    };
    if host.parse::<IpAddr>().is_ok() || host.starts_with('[') || host == "localhost" || host.is_empty() {
        return Host::Outside;
    }
    let in_domain = host.strip_suffix(CLUSTER_DOMAIN).and_then(|rest| rest.strip_suffix('.'));
    let inside = match in_domain {
        Some(rest) => Some(rest.strip_suffix(".svc").unwrap_or_default()),
        None => host.strip_suffix(".svc").filter(|_| !is_absolute),
    };
    let labels: Vec<&str> = inside.unwrap_or(host).split('.').collect();
    if labels.iter().any(|label| label.is_empty()) {
        return Host::Nobody;
    }
    match (inside.is_some(), labels.as_slice()) {
        (true, [name, namespace]) => Host::Service(key(namespace, name)),
        (true, [hostname, name, namespace]) => Host::Endpoint((*hostname).to_owned(), key(namespace, name)),
        (true, _) => Host::Nobody,
        (false, [name]) if !is_absolute => Host::Either(key(namespace, name)),
        (false, [name, namespace]) if !is_absolute => Host::Either(key(namespace, name)),
        (false, _) => Host::Outside,
    }
}

fn key(namespace: &str, name: &str) -> ServiceKey {
    (namespace.to_owned(), name.to_owned())
}

fn is_suffix_outside(label: &str) -> bool {
    label.len() == 2 || SUFFIXES_OUTSIDE.contains(&label)
}

/// Whether a namespace is used here: something of it was seen.
fn is_namespace(cluster: &Cluster, name: &str) -> bool {
    let is_in = |namespace: Option<String>| namespace.as_deref() == Some(name);
    cluster.services.state().iter().any(|service| is_in(service.namespace()))
        || cluster.pods.state().iter().any(|pod| is_in(pod.namespace()))
}

/// The Service that a name means, if it means one.
pub(crate) fn service(host: &str, namespace: &str) -> Option<ServiceKey> {
    match parse(host, namespace) {
        Host::Service(key) | Host::Either(key) | Host::Endpoint(_, key) => Some(key),
        Host::Nobody | Host::Outside => None,
    }
}

/// One name for every way to write the same host, to compare hosts by.
pub(crate) fn canonical(host: &str, namespace: &str) -> String {
    match parse(host, namespace) {
        Host::Service((namespace, name)) | Host::Either((namespace, name)) => {
            format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}")
        }
        _ => host.to_ascii_lowercase().trim_end_matches('.').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood_as_in_a_clusters_dns() {
        let service = |namespace: &str, name: &str| Host::Service(key(namespace, name));
        let either = |namespace: &str, name: &str| Host::Either(key(namespace, name));
        let table = [
            ("p", either("ml", "p")),
            ("P", either("ml", "p")),
            ("p.monitoring", either("monitoring", "p")),
            ("p.monitoring.svc", service("monitoring", "p")),
            ("p.monitoring.svc.cluster.local", service("monitoring", "p")),
            ("p.monitoring.svc.cluster.local.", service("monitoring", "p")),
            ("p-0.p.monitoring.svc", Host::Endpoint("p-0".to_owned(), key("monitoring", "p"))),
            ("a.p-0.p.monitoring.svc", Host::Nobody),
            ("p.svc", Host::Nobody),
            ("p.monitoring.cluster.local", Host::Nobody),
            ("10-0-0-1.monitoring.pod.cluster.local", Host::Nobody),
            ("p..svc", Host::Nobody),
            ("p.", Host::Outside),
            ("p.monitoring.", Host::Outside),
            ("p.monitoring.svc.", Host::Outside),
            ("p.monitoring.example.com", Host::Outside),
            ("localhost", Host::Outside),
            ("127.0.0.1", Host::Outside),
            ("[::1]", Host::Outside),
        ];
        for (host, expected) in table {
            assert_eq!(parse(host, "ml"), expected, "{host}");
        }
        for (suffix, expected) in
            [("invalid", true), ("de", true), ("lan", true), ("monitoring", false), ("prod", false)]
        {
            assert_eq!(is_suffix_outside(suffix), expected, "{suffix}");
        }
    }

    #[test]
    fn every_way_to_write_a_service_is_the_same() {
        for host in ["p", "p.ml", "P.ml.svc", "p.ml.svc.cluster.local", "p.ml.svc.cluster.local."] {
            assert_eq!(canonical(host, "ml"), "p.ml.svc.cluster.local", "{host}");
        }
        assert_eq!(canonical("Prometheus.Example.com.", "ml"), "prometheus.example.com");
    }
}
