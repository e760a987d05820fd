//! The rules about CPU and memory: what containers ask for, and what triggers measure it against.

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscalerSpec, MetricTarget};
use k8s_openapi::api::core::v1::Container;

use super::autoscalers::{Target, horizontal};
use super::{Facts, Manifests, Place, Sourced, Workload};
use crate::quantity::Quantity;
use crate::trigger::is_resource;

/// More cores for one pod than machines have were meant as thousandths, or as percent.
const CPU_CORES_MAX: f64 = 256.0;
/// A target of more cores than this for each pod, written without a suffix, was meant in percent.
const CPU_TARGET_CORES_MAX: f64 = 10.0;
/// Less memory than any program needs was meant in a larger unit: one mebibyte.
const MEMORY_BYTES_MIN: f64 = 1_048_576.0;

/// A trigger that measures use against requests.
pub(super) struct Utilization<'a> {
    pub(super) target: Target<'a>,
    pub(super) resource: &'a str,
    container: Option<&'a str>,
    percent: Option<f64>,
    field: String,
}

/// A trigger that measures use as such.
struct Use<'a> {
    target: Target<'a>,
    resource: &'a str,
    amount: &'a str,
    field: String,
}

/// Every utilization trigger of ScaledObjects and HorizontalPodAutoscalers.
pub(super) fn utilizations(manifests: &Manifests) -> Vec<Utilization<'_>> {
    let mut found = Vec::new();
    for object in &manifests.scaled_objects {
        let triggers = object.spec.triggers.iter().enumerate();
        for (index, trigger) in triggers.filter(|(_, trigger)| {
            is_resource(&trigger.kind) && trigger.metric_type.as_deref() == Some("Utilization")
        }) {
            found.push(Utilization {
                target: super::autoscalers::of_scaled_object(object),
                resource: &trigger.kind,
                container: trigger.metadata.get("containerName").map(String::as_str),
                percent: trigger.metadata.get("value").and_then(|text| text.trim().parse().ok()),
                field: format!("spec.triggers[{index}]"),
            });
        }
    }
    for (target, spec) in hpa_targets(manifests) {
        for (index, resource, container, metric) in resource_metrics(spec) {
            if let Some(percent) = metric.average_utilization {
                let (target, field) = (copy(&target), format!("spec.metrics[{index}]"));
                found.push(Utilization { target, resource, container, percent: Some(percent.into()), field });
            }
        }
    }
    found
}

fn copy<'a>(target: &Target<'a>) -> Target<'a> {
    Target { ..*target }
}

fn hpa_targets(manifests: &Manifests) -> Vec<(Target<'_>, &HorizontalPodAutoscalerSpec)> {
    let targets = horizontal(manifests).into_iter();
    targets
        .filter_map(|target| {
            let hpa = manifests.hpas.iter().find(|hpa| std::ptr::eq(&raw const hpa.origin, target.origin))?;
            Some((target, &hpa.spec))
        })
        .collect()
}

/// The metrics of CPU and memory: place, resource, container and target.
fn resource_metrics(
    spec: &HorizontalPodAutoscalerSpec,
) -> impl Iterator<Item = (usize, &str, Option<&str>, &MetricTarget)> {
    spec.metrics.iter().flatten().enumerate().filter_map(|(index, metric)| {
        let whole = metric.resource.as_ref().map(|of| (of.name.as_str(), None, &of.target));
        let one = metric.container_resource.as_ref();
        let (name, container, target) =
            whole.or(one.map(|of| (of.name.as_str(), Some(of.container.as_str()), &of.target)))?;
        Some((index, name, container, target))
    })
}

/// Every trigger on an absolute use of CPU or memory.
fn uses(manifests: &Manifests) -> Vec<Use<'_>> {
    let mut found = Vec::new();
    for object in &manifests.scaled_objects {
        let triggers = object.spec.triggers.iter().enumerate();
        for (index, trigger) in triggers.filter(|(_, trigger)| {
            is_resource(&trigger.kind) && trigger.metric_type.as_deref() == Some("AverageValue")
        }) {
            let Some(amount) = trigger.metadata.get("value") else { continue };
            let target = super::autoscalers::of_scaled_object(object);
            let field = format!("spec.triggers[{index}].metadata.value");
            found.push(Use { target, resource: &trigger.kind, amount, field });
        }
    }
    for (target, spec) in hpa_targets(manifests) {
        for (index, resource, _, metric) in resource_metrics(spec) {
            let Some(amount) = &metric.average_value else { continue };
            let field = format!("spec.metrics[{index}].resource.target.averageValue");
            found.push(Use { target: copy(&target), resource, amount: &amount.0, field });
        }
    }
    found
}

/// What a container asks for; Kubernetes takes the limit where there is no request.
fn request(container: &Container, resource: &str) -> Option<f64> {
    let resources = container.resources.as_ref()?;
    let of = |list: &Option<std::collections::BTreeMap<_, _>>| amount(list.as_ref(), resource);
    of(&resources.requests).or(of(&resources.limits))
}

type Amounts = std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

fn amount(list: Option<&Amounts>, resource: &str) -> Option<f64> {
    Quantity::parse(&list?.get(resource)?.0).ok().map(Quantity::as_f64)
}

/// The containers that a trigger measures, with their paths.
fn measured<'a>(
    workload: &'a Sourced<Workload>,
    container: Option<&'a str>,
) -> impl Iterator<Item = (String, &'a Container)> {
    workload.containers().filter(move |(_, found)| container.is_none_or(|name| name == found.name))
}

