//! The readings of prometheus triggers: from our own store, or from the Prometheus that the trigger names.
//!
//! A server that exists is asked over HTTP. One that does not (the manifests of a cluster, on a machine without it) is
//! answered from here. The rules are KEDA's where there is a number; where there is none, they differ on purpose:
//! an empty result is *missing*, NaN over fresh series is *idle*, and a value whose target cannot be scraped is
//! *stale*. `ignoreNullValues` written out brings KEDA's rules back: `"true"` reads zero, `"false"` fails.

pub(crate) mod local;
mod remote;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flyball_api::trigger::prometheus::Prometheus;
use flyball_api::trigger::{Source, Trigger};
use flyball_engine::{Reading, Time};
use flyball_metrics::Store;
use http::Uri;
use kube::runtime::reflector::ObjectRef;

use crate::cluster::Cluster;
use crate::features::Features;
use crate::scrape::pool::Status;
use crate::scrape::target::Target;
use crate::source::caller::{self, Caller};
use crate::source::polls::Polls;
use crate::source::promql::local::LocalQuery;
use crate::tls::Names;

/// A name that did not resolve is tried again after this.
const RESOLVE_AGAIN: Duration = Duration::from_secs(30);

/// Bytes that all queries together may hold to be evaluated quickly; the last ones, by their text, do without.
const LIVE_BYTES_MAX: usize = 256 << 20;

/// The job and instance of a scraped target: what tells its series from those of others.
pub(crate) type Identity = (String, String);

/// A target that cannot be scraped, and why.
#[derive(Clone, Debug)]
pub(crate) struct Down {
    pub(crate) identity: Identity,
    pub(crate) url: String,
    pub(crate) error: String,
}

impl Down {
    pub(crate) fn of(target: &Target, status: &Status) -> Down {
        let label = |name: &str| target.labels.get(name).cloned().unwrap_or_default();
        Down {
            identity: (label("job"), label("instance")),
            url: target.url.clone(),
            error: status.last_error.clone(),
        }
    }
}

/// What a query came to, before the rules for readings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// One number.
    Number(f64),
    /// NaN, though the series are there and fresh: nothing happened in the window.
    Nothing,
    /// No series, and why.
    Empty(String),
    /// No answer that can be used, and why.
    Failed(String),
}

/// What is asked, and how: the server, every parameter, and the credentials.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RemoteKey {
    query: String,
    how: String,
}

/// Reads prometheus triggers.
pub(crate) struct PromqlReader {
    store: Arc<Mutex<Store>>,
    caller: Caller,
    cluster: Cluster,
    features: Features,
    queries: BTreeMap<String, LocalQuery>,
    resolved: BTreeMap<String, (Instant, bool)>,
    remote: Polls<RemoteKey, (Answer, Time)>,
}

impl PromqlReader {
    pub(crate) fn new(
        store: Arc<Mutex<Store>>,
        caller: Caller,
        cluster: Cluster,
        features: Features,
    ) -> PromqlReader {
        let (queries, resolved, remote) = Default::default();
        PromqlReader { store, caller, cluster, features, queries, resolved, remote }
    }

