//! Which pages to scrape: from ServiceMonitors, PodMonitors, ScrapeConfigs and `prometheus.io/` annotations. Pure.
//!
//! The labels are those that prometheus-operator's generated configuration gives (namespace, service, pod,
//! container, endpoint, job, instance), so that queries written for Prometheus match unchanged. Two differences:
//! every monitor is selected, whatever its labels, since there is no Prometheus object that could leave it out;
//! and an annotated pod that a monitor covers already is scraped once, not twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flyball_api::kinds::monitor::{
    Endpoint, EndpointSettings, NamespaceSelector, PageSettings, PodMetricsEndpoint, PodMonitor,
    ScrapeSettings, ServiceMonitor,
};
use flyball_api::kinds::scrape_config::ScrapeConfig;
use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::meta;
use super::pools::Discovered;
use super::target::{Job, LabelMap, ScrapeTarget};
use crate::gather::cluster::Cluster;
use crate::gather::selector;

/// More targets than this are left out, and said so: 1,000 pods on one machine are beyond what it can run.
pub(crate) const TARGETS_MAX: usize = 1000;

/// The objects that discovery reads.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Objects<'a> {
    pub(crate) service_monitors: &'a [Arc<ServiceMonitor>],
    pub(crate) pod_monitors: &'a [Arc<PodMonitor>],
    pub(crate) scrape_configs: &'a [Arc<ScrapeConfig>],
    pub(crate) services: &'a [Arc<Service>],
    pub(crate) slices: &'a [Arc<EndpointSlice>],
    pub(crate) pods: &'a [Arc<Pod>],
}

/// Discovers again only when an object has changed; most rounds see the same ones.
#[derive(Default)]
pub(crate) struct Discovery {
    seen: Option<DiscoveredObjects>,
    problems: BTreeSet<(String, String)>,
}

/// The objects of the last discovery.
#[derive(PartialEq)]
struct DiscoveredObjects {
    service_monitors: Vec<Same<ServiceMonitor>>,
    pod_monitors: Vec<Same<PodMonitor>>,
    scrape_configs: Vec<Same<ScrapeConfig>>,
    services: Vec<Same<Service>>,
    slices: Vec<Same<EndpointSlice>>,
    pods: Vec<Same<Pod>>,
}

/// An object that is the same only if it is the very same: a watch replaces what has changed.
struct Same<K>(Arc<K>);

