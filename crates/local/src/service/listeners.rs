//! Which addresses are listened on for which Service, and what happens to a new connection there.
//!
//! A port that something else holds is a Warning event on its Service, with what to do, and is tried again; everything else
//! goes on. When a Service or one of its ports goes, so do its listeners and their connections.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::backends::Backends;
use super::metrics::Metrics;
use super::{http, stream};
use crate::cluster::{Cluster, Key, Queue, Severity, reference, work};
use crate::controllers::service_of;
use crate::node::network::{Network, Places, accept};

const COMPONENT: &str = "flyball-proxy";
/// Between attempts to listen on a port that is taken.
const TAKEN_RETRY: Duration = Duration::from_secs(5);
/// A client that says nothing for so long waits for the server to speak first, which HTTP never does.
const SILENCE_MAX: Duration = Duration::from_millis(500);

/// Proxies of all Services.
struct Proxies {
    cluster: Cluster,
    network: Network,
    metrics: Arc<Metrics>,
    services: Mutex<BTreeMap<Key, Proxy>>,
}

/// Proxy of one Service.
#[derive(Default)]
struct Proxy {
    /// By port name.
    backends: BTreeMap<String, Arc<Backends>>,
    /// Each listener with its task, ended with it.
    listeners: BTreeMap<SocketAddr, (String, JoinSet<()>)>,
}

pub(super) fn start(cluster: &Cluster, network: &Network, metrics: &Arc<Metrics>, tasks: &mut JoinSet<()>) {
    let queue = Arc::new(Queue::default());
    let services = Arc::clone(&queue);
    cluster.services.on_change(move |old, new| {
        old.into_iter().chain(new).for_each(|service| services.add(Key::of(&**service)));
    });
    let slices = Arc::clone(&queue);
    cluster.slices.on_change(move |old, new| {
        old.into_iter().chain(new).filter_map(|slice| service_of(slice)).for_each(|key| slices.add(key));
    });
    let proxies = Arc::new(Proxies {
        cluster: cluster.clone(),
        network: network.clone(),
        metrics: Arc::clone(metrics),
        services: Mutex::default(),
    });
    tasks.spawn(work("service-proxy", queue, move |key| {
        let again = proxies.sync(&key);
        async move { Ok(again) }
    }));
}

impl Proxies {
    /// Brings listeners and backends of a Service up to date.
    fn sync(&self, key: &Key) -> Option<Duration> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(service) = self.cluster.services.get(key) else {
            services.remove(key);
            self.metrics.forget(key);
            return None;
        };
        let proxy = services.entry(key.clone()).or_default();
        let slices: Vec<Arc<EndpointSlice>> = self.cluster.slices.in_namespace(&key.namespace);
        let slices: Vec<_> = slices.iter().filter(|slice| service_of(slice).as_ref() == Some(key)).collect();
        let ports: Vec<&ServicePort> = service.spec.iter().flat_map(|s| s.ports.iter().flatten()).collect();
        let name = |port: &ServicePort| port.name.clone().unwrap_or_default();
        proxy.backends.retain(|known, _| ports.iter().any(|port| name(port) == *known));
        for port in &ports {
            let backends = proxy
                .backends
                .entry(name(port))
                .or_insert_with(|| Arc::new(Backends::new(self.metrics.of(key), self.network.clone())));
            let ready = ready_endpoints(&slices, &name(port));
            self.listen_at_pods(&ready);
            backends.set(&ready);
        }
        self.listen(&service, &ports, proxy)
    }

    /// A port that only a Service names is reachable at the pod's address too.
    fn listen_at_pods(&self, ready: &BTreeMap<(Ipv4Addr, u16), ()>) {
        for (ip, port) in ready.keys() {
            if let Some(Err(e)) = self.network.get(*ip).map(|pod| pod.listen(*port)) {
                tracing::debug!(%ip, port, "not listening at the pod's address: {e}");
            }
        }
    }

    fn listen(&self, service: &Service, ports: &[&ServicePort], proxy: &mut Proxy) -> Option<Duration> {
        let wanted = addresses(service, ports);
        proxy.listeners.retain(|address, (port, _)| wanted.get(address) == Some(port));
        let mut again = None;
        for (address, port) in wanted {
            let Some(backends) = proxy.backends.get(&port) else { continue };
            if proxy.listeners.contains_key(&address) {
                continue;
            }
            match listener(address) {
                Ok(listener) => {
                    let mut task = JoinSet::new();
                    task.spawn(serve(listener, Arc::clone(backends), self.network.places.clone()));
                    proxy.listeners.insert(address, (port, task));
                }
                Err(e) => {
                    let remedy = match e.kind() {
                        std::io::ErrorKind::PermissionDenied => {
                            "ports below 1024 need root, or a lower net.ipv4.ip_unprivileged_port_start"
                        }
                        _ => "stop what uses it or choose another port",
                    };
                    let seconds = TAKEN_RETRY.as_secs();
                    let message =
                        format!("cannot listen on {address}: {e}; {remedy} (tried again every {seconds} s)");
                    let about = reference(service);
                    self.cluster.recorder.record(
                        &about,
                        COMPONENT,
                        Severity::Warning,
                        "FailedToListen",
                        message,
                    );
                    again = Some(TAKEN_RETRY);
                }
            }
        }
        again
    }
}