    /// Forgets the queries that no trigger has any more.
    pub(crate) fn keep_only<'a>(&mut self, triggers: impl Iterator<Item = &'a Trigger>) {
        let prometheus = triggers.filter_map(|trigger| match &trigger.source {
            Source::Prometheus(prometheus) => Some(prometheus.query.clone()),
            _ => None,
        });
        let kept: BTreeSet<String> = prometheus.collect();
        let gone: Vec<String> = self.queries.keys().filter(|query| !kept.contains(*query)).cloned().collect();
        let mut store = crate::lock(&self.store);
        gone.iter().filter_map(|query| self.queries.remove(query)).for_each(|query| query.close(&mut store));
        let mut left = LIVE_BYTES_MAX;
        for query in self.queries.values_mut() {
            match left.checked_sub(query.bytes()) {
                Some(less) => left = less,
                None => query.shed(),
            }
        }
        self.remote.keep_only(|key| kept.contains(&key.query));
    }

    /// The targets whose series some query selects.
    pub(crate) fn feeding(&self) -> BTreeSet<Identity> {
        self.queries.values().flat_map(|query| query.fed_by().iter().cloned()).collect()
    }

    /// What a trigger reads now.
    pub(crate) async fn read(
        &mut self,
        trigger: &Prometheus,
        namespace: &str,
        down: &[Down],
        now: Time,
    ) -> Reading {
        if self.exists(&trigger.server_address, namespace).await {
            let (answer, at) = self.ask(trigger, namespace, now).await;
            return reading(answer, trigger, at);
        }
        let mut store = crate::lock(&self.store);
        let new = || LocalQuery::new(&trigger.query, &self.features);
        let query = self.queries.entry(trigger.query.clone()).or_insert_with(new);
        query
            .read(&mut store, down, now)
            .map_or_else(|instead| instead, |answer| reading(answer, trigger, now))
    }

    /// Whether there is the server that the trigger names.
    async fn exists(&mut self, address: &str, namespace: &str) -> bool {
        let uri: Option<Uri> = address.parse().ok();
        let Some(host) = uri.as_ref().and_then(Uri::host) else { return false };
        host.parse::<IpAddr>().is_ok()
            || host == "localhost"
            || service_address(&self.cluster, host, namespace).is_some()
            || self.resolves(host, uri.as_ref().and_then(Uri::port_u16).unwrap_or(80)).await
    }

    async fn resolves(&mut self, host: &str, port: u16) -> bool {
        if host.ends_with(".svc") || host.ends_with(".svc.cluster.local") {
            return false;
        }
        if let Some((at, found)) = self.resolved.get(host)
            && at.elapsed() < RESOLVE_AGAIN
        {
            return *found;
        }
        let found = tokio::net::lookup_host((host, port)).await.is_ok_and(|mut found| found.next().is_some());
        self.resolved.insert(host.to_owned(), (Instant::now(), found));
        found
    }

    /// The last answer of the trigger's server, which is asked in the background.
    async fn ask(&mut self, trigger: &Prometheus, namespace: &str, now: Time) -> (Answer, Time) {
        let key = RemoteKey {
            query: trigger.query.clone(),
            how: format!("{namespace} {trigger:?} {}", caller::fingerprint(&trigger.authentication, "")),
        };
        let (caller, trigger) = (self.caller.within(namespace), trigger.clone());
        let none = (Answer::Empty(format!("{} has not answered yet", trigger.server_address)), now);
        let ask = || async move { (remote::ask(&caller, &trigger, now).await, now) };
        self.remote.read(&key, ask).await.unwrap_or(none)
    }
}

/// The names of a cluster's Services.
pub(crate) fn names(cluster: &Cluster) -> Names {
    let cluster = cluster.clone();
    Names::new(Arc::new(move |host, namespace| service_address(&cluster, host, namespace)))
}

/// The address of the Service that a cluster's DNS would find under a name, for who is in a namespace.
pub(crate) fn service_address(cluster: &Cluster, host: &str, namespace: &str) -> Option<IpAddr> {
    let (name, namespace) = service_name(host, namespace)?;
    let service = cluster.services.get(&ObjectRef::new(name).within(namespace))?;
    // A headless Service has no address; its `clusterIP` is `None`.
    service.spec.as_ref()?.cluster_ip.as_ref()?.parse().ok()
}

/// The Service that a name means, and its namespace: `name`, `name.namespace`, with `svc` and `cluster.local` or without.
fn service_name<'a>(host: &'a str, namespace: &'a str) -> Option<(&'a str, &'a str)> {
    let (name, rest) = host.split_once('.').unwrap_or((host, ""));
    let (given, domain) = rest.split_once('.').unwrap_or((rest, ""));
    let namespace = if given.is_empty() { namespace } else { given };
    matches!(domain, "" | "svc" | "svc.cluster.local").then_some((name, namespace))
}

