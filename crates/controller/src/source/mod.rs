//! Readings of what the policies ask for. No data is not no load: what cannot be read is told as such, with the reason.

pub(crate) mod custom;
pub(crate) mod promql;

use std::sync::{Arc, Mutex};

use flyball_api::plan::{Ask, Query};
use flyball_api::trigger::workload::KubernetesWorkload;
use flyball_api::trigger::{Source, Trigger};
use flyball_engine::{Reading, Time};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::SelectorExt;

use crate::cluster::Cluster;
use crate::facts;
use crate::lock;
use crate::source::custom::{CustomReader, Place};
use crate::source::promql::{Down, PromqlReader};
use crate::usage::UsageLog;
use crate::workload::Workload;

/// Everything that a reading may be taken from.
pub(crate) struct Sources {
    pub(crate) cluster: Cluster,
    pub(crate) usage: Arc<Mutex<UsageLog>>,
    pub(crate) promql: PromqlReader,
    pub(crate) custom: CustomReader,
}

impl Sources {
    /// What `query` reads now, for a workload with these pods.
    pub(crate) async fn read(
        &mut self,
        query: &Query,
        namespace: &str,
        workload: &Workload,
        pods: &[Arc<Pod>],
        down: &[Down],
        now: Time,
    ) -> Reading {
        match &query.ask {
            Ask::Resource { resource, container } => {
                let values = facts::usage(&lock(&self.usage), pods, resource, container.as_deref());
                Reading::PerPod { values, at: now }
            }
            Ask::Trigger(trigger) => self.read_trigger(trigger, namespace, down, now).await,
            Ask::Asked { .. } => failed("external triggers are not read yet"),
            ask @ (Ask::Pods { .. } | Ask::Object { .. } | Ask::External { .. }) => {
                let place = Place { namespace, pods: &workload.selector_text() };
                self.custom.read(ask, place, down, now).await
            }
        }
    }

    async fn read_trigger(
        &mut self,
        trigger: &Trigger,
        namespace: &str,
        down: &[Down],
        now: Time,
    ) -> Reading {
        match &trigger.source {
            Source::Prometheus(prometheus) => self.promql.read(prometheus, namespace, down, now).await,
            Source::Cron(cron) => match Timestamp::from_millisecond(now.as_millis() as i64) {
                Ok(at) => Reading::Value { value: cron.value(at), at: now },
                Err(error) => failed(error.to_string()),
            },
            Source::KubernetesWorkload(workload) => {
                Reading::Value { value: count(&self.cluster, workload, namespace), at: now }
            }
            Source::MetricsApi(_) => failed("metrics-api triggers are not read yet"),
            Source::External(_) => failed("external triggers are not read yet"),
            Source::Resource(_) => failed("a resource is read from the pods"),
        }
    }
}

fn failed(error: impl Into<String>) -> Reading {
    Reading::Failed { error: error.into() }
}

/// The pods of a selector that have not ended, or the nodes that they are on.
fn count(cluster: &Cluster, workload: &KubernetesWorkload, namespace: &str) -> f64 {
    let pods = cluster.pods.state();
    let counted = pods.iter().filter(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        pod.namespace().as_deref() == Some(namespace)
            && !matches!(phase, Some("Succeeded" | "Failed"))
            && workload.pod_selector.matches(pod.labels())
    });
    if !workload.group_by_node {
        return counted.count() as f64;
    }
    let mut nodes: Vec<String> = counted.filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.len() as f64
}
