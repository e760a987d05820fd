//! The requests of a target with an objective, as the Services in front of its pods count them.
//!
//! The proxies measure from the arrival of a request to the headers of its answer, waiting included, which is what a client
//! sees. A measurement is what the counters grew between two pages of the node; counters that went back began anew, and
//! give none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flyball_engine::{Demand, Latency, TargetId, Time};
use flyball_metrics::{Labels, Store};
use kube::ResourceExt;

use crate::gather::cluster::Cluster;
use crate::gather::scrape::node;
use crate::gather::selector;

const REQUESTS: &str = "flyball_service_requests_total";
const IN_FLIGHT: &str = "flyball_service_requests_in_flight";
const BUCKETS: &str = "flyball_service_request_duration_seconds_bucket";
const SECONDS: &str = "flyball_service_request_duration_seconds_sum";

/// A measurement for the engine, or why there is none.
pub(crate) type Measured = Result<Box<Demand>, String>;

/// Counters of a target's Services together, at the time of their newest sample.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counters {
    at_ms: i64,
    answered: f64,
    failed: f64,
    in_flight: f64,
    /// By the upper bound in seconds, as bits that sort as the numbers do.
    buckets: BTreeMap<u64, f64>,
    seconds: f64,
}

/// The counters that were read last, by target.
#[derive(Debug, Default)]
pub(crate) struct DemandMeter(BTreeMap<TargetId, Counters>);

/// Finds the Services of a namespace that select pods with these labels.
pub(crate) fn services(
    cluster: &Cluster,
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
) -> BTreeSet<String> {
    let Some(labels) = labels else { return BTreeSet::new() };
    let all = cluster.services.state();
    let selecting = all.iter().filter(|service| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        service.namespace().as_deref() == Some(namespace)
            && selector.is_some_and(|own| !own.is_empty() && selector::matches_pairs(own, labels))
    });
    selecting.map(|service| service.name_any()).collect()
}

impl DemandMeter {
    pub(crate) fn forget(&mut self, target: &TargetId) {
        self.0.remove(target);
    }

    /// Measures what has come since the last time; none where there is no newer page.
    pub(crate) fn measure(
        &mut self,
        store: &Store,
        target: &TargetId,
        services: &BTreeSet<String>,
    ) -> Option<Measured> {
        if services.is_empty() {
            self.forget(target);
            return Some(Err(
                "no Service selects the pods of the target, so its requests are not counted".to_owned()
            ));
        }
        let Some(now) = Counters::read(store, target.namespace.as_str(), services) else {
            self.forget(target);
            return Some(Err("the Services of the target have not counted any request yet".to_owned()));
        };
        let before = self.0.get(target).filter(|before| before.at_ms < now.at_ms);
        let demand = before.and_then(|before| now.since(before));
        if self.0.get(target).is_none_or(|known| known.at_ms < now.at_ms) {
            self.0.insert(target.clone(), now);
        }
        demand.map(|demand| Ok(Box::new(demand)))
    }
}

impl Counters {
    fn read(store: &Store, namespace: &str, services: &BTreeSet<String>) -> Option<Counters> {
        let ours = |labels: &Labels| {
            labels.get("namespace") == namespace && services.contains(labels.get("service"))
        };
        let of = |metric| node::newest(store, metric, None).filter(move |(labels, _)| ours(labels));
        let mut counters = Counters::default();
        for (labels, sample) in of(REQUESTS) {
            counters.at_ms = counters.at_ms.max(sample.timestamp_ms);
            counters.answered += sample.value;
            if labels.get("code").starts_with('5') {
                counters.failed += sample.value;
            }
        }
        for (labels, sample) in of(BUCKETS) {
            counters.at_ms = counters.at_ms.max(sample.timestamp_ms);
            if let Ok(bound) = labels.get("le").replace("+Inf", "inf").parse::<f64>() {
                *counters.buckets.entry(bound.to_bits()).or_default() += sample.value;
            }
        }
        counters.seconds = of(SECONDS).map(|(_, sample)| sample.value).sum();
        counters.in_flight = of(IN_FLIGHT).map(|(_, sample)| sample.value).sum();
        (!counters.buckets.is_empty()).then_some(counters)
    }