impl<K> PartialEq for Same<K> {
    fn eq(&self, other: &Same<K>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Discovery {
    /// What there is to scrape, if that may have changed. A new problem is logged once.
    pub(crate) fn discover(&mut self, cluster: &Cluster) -> Option<Discovered> {
        let service_monitors = cluster.service_monitors.state();
        let pod_monitors = cluster.pod_monitors.state();
        let scrape_configs = cluster.scrape_configs.state();
        let (services, slices) = (cluster.services.state(), cluster.slices.state());
        let pods = cluster.pods.state();
        let seen = DiscoveredObjects {
            service_monitors: service_monitors.iter().cloned().map(Same).collect(),
            pod_monitors: pod_monitors.iter().cloned().map(Same).collect(),
            scrape_configs: scrape_configs.iter().cloned().map(Same).collect(),
            services: services.iter().cloned().map(Same).collect(),
            slices: slices.iter().cloned().map(Same).collect(),
            pods: pods.iter().cloned().map(Same).collect(),
        };
        if self.seen.as_ref() == Some(&seen) {
            return None;
        }
        self.seen = Some(seen);
        let found = discover(Objects {
            service_monitors: &service_monitors,
            pod_monitors: &pod_monitors,
            scrape_configs: &scrape_configs,
            services: &services,
            slices: &slices,
            pods: &pods,
        });
        for (pool, problem) in found.problems.difference(&self.problems) {
            tracing::warn!(pool, problem, "a monitor can't be used");
        }
        self.problems.clone_from(&found.problems);
        Some(found)
    }
}

/// Every page that the objects ask for.
pub(crate) fn discover(objects: Objects<'_>) -> Discovered {
    let mut found = Discovered::default();
    for monitor in objects.service_monitors {
        for (index, endpoint) in monitor.spec.endpoints.iter().enumerate() {
            service_monitor_targets(objects, monitor, index, endpoint, &mut found);
        }
    }
    for monitor in objects.pod_monitors {
        for (index, endpoint) in monitor.spec.pod_metrics_endpoints.iter().enumerate() {
            pod_monitor_targets(objects, monitor, index, endpoint, &mut found);
        }
    }
    for config in objects.scrape_configs {
        scrape_config_targets(config, &mut found);
    }
    let covered: BTreeSet<String> = found.targets.iter().map(|target| target.url.clone()).collect();
    let annotated = objects.pods.iter().filter_map(|pod| annotated_target(pod));
    for target in annotated.filter(|target| !covered.contains(&target.url)) {
        found.pools.relabelings.entry(target.pool.clone()).or_insert_with(|| Arc::from([]));
        found.targets.push(target);
    }
    found.targets.sort_by_key(ScrapeTarget::key);
    found.targets.dedup_by_key(|target| target.key());
    found.targets.truncate(TARGETS_MAX);
    found
}

fn service_monitor_targets(
    objects: Objects<'_>,
    monitor: &ServiceMonitor,
    index: usize,
    endpoint: &Endpoint,
    found: &mut Discovered,
) {
    let own_namespace = monitor.namespace().unwrap_or_default();
    let pool = format!("serviceMonitor/{own_namespace}/{}/{index}", monitor.name_any());
    let mut job = Job::new(pool.clone(), own_namespace.clone(), &endpoint.scrape, &monitor.spec.scrape);
    if endpoint.bearer_token_file.is_some() {
        job = Err("bearerTokenFile: files are not read for monitors; use authorization.credentials".into());
    }
    let mut places = Vec::new();
    for service in objects.services {
        let namespace = service.namespace().unwrap_or_default();
        let selected = selects(monitor.spec.namespace_selector.as_ref(), &own_namespace, &namespace)
            && selector::matches(&monitor.spec.selector, service.labels());
        if !selected {
            continue;
        }
        for place in places_of_service(objects, service, endpoint) {
            let mut labels = base_labels(&namespace, &place);
            labels.insert("service".into(), service.name_any());
            copy_labels(&monitor.spec.target_labels, service.labels(), &mut labels);
            if let Some(pod) = place.pod {
                copy_labels(&monitor.spec.pod_target_labels, pod.labels(), &mut labels);
            }
            let job = monitor.spec.job_label.as_ref().and_then(|label| service.labels().get(label)).cloned();
            labels.insert("job".into(), job.unwrap_or_else(|| service.name_any()));
            labels.insert(
                "endpoint".into(),
                endpoint_name(endpoint.port.as_ref(), endpoint.target_port.as_ref()),
            );
            meta::service(service, &mut labels);
            places.push(labels);
        }
    }
    found.add(&pool, job, places);
}

fn pod_monitor_targets(
    objects: Objects<'_>,
    monitor: &PodMonitor,
    index: usize,
    endpoint: &PodMetricsEndpoint,
    found: &mut Discovered,
) {
    let own_namespace = monitor.namespace().unwrap_or_default();
    let pool = format!("podMonitor/{own_namespace}/{}/{index}", monitor.name_any());
    let number = endpoint.port_number.map(IntOrString::Int);
    let wanted = endpoint.port.clone().map(IntOrString::String).or(number).or(endpoint.target_port.clone());
    let Some(wanted) = wanted else { return };
    let job = Job::new(pool.clone(), own_namespace.clone(), &endpoint.scrape, &monitor.spec.scrape);
    let mut places = Vec::new();
    for pod in objects.pods {
        let namespace = pod.namespace().unwrap_or_default();
        let selected = selects(monitor.spec.namespace_selector.as_ref(), &own_namespace, &namespace)
            && selector::matches(&monitor.spec.selector, pod.labels())
            && runs(pod, endpoint.scrape.filter_running);
        let Some((container, port)) = container_port(pod, &wanted).filter(|_| selected) else { continue };
        let Some(ip) = pod_ip(pod) else { continue };
        let place = ScrapeAddress {
            address: socket(ip, port.container_port),
            pod: Some(pod),
            container: Some((container, port)),
            endpoint: LabelMap::new(),
        };
        let mut labels = base_labels(&namespace, &place);
        copy_labels(&monitor.spec.pod_target_labels, pod.labels(), &mut labels);
        let job = monitor.spec.job_label.as_ref().and_then(|label| pod.labels().get(label)).cloned();
        labels.insert("job".into(), job.unwrap_or_else(|| format!("{own_namespace}/{}", monitor.name_any())));
        labels.insert("endpoint".into(), endpoint_name(endpoint.port.as_ref(), Some(&wanted)));
        places.push(labels);
    }
    found.add(&pool, job, places);
}

fn scrape_config_targets(config: &ScrapeConfig, found: &mut Discovered) {
    let (spec, namespace) = (&config.spec, config.namespace().unwrap_or_default());
    let pool = format!("scrapeConfig/{namespace}/{}", config.name_any());
    for field in spec.other_discoveries.keys() {
        found.refuse(&pool, format!("{field} is not supported; only staticConfigs are read"));
    }
    let mut places = Vec::new();
    for group in &spec.static_configs {
        for address in &group.targets {
            let mut labels = group.labels.clone();
            labels.insert("__address__".into(), address.clone());
            if let Some(job) = &spec.job_name {
                labels.insert("job".into(), job.clone());
            }
            places.push(labels);
        }
    }
    let settings = spec.settings();
    let job = Job::new(pool.clone(), namespace, &settings, &spec.scrape)
        .map(|job| job.compressed(spec.enable_compression.unwrap_or(true)));
    found.add(&pool, job, places);
}

/// A pod that asks to be scraped by the annotations that most Prometheus installations look for.
fn annotated_target(pod: &Pod) -> Option<ScrapeTarget> {
    let annotation = |name: &str| pod.annotations().get(&format!("prometheus.io/{name}")).map(String::as_str);
    if annotation("scrape") != Some("true") || !runs(pod, None) {
        return None;
    }
    let ip = pod_ip(pod)?;
    let declared = || ports(pod).next().map(|(_, port)| port.container_port);
    let port = annotation("port").and_then(|port| port.parse().ok()).or_else(declared)?;
    let container = ports(pod).find(|(_, declared)| declared.container_port == port);
    let place =
        ScrapeAddress { address: socket(ip, port), pod: Some(pod), container, endpoint: LabelMap::new() };
    let mut labels = base_labels(&pod.namespace().unwrap_or_default(), &place);
    labels.insert("job".into(), "kubernetes-pods".into());
    let scheme = annotation("scheme").map(str::to_owned);
    let settings = EndpointSettings {
        path: annotation("path").map(str::to_owned),
        page: PageSettings { scheme, ..PageSettings::default() },
        ..EndpointSettings::default()
    };
    let (pool, namespace) = ("annotation/pods".to_owned(), pod.namespace().unwrap_or_default());
    // There are no rules that could be wrong or drop it.
    Job::new(pool, namespace, &settings, &ScrapeSettings::default()).ok()?.target(labels).ok()?
}

/// An address that serves a page, and what Kubernetes knows of it.
struct ScrapeAddress<'a> {
    address: String,
    pod: Option<&'a Pod>,
    container: Option<(&'a Container, &'a ContainerPort)>,
    /// What the Service's endpoints say of it.
    endpoint: LabelMap,
}

fn places_of_service<'a>(
    objects: Objects<'a>,
    service: &Service,
    endpoint: &Endpoint,
) -> Vec<ScrapeAddress<'a>> {
    let belongs = |slice: &&'a Arc<EndpointSlice>| {
        slice.namespace() == service.namespace()
            && slice.labels().get("kubernetes.io/service-name") == Some(&service.name_any())
    };
    let mut places = Vec::new();
    for slice in objects.slices.iter().filter(belongs) {
        for address in slice.endpoints.iter().flatten() {
            let pod = address.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
            let pod =
                pod.and_then(|target| find_pod(objects.pods, slice.namespace(), target.name.as_deref()));
            if pod.is_some_and(|pod| !runs(pod, endpoint.scrape.filter_running)) {
                continue;
            }
            let Some(port) = endpoint_port(slice, endpoint, pod) else { continue };
            let container = pod.and_then(|pod| container_port(pod, &IntOrString::Int(port)));
            let of_slice = slice.ports.iter().flatten().find(|declared| declared.port == Some(port));
            let mut meta_labels = LabelMap::new();
            meta::endpoint(slice, address, of_slice, &mut meta_labels);
            let sockets = address.addresses.iter().map(|ip| socket(ip, port));
            places.extend(sockets.map(|address| ScrapeAddress {
                address,
                pod,
                container,
                endpoint: meta_labels.clone(),
            }));
        }
    }
    places
}

