//! Reads the metrics that policies ask for. No data is not no load: a metric that cannot be read says so, with the reason.

mod answer;
mod caller;
pub(crate) mod credentials;
mod cron;
pub(crate) mod custom;
mod kubernetes_workload;
mod metrics_api;
mod polls;
pub(crate) mod promql;
pub(crate) mod servers;

use std::collections::BTreeSet;
use std::sync::Arc;

use flyball_api::plan::{Ask, Query};
use flyball_api::trigger::metrics_api::MetricsApi;
use flyball_api::trigger::{Trigger, TriggerSource};
use flyball_engine::{Reading, Time};
use flyball_metrics::Store;
use http::Uri;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use parking_lot::Mutex;

use crate::features::Features;
use crate::gather::cluster::Cluster;
use crate::gather::facts;
use crate::gather::names;
use crate::gather::scrape::health::ScrapeHealth;
use crate::gather::source::answer::{Answer, last_answer, reading};
pub(crate) use crate::gather::source::caller::Caller;
use crate::gather::source::custom::{CustomReader, MetricScope};
use crate::gather::source::polls::{BackgroundPolls, Freshness};
use crate::gather::source::promql::PromqlReader;
use crate::gather::source::promql::local::SeriesOrigin;
use crate::gather::source::servers::Servers;
use crate::gather::tls::Names;
use crate::gather::usage::UsageLog;
use crate::gather::workload::Workload;

/// Everything that a reading may be taken from. Reading never waits: what is not in memory is asked for in the
/// background, and until it has come the reading is missing.
pub(crate) struct Sources {
    pub(crate) cluster: Cluster,
    pub(crate) usage: Arc<Mutex<UsageLog>>,
    pub(crate) promql: PromqlReader,
    pub(crate) custom: CustomReader,
    standing: ScrapeHealth,
    caller: Caller,
    /// By endpoint and namespace: a short host name means different Services in different namespaces.
    numbers: BackgroundPolls<(String, String), (Answer, Time)>,
}

/// What sources read from beside the cluster.
pub(crate) struct Stores<'a> {
    pub(crate) usage: &'a Arc<Mutex<UsageLog>>,
    pub(crate) store: &'a Arc<Mutex<Store>>,
    pub(crate) standing: ScrapeHealth,
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
            numbers: BackgroundPolls::default(),
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
                TriggerSource::MetricsApi(api) => Some(key_of(api)),
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
                let values = facts::usage(&self.usage.lock(), pods, resource, container.as_deref());
                Reading::PerPod { values, at: now }
            }
            Ask::Trigger(trigger) => {
                let last = Freshness::LastAnswer;
                self.read_trigger(trigger, (namespace, pods), last, now).unwrap_or_else(not_yet)
            }
            ask @ (Ask::Pods { .. } | Ask::Object { .. } | Ask::External { .. }) => {
                let scope = MetricScope { namespace, pods: &workload.selector_text() };
                self.custom.read(ask, scope, SeriesOrigin { standing: &self.standing, pods }, now)
            }
        }
    }

    /// What a trigger of an object in `namespace` reads now, for who decides seldom; none while a new answer is on its way:
    /// then it is worth coming back in a second.
    pub(crate) fn read_new(&mut self, trigger: &Trigger, namespace: &str, now: Time) -> Option<Reading> {
        self.read_trigger(trigger, (namespace, &[]), Freshness::NewAnswer, now)
    }

    fn read_trigger(
        &mut self,
        trigger: &Trigger,
        place: (&str, &[Arc<Pod>]),
        patience: Freshness,
        now: Time,
    ) -> Option<Reading> {
        let (namespace, _) = place;
        Some(match &trigger.source {
            TriggerSource::Prometheus(prometheus) => {
                return self.promql.read(prometheus, place, patience, now);
            }
            TriggerSource::MetricsApi(api) => return self.read_metrics_api(api, namespace, patience, now),
            TriggerSource::Cron(cron) => cron::read(cron, now),
            TriggerSource::KubernetesWorkload(workload) => {
                kubernetes_workload::read(&self.cluster, workload, namespace, now)
            }
            TriggerSource::ServiceObjective(_) => Reading::Failed {
                error: "an objective is for a workload that Services select, not for Jobs".to_owned(),
            },
            TriggerSource::Resource(_) => {
                Reading::Failed { error: "cpu and memory are read from the pods of a workload".to_owned() }
            }
        })
    }

    fn read_metrics_api(
        &mut self,
        api: &MetricsApi,
        namespace: &str,
        patience: Freshness,
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
            None if patience == Freshness::NewAnswer => None,
            last => Some(last_answer(last, &api.url, api.timeout, now))
                .map(|(answer, at)| reading(answer, None, at)),
        }
    }
}

/// Identifies an endpoint and its request options; hashes secrets.
fn key_of(api: &MetricsApi) -> String {
    let key = api.api_key.as_ref().map_or("", |key| key.key.reveal());
    format!("{api:?} {}", caller::fingerprint(&api.authentication, key))
}

fn not_yet() -> Reading {
    Reading::Missing { why: "it has not been read yet".to_owned() }
}
