//! Which pages to scrape: from ServiceMonitors, PodMonitors and `prometheus.io/` annotations. Pure.
//!
//! The labels are those that prometheus-operator's generated configuration gives (namespace, service, pod,
//! container, endpoint, job, instance), so that queries written for Prometheus match unchanged. Two differences:
//! every monitor is selected, whatever its labels, since there is no Prometheus object that could leave it out;
//! and an annotated pod that a monitor covers already is scraped once, not twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flyball_api::kinds::monitor::{
    Endpoint, EndpointSettings, NamespaceSelector, PodMetricsEndpoint, PodMonitor, ServiceMonitor,
};
use k8s_openapi::api::core::v1::{ContainerPort, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::selector;

/// prometheus-operator's default; Prometheus itself has one minute.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(30);
/// Prometheus' `scrape_timeout`.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// More targets than this are left out, and said so: 1,000 pods on one machine are beyond what it can run.
pub(crate) const TARGETS_MAX: usize = 1000;

/// What discovery looks at.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Objects<'a> {
    pub(crate) service_monitors: &'a [std::sync::Arc<ServiceMonitor>],
    pub(crate) pod_monitors: &'a [std::sync::Arc<PodMonitor>],
    pub(crate) services: &'a [std::sync::Arc<Service>],
    pub(crate) slices: &'a [std::sync::Arc<EndpointSlice>],
    pub(crate) pods: &'a [std::sync::Arc<Pod>],
}

/// One page to scrape.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    /// What wants it, as Prometheus names its jobs: `serviceMonitor/default/model/0`.
    pub(crate) pool: String,
    pub(crate) url: String,
    /// The labels that every series of the page gets.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) honor_labels: bool,
    pub(crate) honor_timestamps: bool,
    /// The most samples the page may have; 0 is no limit of its own.
    pub(crate) sample_limit: usize,
}

impl Target {
    /// What makes a target the same one from one discovery to the next.
    pub(crate) fn key(&self) -> (String, String) {
        (self.pool.clone(), self.url.clone())
    }
}

/// Every page that the objects ask for, in a stable order.
pub(crate) fn targets(objects: Objects<'_>) -> Vec<Target> {
    let mut targets = Vec::new();
    for monitor in objects.service_monitors {
        for (index, endpoint) in monitor.spec.endpoints.iter().enumerate() {
            service_monitor_targets(objects, monitor, index, endpoint, &mut targets);
        }
    }
    for monitor in objects.pod_monitors {
        for (index, endpoint) in monitor.spec.pod_metrics_endpoints.iter().enumerate() {
            pod_monitor_targets(objects, monitor, index, endpoint, &mut targets);
        }
    }
    let covered: BTreeSet<String> = targets.iter().map(|target| target.url.clone()).collect();
    let annotated = objects.pods.iter().filter_map(|pod| annotated_target(pod));
    targets.extend(annotated.filter(|target| !covered.contains(&target.url)));
    targets.sort_by_key(Target::key);
    targets.dedup_by_key(|target| target.key());
    targets.truncate(TARGETS_MAX);
    targets
}

fn service_monitor_targets(
    objects: Objects<'_>,
    monitor: &ServiceMonitor,
    index: usize,
    endpoint: &Endpoint,
    targets: &mut Vec<Target>,
) {
    let own_namespace = monitor.namespace().unwrap_or_default();
    let pool = format!("serviceMonitor/{own_namespace}/{}/{index}", monitor.name_any());
    let limit = monitor.spec.scrape.sample_limit;
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
            targets.extend(target(&pool, &endpoint.scrape, limit, &place, labels));
        }
    }
}

