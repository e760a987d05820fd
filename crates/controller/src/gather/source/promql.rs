//! The readings of prometheus triggers: from our own store, or from the Prometheus that the trigger names, as
//! configuration says (`servers`).

pub(crate) mod local;
mod remote;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flyball_api::trigger::prometheus::Prometheus;
use flyball_api::trigger::{Trigger, TriggerSource};
use flyball_engine::{Reading, Time};
use flyball_metrics::Store;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use crate::features::Features;
use crate::gather::scrape::health::{Identity, ScrapeHealth};
use crate::gather::source::answer::{Answer, last_answer, reading};
use crate::gather::source::caller::{self, Caller};
use crate::gather::source::polls::{BackgroundPolls, Freshness};
use crate::gather::source::promql::local::{LocalQuery, SeriesOrigin};
use crate::gather::source::servers::{Server, Servers};

/// Bytes that all queries together may hold to be evaluated quickly; the last ones, by their text, do without.
const LIVE_BYTES_MAX: usize = 256 << 20;

/// The key of a remote query: the query, and the server, parameters and credentials it is sent with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RemoteKey {
    query: String,
    how: String,
}

/// Reads prometheus triggers.
pub(crate) struct PromqlReader {
    store: Arc<Mutex<Store>>,
    standing: ScrapeHealth,
    servers: Servers,
    caller: Caller,
    features: Features,
    queries: BTreeMap<String, LocalQuery>,
    remote: BackgroundPolls<RemoteKey, (Answer, Time)>,
}

impl PromqlReader {
    pub(crate) fn new(
        store: Arc<Mutex<Store>>,
        standing: ScrapeHealth,
        servers: Servers,
        caller: Caller,
        features: Features,
    ) -> PromqlReader {
        let (queries, remote) = Default::default();
        PromqlReader { store, standing, servers, caller, features, queries, remote }
    }

    /// Forgets what none of these triggers, each with its namespace, asks any more.
    pub(crate) fn keep_only<'a>(&mut self, triggers: impl Iterator<Item = (&'a str, &'a Trigger)> + Clone) {
        self.servers.keep_only(triggers.clone());
        let prometheus = triggers.filter_map(|(_, trigger)| match &trigger.source {
            TriggerSource::Prometheus(prometheus) => Some(prometheus.query.clone()),
            _ => None,
        });
        let kept: BTreeSet<String> = prometheus.collect();
        let gone: Vec<String> = self.queries.keys().filter(|query| !kept.contains(*query)).cloned().collect();
        let mut store = self.store.lock();
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

    /// What a trigger reads now, for a workload with these pods. Never waits: a server is asked in the background. None
    /// where an answer is wanted that is newer than the last one: it is being asked for.
    pub(crate) fn read(
        &mut self,
        trigger: &Prometheus,
        (namespace, pods): (&str, &[Arc<Pod>]),
        patience: Freshness,
        now: Time,
    ) -> Option<Reading> {
        let (answer, at) = match self.servers.of(&trigger.server_address, namespace) {
            Server::Nobody(why) => (Answer::Failed(format!("{}: {why}", trigger.server_address)), now),
            Server::There => self.ask(trigger, namespace, patience, now)?,
            Server::Here => {
                let mut store = self.store.lock();
                let new = || LocalQuery::new(&trigger.query, &self.features);
                let query = self.queries.entry(trigger.query.clone()).or_insert_with(new);
                (query.read(&mut store, SeriesOrigin { standing: &self.standing, pods }, now), now)
            }
        };
        Some(reading(answer, trigger.ignore_null_values, at))
    }

    /// The last answer of the trigger's server, and when it was asked for.
    fn ask(
        &mut self,
        trigger: &Prometheus,
        namespace: &str,
        patience: Freshness,
        now: Time,
    ) -> Option<(Answer, Time)> {
        let key = RemoteKey {
            query: trigger.query.clone(),
            how: format!("{namespace} {trigger:?} {}", caller::fingerprint(&trigger.authentication, "")),
        };
        let (caller, asked) = (self.caller.within(namespace), trigger.clone());
        let ask = || async move { (remote::ask(&caller, &asked, now).await, now) };
        let last = self.remote.read(&key, patience, ask);
        let is_awaited = last.is_none() && patience == Freshness::NewAnswer;
        (!is_awaited).then(|| last_answer(last, &trigger.server_address, trigger.timeout, now))
    }
}
