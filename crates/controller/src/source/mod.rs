//! Readings of what the policies ask for. No data is not no load: what cannot be read is told as such, with the reason.

mod caller;
pub(crate) mod credentials;
pub(crate) mod custom;
mod metrics_api;
mod polls;
pub(crate) mod promql;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use flyball_api::plan::{Ask, Query};
use flyball_api::trigger::metrics_api::MetricsApi;
use flyball_api::trigger::workload::KubernetesWorkload;
use flyball_api::trigger::{Source, Trigger};
use flyball_engine::{Reading, Time};
use flyball_metrics::Store;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::core::SelectorExt;
use kube::{Client, ResourceExt};

use crate::cluster::Cluster;
use crate::facts;
use crate::features::Features;
use crate::lock;
pub(crate) use crate::source::caller::Caller;
use crate::source::custom::{CustomReader, Place};
use crate::source::polls::Polls;
use crate::source::promql::{Down, PromqlReader};
use crate::usage::UsageLog;
use crate::workload::Workload;

/// Everything that a reading may be taken from.
pub(crate) struct Sources {
    pub(crate) cluster: Cluster,
    pub(crate) usage: Arc<Mutex<UsageLog>>,
    pub(crate) promql: PromqlReader,
    pub(crate) custom: CustomReader,
    caller: Caller,
    /// By what is asked and from which namespace: a short name means another Service in another one.
    numbers: Polls<(String, String), (Result<f64, String>, Time)>,
}

impl Sources {
    pub(crate) fn new(
        client: Client,
        cluster: Cluster,
        usage: &Arc<Mutex<UsageLog>>,
        store: &Arc<Mutex<Store>>,
        features: Features,
    ) -> Sources {
        let caller = Caller::new(promql::names(&cluster));
        Sources {
            promql: PromqlReader::new(Arc::clone(store), caller.clone(), cluster.clone(), features),
            custom: CustomReader::new(client, Arc::clone(store)),
            usage: Arc::clone(usage),
            numbers: Polls::default(),
            cluster,
            caller,
        }
    }

    /// Forgets what no trigger asks any more.
    pub(crate) fn keep_only<'a>(&mut self, triggers: impl Iterator<Item = &'a Trigger> + Clone) {
        self.promql.keep_only(triggers.clone());
        let kept: BTreeSet<String> = triggers
            .filter_map(|trigger| match &trigger.source {
                Source::MetricsApi(api) => Some(key_of(api)),
                _ => None,
            })
            .collect();
        self.numbers.keep_only(|(api, _)| kept.contains(api));
    }

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

    /// What a trigger of an object in `namespace` reads now.
    pub(crate) async fn read_trigger(
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
            Source::MetricsApi(api) => self.read_metrics_api(api, namespace, now).await,
            Source::External(_) => failed("external triggers are not read yet"),
            Source::Resource(_) => failed("a resource is read from the pods"),
        }
    }

    async fn read_metrics_api(&mut self, api: &MetricsApi, namespace: &str, now: Time) -> Reading {
        let ask = || {
            let addresses = api.aggregation.as_ref().map(|_| ready_addresses(&self.cluster, &api.url));
            let answer = metrics_api::ask(self.caller.within(namespace), api.clone(), addresses);
            async move { (answer.await, now) }
        };
        match self.numbers.read(&(key_of(api), namespace.to_owned()), ask).await {
            None => Reading::Missing { why: format!("{} has not answered yet", api.url) },
            Some((Ok(value), at)) => Reading::Value { value, at },
            Some((Err(error), _)) => failed(error),
        }
    }
}

/// What tells one endpoint and the way it is asked from another, without showing a secret.
fn key_of(api: &MetricsApi) -> String {
    let key = api.api_key.as_ref().map_or("", |key| key.key.reveal());
    format!("{api:?} {}", caller::fingerprint(&api.authentication, key))
}

fn failed(error: impl Into<String>) -> Reading {
    Reading::Failed { error: error.into() }
}

/// The addresses of the ready endpoints of the Service in a URL, whose host begins with its name and namespace.
fn ready_addresses(cluster: &Cluster, url: &str) -> Vec<String> {
    let uri: Option<http::Uri> = url.parse().ok();
    let mut parts = uri.as_ref().and_then(http::Uri::host).unwrap_or_default().split('.');
    let (name, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let slices = cluster.slices.state();
    let own = slices.iter().filter(|slice| {
        slice.namespace().as_deref() == Some(namespace)
            && slice.labels().get("kubernetes.io/service-name").is_some_and(|service| service == name)
    });
    let ready = own.flat_map(|slice| slice.endpoints.iter().flatten()).filter(|endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
    });
    let addresses: BTreeSet<String> = ready.flat_map(|endpoint| endpoint.addresses.iter().cloned()).collect();
    addresses.into_iter().collect()
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
