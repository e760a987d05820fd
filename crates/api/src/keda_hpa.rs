//! The HorizontalPodAutoscaler that KEDA would make of a ScaledObject.
//!
//! Its name, labels, metric names, order and quantities are exactly KEDA's (`controllers/keda/hpa.go`),
//! because dashboards, alerts and people look for them. It is also what `kubectl get hpa` shows of the
//! ScaledObject.

use std::collections::BTreeMap;

use flyball_engine::COMPOSITE_METRIC_NAME;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, CrossVersionObjectReference, ExternalMetricSource, HPAScalingRules,
    HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricIdentifier,
    MetricSpec, MetricTarget, ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::ResourceExt;

use crate::kinds::scaled_object::{ScaledObject, ScalingModifiers};
use crate::problem::{Checked, Problem};
use crate::quantity::{Format, Quantity};
use crate::scaled_object::{HPA_EXCLUDED_LABELS, NAME_LABEL};
use crate::trigger::{Trigger, TriggerMetric, TriggerTarget};

/// The version of KEDA whose rules are followed, as its label has it.
pub const KEDA_VERSION: &str = "2.21.0";

/// The HorizontalPodAutoscaler of a ScaledObject whose triggers were read.
///
/// # Errors
/// If there is no metric, or two have one name, or the composite metric's target is not a number.
pub fn keda_hpa(object: &ScaledObject, triggers: &[Trigger]) -> Checked<HorizontalPodAutoscaler> {
    let target = &object.spec.scale_target_ref;
    Ok(HorizontalPodAutoscaler {
        metadata: ObjectMeta {
            name: Some(object.hpa_name()),
            namespace: object.namespace(),
            labels: Some(labels(object)),
            annotations: object.metadata.annotations.clone(),
            owner_references: Some(vec![owner(object)]),
            ..ObjectMeta::default()
        },
        spec: HorizontalPodAutoscalerSpec {
            min_replicas: Some(object.spec.hpa_min_replicas()),
            max_replicas: object.spec.max_replicas(),
            behavior: behavior(object),
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some(target.api_version_or_default().to_owned()),
                kind: target.kind_or_default().to_owned(),
                name: target.name.clone(),
            },
            metrics: Some(metrics(object, triggers)?),
        },
        status: None,
    })
}

