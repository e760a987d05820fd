//! The readings of prometheus triggers: from our own store, or from the Prometheus that the trigger names, as
//! configuration says (`servers`).
//!
//! The rules are KEDA's where there is a number; where there is none, they differ on purpose: an empty result is
//! *missing*, NaN over fresh series is *idle*, a value whose target cannot be scraped is *stale*, and an answer that
//! says that it is not whole is *partial*. `ignoreNullValues` written out brings KEDA's rules back for what KEDA calls
//! null, an empty result, NaN and the infinities: `"true"` reads zero, `"false"` fails. What has not been answered, or not
//! with success, is no null value.

pub(crate) mod local;
mod remote;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flyball_api::trigger::prometheus::Prometheus;
use flyball_api::trigger::{Source, Trigger};
use flyball_engine::{Reading, Time};
use flyball_metrics::Store;
use k8s_openapi::api::core::v1::Pod;

use crate::features::Features;
use crate::scrape::standing::{Identity, Standing};
use crate::source::caller::{self, Caller, TIMEOUT_DEFAULT};
use crate::source::polls::{Patience, Polls};
use crate::source::promql::local::LocalQuery;
use crate::source::servers::{Server, Servers};

/// Bytes that all queries together may hold to be evaluated quickly; the last ones, by their text, do without.
const LIVE_BYTES_MAX: usize = 256 << 20;
/// How old an answer may be, beyond twice the time-out of the request for the next one.
const ANSWER_AGE_MARGIN: Duration = Duration::from_secs(10);

/// What a query came to, before the rules for readings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// One number.
    Number(f64),
    /// NaN, though the series are there and fresh: nothing happened in the window.
    Nothing,
    /// NaN, and why that does not say that nothing happened.
    NotANumber(String),
    /// No series, and why.
    Empty(String),
    /// A number of which the source says that it is not whole, and its words.
    Partial { value: f64, why: String },
    /// A number that is too old, and why there is no newer one.
    Stale { value: f64, at: Time, why: String },
    /// Nothing yet, and why.
    Unknown(String),
    /// No answer that can be used, and why.
    Failed(String),
}

/// What is asked, and how: the server, every parameter, and the credentials.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RemoteKey {
    query: String,
    how: String,
}

/// What an own query is read with: how the targets behind it stand, and the pods that the trigger scales.
#[derive(Clone, Copy)]
pub(crate) struct Behind<'a> {
    pub(crate) standing: &'a Standing,
    pub(crate) pods: &'a [Arc<Pod>],
}

/// Reads prometheus triggers.
pub(crate) struct PromqlReader {
    store: Arc<Mutex<Store>>,
    standing: Standing,
    servers: Servers,
    caller: Caller,
    features: Features,
    queries: BTreeMap<String, LocalQuery>,
    remote: Polls<RemoteKey, (Answer, Time)>,
}

