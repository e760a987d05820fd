//! The rules about how series come to be: monitors, the Services they select, and the pods behind them.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use super::{Facts, Manifests, Place, namespace, queries};
use crate::duration;
use crate::kinds::monitor::{Endpoint, NamespaceSelector, ServiceMonitor};
use crate::kinds::scaled_object::ScaledObject;

/// Asks for a scrape without a monitor.
const SCRAPE_ANNOTATION: &str = "prometheus.io/scrape";

/// How often kube-prometheus-stack scrapes where a monitor does not say.
const SCRAPE_INTERVAL_DEFAULT: Duration = Duration::from_secs(30);

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

/// Whether a monitor in one namespace looks into another.
fn looks_into(selector: Option<&NamespaceSelector>, own: &str, namespace: &str) -> bool {
    match selector {
        Some(selector) if selector.any == Some(true) => true,
        Some(selector) if !selector.match_names.is_empty() => {
            selector.match_names.iter().any(|name| name == namespace)
        }
        _ => own == namespace,
    }
}

/// The Services that a monitor selects.
fn selected<'a>(manifests: &'a Manifests, monitor: &'a ServiceMonitor) -> impl Iterator<Item = &'a Service> {
    let own = namespace(monitor);
    manifests.services.iter().filter(move |service| {
        looks_into(monitor.spec.namespace_selector.as_ref(), &own, &namespace(*service))
            && selects(&monitor.spec.selector, service.labels())
    })
}

fn pod_labels(deployment: &Deployment) -> BTreeMap<String, String> {
    let template = deployment.spec.template.metadata.as_ref();
    template.and_then(|metadata| metadata.labels.clone()).unwrap_or_default()
}

/// Whether a Service leads to the pods of a Deployment.
fn leads_to(service: &Service, deployment: &Deployment) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let labels = pod_labels(deployment);
    namespace(service) == namespace(deployment)
        && selector.is_some_and(|selector| {
            !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
}

fn target<'a>(manifests: &'a Manifests, object: &ScaledObject) -> Option<&'a Deployment> {
    let reference = &object.spec.scale_target_ref;
    manifests.deployments.iter().find(|deployment| {
        reference.kind_or_default() == "Deployment"
            && deployment.name_any() == reference.name
            && namespace(*deployment) == namespace(object)
    })
}

/// The monitors that scrape the pods of a Deployment.
fn scraping<'a>(
    manifests: &'a Manifests,
    deployment: &'a Deployment,
) -> impl Iterator<Item = &'a ServiceMonitor> {
    manifests
        .service_monitors
        .iter()
        .filter(move |monitor| selected(manifests, monitor).any(|service| leads_to(service, deployment)))
}

/// How often the pods of an object's workload are scraped, at the slowest; nothing where no monitor is known
/// to.
pub(super) fn interval(manifests: &Manifests, object: &ScaledObject) -> Option<Duration> {
    let deployment = target(manifests, object)?;
    let endpoints = scraping(manifests, deployment).flat_map(|monitor| &monitor.spec.endpoints);
    let written = endpoints
        .map(|endpoint| endpoint.scrape.interval.as_deref().and_then(|text| duration::parse(text).ok()));
    written.map(|interval| interval.unwrap_or(SCRAPE_INTERVAL_DEFAULT)).max()
}

/// A query for metrics of pods that nothing scrapes. The metrics may come from elsewhere, so only workloads
/// that are known, and names that a server of requests has, count.
pub(super) fn nothing_scraped(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let objects = manifests.scaled_objects.iter();
    objects
        .filter_map(|object| {
            let deployment = target(manifests, object)?;
            let metrics = queries::selected_metrics(object, facts);
            let first = metrics.into_iter().find(|metric| metric.starts_with("http_"))?;
            let annotated = |annotations: Option<&BTreeMap<String, String>>| {
                annotations.and_then(|all| all.get(SCRAPE_ANNOTATION)).is_some_and(|text| text == "true")
            };
            let template = deployment.spec.template.metadata.as_ref();
            let by_pod = manifests.pod_monitors.iter().any(|monitor| {
                looks_into(
                    monitor.spec.namespace_selector.as_ref(),
                    &namespace(monitor),
                    &namespace(deployment),
                ) && selects(&monitor.spec.selector, &pod_labels(deployment))
            });
            let scraped = by_pod
                || annotated(template.and_then(|metadata| metadata.annotations.as_ref()))
                || scraping(manifests, deployment).next().is_some();
            let message = format!(
                "{first} is queried, but no ServiceMonitor or PodMonitor here scrapes the pods of {}",
                deployment.name_any()
            );
            let help = "add a Service with a metrics port and a ServiceMonitor that selects it";
            (!scraped).then(|| Place::new(object, "spec.triggers", message, help))
        })
        .collect()
}

