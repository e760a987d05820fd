//! The rules about the ports that are scraped: of Services, by the name that a monitor has for them, and of the containers
//! behind.

use k8s_openapi::api::core::v1::{Container, ContainerPort, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::monitors::{leads_to, scraping_pods, selected};
use super::{Facts, Manifests, Origin, Place, Sourced, Workload};
use crate::kinds::monitor::{Endpoint, PodMonitor, ServiceMonitor};

/// What an endpoint of a monitor says about its port.
struct Named<'a> {
    origin: &'a Origin,
    /// The path of the endpoint.
    path: String,
    /// The name of a port of the Service, or of the container for a PodMonitor.
    port: Option<&'a str>,
    target_port: Option<&'a IntOrString>,
    /// The field for a number.
    number_field: &'static str,
    /// Whether one of the fields for a number is there.
    has_number: bool,
    of_service: bool,
}

/// Every endpoint of every monitor.
fn endpoints(manifests: &Manifests) -> Vec<Named<'_>> {
    let by_service = manifests.service_monitors.iter().flat_map(|monitor| {
        monitor.spec.endpoints.iter().enumerate().map(|(index, endpoint)| Named {
            origin: &monitor.origin,
            path: format!("spec.endpoints[{index}]"),
            port: endpoint.port.as_deref(),
            target_port: endpoint.target_port.as_ref(),
            number_field: "targetPort",
            has_number: false,
            of_service: true,
        })
    });
    let by_pod = manifests.pod_monitors.iter().flat_map(|monitor| {
        monitor.spec.pod_metrics_endpoints.iter().enumerate().map(|(index, endpoint)| Named {
            origin: &monitor.origin,
            path: format!("spec.podMetricsEndpoints[{index}]"),
            port: endpoint.port.as_deref(),
            target_port: endpoint.target_port.as_ref(),
            number_field: "portNumber",
            has_number: endpoint.port_number.is_some(),
            of_service: false,
        })
    });
    by_service.chain(by_pod).collect()
}

/// A port of digits is a number in quotes: it can be no name, since a name has a letter.
fn is_number(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// A port of digits in a field that takes a number, or a name.
fn quoted(port: Option<&IntOrString>) -> Option<&str> {
    match port {
        Some(IntOrString::String(text)) if is_number(text) => Some(text),
        _ => None,
    }
}

/// A number where a name is asked for: in monitors, Services and probes.
pub(super) fn number_quoted(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let of_monitors = endpoints(manifests).into_iter().filter_map(|endpoint| {
        let named = endpoint.port.filter(|port| is_number(port)).map(|port| ("port", port));
        let (field, port) = named.or(quoted(endpoint.target_port).map(|port| ("targetPort", port)))?;
        let help = format!("write the port's name, or {}: {port} without quotes", endpoint.number_field);
        Some(quoted_at(endpoint.origin, format!("{}.{field}", endpoint.path), port, help))
    });
    let of_services = manifests.services.iter().flat_map(|service| {
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).enumerate();
        ports.filter_map(|(index, port)| {
            let number = quoted(port.target_port.as_ref())?;
            let help =
                format!("write targetPort: {number} without quotes, or the name of the container's port");
            Some(quoted_at(&service.origin, format!("spec.ports[{index}].targetPort"), number, help))
        })
    });
    let of_probes = manifests.workloads.iter().flat_map(|workload| {
        workload.containers().flat_map(move |(path, container)| {
            probe_ports(container).filter_map(move |(field, port)| {
                let number = quoted(Some(port))?;
                let help =
                    format!("write port: {number} without quotes, or the name of the container's port");
                Some(quoted_at(&workload.origin, format!("{path}.{field}"), number, help))
            })
        })
    });
    of_monitors.chain(of_services).chain(of_probes).collect()
}

fn quoted_at(origin: &Origin, field: String, port: &str, help: String) -> Place {
    let name = field.rsplit('.').next().unwrap_or_default();
    let message = format!("{name}: {port:?} is the name of a port, and no port has a name without a letter");
    Place::new(origin, field, message, help)
}