    /// What was counted since an earlier reading.
    fn since(&self, before: &Counters) -> Option<Demand> {
        let window = Duration::from_millis(u64::try_from(self.at_ms - before.at_ms).ok()?);
        let grown = |now: f64, before: f64| (now >= before).then_some(now - before);
        let answered = grown(self.answered, before.answered)?;
        let failed = grown(self.failed, before.failed)?;
        // What came is what was answered, and what more is under way.
        let arrived = (answered + self.in_flight - before.in_flight).max(0.0);
        let mut buckets = Vec::with_capacity(self.buckets.len());
        for (bound, count) in &self.buckets {
            let grown = grown(*count, before.buckets.get(bound).copied().unwrap_or(0.0))?;
            buckets.push((f64::from_bits(*bound), grown));
        }
        Some(Demand {
            at: Time::from_millis(u64::try_from(self.at_ms).ok()?),
            window,
            rate: arrived / window.as_secs_f64(),
            in_flight: Some(self.in_flight),
            latency: Some(Latency::Histogram { buckets, sum: grown(self.seconds, before.seconds) }),
            errors: (answered > 0.0).then(|| failed / answered),
            cpu: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use flyball_metrics::{Sample, StoreOptions};

    use super::*;

    /// The name of a metric, further labels, and its value.
    type Line<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

    fn append(store: &mut Store, second: i64, page: &[Line<'_>]) {
        for (name, labels, value) in page {
            let common =
                [("__name__", *name), ("job", "kubelet"), ("namespace", "default"), ("service", "model")];
            let labels = Labels::new(common.into_iter().chain(labels.iter().copied()));
            store.append_to(&labels, Sample::new(second * 1000, *value)).expect("stored");
        }
    }

    fn page(store: &mut Store, second: i64, answered: f64, slow: f64, in_flight: f64) {
        append(
            store,
            second,
            &[
                (REQUESTS, &[("code", "200")], answered),
                (IN_FLIGHT, &[], in_flight),
                (BUCKETS, &[("le", "0.1")], answered - slow),
                (BUCKETS, &[("le", "+Inf")], answered),
                (SECONDS, &[], answered * 0.05),
            ],
        );
    }

    #[test]
    fn what_the_counters_grew_is_the_demand() {
        let mut store = Store::new(StoreOptions::default());
        let (mut meter, target) = (DemandMeter::default(), TargetId::new("Deployment", "default", "model"));
        let services: BTreeSet<String> = ["model".to_owned()].into();
        let error = |measured: Option<Measured>| measured.and_then(Result::err).unwrap_or_default();
        assert!(error(meter.measure(&store, &target, &BTreeSet::new())).contains("no Service selects"));
        assert!(error(meter.measure(&store, &target, &services)).contains("have not counted"));

        page(&mut store, 10, 100.0, 0.0, 4.0);
        assert_eq!(meter.measure(&store, &target, &services), None, "one page is no growth");
        page(&mut store, 12, 300.0, 20.0, 24.0);
        let demand = meter.measure(&store, &target, &services).expect("a new page").expect("whole");
        assert_eq!((demand.rate, demand.in_flight, demand.errors), (110.0, Some(24.0), Some(0.0)));
        assert_eq!((demand.at, demand.window), (Time::from_seconds(12), Duration::from_secs(2)));
        let latency =
            Latency::Histogram { buckets: vec![(0.1, 180.0), (f64::INFINITY, 200.0)], sum: Some(10.0) };
        assert_eq!(demand.latency, Some(latency));
        assert_eq!(meter.measure(&store, &target, &services), None, "there is no newer page");

        page(&mut store, 13, 5.0, 0.0, 0.0);
        assert_eq!(meter.measure(&store, &target, &services), None, "the counters began anew");
        page(&mut store, 14, 15.0, 0.0, 0.0);
        assert_eq!(meter.measure(&store, &target, &services).expect("growth").expect("whole").rate, 10.0);
    }
}