fn pod_monitor_targets(
    objects: Objects<'_>,
    monitor: &PodMonitor,
    index: usize,
    endpoint: &PodMetricsEndpoint,
    targets: &mut Vec<Target>,
) {
    let own_namespace = monitor.namespace().unwrap_or_default();
    let pool = format!("podMonitor/{own_namespace}/{}/{index}", monitor.name_any());
    let number = endpoint.port_number.map(IntOrString::Int);
    let wanted = endpoint.port.clone().map(IntOrString::String).or(number).or(endpoint.target_port.clone());
    let Some(wanted) = wanted else { return };
    for pod in objects.pods {
        let namespace = pod.namespace().unwrap_or_default();
        let selected = selects(monitor.spec.namespace_selector.as_ref(), &own_namespace, &namespace)
            && selector::matches(&monitor.spec.selector, pod.labels())
            && runs(pod, endpoint.scrape.filter_running);
        let Some((container, port)) = container_port(pod, &wanted).filter(|_| selected) else { continue };
        let Some(ip) = pod_ip(pod) else { continue };
        let place =
            Place { address: socket(ip, port.container_port), pod: Some(pod), container: Some(container) };
        let mut labels = base_labels(&namespace, &place);
        copy_labels(&monitor.spec.pod_target_labels, pod.labels(), &mut labels);
        let job = monitor.spec.job_label.as_ref().and_then(|label| pod.labels().get(label)).cloned();
        labels.insert("job".into(), job.unwrap_or_else(|| format!("{own_namespace}/{}", monitor.name_any())));
        labels.insert("endpoint".into(), endpoint_name(endpoint.port.as_ref(), Some(&wanted)));
        targets.extend(target(&pool, &endpoint.scrape, monitor.spec.scrape.sample_limit, &place, labels));
    }
}

/// A pod that asks to be scraped by the annotations that most Prometheus installations look for.
fn annotated_target(pod: &Pod) -> Option<Target> {
    let annotation = |name: &str| pod.annotations().get(&format!("prometheus.io/{name}")).map(String::as_str);
    if annotation("scrape") != Some("true") || !runs(pod, None) {
        return None;
    }
    let ip = pod_ip(pod)?;
    let declared = || ports(pod).next().map(|(_, port)| port.container_port);
    let port = annotation("port").and_then(|port| port.parse().ok()).or_else(declared)?;
    let container = ports(pod).find(|(_, declared)| declared.container_port == port).map(|(name, _)| name);
    let place = Place { address: socket(ip, port), pod: Some(pod), container };
    let mut labels = base_labels(&pod.namespace().unwrap_or_default(), &place);
    labels.insert("job".into(), "kubernetes-pods".into());
    let settings = EndpointSettings {
        path: annotation("path").map(str::to_owned),
        scheme: annotation("scheme").map(str::to_owned),
        ..EndpointSettings::default()
    };
    target("annotation/pods", &settings, None, &place, labels)
}

/// Where a page is served from.
struct Place<'a> {
    address: String,
    pod: Option<&'a Pod>,
    container: Option<&'a str>,
}

fn places_of_service<'a>(objects: Objects<'a>, service: &Service, endpoint: &Endpoint) -> Vec<Place<'a>> {
    let belongs = |slice: &&'a std::sync::Arc<EndpointSlice>| {
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
            let container =
                pod.and_then(|pod| container_port(pod, &IntOrString::Int(port))).map(|(name, _)| name);
            let sockets = address.addresses.iter().map(|ip| socket(ip, port));
            places.extend(sockets.map(|address| Place { address, pod, container }));
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

fn find_pod<'a>(
    pods: &'a [std::sync::Arc<Pod>],
    namespace: Option<String>,
    name: Option<&str>,
) -> Option<&'a Pod> {
    pods.iter()
        .map(|pod| &**pod)
        .find(|pod| pod.metadata.name.as_deref() == name && pod.namespace() == namespace)
}

fn ports(pod: &Pod) -> impl Iterator<Item = (&str, &ContainerPort)> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .flat_map(|container| container.ports.iter().flatten().map(|port| (container.name.as_str(), port)))
}

fn container_port<'a>(pod: &'a Pod, wanted: &IntOrString) -> Option<(&'a str, &'a ContainerPort)> {
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

fn base_labels(namespace: &str, place: &Place<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("namespace".to_owned(), namespace.to_owned()),
        ("instance".to_owned(), place.address.clone()),
    ]);
    if let Some(pod) = place.pod {
        labels.insert("pod".into(), pod.name_any());
    }
    if let Some(container) = place.container {
        labels.insert("container".into(), container.to_owned());
    }
    labels
}