/// An answer as a reading, by the trigger's `ignoreNullValues`.
fn reading(answer: Answer, trigger: &Prometheus, now: Time) -> Reading {
    let zero = Reading::Value { value: 0.0, at: now };
    let failed = |error: &str| Reading::Failed { error: error.to_owned() };
    match (answer, trigger.ignore_null_values) {
        (Answer::Number(value), _) if value.is_finite() => Reading::Value { value, at: now },
        (Answer::Number(_) | Answer::Nothing | Answer::Empty(_), Some(true)) => zero,
        (Answer::Number(value), _) => failed(&format!("prometheus query returns {value}")),
        (Answer::Nothing, Some(false)) => failed("prometheus query returns NaN"),
        (Answer::Nothing, None) => Reading::Idle { at: now },
        (Answer::Empty(_), Some(false)) => {
            failed("prometheus metrics 'prometheus' target may be lost, the result is empty")
        }
        (Answer::Empty(why), None) => Reading::Missing { why },
        (Answer::Failed(error), _) => Reading::Failed { error },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn trigger(ignore_null_values: Option<bool>) -> Prometheus {
        use flyball_api::kinds::scaled_object::ScaleTrigger;
        use flyball_api::trigger::{Resolved, Trigger};
        let mut metadata = BTreeMap::from(
            [("serverAddress", "http://p.svc:9090"), ("query", "up"), ("threshold", "1")]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        if let Some(ignore) = ignore_null_values {
            metadata.insert("ignoreNullValues".to_owned(), ignore.to_string());
        }
        let written = ScaleTrigger { kind: "prometheus".to_owned(), metadata, ..ScaleTrigger::default() };
        let (read, problems) = Trigger::parse(0, &written, Resolved::default());
        match read.map(|trigger| trigger.source) {
            Some(Source::Prometheus(prometheus)) => prometheus,
            _ => panic!("{problems:?}"),
        }
    }

    #[test]
    fn services_are_named_as_in_a_clusters_dns() {
        let table = [
            ("p", Some(("p", "ml"))),
            ("p.monitoring", Some(("p", "monitoring"))),
            ("p.monitoring.svc", Some(("p", "monitoring"))),
            ("p.monitoring.svc.cluster.local", Some(("p", "monitoring"))),
            ("p.monitoring.example.com", None),
        ];
        for (host, expected) in table {
            assert_eq!(service_name(host, "ml"), expected, "{host}");
        }
    }

    #[test]
    fn no_data_is_not_no_load_unless_the_trigger_says_so() {
        let now = Time::from_seconds(100);
        let value = |value| Reading::Value { value, at: now };
        let failed = |error: &str| Reading::Failed { error: error.to_owned() };
        let missing = || Reading::Missing { why: "why".to_owned() };
        let empty = || Answer::Empty("why".to_owned());
        let lost = "prometheus metrics 'prometheus' target may be lost, the result is empty";
        let table = [
            (Answer::Number(2.5), None, value(2.5)),
            (Answer::Number(-1.0), Some(false), value(-1.0)),
            (Answer::Number(f64::INFINITY), None, failed("prometheus query returns inf")),
            (Answer::Number(f64::INFINITY), Some(true), value(0.0)),
            (Answer::Nothing, None, Reading::Idle { at: now }),
            (Answer::Nothing, Some(true), value(0.0)),
            (Answer::Nothing, Some(false), failed("prometheus query returns NaN")),
            (empty(), None, missing()),
            (empty(), Some(true), value(0.0)),
            (empty(), Some(false), failed(lost)),
            (Answer::Failed("no".to_owned()), Some(true), failed("no")),
        ];
        for (answer, ignore, expected) in table {
            assert_eq!(reading(answer.clone(), &trigger(ignore), now), expected, "{answer:?} {ignore:?}");
        }
    }
}
