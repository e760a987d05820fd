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
use crate::scrape::pool::Status;
use crate::scrape::target::Target;
use crate::source::caller::{self, Caller};
use crate::source::polls::Polls;
use crate::source::promql::local::LocalQuery;

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
    queries: BTreeMap<String, LocalQuery>,
    resolved: BTreeMap<String, (Instant, bool)>,
    remote: Polls<RemoteKey, (Answer, Time)>,
}

impl PromqlReader {
    pub(crate) fn new(store: Arc<Mutex<Store>>, caller: Caller, cluster: Cluster) -> PromqlReader {
        let (queries, resolved, remote) = Default::default();
        PromqlReader { store, caller, cluster, queries, resolved, remote }
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
        if let Some(server) = self.server(&trigger.server_address, namespace).await {
            let (answer, at) = self.ask(&server, trigger, now).await;
            return reading(answer, trigger, at);
        }
        let mut store = crate::lock(&self.store);
        let query =
            self.queries.entry(trigger.query.clone()).or_insert_with(|| LocalQuery::new(&trigger.query));
        query
            .read(&mut store, down, now)
            .map_or_else(|instead| instead, |answer| reading(answer, trigger, now))
    }

    /// The base URL of the server that the trigger names, if there is such a server.
    async fn server(&mut self, address: &str, namespace: &str) -> Option<String> {
        let uri: Uri = address.parse().ok()?;
        let host = uri.host()?;
        let base = address.trim_end_matches('/');
        if host.parse::<IpAddr>().is_ok() || host == "localhost" {
            return Some(base.to_owned());
        }
        if let Some(cluster_ip) = service_address(&self.cluster, host, namespace) {
            return Some(base.replacen(host, &cluster_ip, 1));
        }
        self.resolves(host, uri.port_u16().unwrap_or(80)).await.then(|| base.to_owned())
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

    /// The last answer of a server, which is asked in the background.
    async fn ask(&mut self, server: &str, trigger: &Prometheus, now: Time) -> (Answer, Time) {
        let key = RemoteKey {
            query: trigger.query.clone(),
            how: format!("{server} {trigger:?} {}", caller::fingerprint(&trigger.authentication, "")),
        };
        let caller = self.caller.clone();
        let (server, trigger) = (server.to_owned(), trigger.clone());
        let none = (Answer::Empty(format!("{} has not answered yet", trigger.server_address)), now);
        let ask = || async move { (remote::ask(&caller, &server, &trigger, now).await, now) };
        self.remote.read(&key, ask).await.unwrap_or(none)
    }
}

/// The address of the Service that a cluster's DNS would find under `name.namespace.svc…`.
pub(crate) fn service_address(cluster: &Cluster, host: &str, namespace: &str) -> Option<String> {
    let mut parts = host.split('.');
    let (name, namespace) = (parts.next()?, parts.next().unwrap_or(namespace));
    let service = cluster.services.get(&ObjectRef::new(name).within(namespace))?;
    let address = service.spec.as_ref()?.cluster_ip.clone()?;
    (address != "None").then_some(address)
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