/// The ports that a container's probes ask, with their fields.
fn probe_ports(container: &Container) -> impl Iterator<Item = (String, &IntOrString)> {
    let probes = [
        ("readinessProbe", &container.readiness_probe),
        ("livenessProbe", &container.liveness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    probes.into_iter().filter_map(|(name, probe)| Some((name, probe.as_ref()?))).flat_map(|(name, probe)| {
        let http = probe.http_get.as_ref().map(|action| (format!("{name}.httpGet.port"), &action.port));
        let tcp = probe.tcp_socket.as_ref().map(|action| (format!("{name}.tcpSocket.port"), &action.port));
        http.into_iter().chain(tcp)
    })
}

/// An endpoint that names no port: prometheus-operator takes all there are.
pub(super) fn endpoint_without_port(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let silent = endpoints(manifests).into_iter().filter(|endpoint| {
        endpoint.port.is_none_or(str::is_empty) && endpoint.target_port.is_none() && !endpoint.has_number
    });
    silent
        .map(|endpoint| {
            let whose = if endpoint.of_service { "the Services" } else { "the containers" };
            let message = format!("names no port, so every port of {whose} is scraped");
            Place::new(
                endpoint.origin,
                endpoint.path,
                message,
                "write port: <the name of the port with the metrics>",
            )
        })
        .collect()
}

/// The ports of the Services that a monitor selects.
fn ports<'a>(manifests: &'a Manifests, monitor: &'a Sourced<ServiceMonitor>) -> Vec<&'a ServicePort> {
    let specs = selected(manifests, monitor).filter_map(|service| service.spec.as_ref());
    specs.flat_map(|spec| spec.ports.iter().flatten()).collect()
}

pub(super) fn port_unknown(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for monitor in &manifests.service_monitors {
        let ports = ports(manifests, monitor);
        let names: Vec<&str> = ports.iter().filter_map(|port| port.name.as_deref()).collect();
        for (index, endpoint) in monitor.spec.endpoints.iter().enumerate() {
            let unknown = |port: &&str| !ports.is_empty() && !names.contains(port) && !is_number(port);
            let Some(port) = endpoint.port.as_deref().filter(unknown) else { continue };
            let message = format!("no selected Service has a port of the name {port:?}");
            let help = match names.as_slice() {
                [] => "give the Service's port a name".to_owned(),
                names => format!("write one of {}", names.join(", ")),
            };
            places.push(Place::new(&monitor.origin, format!("spec.endpoints[{index}].port"), message, help));
        }
    }
    for monitor in &manifests.pod_monitors {
        for (index, endpoint) in monitor.spec.pod_metrics_endpoints.iter().enumerate() {
            let Some(port) = endpoint.port.as_deref() else { continue };
            let names = container_port_names(manifests, monitor);
            if !names.is_empty() && !names.contains(&port) && !is_number(port) {
                let message = format!("no container of the selected pods has a port of the name {port:?}");
                let help = format!("write one of {}", names.join(", "));
                let field = format!("spec.podMetricsEndpoints[{index}].port");
                places.push(Place::new(&monitor.origin, field, message, help));
            }
        }
    }
    places
}

/// The names of the ports of the pods that a monitor selects.
fn container_port_names<'a>(manifests: &'a Manifests, monitor: &Sourced<PodMonitor>) -> Vec<&'a str> {
    let behind = manifests.workloads.iter().filter(|workload| {
        scraping_pods(manifests, workload).any(|scraping| scraping.origin == monitor.origin)
    });
    behind.flat_map(|workload| declared(workload)).filter_map(|port| port.name.as_deref()).collect()
}

/// Scraped ports that no container of the workload behind them declares.
pub(super) fn port_undeclared(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for monitor in &manifests.service_monitors {
        for service in selected(manifests, monitor) {
            let scraped =
                monitor.spec.endpoints.iter().filter_map(|endpoint| service_port(service, endpoint));
            for (index, port) in scraped {
                let behind = manifests.workloads.iter().filter(|workload| leads_to(service, workload));
                for workload in behind.filter(|workload| !declares(workload, port)) {
                    let shown = match port.target_port.as_ref() {
                        Some(IntOrString::Int(number)) => number.to_string(),
                        Some(IntOrString::String(name)) => format!("{name:?}"),
                        None => port.port.to_string(),
                    };
                    let message = format!("no container of {} declares port {shown}", workload.origin.name());
                    let help = "declare it in the container's ports, and see that the program listens there";
                    let field = format!("spec.ports[{index}].targetPort");
                    places.push(Place::new(&service.origin, field, message, help));
                }
            }
        }
    }
    places
}

/// The Service's port that an endpoint names, with its place.
fn service_port<'a>(service: &'a Service, endpoint: &Endpoint) -> Option<(usize, &'a ServicePort)> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    ports.iter().enumerate().find(|(_, port)| port.name.is_some() && port.name == endpoint.port)
}

/// The ports of all containers that run beside each other: sidecars are among the init containers.
fn declared(workload: &Workload) -> impl Iterator<Item = &ContainerPort> {
    let pod = workload.template.spec.as_ref();
    let init = pod.and_then(|pod| pod.init_containers.as_ref()).into_iter().flatten();
    let sidecars = init.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let containers = pod.into_iter().flat_map(|pod| &pod.containers);
    sidecars.chain(containers).flat_map(|container| container.ports.iter().flatten())
}

fn declares(workload: &Workload, port: &ServicePort) -> bool {
    declared(workload).any(|container| match &port.target_port {
        Some(IntOrString::Int(number)) => container.container_port == *number,
        Some(IntOrString::String(name)) => container.name.as_ref() == Some(name),
        None => container.container_port == port.port,
    })
}
