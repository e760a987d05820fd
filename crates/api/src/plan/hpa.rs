//! A HorizontalPodAutoscaler as a plan.
//!
//! Names of metrics are made here, for all plans, so that status can be matched with spec: a resource is
//! called `cpu`, a resource of a container `cpu/<container>`, an external metric by its name, an object's
//! metric `<Kind>/<name>/<metric>`.

use std::collections::BTreeMap;

use flyball_engine::{
    Bounds, Metric, MetricSource, MetricTarget, Metrics, Milli, Name, Policy, PolicyError, Rules,
    SLO_METRIC_NAME, TargetId,
};
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec,
    MetricTarget as WrittenTarget, ResourceMetricSource,
};
use kube::ResourceExt;
use kube::core::Selector;

use super::{Ask, Names, Plan, Query, behavior};
use crate::problem::{Checked, Problem};
use crate::quantity::Quantity;
use crate::trigger::slo::is_objective;

/// Utilization of CPU that is wanted where no metric is written.
const CPU_UTILIZATION_DEFAULT: i32 = 80;

/// What a HorizontalPodAutoscaler asks of the autoscaler.
///
/// # Errors
/// If bounds, metrics or behavior make no sense; everything that is wrong is told.
pub fn plan_hpa(object: &HorizontalPodAutoscaler, rules: Rules) -> Checked<Plan> {
    let spec = &object.spec;
    let mut problems = Vec::new();
    let bounds = bounds(spec).map_err(|problem| problems.push(problem)).ok();
    let metrics = metrics(spec).map_err(|found| problems.extend(found)).ok();
    let behavior =
        spec.behavior.as_ref().map(|written| behavior::convert("spec.behavior", written)).transpose();
    let behavior = behavior.map_err(|found| problems.extend(found)).ok();
    let (Some(bounds), Some((metrics, queries)), Some(behavior)) = (bounds, metrics, behavior) else {
        return Err(problems);
    };
    let target = &spec.scale_target_ref;
    let policy = Policy { behavior, rules, ..Policy::new(bounds, metrics) };
    Ok(Plan {
        target: TargetId::new(
            target.kind.as_str(),
            object.namespace().unwrap_or_default(),
            target.name.as_str(),
        ),
        api_version: target.api_version.clone().unwrap_or_default(),
        policy,
        queries,
    })
}

/// The ScaledObject that the HorizontalPodAutoscaler belongs to, which is planned by itself.
pub fn scaled_object_owner(object: &HorizontalPodAutoscaler) -> Option<&str> {
    let owners = object.owner_references().iter();
    owners
        .filter(|owner| owner.kind == "ScaledObject" && owner.api_version.starts_with("keda.sh/"))
        .map(|owner| owner.name.as_str())
        .next()
}

/// The names that a list of metrics has in the engine.
pub fn metric_keys(metrics: &[MetricSpec]) -> Vec<String> {
    let mut names = Names::default();
    metrics.iter().map(|metric| names.unique(metric_key(metric))).collect()
}

fn metric_key(metric: &MetricSpec) -> String {
    if let Some(resource) = &metric.resource {
        return resource_key(&resource.name, None);
    }
    if let Some(resource) = &metric.container_resource {
        return resource_key(&resource.name, Some(&resource.container));
    }
    if let Some(pods) = &metric.pods {
        return pods.metric.name.clone();
    }
    if let Some(object) = &metric.object {
        return format!(
            "{}/{}/{}",
            object.described_object.kind, object.described_object.name, object.metric.name
        );
    }
    metric.external.as_ref().map(|external| engine_name(&external.metric.name).to_owned()).unwrap_or_default()
}

/// The name that an external metric has in the engine, which calls an objective by its own.
pub(crate) fn engine_name(external: &str) -> &str {
    if is_objective(external) { SLO_METRIC_NAME } else { external }
}

pub(super) fn resource_key(resource: &str, container: Option<&str>) -> String {
    match container {
        None => resource.to_owned(),
        Some(container) => format!("{resource}/{container}"),
    }
}

