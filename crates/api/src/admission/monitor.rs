//! The rules for ServiceMonitor and PodMonitor that prometheus-operator checks when it reads them, and then
//! leaves the object out without a word to the user.

use super::Admission;
use crate::duration;
use crate::kinds::monitor::{EndpointSettings, PodMonitor, ServiceMonitor};
use crate::problem::Problem;

/// Checks a ServiceMonitor that is created or changed.
pub fn admit_service_monitor(object: &ServiceMonitor) -> Admission {
    admit("spec.endpoints", object.spec.endpoints.iter().map(|endpoint| &endpoint.scrape))
}

/// Checks a PodMonitor that is created or changed.
pub fn admit_pod_monitor(object: &PodMonitor) -> Admission {
    admit(
        "spec.podMetricsEndpoints",
        object.spec.pod_metrics_endpoints.iter().map(|endpoint| &endpoint.scrape),
    )
}

fn admit<'a>(path: &str, endpoints: impl Iterator<Item = &'a EndpointSettings>) -> Admission {
    let problems =
        endpoints.enumerate().flat_map(|(index, endpoint)| check(&format!("{path}[{index}]"), endpoint));
    Admission { problems: problems.collect(), warnings: Vec::new() }
}

fn check(path: &str, endpoint: &EndpointSettings) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut read = |name: &str, text: Option<&String>| {
        let text = text?;
        let parsed = duration::parse(text);
        parsed
            .map_err(|error| {
                problems.push(Problem::invalid(format!("{path}.{name}"), text.as_str(), error.to_string()))
            })
            .ok()
    };
    let interval = read("interval", endpoint.interval.as_ref());
    let timeout = read("scrapeTimeout", endpoint.scrape_timeout.as_ref());
    if let (Some(interval), Some(timeout)) = (interval, timeout)
        && timeout > interval
    {
        let (timeout, interval) = (endpoint.scrape_timeout.as_deref(), endpoint.interval.as_deref());
        let (timeout, interval) = (timeout.unwrap_or_default(), interval.unwrap_or_default());
        let message = format!("scrapeTimeout {timeout:?} greater than scrapeInterval {interval:?}");
        let field = format!("{path}.scrapeTimeout");
        problems.push(Problem::invalid(field, timeout, message).help("write at most the interval"));
    }
    problems
}