/// Copies the named labels; what is no letter, digit or underscore in a name becomes `_`, as in Prometheus.
fn copy_labels(names: &[String], from: &BTreeMap<String, String>, to: &mut BTreeMap<String, String>) {
    for name in names {
        if let Some(value) = from.get(name) {
            let name = name.replace(|c: char| !(c.is_ascii_alphanumeric() || c == '_'), "_");
            to.insert(name, value.clone());
        }
    }
}

fn target(
    pool: &str,
    settings: &EndpointSettings,
    sample_limit: Option<i64>,
    place: &Place<'_>,
    labels: BTreeMap<String, String>,
) -> Option<Target> {
    let scheme = settings.scheme.as_deref().unwrap_or("http").to_ascii_lowercase();
    let path = settings.path.as_deref().unwrap_or("/metrics");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let query = query(&settings.params);
    let interval = duration(settings.interval.as_deref()).unwrap_or(INTERVAL_DEFAULT);
    let timeout = duration(settings.scrape_timeout.as_deref()).unwrap_or(TIMEOUT_DEFAULT).min(interval);
    Some(Target {
        pool: pool.to_owned(),
        url: format!("{scheme}://{}{slash}{path}{query}", place.address),
        labels,
        interval,
        timeout,
        honor_labels: settings.honor_labels.unwrap_or(false),
        honor_timestamps: settings.honor_timestamps.unwrap_or(true),
        sample_limit: sample_limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0),
    })
}

fn query(params: &BTreeMap<String, Vec<String>>) -> String {
    let pairs: Vec<(&str, &str)> = params
        .iter()
        .flat_map(|(name, values)| values.iter().map(|value| (name.as_str(), value.as_str())))
        .collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", crate::encode_query(&pairs)) }
}

