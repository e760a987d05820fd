//! What is refused when an object is created or changed: the rules of KEDA's admission webhook, and mistakes
//! that KEDA would show only afterwards, as `Ready=False`.
//!
//! KEDA's webhook looks at bounds, names and other objects, but never into a trigger's metadata, so that an
//! unknown type of trigger, a threshold that is no number or a query that does not parse are accepted and
//! then do nothing. Whatever is certain to be wrong is refused here, with the path of the field, and
//! everything at once. What may still become right (a workload or credentials that do not exist yet) is not.

mod behavior;
mod monitor;
mod neighbours;
mod scaled_object;
mod trigger_authentication;
mod triggers;
mod vertical_pod_autoscaler;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{LimitRange, PodSpec};
use serde_json::Value;

use crate::kinds::monitor::RelabelConfig;
use crate::kinds::scaled_object::ScaledObject;
use crate::problem::Problem;
use crate::read::read;

pub use behavior::check as check_behavior;
pub use monitor::{admit_pod_monitor, admit_scrape_config, admit_service_monitor};
pub use scaled_object::{admit_scaled_job, admit_scaled_object};
pub use trigger_authentication::{admit_cluster_trigger_authentication, admit_trigger_authentication};
pub use vertical_pod_autoscaler::admit_vertical_pod_autoscaler;

/// Whether an object is accepted: it is if there are no problems.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Why it is refused.
    pub problems: Vec<Problem>,
    /// What the user should know about an object that is accepted.
    pub warnings: Vec<String>,
}

/// Checks an object of any kind that is created, or changed from an old one; nothing for kinds without rules
/// here.
///
/// This is the whole admission function: whoever stores objects calls it with each, after the schema of the
/// kind.
pub fn admit(
    object: &Value,
    old: Option<&Value>,
    neighbours: Neighbours<'_>,
    checks: Checks<'_>,
) -> Option<Admission> {
    let field = |name: &str| object.get(name).and_then(Value::as_str);
    let admission = match (field("apiVersion")?, field("kind")?) {
        ("keda.sh/v1alpha1", "ScaledObject") => read(object).map(|object| {
            let old = old.and_then(|old| read(old).ok());
            admit_scaled_object(&object, old.as_ref(), neighbours, checks.query)
        }),
        ("keda.sh/v1alpha1", "ScaledJob") => {
            read(object).map(|object| admit_scaled_job(&object, checks.query))
        }
        ("keda.sh/v1alpha1", "TriggerAuthentication") => {
            read(object).map(|object| admit_trigger_authentication(&object))
        }
        ("keda.sh/v1alpha1", "ClusterTriggerAuthentication") => {
            read(object).map(|object| admit_cluster_trigger_authentication(&object))
        }
        ("autoscaling.k8s.io/v1", "VerticalPodAutoscaler") => {
            read(object).map(|object| admit_vertical_pod_autoscaler(&object))
        }
        ("monitoring.coreos.com/v1", "ServiceMonitor") => {
            read(object).map(|object| admit_service_monitor(&object, checks.relabeling))
        }
        ("monitoring.coreos.com/v1", "PodMonitor") => {
            read(object).map(|object| admit_pod_monitor(&object, checks.relabeling))
        }
        ("monitoring.coreos.com/v1alpha1", "ScrapeConfig") => {
            read(object).map(|object| admit_scrape_config(&object, checks.relabeling))
        }
        _ => return None,
    };
    Some(admission.unwrap_or_else(|problems| Admission { problems, warnings: Vec::new() }))
}

/// The objects that a ScaledObject is checked against; all of its namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Neighbours<'a> {
    /// The ScaledObjects, itself included or not.
    pub scaled_objects: &'a [ScaledObject],
    /// The HorizontalPodAutoscalers.
    pub hpas: &'a [HorizontalPodAutoscaler],
    /// The pods of the workload, if it is a Deployment or StatefulSet and exists.
    pub pod: Option<&'a PodSpec>,
    /// What containers are given that do not ask.
    pub limit_ranges: &'a [LimitRange],
    /// Whether nothing will be stored, in which case the workload is not looked at.
    pub dry_run: bool,
}

/// Checks of what is written in languages of other crates.
#[derive(Clone, Copy)]
pub struct Checks<'a> {
    /// Of queries.
    pub query: CheckQuery<'a>,
    /// Of rules for labels.
    pub relabeling: CheckRelabeling<'a>,
}

/// Checks a PromQL query: what is wrong with it, with the place in the text.
pub type CheckQuery<'a> = &'a dyn Fn(&str) -> Result<(), String>;

/// Checks a rule for labels: the fields that are wrong, and why.
pub type CheckRelabeling<'a> = &'a dyn Fn(&RelabelConfig) -> Vec<(&'static str, String)>;
