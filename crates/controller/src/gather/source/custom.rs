//! Pods, Object and External metrics of a plain HorizontalPodAutoscaler.
//!
//! An adapter that is registered for `custom.metrics.k8s.io` or `external.metrics.k8s.io` is asked, as
//! kube-controller-manager asks it. Where there is none, and this program answers for what does not exist, the store
//! answers by the conventions of prometheus-adapter (`queries`). An adapter that fails, or does not know the metric, is
//! a failure.

mod adapter;
mod queries;

pub(crate) use adapter::MetricScope;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flyball_api::plan::Ask;
use flyball_engine::{Milli, PodValue, Reading, Time};
use flyball_metrics::Store;
use flyball_metrics::promql::{self, EngineOptions, Value};
use kube::Client;
use parking_lot::Mutex;

use crate::features::Features;
use crate::gather::scrape::health::Identity;
use crate::gather::source::answer::reading;
use crate::gather::source::custom::adapter::{Adapters, Answered};
use crate::gather::source::promql::local::{LocalQuery, SeriesOrigin};

/// A query that was not read for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// The window of a value of the store, which is the HorizontalPodAutoscaler's default.
const WINDOW: Duration = Duration::from_secs(60);

/// Reads the metrics.
pub(crate) struct CustomReader {
    store: Arc<Mutex<Store>>,
    adapters: Adapters,
    queries: BTreeMap<String, (Instant, LocalQuery)>,
}

impl CustomReader {
    pub(crate) fn new(client: Client, store: Arc<Mutex<Store>>, answers_here: bool) -> CustomReader {
        CustomReader { store, adapters: Adapters::new(client, answers_here), queries: BTreeMap::new() }
    }

    /// The scrape targets whose series the queries select.
    pub(crate) fn feeding(&self) -> impl Iterator<Item = &Identity> {
        self.queries.values().flat_map(|(_, query)| query.fed_by())
    }

    /// What a Pods, Object or External metric reads now.
    pub(crate) fn read(
        &mut self,
        ask: &Ask,
        scope: MetricScope<'_>,
        origin: SeriesOrigin<'_>,
        now: Time,
    ) -> Reading {
        match self.adapters.ask(ask, scope, now) {
            Answered::Reading(reading) => reading,
            Answered::Here => self.read_store(ask, scope, origin, now),
        }
    }

    fn read_store(
        &mut self,
        ask: &Ask,
        scope: MetricScope<'_>,
        origin: SeriesOrigin<'_>,
        now: Time,
    ) -> Reading {
        let store = Arc::clone(&self.store);
        let mut store = store.lock();
        let text = queries::text(ask, scope.namespace, &|name| !store.select(&[named(name)]).is_empty());
        if matches!(ask, Ask::Pods { .. }) {
            return read_pods(&store, &text, now);
        }
        self.forget(&mut store);
        let (asked, query) = self
            .queries
            .entry(text.clone())
            .or_insert_with(|| (Instant::now(), LocalQuery::new(&text, &Features::default())));
        *asked = Instant::now();
        reading(query.read(&mut store, origin, now), None, now)
    }
}

impl CustomReader {
    /// Closes the queries that are not read any more.
    fn forget(&mut self, store: &mut Store) {
        let is_old = |asked: &Instant| asked.elapsed() >= FORGET_AFTER;
        let old: Vec<String> = self
            .queries
            .iter()
            .filter(|(_, (asked, _))| is_old(asked))
            .map(|(text, _)| text.clone())
            .collect();
        let ended = old.iter().filter_map(|text| self.queries.remove(text));
        ended.for_each(|(_, query)| query.close(store));
    }
}

fn named(name: &str) -> flyball_metrics::Matcher {
    flyball_metrics::Matcher::equal("__name__", name)
}

/// One value for each pod that has one; nothing at all is missing, not zero.
fn read_pods(store: &Store, text: &str, now: Time) -> Reading {
    let now_ms = now.as_millis() as i64;
    let evaluated = promql::parse(text).map_err(|error| error.to_string()).and_then(|expr| {
        let result = promql::eval_instant(store, text, &expr, now_ms, &EngineOptions::default());
        result.map_err(|error| error.to_string())
    });
    let samples = match evaluated.map(|result| result.value) {
        Ok(Value::Vector(samples)) => samples,
        Ok(_) => Vec::new(),
        Err(error) => return Reading::Failed { error },
    };
    if samples.is_empty() {
        return Reading::Missing { why: format!("{text} matches no series of a pod") };
    }
    let values = samples.iter().filter_map(|sample| {
        let value = sample.value.float().filter(|value| value.is_finite())?;
        let (pod, value) = (sample.labels.get("pod").into(), Milli::from_reading(value));
        Some(PodValue { pod, value, at: now, window: WINDOW, starting: false })
    });
    Reading::PerPod { values: values.collect(), at: now }
}