/// A name, cut to what a label value may have.
fn label_value(name: &str) -> String {
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

fn labels(object: &ScaledObject) -> BTreeMap<String, String> {
    let excluded: Vec<&str> = object
        .annotations()
        .get(HPA_EXCLUDED_LABELS)
        .map(|list| list.split(',').collect())
        .unwrap_or_default();
    let mut labels = BTreeMap::from(
        [
            ("app.kubernetes.io/name", label_value(&object.hpa_name())),
            ("app.kubernetes.io/version", KEDA_VERSION.to_owned()),
            ("app.kubernetes.io/part-of", object.name_any()),
            ("app.kubernetes.io/managed-by", "keda-operator".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    let mut own = object.labels().clone();
    own.insert(NAME_LABEL.to_owned(), object.name_any());
    labels.extend(own.into_iter().filter(|(key, _)| !excluded.contains(&key.as_str())));
    labels
}

fn owner(object: &ScaledObject) -> OwnerReference {
    OwnerReference {
        api_version: "keda.sh/v1alpha1".to_owned(),
        kind: "ScaledObject".to_owned(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The behavior as written; a direction that is held back is disabled.
fn behavior(object: &ScaledObject) -> Option<HorizontalPodAutoscalerBehavior> {
    let mut behavior = object.spec.behavior().cloned();
    let mut disable =
        |direction: fn(&mut HorizontalPodAutoscalerBehavior) -> &mut Option<HPAScalingRules>| {
            let rules = direction(behavior.get_or_insert_default()).get_or_insert_default();
            rules.select_policy = Some("Disabled".to_owned());
        };
    if object.paused_scale_in() {
        disable(|behavior| &mut behavior.scale_down);
    }
    if object.paused_scale_out() {
        disable(|behavior| &mut behavior.scale_up);
    }
    behavior
}

fn metrics(object: &ScaledObject, triggers: &[Trigger]) -> Checked<Vec<MetricSpec>> {
    let mut metrics: Vec<_> = triggers.iter().map(|trigger| spec(object, trigger)).collect();
    let mut problems = duplicates(object, &metrics);
    if metrics.is_empty() {
        let place = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
        let message = format!("no metric specs returned from scalers for ScaledObject {place}");
        problems.push(Problem::required("spec.triggers", message));
    }
    if let Some(modifiers) = object.spec.scaling_modifiers() {
        match composite(object, modifiers) {
            Ok(composite) => {
                metrics.retain(|metric| metric.external.is_none());
                metrics.push(composite);
            }
            Err(problem) => problems.push(problem),
        }
    }
    metrics.sort_by(|left, right| left.type_.cmp(&right.type_));
    if problems.is_empty() { Ok(metrics) } else { Err(problems) }
}

/// The metric of one trigger.
fn spec(object: &ScaledObject, trigger: &Trigger) -> MetricSpec {
    let target = hpa_target(trigger.target);
    match trigger.metric(&object.namespace().unwrap_or_default()) {
        TriggerMetric::External(name) => external_metric(object, name, target),
        TriggerMetric::Resource { resource: name, container: Some(container) } => MetricSpec {
            type_: "ContainerResource".to_owned(),
            container_resource: Some(ContainerResourceMetricSource { container, name, target }),
            ..MetricSpec::default()
        },
        TriggerMetric::Resource { resource: name, container: None } => MetricSpec {
            type_: "Resource".to_owned(),
            resource: Some(ResourceMetricSource { name, target }),
            ..MetricSpec::default()
        },
    }
}

fn external_metric(object: &ScaledObject, name: String, target: MetricTarget) -> MetricSpec {
    let labels = BTreeMap::from([(NAME_LABEL.to_owned(), object.name_any())]);
    MetricSpec {
        type_: "External".to_owned(),
        external: Some(ExternalMetricSource {
            metric: MetricIdentifier {
                name,
                selector: Some(LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }),
            },
            target,
        }),
        ..MetricSpec::default()
    }
}

fn hpa_target(target: TriggerTarget) -> MetricTarget {
    let of_type = |type_: &str| MetricTarget { type_: type_.to_owned(), ..MetricTarget::default() };
    match target {
        TriggerTarget::Utilization(percent) => {
            MetricTarget { average_utilization: Some(percent), ..of_type("Utilization") }
        }
        TriggerTarget::AverageValue(wanted) => {
            MetricTarget { average_value: Some(wanted.into()), ..of_type("AverageValue") }
        }
        TriggerTarget::Value(wanted) => MetricTarget { value: Some(wanted.into()), ..of_type("Value") },
    }
}

/// The one metric that stands for all external ones.
fn composite(object: &ScaledObject, modifiers: &ScalingModifiers) -> Result<MetricSpec, Problem> {
    let text = modifiers.target.clone().unwrap_or_default();
    let target =
        text.parse::<f64>().ok().filter(|target| target.is_finite() && *target > 0.0).ok_or_else(|| {
            let message = "error converting target for scalingModifiers (string->float) to valid target";
            Problem::invalid("spec.advanced.scalingModifiers.target", text, message)
                .help("write a number greater than 0 in quotes")
        })?;
    let wanted = Quantity::from_milli((target * 1000.0) as i64, Format::DecimalSi);
    let target = match modifiers.metric_type.as_deref() {
        Some("Value") => TriggerTarget::Value(wanted),
        _ => TriggerTarget::AverageValue(wanted),
    };
    Ok(external_metric(object, COMPOSITE_METRIC_NAME.to_owned(), hpa_target(target)))
}

fn duplicates(object: &ScaledObject, metrics: &[MetricSpec]) -> Vec<Problem> {
    let names: Vec<&str> =
        metrics.iter().filter_map(|metric| Some(metric.external.as_ref()?.metric.name.as_str())).collect();
    let again = names.iter().enumerate().filter(|(index, name)| names[..*index].contains(name));
    again
        .map(|(_, name)| {
            let object = object.name_any();
            Problem::invalid(
                "spec.triggers",
                *name,
                format!("metricName {name} defined multiple times in ScaledObject {object}"),
            )
        })
        .collect()
}