pub(super) fn resource_source(resource: &str, container: Option<&str>) -> MetricSource {
    let resource = Name::from(resource);
    match container {
        None => MetricSource::Resource { resource },
        Some(container) => MetricSource::ContainerResource { resource, container: Name::from(container) },
    }
}

fn bounds(spec: &HorizontalPodAutoscalerSpec) -> Result<Bounds, Problem> {
    let (min, max) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
    let count = |value: i32| u32::try_from(value).unwrap_or(0);
    if min < 0 {
        return Err(Problem::invalid("spec.minReplicas", min, "must be greater than or equal to 0"));
    }
    Bounds::new(count(min), count(max), None).map_err(|error| match error {
        PolicyError::Max { .. } => Problem::invalid("spec.maxReplicas", max, "must be greater than 0"),
        _ => Problem::invalid("spec.maxReplicas", max, "must be greater than or equal to `minReplicas`"),
    })
}

fn metrics(spec: &HorizontalPodAutoscalerSpec) -> Checked<(Metrics, Vec<Query>)> {
    let written = match &spec.metrics {
        Some(metrics) if !metrics.is_empty() => metrics.clone(),
        _ => vec![default_metric()],
    };
    let mut problems = Vec::new();
    let mut list = Vec::new();
    let mut queries = Vec::new();
    for (index, (metric, name)) in written.iter().zip(metric_keys(&written)).enumerate() {
        let path = format!("spec.metrics[{index}]");
        match planned(&path, metric, name) {
            Ok((metric, ask)) => {
                queries.extend(ask.map(|ask| Query { metric: metric.name().clone(), ask, keep_for: None }));
                list.push(metric);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    match Metrics::new(list, None) {
        Ok(metrics) => Ok((metrics, queries)),
        Err(error) => Err(vec![Problem::invalid("spec.metrics", written.len(), error.to_string())]),
    }
}

fn default_metric() -> MetricSpec {
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: "cpu".to_owned(),
            target: WrittenTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(CPU_UTILIZATION_DEFAULT),
                ..WrittenTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

/// One metric as it is written: what the engine needs, what must be read, and where the target stands.
struct Written<'a> {
    source: MetricSource,
    ask: Ask,
    field: &'static str,
    target: &'a WrittenTarget,
}

/// The metric, and what must be read for it; nothing for a type that is not known.
fn planned(path: &str, metric: &MetricSpec, name: String) -> Result<(Metric, Option<Ask>), Problem> {
    let written = match metric.type_.as_str() {
        "Resource" => resource(metric),
        "ContainerResource" => container_resource(metric),
        "Pods" => pods(path, metric)?,
        "Object" => object(path, metric)?,
        "External" => external(path, metric)?,
        unknown => {
            let source = MetricSource::Unknown { type_name: Name::from(unknown) };
            let metric = Metric::new(name, source, MetricTarget::Value(Milli::new(1000)));
            return Ok((metric.map_err(|error| refused(path, "type", &error))?, None));
        }
    };
    let Some(Written { source, ask, field, target }) = written else {
        return Err(missing(path, &metric.type_));
    };
    let target = engine_target(&format!("{path}.{field}.target"), target)?;
    let metric = Metric::new(name, source, target).map_err(|error| refused(path, field, &error))?;
    Ok((metric, Some(ask)))
}

fn resource(metric: &MetricSpec) -> Option<Written<'_>> {
    let written = metric.resource.as_ref()?;
    let ask = Ask::Resource { resource: written.name.clone(), container: None };
    Some(Written {
        source: resource_source(&written.name, None),
        ask,
        field: "resource",
        target: &written.target,
    })
}

fn container_resource(metric: &MetricSpec) -> Option<Written<'_>> {
    let written = metric.container_resource.as_ref()?;
    let source = resource_source(&written.name, Some(&written.container));
    let ask = Ask::Resource { resource: written.name.clone(), container: Some(written.container.clone()) };
    Some(Written { source, ask, field: "containerResource", target: &written.target })
}

fn pods<'a>(path: &str, metric: &'a MetricSpec) -> Result<Option<Written<'a>>, Problem> {
    let Some(written) = &metric.pods else { return Ok(None) };
    let selector = selector(path, "pods", &written.metric)?;
    let source = MetricSource::Pods { metric: Name::from(written.metric.name.as_str()) };
    let ask = Ask::Pods { metric: written.metric.name.clone(), selector };
    Ok(Some(Written { source, ask, field: "pods", target: &written.target }))
}