/// Where a Service is reached: address to port name.
fn addresses(service: &Service, ports: &[&ServicePort]) -> BTreeMap<SocketAddr, String> {
    let Some(spec) = &service.spec else { return BTreeMap::new() };
    let cluster_ips = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let cluster_ips: Vec<IpAddr> =
        cluster_ips.filter_map(|ip| ip.parse::<IpAddr>().ok()).filter(IpAddr::is_loopback).collect();
    let mut wanted = BTreeMap::new();
    for port in ports.iter().filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP") {
        let name = port.name.clone().unwrap_or_default();
        let number = |n: i32| u16::try_from(n).ok().filter(|n| *n > 0);
        for ip in &cluster_ips {
            wanted.extend(number(port.port).map(|p| (SocketAddr::new(*ip, p), name.clone())));
        }
        let node_port = port.node_port.and_then(number);
        wanted.extend(node_port.map(|p| (SocketAddr::from((Ipv4Addr::LOCALHOST, p)), name.clone())));
    }
    wanted
}

/// The ready endpoints of one port, from all slices of a Service.
fn ready_endpoints(slices: &[&Arc<EndpointSlice>], port_name: &str) -> BTreeMap<(Ipv4Addr, u16), ()> {
    let mut ready = BTreeMap::new();
    for slice in slices {
        let mut ports = slice.ports.iter().flatten();
        let port = ports
            .find(|port| port.name.as_deref().unwrap_or_default() == port_name)
            .and_then(|port| port.port);
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let is_ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
            let ips = endpoint.addresses.iter().filter_map(|address| address.parse().ok());
            ready.extend(ips.filter(|_| is_ready).map(|ip| ((ip, port), ())));
        }
    }
    ready
}

fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn serve(listener: TcpListener, backends: Arc<Backends>, places: Places) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            client = accept(&listener) => {
                let Some(client) = client else { return };
                backends.counters.connections.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let _ = client.set_nodelay(true);
                let (place, backends) = (places.take().await, Arc::clone(&backends));
                connections.spawn(async move {
                    carry(client, backends).await;
                    drop(place);
                });
            }
            // connections that have ended give their memory back
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(client: TcpStream, backends: Arc<Backends>) {
    if speaks_http1(&client).await {
        http::serve(client, backends).await;
    } else {
        stream::carry(client, &backends).await;
    }
}

/// Looks at the first bytes without taking them.
async fn speaks_http1(client: &TcpStream) -> bool {
    let mut first = [0; 8];
    match timeout(SILENCE_MAX, client.peek(&mut first)).await {
        Ok(Ok(count)) => is_method(&first[..count]),
        _ => false,
    }
}

/// Whether these bytes begin like an HTTP/1 request; the preface of HTTP/2 (`PRI * HTTP/2.0`) does not.
fn is_method(first: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] =
        [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"PATCH ", b"OPTIONS ", b"TRACE ", b"CONNECT "];
    let alike = |method: &&[u8]| {
        let length = method.len().min(first.len());
        length > 0 && method[..length] == first[..length]
    };
    METHODS.iter().any(alike)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn http_is_told_by_its_first_bytes() {
        for (bytes, expected) in [
            ("GET / HTTP/1.1", true),
            ("POST /predict", true),
            ("P", true),
            ("PRI * HTTP/2.0", false),
            ("\u{16}\u{3}\u{1}", false),
            ("", false),
            ("SSH-2.0", false),
        ] {
            assert_eq!(is_method(&bytes.as_bytes()[..bytes.len().min(8)]), expected, "{bytes:?}");
        }
    }

    #[test]
    fn services_are_reached_at_cluster_ip_and_node_port() {
        let check = |spec: serde_json::Value, expected: &[&str]| {
            let service: Service =
                serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap();
            let ports: Vec<&ServicePort> =
                service.spec.iter().flat_map(|s| s.ports.iter().flatten()).collect();
            let seen: Vec<String> = addresses(&service, &ports)
                .iter()
                .map(|(address, port)| format!("{address} {port}"))
                .collect();
            assert_eq!(seen, expected);
        };
        let ports = json!([{"name": "web", "port": 8000, "nodePort": 30100}, {"name": "metrics", "port": 9100},
            {"name": "dns", "port": 53, "protocol": "UDP"}]);
        check(
            json!({"clusterIP": "127.96.0.9", "clusterIPs": ["127.96.0.9"], "ports": ports}),
            &["127.0.0.1:30100 web", "127.96.0.9:8000 web", "127.96.0.9:9100 metrics"],
        );
        check(json!({"clusterIP": "None", "ports": [{"port": 80}]}), &[]);
        check(json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}), &[]);
    }
}