impl PromqlReader {
    pub(crate) fn new(
        store: Arc<Mutex<Store>>,
        standing: Standing,
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

    /// What a trigger reads now, for a workload with these pods. Never waits: a server is asked in the background. None
    /// where an answer is wanted that is newer than the last one: it is being asked for.
    pub(crate) fn read(
        &mut self,
        trigger: &Prometheus,
        (namespace, pods): (&str, &[Arc<Pod>]),
        patience: Patience,
        now: Time,
    ) -> Option<Reading> {
        let (answer, at) = match self.servers.of(&trigger.server_address, namespace) {
            Server::Nobody(why) => (Answer::Failed(format!("{}: {why}", trigger.server_address)), now),
            Server::There => self.ask(trigger, namespace, patience, now)?,
            Server::Here => {
                let mut store = crate::lock(&self.store);
                let new = || LocalQuery::new(&trigger.query, &self.features);
                let query = self.queries.entry(trigger.query.clone()).or_insert_with(new);
                (query.read(&mut store, Behind { standing: &self.standing, pods }, now), now)
            }
        };
        Some(reading(answer, trigger.ignore_null_values, at))
    }

    /// The last answer of the trigger's server, and when it was asked for.
    fn ask(
        &mut self,
        trigger: &Prometheus,
        namespace: &str,
        patience: Patience,
        now: Time,
    ) -> Option<(Answer, Time)> {
        let key = RemoteKey {
            query: trigger.query.clone(),
            how: format!("{namespace} {trigger:?} {}", caller::fingerprint(&trigger.authentication, "")),
        };
        let (caller, asked) = (self.caller.within(namespace), trigger.clone());
        let ask = || async move { (remote::ask(&caller, &asked, now).await, now) };
        let last = self.remote.read(&key, patience, ask);
        let is_awaited = last.is_none() && patience == Patience::NewAnswer;
        (!is_awaited).then(|| last_answer(last, &trigger.server_address, trigger.timeout, now))
    }
}

/// The last answer of a server and when it was asked for, unless there is none, or it is so old that the server must have
/// stopped to answer.
pub(crate) fn last_answer(
    last: Option<(Answer, Time)>,
    address: &str,
    timeout: Option<Duration>,
    now: Time,
) -> (Answer, Time) {
    let server = remote::shown(address);
    let Some((answer, at)) = last else {
        return (Answer::Unknown(format!("{server} has not answered yet")), now);
    };
    if now.since(at) <= timeout.unwrap_or(TIMEOUT_DEFAULT) * 2 + ANSWER_AGE_MARGIN {
        return (answer, at);
    }
    let why = format!("{server} has not answered since {at}");
    match answer {
        Answer::Number(value) | Answer::Partial { value, .. } | Answer::Stale { value, .. } => {
            (Answer::Stale { value, at, why }, at)
        }
        _ => (Answer::Failed(why), now),
    }
}

/// An answer as a reading, by `ignoreNullValues`.
pub(crate) fn reading(answer: Answer, ignore_null_values: Option<bool>, at: Time) -> Reading {
    let zero = Reading::Value { value: 0.0, at };
    let failed = |error: &str| Reading::Failed { error: error.to_owned() };
    match (answer, ignore_null_values) {
        (Answer::Number(value), _) if value.is_finite() => Reading::Value { value, at },
        (Answer::Number(_) | Answer::Nothing | Answer::NotANumber(_) | Answer::Empty(_), Some(true)) => zero,
        (Answer::Number(value), _) => failed(&format!("prometheus query returns {value}")),
        (Answer::Nothing | Answer::NotANumber(_), Some(false)) => failed("prometheus query returns NaN"),
        (Answer::Nothing, None) => Reading::Idle { at },
        (Answer::Empty(_), Some(false)) => {
            failed("prometheus metrics 'prometheus' target may be lost, the result is empty")
        }
        (Answer::Empty(why) | Answer::NotANumber(why), None) => Reading::Missing { why },
        (Answer::Partial { value, why }, _) => Reading::Partial { value, at, why },
        (Answer::Stale { value, at, why }, _) => Reading::Stale { last: value, at, why },
        (Answer::Unknown(why), _) => Reading::Missing { why },
        (Answer::Failed(error), _) => Reading::Failed { error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_data_is_not_no_load_unless_the_trigger_says_so() {
        let now = Time::from_seconds(100);
        let value = |value| Reading::Value { value, at: now };
        let failed = |error: &str| Reading::Failed { error: error.to_owned() };
        let why = || "why".to_owned();
        let missing = || Reading::Missing { why: why() };
        let empty = || Answer::Empty(why());
        let lost = "prometheus metrics 'prometheus' target may be lost, the result is empty";
        let partial = || Answer::Partial { value: 2.5, why: why() };
        let old = Time::from_seconds(10);
        let table = [
            (Answer::Number(2.5), None, value(2.5)),
            (Answer::Number(-1.0), Some(false), value(-1.0)),
            (Answer::Number(f64::INFINITY), None, failed("prometheus query returns inf")),
            (Answer::Number(f64::INFINITY), Some(true), value(0.0)),
            (Answer::Nothing, None, Reading::Idle { at: now }),
            (Answer::Nothing, Some(true), value(0.0)),
            (Answer::Nothing, Some(false), failed("prometheus query returns NaN")),
            (Answer::NotANumber(why()), None, missing()),
            (Answer::NotANumber(why()), Some(true), value(0.0)),
            (Answer::NotANumber(why()), Some(false), failed("prometheus query returns NaN")),
            (empty(), None, missing()),
            (empty(), Some(true), value(0.0)),
            (empty(), Some(false), failed(lost)),
            (Answer::Failed("no".to_owned()), Some(true), failed("no")),
            (Answer::Unknown(why()), Some(true), missing()),
            (Answer::Unknown(why()), Some(false), missing()),
            (partial(), Some(true), Reading::Partial { value: 2.5, at: now, why: why() }),
            (
                Answer::Stale { value: 1.0, at: old, why: why() },
                Some(true),
                Reading::Stale { last: 1.0, at: old, why: why() },
            ),
        ];
        for (answer, ignore, expected) in table {
            assert_eq!(reading(answer.clone(), ignore, now), expected, "{answer:?} {ignore:?}");
        }
    }
}