fn duration(text: Option<&str>) -> Option<Duration> {
    let millis = flyball_metrics::parse_duration_ms(text?).ok()?;
    u64::try_from(millis).ok().filter(|millis| *millis > 0).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn object<K: DeserializeOwned>(value: Value) -> Vec<Arc<K>> {
        vec![Arc::new(serde_json::from_value(value).unwrap())]
    }

    fn pod(annotations: Value, phase: &str) -> Vec<Arc<Pod>> {
        object(json!({
            "metadata": {
                "name": "model-1", "namespace": "default", "labels": { "app": "model", "tier.x": "web" },
                "annotations": annotations,
            },
            "spec": { "containers": [{ "name": "main", "ports": [
                { "containerPort": 8000 }, { "name": "metrics", "containerPort": 9100 },
            ] }] },
            "status": { "phase": phase, "podIP": "127.64.0.9" },
        }))
    }

    fn service(labels: Value) -> Vec<Arc<Service>> {
        object(json!({ "metadata": { "name": "model", "namespace": "default", "labels": labels } }))
    }

    fn slices() -> Vec<Arc<EndpointSlice>> {
        object(json!({
            "metadata": {
                "name": "model-x", "namespace": "default", "labels": { "kubernetes.io/service-name": "model" },
            },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": ["127.64.0.9"], "targetRef": { "kind": "Pod", "name": "model-1" } }],
            "ports": [{ "name": "web", "port": 8000 }, { "name": "metrics", "port": 9100 }],
        }))
    }

    fn monitor(spec: Value) -> Vec<Arc<ServiceMonitor>> {
        object(json!({ "metadata": { "name": "watch", "namespace": "default" }, "spec": spec }))
    }

    /// Targets as `pool url job endpoint`.
    fn found(objects: Objects<'_>) -> Vec<String> {
        let label = |target: &Target, name: &str| target.labels.get(name).cloned().unwrap_or_default();
        let text = |t: &Target| format!("{} {} {} {}", t.pool, t.url, label(t, "job"), label(t, "endpoint"));
        targets(objects).iter().map(text).collect()
    }

    #[test]
    fn a_service_monitor_selects_by_labels_of_the_service_and_names_of_its_ports() {
        let url = |rest: &str| format!("serviceMonitor/default/watch/0 {rest}");
        let all = json!({ "matchLabels": { "app": "model" } });
        let table = [
            (
                json!({ "port": "metrics", "path": "/" }),
                all.clone(),
                Some("http://127.64.0.9:9100/ model metrics"),
            ),
            (json!({ "port": "metrics" }), all.clone(), Some("http://127.64.0.9:9100/metrics model metrics")),
            (json!({ "targetPort": 8000 }), all.clone(), Some("http://127.64.0.9:8000/metrics model 8000")),
            (
                json!({ "targetPort": "metrics" }),
                all.clone(),
                Some("http://127.64.0.9:9100/metrics model metrics"),
            ),
            (
                json!({ "port": "web", "path": "m", "params": { "a": ["1 2"] } }),
                all.clone(),
                Some("http://127.64.0.9:8000/m?a=1%202 model web"),
            ),
            (json!({ "port": "9100" }), all.clone(), None),
            (json!({ "targetPort": 1 }), all.clone(), None),
            (json!({ "port": "metrics" }), json!({ "matchLabels": { "app": "other" } }), None),
            (
                json!({ "port": "metrics" }),
                json!({ "matchExpressions": [{ "key": "app", "operator": "Exists" }] }),
                Some("http://127.64.0.9:9100/metrics model metrics"),
            ),
        ];
        let (pods, services, slices) =
            (pod(json!({}), "Running"), service(json!({ "app": "model" })), slices());
        for (endpoint, selector, expected) in table {
            let monitors = monitor(json!({ "selector": selector, "endpoints": [endpoint] }));
            let objects = Objects {
                service_monitors: &monitors,
                services: &services,
                slices: &slices,
                pods: &pods,
                pod_monitors: &[],
            };
            let expected: Vec<String> = expected.into_iter().map(url).collect();
            assert_eq!(found(objects), expected, "{monitors:?}");
        }
    }

    #[test]
    fn namespaces_and_ended_pods_are_respected() {
        let check = |namespace_selector: Value, phase: &str, expected: usize| {
            let spec = json!({
                "selector": {}, "endpoints": [{ "port": "metrics" }], "namespaceSelector": namespace_selector,
            });
            let (monitors, pods) = (monitor(spec), pod(json!({}), phase));
            let (services, slices) = (service(json!({})), slices());
            let objects = Objects {
                service_monitors: &monitors,
                services: &services,
                slices: &slices,
                pods: &pods,
                pod_monitors: &[],
            };
            assert_eq!(found(objects).len(), expected, "{namespace_selector} {phase}");
        };
        check(json!({}), "Running", 1);
        check(json!({ "matchNames": ["default"] }), "Running", 1);
        check(json!({ "matchNames": ["monitoring"] }), "Running", 0);
        check(json!({ "any": true }), "Running", 1);
        check(json!({}), "Succeeded", 0);
    }

    #[test]
    fn annotated_pods_are_scraped_once() {
        let asks = json!({ "prometheus.io/scrape": "true", "prometheus.io/port": "9100" });
        let pods = pod(asks, "Running");
        let alone = Objects { pods: &pods, ..Objects::default() };
        assert_eq!(found(alone), ["annotation/pods http://127.64.0.9:9100/metrics kubernetes-pods "]);
        let pod_monitors: Vec<Arc<PodMonitor>> = object(json!({
            "metadata": { "name": "pods", "namespace": "default" },
            "spec": { "selector": {}, "podMetricsEndpoints": [{ "port": "metrics" }], "podTargetLabels": ["tier.x"] },
        }));
        let both = Objects { pods: &pods, pod_monitors: &pod_monitors, ..Objects::default() };
        assert_eq!(
            found(both),
            ["podMonitor/default/pods/0 http://127.64.0.9:9100/metrics default/pods metrics"]
        );
        assert_eq!(targets(both)[0].labels.get("tier_x").map(String::as_str), Some("web"));
        let silent = pod(json!({}), "Running");
        assert_eq!(found(Objects { pods: &silent, ..Objects::default() }), Vec::<String>::new());
    }
}
