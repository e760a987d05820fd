//! The rules about how series come to be: monitors, the Services they select, and the pods behind them.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use super::{Facts, Manifests, Place, Sourced, Workload, near, queries};
use crate::duration;
use crate::kinds::monitor::{NamespaceSelector, PodMonitor, ServiceMonitor};
use crate::kinds::scaled_object::ScaledObject;
use crate::kinds::scrape_config::ScrapeConfig;

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
pub(super) fn selected<'a>(
    manifests: &'a Manifests,
    monitor: &'a Sourced<ServiceMonitor>,
) -> impl Iterator<Item = &'a Sourced<Service>> {
    manifests.services.iter().filter(move |service| {
        let namespaces = monitor.spec.namespace_selector.as_ref();
        looks_into(namespaces, &monitor.origin.namespace, &service.origin.namespace)
            && selects(&monitor.spec.selector, service.labels())
    })
}

fn pod_labels(workload: &Workload) -> BTreeMap<String, String> {
    let metadata = workload.template.metadata.as_ref();
    metadata.and_then(|metadata| metadata.labels.clone()).unwrap_or_default()
}

/// Whether a Service leads to the pods of a workload.
pub(super) fn leads_to(service: &Sourced<Service>, workload: &Sourced<Workload>) -> bool {
    selects_labels(service, &workload.origin.namespace, &pod_labels(workload))
}

/// Whether a Service selects pods of a namespace by their labels.
fn selects_labels(service: &Sourced<Service>, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    service.origin.namespace == namespace
        && selector.is_some_and(|selector| {
            !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
}

/// The ServiceMonitors that scrape the pods of a workload.
fn scraping<'a>(
    manifests: &'a Manifests,
    workload: &'a Sourced<Workload>,
) -> impl Iterator<Item = &'a Sourced<ServiceMonitor>> {
    manifests
        .service_monitors
        .iter()
        .filter(move |monitor| selected(manifests, monitor).any(|service| leads_to(service, workload)))
}

/// Whether a PodMonitor scrapes pods with these labels.
fn monitors_pods(monitor: &Sourced<PodMonitor>, pods: &Sourced<BTreeMap<String, String>>) -> bool {
    let namespaces = monitor.spec.namespace_selector.as_ref();
    looks_into(namespaces, &monitor.origin.namespace, &pods.origin.namespace)
        && selects(&monitor.spec.selector, pods)
}

/// The PodMonitors that scrape the pods of a workload.
pub(super) fn scraping_pods<'a>(
    manifests: &'a Manifests,
    workload: &'a Sourced<Workload>,
) -> impl Iterator<Item = &'a Sourced<PodMonitor>> {
    manifests.pod_monitors.iter().filter(move |monitor| {
        let namespaces = monitor.spec.namespace_selector.as_ref();
        looks_into(namespaces, &monitor.origin.namespace, &workload.origin.namespace)
            && selects(&monitor.spec.selector, &pod_labels(workload))
    })
}

/// The ScrapeConfigs that scrape a Service of a workload by its name.
fn scraping_by_name<'a>(
    manifests: &'a Manifests,
    workload: &'a Sourced<Workload>,
) -> impl Iterator<Item = &'a Sourced<ScrapeConfig>> {
    let leading = |name: &str, namespace: &str| {
        manifests.services.iter().any(|service| {
            (service.origin.name(), service.origin.namespace.as_str()) == (name, namespace)
                && leads_to(service, workload)
        })
    };
    manifests.scrape_configs.iter().filter(move |config| {
        let targets = config.spec.static_configs.iter().flat_map(|group| &group.targets);
        targets.filter_map(|target| target.split(':').next()).any(|host| {
            let mut parts = host.split('.');
            let name = parts.next().unwrap_or_default();
            leading(name, parts.next().unwrap_or(&config.origin.namespace))
        })
    })
}

/// How often the pods of an object's workload are scraped, at the slowest; nothing where no monitor is known
/// to.
pub(super) fn interval(manifests: &Manifests, object: &Sourced<ScaledObject>) -> Option<Duration> {
    let workload = manifests.target(object)?;
    let by_service = scraping(manifests, workload).flat_map(|monitor| &monitor.spec.endpoints);
    let by_pod = scraping_pods(manifests, workload).flat_map(|monitor| &monitor.spec.pod_metrics_endpoints);
    let settings = by_service.map(|endpoint| &endpoint.scrape).chain(by_pod.map(|endpoint| &endpoint.scrape));
    let by_name = scraping_by_name(manifests, workload).map(|config| &config.spec.scrape_interval);
    let written = settings.map(|settings| &settings.interval).chain(by_name);
    let written = written.map(|interval| interval.as_deref().and_then(|text| duration::parse(text).ok()));
    written.map(|interval| interval.unwrap_or(SCRAPE_INTERVAL_DEFAULT)).max()
}

/// Whether the pods of a workload ask to be scraped without a monitor.
fn is_annotated(workload: &Workload) -> bool {
    let annotations = workload.template.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
    annotations.and_then(|all| all.get(SCRAPE_ANNOTATION)).is_some_and(|text| text == "true")
}