pub(super) fn selects_nothing(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    if manifests.services.is_empty() {
        return Vec::new();
    }
    let lost =
        manifests.service_monitors.iter().filter(|monitor| selected(manifests, monitor).next().is_none());
    lost.map(|monitor| {
        let own = namespace(monitor);
        let elsewhere =
            manifests.services.iter().find(|service| selects(&monitor.spec.selector, service.labels()));
        let (field, help) = match elsewhere {
            Some(service) => {
                let help = format!(
                    "add {} to namespaceSelector.matchNames, where the Service {} is",
                    namespace(service),
                    service.name_any()
                );
                ("spec.namespaceSelector", help)
            }
            None => ("spec.selector", format!("select by {}", labels_of(&manifests.services[0]))),
        };
        Place::new(monitor, field, format!("selects no Service here (it is in namespace {own})"), help)
    })
    .collect()
}

fn labels_of(service: &Service) -> String {
    let labels: Vec<String> = service.labels().iter().map(|(key, value)| format!("{key}: {value}")).collect();
    if labels.is_empty() {
        return format!("a label of the Service {}, which has none yet", service.name_any());
    }
    format!("the labels of the Service {}: {}", service.name_any(), labels.join(", "))
}

/// The ports of the Services that a monitor selects.
fn ports<'a>(manifests: &'a Manifests, monitor: &'a ServiceMonitor) -> Vec<&'a ServicePort> {
    let specs = selected(manifests, monitor).filter_map(|service| service.spec.as_ref());
    specs.flat_map(|spec| spec.ports.iter().flatten()).collect()
}

pub(super) fn port_unknown(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for monitor in &manifests.service_monitors {
        let ports = ports(manifests, monitor);
        let names: Vec<&str> = ports.iter().filter_map(|port| port.name.as_deref()).collect();
        for (index, endpoint) in monitor.spec.endpoints.iter().enumerate() {
            let Some(port) =
                endpoint.port.as_deref().filter(|port| !ports.is_empty() && !names.contains(port))
            else {
                continue;
            };
            let message = format!("no selected Service has a port of the name {port:?}");
            let help = match names.as_slice() {
                [] => "give the Service's port a name".to_owned(),
                names => format!("write one of {}", names.join(", ")),
            };
            places.push(Place::new(monitor, format!("spec.endpoints[{index}].port"), message, help));
        }
    }
    places
}

pub(super) fn service_selects_nothing(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    if manifests.deployments.is_empty() {
        return Vec::new();
    }
    let scraped = |service: &&Service| {
        manifests
            .service_monitors
            .iter()
            .any(|monitor| selected(manifests, monitor).any(|selected| std::ptr::eq(selected, *service)))
    };
    let lost = manifests
        .services
        .iter()
        .filter(scraped)
        .filter(|service| !manifests.deployments.iter().any(|deployment| leads_to(service, deployment)));
    lost.map(|service| {
        let message = "is scraped, but selects the pods of no Deployment here";
        Place::new(
            service,
            "spec.selector",
            message,
            "write the labels of spec.template.metadata of the Deployment",
        )
    })
    .collect()
}

/// Scraped ports that no container of the Deployment behind them declares.
pub(super) fn port_undeclared(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for monitor in &manifests.service_monitors {
        for service in selected(manifests, monitor) {
            let scraped =
                monitor.spec.endpoints.iter().filter_map(|endpoint| service_port(service, endpoint));
            for (index, port) in scraped {
                let behind = manifests.deployments.iter().filter(|deployment| leads_to(service, deployment));
                for deployment in behind.filter(|deployment| !declares(deployment, port)) {
                    let shown = match port.target_port.as_ref() {
                        Some(IntOrString::Int(number)) => number.to_string(),
                        Some(IntOrString::String(name)) => format!("{name:?}"),
                        None => port.port.to_string(),
                    };
                    let message = format!("no container of {} declares port {shown}", deployment.name_any());
                    let help = "declare it in the container's ports, and see that the program listens there";
                    places.push(Place::new(
                        service,
                        format!("spec.ports[{index}].targetPort"),
                        message,
                        help,
                    ));
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

fn declares(deployment: &Deployment, port: &ServicePort) -> bool {
    let pod = deployment.spec.template.spec.as_ref();
    let declared = pod
        .into_iter()
        .flat_map(|pod| &pod.containers)
        .flat_map(|container| container.ports.iter().flatten());
    declared.into_iter().any(|container| match &port.target_port {
        Some(IntOrString::Int(number)) => container.container_port == *number,
        Some(IntOrString::String(name)) => container.name.as_ref() == Some(name),
        None => container.container_port == port.port,
    })
}

pub(super) fn release_label(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let unlabelled =
        manifests.service_monitors.iter().filter(|monitor| !monitor.labels().contains_key("release"));
    unlabelled
        .map(|monitor| {
            let message = "has no label release";
            Place::new(monitor, "metadata.labels", message, "add release: <the Helm release>, such as prom")
        })
        .collect()
}
