//! Readings of what the policies ask for. No data is not no load: what cannot be read is told as such, with the reason.

mod caller;
pub(crate) mod credentials;
pub(crate) mod custom;
mod metrics_api;
mod polls;
pub(crate) mod promql;
pub(crate) mod servers;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use flyball_api::plan::{Ask, Query};
use flyball_api::trigger::metrics_api::MetricsApi;
use flyball_api::trigger::workload::KubernetesWorkload;
use flyball_api::trigger::{Source, Trigger};
use flyball_engine::{Reading, Time};
use flyball_metrics::Store;
use http::Uri;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::core::SelectorExt;
use kube::{Client, ResourceExt};

use crate::cluster::Cluster;
use crate::facts;
use crate::features::Features;
use crate::lock;
use crate::names;
use crate::scrape::standing::Standing;
pub(crate) use crate::source::caller::Caller;
use crate::source::custom::{CustomReader, Place};
use crate::source::polls::{Patience, Polls};
use crate::source::promql::{Answer, Behind, PromqlReader};
use crate::source::servers::Servers;
use crate::tls::Names;
use crate::usage::UsageLog;
use crate::workload::Workload;

/// Everything that a reading may be taken from. Reading never waits: what is not in memory is asked for in the
/// background, and until it has come the reading is missing.
pub(crate) struct Sources {
    pub(crate) cluster: Cluster,
    pub(crate) usage: Arc<Mutex<UsageLog>>,
    pub(crate) promql: PromqlReader,
    pub(crate) custom: CustomReader,
    standing: Standing,
    caller: Caller,
    /// By what is asked and from which namespace: a short name means another Service in another one.
    numbers: Polls<(String, String), (Answer, Time)>,
}

/// What sources read from beside the cluster.
pub(crate) struct Stores<'a> {
    pub(crate) usage: &'a Arc<Mutex<UsageLog>>,
    pub(crate) store: &'a Arc<Mutex<Store>>,
    pub(crate) standing: Standing,
    pub(crate) servers: Servers,
}

impl Sources {
    pub(crate) fn new(client: Client, cluster: Cluster, stores: Stores<'_>, features: Features) -> Sources {
        let Stores { usage, store, standing, servers } = stores;
        let caller = Caller::new(Names::of(&cluster));
        let answers_here = servers.answers_absent();
        let promql =
            PromqlReader::new(Arc::clone(store), standing.clone(), servers, caller.clone(), features);
        Sources {
            promql,
            custom: CustomReader::new(client, Arc::clone(store), answers_here),
            usage: Arc::clone(usage),
            numbers: Polls::default(),
            standing,
            cluster,
            caller,
        }
    }

    /// Forgets what none of these triggers, each with its namespace, asks any more.
    pub(crate) fn keep_only<'a>(&mut self, triggers: impl Iterator<Item = (&'a str, &'a Trigger)> + Clone) {
        self.promql.keep_only(triggers.clone());
        let kept: BTreeSet<String> = triggers
            .filter_map(|(_, trigger)| match &trigger.source {
                Source::MetricsApi(api) => Some(key_of(api)),
                _ => None,
            })
            .collect();
        self.numbers.keep_only(|(api, _)| kept.contains(api));
    }

    /// What `query` reads now, for a workload with these pods.
    pub(crate) fn read(
        &mut self,
        query: &Query,
        namespace: &str,
        workload: &Workload,
        pods: &[Arc<Pod>],
        now: Time,
    ) -> Reading {
        match &query.ask {
            Ask::Resource { resource, container } => {
                let values = facts::usage(&lock(&self.usage), pods, resource, container.as_deref());
                Reading::PerPod { values, at: now }
            }
            Ask::Trigger(trigger) => {
                let last = Patience::LastAnswer;
                self.read_trigger(trigger, (namespace, pods), last, now).unwrap_or_else(not_yet)
            }
            Ask::Asked { .. } => failed("external triggers are not read yet"),
            ask @ (Ask::Pods { .. } | Ask::Object { .. } | Ask::External { .. }) => {
                let place = Place { namespace, pods: &workload.selector_text() };
                self.custom.read(ask, place, Behind { standing: &self.standing, pods }, now)
            }
        }
    }

    /// What a trigger of an object in `namespace` reads now, for who decides seldom; none while a new answer is on its way:
    /// then it is worth coming back in a second.
    pub(crate) fn read_new(&mut self, trigger: &Trigger, namespace: &str, now: Time) -> Option<Reading> {
        self.read_trigger(trigger, (namespace, &[]), Patience::NewAnswer, now)
    }

    fn read_trigger(
        &mut self,
        trigger: &Trigger,
        place: (&str, &[Arc<Pod>]),
        patience: Patience,
        now: Time,
    ) -> Option<Reading> {
        Some(match &trigger.source {
            Source::Prometheus(prometheus) => return self.promql.read(prometheus, place, patience, now),
            Source::MetricsApi(api) => return self.read_metrics_api(api, place.0, patience, now),
            Source::Cron(cron) => match Timestamp::from_millisecond(now.as_millis() as i64) {
                Ok(at) => Reading::Value { value: cron.value(at), at: now },
                Err(error) => failed(error.to_string()),
            },
            Source::KubernetesWorkload(workload) => {
                Reading::Value { value: count(&self.cluster, workload, place.0), at: now }
            }
            Source::External(_) => failed("external triggers are not read yet"),
            Source::Resource(_) => failed("a resource is read from the pods"),
        })
    }

    fn read_metrics_api(
        &mut self,
        api: &MetricsApi,
        namespace: &str,
        patience: Patience,
        now: Time,
    ) -> Option<Reading> {
        let ask = || {
            let uri: Option<Uri> = api.url.parse().ok();
            let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
            let addresses =
                api.aggregation.as_ref().map(|_| names::endpoints(&self.cluster, host, namespace));
            let answer = metrics_api::ask(self.caller.within(namespace), api.clone(), addresses);
            async move { (answer.await, now) }
        };
        let last = self.numbers.read(&(key_of(api), namespace.to_owned()), patience, ask);
        match last {
            None if patience == Patience::NewAnswer => None,
            last => Some(promql::last_answer(last, &api.url, api.timeout, now))
                .map(|(answer, at)| promql::reading(answer, None, at)),
        }
    }
}

/// What tells one endpoint and the way it is asked from another, without showing a secret.
fn key_of(api: &MetricsApi) -> String {
    let key = api.api_key.as_ref().map_or("", |key| key.key.reveal());
    format!("{api:?} {}", caller::fingerprint(&api.authentication, key))
}

fn not_yet() -> Reading {
    Reading::Missing { why: "it has not been read yet".to_owned() }
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