/// A query for metrics of pods that nothing scrapes. The metrics may come from elsewhere, so only workloads
/// that are known, and names that a server of requests has, count.
pub(super) fn nothing_scraped(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let objects = manifests.scaled_objects.iter();
    objects
        .filter_map(|object| {
            let workload = manifests.target(object)?;
            let metrics = queries::selected_metrics(&object.spec.triggers, facts);
            let first = metrics.into_iter().find(|metric| metric.starts_with("http_"))?;
            let scraped = is_annotated(workload)
                || scraping(manifests, workload).next().is_some()
                || scraping_pods(manifests, workload).next().is_some()
                || scraping_by_name(manifests, workload).next().is_some();
            let message = format!(
                "{first} is queried, but no ServiceMonitor, PodMonitor or ScrapeConfig here scrapes the pods of {}",
                workload.origin.name()
            );
            let help = "add a Service with a metrics port and a ServiceMonitor that selects it";
            (!scraped).then(|| Place::new(&object.origin, "spec.triggers", message, help))
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
        let elsewhere =
            manifests.services.iter().find(|service| selects(&monitor.spec.selector, service.labels()));
        let (field, help) = match elsewhere {
            Some(service) => {
                let help = format!(
                    "add {} to namespaceSelector.matchNames, where the Service {} is",
                    service.origin.namespace,
                    service.origin.name()
                );
                ("spec.namespaceSelector", help)
            }
            None => ("spec.selector", format!("select by {}", labels_of(&manifests.services[0]))),
        };
        let message = format!("selects no Service here (it is in namespace {})", monitor.origin.namespace);
        Place::new(&monitor.origin, field, message, help)
    })
    .collect()
}

fn labels_of(service: &Sourced<Service>) -> String {
    let labels: Vec<String> = service.labels().iter().map(|(key, value)| format!("{key}: {value}")).collect();
    if labels.is_empty() {
        return format!("a label of the Service {}, which has none yet", service.origin.name());
    }
    format!("the labels of the Service {}: {}", service.origin.name(), labels.join(", "))
}

/// PodMonitors that select no pods here, be they of a workload, a Job or alone.
pub(super) fn selects_no_pods(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let workloads = &manifests.workloads;
    let lost = manifests.pod_monitors.iter().filter(|monitor| {
        let of_workload = workloads.iter().any(|workload| {
            scraping_pods(manifests, workload).any(|scraping| scraping.origin == monitor.origin)
        });
        !of_workload && !manifests.other_pods.iter().any(|pods| monitors_pods(monitor, pods))
    });
    lost.filter_map(|monitor| {
        let labels: Vec<String> =
            pod_labels(workloads.first()?).iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let help = format!("select by labels of the pods, such as {}", labels.join(", "));
        Some(Place::new(&monitor.origin, "spec.selector", "selects the pods of no workload here", help))
    })
    .collect()
}

/// Services that lead to no pods here: those that are scraped, and those that nearly select a workload.
pub(super) fn service_selects_nothing(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let lost = manifests.services.iter().filter(|service| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| !selector.is_empty())
            && !manifests.workloads.iter().any(|workload| leads_to(service, workload))
            && !manifests.other_pods.iter().any(|pods| selects_labels(service, &pods.origin.namespace, pods))
    });
    lost.filter_map(|service| {
        let scraped = manifests
            .service_monitors
            .iter()
            .any(|monitor| selected(manifests, monitor).any(|selected| selected.origin == service.origin));
        let names = manifests.workloads.iter().map(|workload| workload.origin.name());
        let nearest = near(service.origin.name(), names);
        let message = match (scraped, nearest) {
            (true, _) => "is scraped, but selects the pods of no workload here".to_owned(),
            (false, Some(name)) => format!("selects the pods of no workload here, not of {name} either"),
            (false, None) => return None,
        };
        if manifests.workloads.is_empty() {
            return None;
        }
        let help = "write the labels of the workload's spec.template.metadata";
        Some(Place::new(&service.origin, "spec.selector", message, help))
    })
    .collect()
}

pub(super) fn release_label(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let services = manifests.service_monitors.iter().map(|monitor| (&monitor.origin, monitor.labels()));
    let pods = manifests.pod_monitors.iter().map(|monitor| (&monitor.origin, monitor.labels()));
    let unlabelled = services.chain(pods).filter(|(_, labels)| !labels.contains_key("release"));
    unlabelled
        .map(|(origin, _)| {
            let help = "add release: <the Helm release>, such as prom";
            Place::new(origin, "metadata.labels", "has no label release", help)
        })
        .collect()
}

/// Paths that no usual server has its metrics under.
pub(super) fn metrics_path(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let by_service = manifests.service_monitors.iter().flat_map(|monitor| {
        let endpoints = monitor.spec.endpoints.iter().enumerate();
        endpoints.map(|(index, endpoint)| {
            (&monitor.origin, format!("spec.endpoints[{index}].path"), &endpoint.scrape.path)
        })
    });
    let by_pod = manifests.pod_monitors.iter().flat_map(|monitor| {
        let endpoints = monitor.spec.pod_metrics_endpoints.iter().enumerate();
        endpoints.map(|(index, endpoint)| {
            (&monitor.origin, format!("spec.podMetricsEndpoints[{index}].path"), &endpoint.scrape.path)
        })
    });
    by_service
        .chain(by_pod)
        .filter_map(|(origin, field, path)| {
            let path = path.as_deref().filter(|path| !path.contains("metrics"))?;
            let message = format!("the path {path:?} is not where servers usually have their metrics");
            let help = "see that the server answers metrics there; most do under /metrics, the default";
            Some(Place::new(origin, field, message, help))
        })
        .collect()
}