fn object<'a>(path: &str, metric: &'a MetricSpec) -> Result<Option<Written<'a>>, Problem> {
    let Some(written) = &metric.object else { return Ok(None) };
    let object = &written.described_object;
    let (kind, name) = (Name::from(object.kind.as_str()), Name::from(written.metric.name.as_str()));
    let ask = Ask::Object {
        api_version: object.api_version.clone().unwrap_or_default(),
        kind: object.kind.clone(),
        name: object.name.clone(),
        metric: written.metric.name.clone(),
        selector: selector(path, "object", &written.metric)?,
    };
    let source = MetricSource::Object { kind, metric: name };
    Ok(Some(Written { source, ask, field: "object", target: &written.target }))
}

fn external<'a>(path: &str, metric: &'a MetricSpec) -> Result<Option<Written<'a>>, Problem> {
    let Some(written) = &metric.external else { return Ok(None) };
    let name = Name::from(written.metric.name.as_str());
    let source = MetricSource::External { metric: name, selector: match_labels(&written.metric) };
    let selector = selector(path, "external", &written.metric)?;
    let ask = Ask::External { metric: written.metric.name.clone(), selector };
    Ok(Some(Written { source, ask, field: "external", target: &written.target }))
}

/// The field has the name of the type, but for its first letter.
fn missing(path: &str, type_name: &str) -> Problem {
    let mut letters = type_name.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    let field: String = first.into_iter().chain(letters).collect();
    let message = format!("must populate information for the given metric source {field}");
    Problem::required(format!("{path}.{field}"), message)
}

fn refused(path: &str, field: &str, error: &PolicyError) -> Problem {
    Problem::invalid(format!("{path}.{field}.target"), field, error.to_string())
}

fn match_labels(metric: &MetricIdentifier) -> Option<BTreeMap<String, String>> {
    metric.selector.as_ref().map(|selector| selector.match_labels.clone().unwrap_or_default())
}

fn selector(path: &str, field: &str, metric: &MetricIdentifier) -> Result<Selector, Problem> {
    let written = metric.selector.clone().unwrap_or_default();
    let value = serde_json::json!(written);
    Selector::try_from(written).map_err(|error| {
        Problem::invalid(format!("{path}.{field}.metric.selector"), value, error.to_string())
    })
}

/// The target of the type that is written; where the type is not, of whichever field is there.
fn engine_target(path: &str, target: &WrittenTarget) -> Result<MetricTarget, Problem> {
    let amount = |field: &str, text: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| {
        Quantity::try_from(text)
            .map(|amount| Milli::new(amount.milli_value()))
            .map_err(|error| Problem::invalid(format!("{path}.{field}"), text.0.as_str(), error.to_string()))
    };
    match (target.average_utilization, &target.average_value, &target.value) {
        (Some(percent), None, None) => u32::try_from(percent).map(MetricTarget::Utilization).map_err(|_| {
            Problem::invalid(format!("{path}.averageUtilization"), percent, "must be greater than 0")
        }),
        (None, Some(average), None) => amount("averageValue", average).map(MetricTarget::AverageValue),
        (None, None, Some(value)) => amount("value", value).map(MetricTarget::Value),
        (None, None, None) => {
            Err(Problem::required(path, "must set either a target raw value or a target utilization"))
        }
        _ => {
            let message = "may not set both a target raw value and a target utilization";
            Err(Problem::invalid(path, serde_json::json!(target), message)
                .help("keep the one that type names"))
        }
    }
}