/// Whether the pods ask as a whole, which then is what their use is divided by.
fn pod_asks(workload: &Workload, resource: &str) -> bool {
    let resources = workload.template.spec.as_ref().and_then(|pod| pod.resources.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    amount(requests, resource).is_some_and(|amount| amount > 0.0)
}

/// Whether a LimitRange of the namespace gives a container what it does not ask for.
fn has_default(manifests: &Manifests, namespace: &str, resource: &str) -> bool {
    let ranges = manifests.limit_ranges.iter().filter(|range| range.origin.namespace == namespace);
    let limits = ranges.flat_map(|range| range.spec.iter().flat_map(|spec| &spec.limits));
    limits.filter(|limit| limit.type_ == "Container").any(|limit| {
        amount(limit.default_request.as_ref(), resource)
            .or(amount(limit.default.as_ref(), resource))
            .is_some()
    })
}

pub(super) fn no_request(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for utilization in utilizations(manifests) {
        let Some(workload) = utilization.target.workload(manifests) else { continue };
        let resource = utilization.resource;
        if utilization.container.is_none() && pod_asks(workload, resource)
            || has_default(manifests, &workload.origin.namespace, resource)
        {
            continue;
        }
        let unasked = measured(workload, utilization.container)
            .filter(|(_, container)| request(container, resource).is_none_or(|amount| amount <= 0.0));
        for (path, container) in unasked {
            let message = format!(
                "container {} asks for no {resource}, which {} measures use against",
                container.name, utilization.target.origin.object
            );
            let help = format!("write resources.requests.{resource}");
            places.push(Place::new(&workload.origin, format!("{path}.resources.requests"), message, help));
        }
    }
    places
}

/// A percentage of the requests that the limits do not let the pods come to.
pub(super) fn unreachable_utilization(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let utilizations = utilizations(manifests).into_iter();
    utilizations
        .filter_map(|utilization| {
            let resource = utilization.resource;
            let workload = utilization.target.workload(manifests)?;
            let (mut asked, mut allowed) = (0.0, 0.0);
            for (_, container) in measured(workload, utilization.container) {
                asked += request(container, resource)?;
                let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
                allowed += amount(limits, resource)?;
            }
            let percent = utilization.percent?;
            let reachable = 100.0 * allowed / asked;
            let message =
                format!("the target is {percent} % of the requests, and the limits end at {reachable:.0} %");
            let help = format!("write less than {reachable:.0}, or raise the limits");
            let field = format!("{}.{}", utilization.field, percent_field(&utilization.field));
            (asked > 0.0 && percent >= reachable)
                .then(|| Place::new(utilization.target.origin, field, message, help))
        })
        .collect()
}

fn percent_field(path: &str) -> &'static str {
    if path.contains("triggers") { "metadata.value" } else { "resource.target.averageUtilization" }
}

/// Amounts that were meant in another unit.
pub(super) fn amount_unit(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for found in uses(manifests) {
        let Ok(amount) = Quantity::parse(found.amount.trim()).map(Quantity::as_f64) else { continue };
        let (message, help) = match found.resource {
            "cpu" if amount > CPU_TARGET_CORES_MAX => (
                format!("the target is {amount} cores for each pod"),
                format!(
                    "write metricType: Utilization if {amount} % was meant, or {amount}m for thousandths"
                ),
            ),
            "memory" if amount < MEMORY_BYTES_MIN => (
                format!("the target is {amount} bytes for each pod"),
                format!("write {amount}Mi if mebibytes were meant"),
            ),
            _ => continue,
        };
        places.push(Place::new(found.target.origin, found.field, message, help));
    }
    for workload in &manifests.workloads {
        for (path, container) in workload.containers() {
            places.extend(odd_amounts(workload, &path, container));
        }
    }
    places
}

fn odd_amounts(workload: &Sourced<Workload>, path: &str, container: &Container) -> Vec<Place> {
    let Some(resources) = &container.resources else { return Vec::new() };
    let mut places = Vec::new();
    for (name, list) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        let (cpu, memory) = (amount(list.as_ref(), "cpu"), amount(list.as_ref(), "memory"));
        if let Some(cores) = cpu.filter(|cores| *cores > CPU_CORES_MAX) {
            let field = format!("{path}.resources.{name}.cpu");
            let (message, help) =
                (format!("{cores} cores"), format!("write {cores}m if thousandths were meant"));
            places.push(Place::new(&workload.origin, field, message, help));
        }
        if let Some(bytes) = memory.filter(|bytes| *bytes > 0.0 && *bytes < MEMORY_BYTES_MIN) {
            let field = format!("{path}.resources.{name}.memory");
            let message = format!("{bytes} bytes of memory");
            places.push(Place::new(&workload.origin, field, message, "write a suffix, such as 128Mi"));
        }
    }
    places
}

pub(super) fn limit_below_request(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for workload in &manifests.workloads {
        for (path, container) in workload.containers() {
            let Some(resources) = &container.resources else { continue };
            for resource in resources.requests.iter().flat_map(|requests| requests.keys()) {
                let asked = amount(resources.requests.as_ref(), resource);
                let allowed = amount(resources.limits.as_ref(), resource);
                if let (Some(asked), Some(allowed)) = (asked, allowed)
                    && allowed < asked
                {
                    let field = format!("{path}.resources.limits.{resource}");
                    let message =
                        format!("the {resource} limit is below the request of container {}", container.name);
                    places.push(Place::new(
                        &workload.origin,
                        field,
                        message,
                        "raise the limit, or lower the request",
                    ));
                }
            }
        }
    }
    places
}
