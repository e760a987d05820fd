//! The rules for ServiceMonitor, PodMonitor and ScrapeConfig that prometheus-operator checks when it reads them, and then
//! leaves the object out without a word to the user. What it would do and is not done here is told as a warning, or
//! refused where nothing else would be left of the object.

use std::collections::BTreeMap;

use super::{Admission, CheckRelabeling};
use crate::duration;
use crate::kinds::monitor::{
    DiscoverySettings, EndpointSettings, PodMonitor, RelabelConfig, ScrapeSettings, ServiceMonitor,
};
use crate::kinds::scrape_client::ScrapeClient;
use crate::kinds::scrape_config::{OTHER_DISCOVERIES, ScrapeConfig, StaticConfig};
use crate::problem::{Cause, Problem};

/// Checks a ServiceMonitor that is created or changed.
pub fn admit_service_monitor(object: &ServiceMonitor, check_relabeling: CheckRelabeling<'_>) -> Admission {
    let endpoints = object.spec.endpoints.iter().map(|endpoint| &endpoint.scrape);
    let mut admission = admit("spec.endpoints", endpoints, check_relabeling);
    admission.warnings.extend(of_discovery(&object.spec.discovery));
    admission.warnings.extend(of_scrapes(&object.spec.scrape));
    admission
}

/// Checks a PodMonitor that is created or changed.
pub fn admit_pod_monitor(object: &PodMonitor, check_relabeling: CheckRelabeling<'_>) -> Admission {
    let endpoints = object.spec.pod_metrics_endpoints.iter().map(|endpoint| &endpoint.scrape);
    let mut admission = admit("spec.podMetricsEndpoints", endpoints, check_relabeling);
    admission.warnings.extend(of_discovery(&object.spec.discovery));
    admission.warnings.extend(of_scrapes(&object.spec.scrape));
    admission
}

/// Checks a ScrapeConfig that is created or changed.
pub fn admit_scrape_config(object: &ScrapeConfig, check_relabeling: CheckRelabeling<'_>) -> Admission {
    let (spec, settings) = (&object.spec, object.spec.settings());
    let mut problems = other_discoveries(&spec.other_discoveries);
    problems.extend(static_configs(&spec.static_configs));
    problems.extend(check("spec", ["scrapeInterval", "scrapeTimeout"], &settings, check_relabeling));
    let mut warnings: Vec<String> = of_client("spec", &settings.client).collect();
    warnings.extend(of_scrapes(&spec.scrape));
    Admission { problems, warnings }
}

fn admit<'a>(
    path: &str,
    endpoints: impl Iterator<Item = &'a EndpointSettings>,
    check_relabeling: CheckRelabeling<'_>,
) -> Admission {
    let mut admission = Admission::default();
    for (index, endpoint) in endpoints.enumerate() {
        let path = format!("{path}[{index}]");
        let durations = ["interval", "scrapeTimeout"];
        admission.problems.extend(check(&path, durations, endpoint, check_relabeling));
        admission.warnings.extend(of_client(&path, &endpoint.client));
    }
    admission
}

fn check(
    path: &str,
    durations: [&str; 2],
    settings: &EndpointSettings,
    check_relabeling: CheckRelabeling<'_>,
) -> Vec<Problem> {
    let mut problems = check_durations(path, durations, settings);
    for (field, rules) in [
        ("metricRelabelings", &settings.page.metric_relabelings),
        ("relabelings", &settings.page.relabelings),
    ] {
        for (index, rule) in rules.iter().enumerate() {
            problems.extend(relabeling(&format!("{path}.{field}[{index}]"), rule, check_relabeling));
        }
    }
    problems
}

fn check_durations(path: &str, [interval, timeout]: [&str; 2], settings: &EndpointSettings) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut read = |name: &str, text: &Option<String>| {
        let text = text.as_ref()?;
        let wrong = |error: duration::DurationError| {
            Problem::invalid(format!("{path}.{name}"), text.as_str(), error.to_string())
        };
        let length = duration::parse(text).map_err(|error| problems.push(wrong(error))).ok()?;
        Some((text.clone(), length))
    };
    let every = read(interval, &settings.interval);
    let within = read(timeout, &settings.page.scrape_timeout);
    if let (Some((every, interval)), Some((within, longest))) = (every, within)
        && longest > interval
    {
        let message = format!("scrapeTimeout {within:?} greater than scrapeInterval {every:?}");
        let problem = Problem::invalid(format!("{path}.{timeout}"), within, message);
        problems.push(problem.help("write at most the interval"));
    }
    problems
}

/// What is wrong with a rule, with the value of the field that it is wrong with.
fn relabeling(path: &str, rule: &RelabelConfig, check_relabeling: CheckRelabeling<'_>) -> Vec<Problem> {
    let written = serde_json::to_value(rule).unwrap_or_default();
    let problem = |(field, message): (&str, String)| {
        let path = format!("{path}.{field}");
        match written.get(field) {
            Some(value) => Problem::invalid(path, value.clone(), message),
            None => Problem::required(path, message),
        }
    };
    check_relabeling(rule).into_iter().map(problem).collect()
}

fn other_discoveries(found: &BTreeMap<String, serde_json::Value>) -> Vec<Problem> {
    let known = found.keys().filter(|field| OTHER_DISCOVERIES.contains(&field.as_str()));
    let problem = |field: &String| {
        let help = match field.as_str() {
            "kubernetesSDConfigs" => "write a ServiceMonitor or a PodMonitor",
            _ => "write the addresses into staticConfigs",
        };
        let message = "this way to discover targets is not supported";
        Problem::required(format!("spec.{field}"), message).cause(Cause::Forbidden).help(help)
    };
    known.map(problem).collect()
}

fn static_configs(configs: &[StaticConfig]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        let path = format!("spec.staticConfigs[{index}]");
        for (at, target) in config.targets.iter().enumerate() {
            if target.is_empty() || target.contains('/') {
                let message = format!("{target:?} is not a valid hostname");
                let help = "write host:port, and scheme and metricsPath in fields of their own";
                problems.push(
                    Problem::invalid(format!("{path}.targets[{at}]"), target.as_str(), message).help(help),
                );
            }
        }
        if config.labels.contains_key("") {
            problems.push(Problem::invalid(format!("{path}.labels"), "", "a label must have a name"));
        }
    }
    problems
}

/// What is asked of a client and makes its targets not be scraped.
fn of_client(path: &str, client: &ScrapeClient) -> impl Iterator<Item = String> {
    let unsupported = client.unsupported();
    unsupported.map(|(field, why)| format!("{path}.{field}: {why}; its targets are not scraped")).into_iter()
}

/// What is asked of discovery and is not done.
fn of_discovery(discovery: &DiscoverySettings) -> impl Iterator<Item = String> {
    let attaches = discovery.attach_metadata.as_ref().is_some_and(|attach| attach.node == Some(true));
    attaches.then(|| "spec.attachMetadata.node: labels of the node are not attached".to_owned()).into_iter()
}

/// What is asked of scrapes and is not done.
fn of_scrapes(scrape: &ScrapeSettings) -> impl Iterator<Item = String> {
    let class = scrape.scrape_class.as_ref().map(|class| {
        format!("spec.scrapeClass: there is no Prometheus object here that could define {class:?}; it has no effect")
    });
    let converts = (scrape.convert_classic_histograms_to_nhcb == Some(true))
        .then(|| "spec.convertClassicHistogramsToNHCB: classic histograms are kept as they are".to_owned());
    class.into_iter().chain(converts)
}