/// The number of the port that the endpoint names: a Service port by name, else a container port.
fn endpoint_port(slice: &EndpointSlice, endpoint: &Endpoint, pod: Option<&Pod>) -> Option<i32> {
    if let Some(name) = &endpoint.port {
        let mut ports = slice.ports.iter().flatten();
        return ports.find(|port| port.name.as_ref() == Some(name)).and_then(|port| port.port);
    }
    let wanted = endpoint.target_port.as_ref()?;
    container_port(pod?, wanted).map(|(_, port)| port.container_port)
}

fn find_pod<'a>(pods: &'a [Arc<Pod>], namespace: Option<String>, name: Option<&str>) -> Option<&'a Pod> {
    pods.iter()
        .map(|pod| &**pod)
        .find(|pod| pod.metadata.name.as_deref() == name && pod.namespace() == namespace)
}

/// The declared ports, those of sidecars after the others, as in Prometheus.
fn ports(pod: &Pod) -> impl Iterator<Item = (&Container, &ContainerPort)> {
    let containers =
        pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    containers.flat_map(|container| container.ports.iter().flatten().map(move |port| (container, port)))
}

fn container_port<'a>(pod: &'a Pod, wanted: &IntOrString) -> Option<(&'a Container, &'a ContainerPort)> {
    ports(pod).find(|(_, port)| match wanted {
        IntOrString::Int(number) => port.container_port == *number,
        IntOrString::String(name) => port.name.as_ref() == Some(name),
    })
}

