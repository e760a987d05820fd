//! The kinds that Flyball brings along: KEDA's, the VerticalPodAutoscaler's and prometheus-operator's.
//!
//! Each kind is a Rust type, and its CustomResourceDefinition is made from it, so that what is refused at the
//! door and what is read afterwards cannot drift apart. The schemas carry every field of the original kinds:
//! unknown fields are refused, and manifests written for the originals must apply unchanged.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

mod columns;
pub mod condition;
pub mod monitor;
pub mod scaled_job;
pub mod scaled_object;
mod schema;
pub mod scrape_client;
pub mod scrape_config;
pub mod trigger_authentication;
pub mod vertical_pod_autoscaler;

/// The definitions of all kinds, ready to be created in a Kubernetes API server.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [
        scaled_object::ScaledObject::crd(),
        scaled_job::ScaledJob::crd(),
        trigger_authentication::TriggerAuthentication::crd(),
        trigger_authentication::ClusterTriggerAuthentication::crd(),
        vertical_pod_autoscaler::VerticalPodAutoscaler::crd(),
        vertical_pod_autoscaler::VerticalPodAutoscalerCheckpoint::crd(),
        monitor::ServiceMonitor::crd(),
        monitor::PodMonitor::crd(),
        scrape_config::ScrapeConfig::crd(),
    ]
    .into_iter()
    .map(|crd| schema::tidy(finish(crd)))
    .collect()
}

/// Adds what the derive cannot say: columns, and that checkpoints have a status but no status subresource.
fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let kind = crd.spec.names.kind.clone();
    let columns = columns::of(&kind);
    for version in &mut crd.spec.versions {
        version.additional_printer_columns = (!columns.is_empty()).then(|| columns.clone());
        if kind == "VerticalPodAutoscalerCheckpoint" {
            version.subresources = None;
        }
    }
    crd
}