fn pod_ip(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref()
}

/// Whether the pod is worth scraping: not one that has ended, unless the monitor wants those too.
fn runs(pod: &Pod, filter_running: Option<bool>) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !(filter_running.unwrap_or(true) && matches!(phase, Some("Failed" | "Succeeded")))
}

fn selects(selector: Option<&NamespaceSelector>, own: &str, namespace: &str) -> bool {
    let Some(selector) = selector else { return own == namespace };
    if selector.any.unwrap_or(false) {
        return true;
    }
    if selector.match_names.is_empty() {
        own == namespace
    } else {
        selector.match_names.iter().any(|n| n == namespace)
    }
}

fn socket(ip: &str, port: i32) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn endpoint_name(port: Option<&String>, target_port: Option<&IntOrString>) -> String {
    match (port, target_port) {
        (Some(name), _) | (None, Some(IntOrString::String(name))) => name.clone(),
        (None, Some(IntOrString::Int(number))) => number.to_string(),
        (None, None) => String::new(),
    }
}

fn base_labels(namespace: &str, place: &ScrapeAddress<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("namespace".to_owned(), namespace.to_owned()),
        ("__address__".to_owned(), place.address.clone()),
    ]);
    labels.extend(place.endpoint.clone());
    if let Some(pod) = place.pod {
        labels.insert("pod".into(), pod.name_any());
        meta::pod(pod, &mut labels);
    }
    if let Some((container, port)) = place.container {
        labels.insert("container".into(), container.name.clone());
        meta::container(container, port, &mut labels);
    }
    labels
}

/// Copies the named labels.
fn copy_labels(names: &[String], from: &BTreeMap<String, String>, to: &mut BTreeMap<String, String>) {
    for name in names {
        if let Some(value) = from.get(name) {
            to.insert(meta::label_name(name), value.clone());
        }
    }
}

#[cfg(test)]
mod tests;
