//! `vpa_updater_…`.
//!
//! Gauges tell of the last round, in spite of the `_total` in their names: those are VPA's.

use std::collections::BTreeMap;

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};

use super::{Page, Timer, size_log2};

const SIZE: &str = "vpa_size_log2";
const MODE: &str = "update_mode";
const NAME: &str = "vpa_name";
const NAMESPACE: &str = "vpa_namespace";
const REASON: &str = "reason";

#[derive(Clone)]
pub(crate) struct Updater {
    execution: HistogramVec,
    controlled: IntGaugeVec,
    evictable: IntGaugeVec,
    with_evictable: IntGaugeVec,
    with_evicted: IntGaugeVec,
    evicted: IntCounterVec,
    failed_evictions: IntCounterVec,
    updatable: IntGaugeVec,
    with_updatable: IntGaugeVec,
    with_updated: IntGaugeVec,
    updated: IntCounterVec,
    failed_updates: IntCounterVec,
    infeasible_skips: IntCounterVec,
}

/// A VerticalPodAutoscaler as its metrics name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VpaSize<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) update_mode: &'static str,
    pub(crate) pods: usize,
}

/// What came of evictions under one VerticalPodAutoscaler.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Evictions {
    pub(crate) evictable: u32,
    pub(crate) evicted: u32,
    pub(crate) failed: u32,
}

/// What came of resizes in place under one VerticalPodAutoscaler.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InPlaceUpdates {
    pub(crate) updatable: u32,
    pub(crate) updated: u32,
    /// The API server refused.
    pub(crate) failed: u32,
    /// The end of a startup boost was refused.
    pub(crate) failed_unboosts: u32,
    /// The node refused for good.
    pub(crate) infeasible: u32,
    /// It would only be refused again.
    pub(crate) skipped: u32,
}

/// The gauges of one round.
#[derive(Debug, Default)]
pub(crate) struct UpdaterRound {
    by_mode: BTreeMap<(String, &'static str), ByMode>,
    by_size: BTreeMap<String, BySize>,
}

#[derive(Debug, Default)]
struct ByMode {
    controlled: i64,
    evictable: i64,
    with_evictable: i64,
    with_evicted: i64,
}

#[derive(Debug, Default)]
struct BySize {
    updatable: i64,
    with_updatable: i64,
    with_updated: i64,
}

impl Updater {
    pub(super) fn on(page: &Page) -> Updater {
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            page.gauges(&format!("vpa_updater_{name}"), help, labels)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            page.counters(&format!("vpa_updater_{name}"), help, labels)
        };
        Updater {
            execution: page.execution_seconds("updater"),
            controlled: gauges("controlled_pods_total", "Pods that may be changed.", &[SIZE, MODE]),
            evictable: gauges("evictable_pods_total", "Pods that are to be evicted.", &[SIZE, MODE]),
            with_evictable: gauges(
                "vpas_with_evictable_pods_total",
                "VerticalPodAutoscalers with a pod that is to be evicted.",
                &[SIZE, MODE],
            ),
            with_evicted: gauges(
                "vpas_with_evicted_pods_total",
                "VerticalPodAutoscalers with a pod that was evicted.",
                &[SIZE, MODE],
            ),
            evicted: counters("evicted_pods_total", "Evictions.", &[SIZE, MODE, NAME, NAMESPACE]),
            failed_evictions: counters(
                "failed_eviction_attempts_total",
                "Evictions that were refused.",
                &[SIZE, MODE, REASON, NAME, NAMESPACE],
            ),
            updatable: gauges("in_place_updatable_pods_total", "Pods that are to be resized.", &[SIZE]),
            with_updatable: gauges(
                "vpas_with_in_place_updatable_pods_total",
                "VerticalPodAutoscalers with a pod that is to be resized.",
                &[SIZE],
            ),
            with_updated: gauges(
                "vpas_with_in_place_updated_pods_total",
                "VerticalPodAutoscalers with a pod that was resized.",
                &[SIZE],
            ),
            updated: counters("in_place_updated_pods_total", "Resizes in place.", &[SIZE, NAME, NAMESPACE]),
            failed_updates: counters(
                "failed_in_place_update_attempts_total",
                "Resizes in place that were refused.",
                &[SIZE, REASON, NAME, NAMESPACE],
            ),
            infeasible_skips: counters(
                "in_place_infeasible_skip_pods_total",
                "Resizes that were not tried, since the last one was infeasible and no larger.",
                &[SIZE, NAME, NAMESPACE],
            ),
        }
    }

    pub(crate) fn timer(&self) -> Timer {
        Timer::start(&self.execution)
    }

    /// Takes in what was done under one VerticalPodAutoscaler.
    pub(crate) fn record(
        &self,
        round: &mut UpdaterRound,
        vpa: VpaSize<'_>,
        evictions: Evictions,
        in_place: InPlaceUpdates,
    ) {
        let size = size_log2(vpa.pods);
        round.add(&size, vpa, evictions, in_place);
        let of = [size.as_str(), vpa.name, vpa.namespace];
        let of_mode = [size.as_str(), vpa.update_mode, vpa.name, vpa.namespace];
        add(&self.evicted, &of_mode, evictions.evicted);
        let why = [size.as_str(), vpa.update_mode, "EvictionError", vpa.name, vpa.namespace];
        add(&self.failed_evictions, &why, evictions.failed);
        add(&self.updated, &of, in_place.updated);
        for (reason, count) in [
            ("InPlaceUpdateError", in_place.failed),
            ("UnboostError", in_place.failed_unboosts),
            ("InPlaceUpdateInfeasible", in_place.infeasible),
        ] {
            add(&self.failed_updates, &[size.as_str(), reason, vpa.name, vpa.namespace], count);
        }
        add(&self.infeasible_skips, &of, in_place.skipped);
    }

    /// Shows the gauges of a round that ended.
    pub(crate) fn show(&self, round: &UpdaterRound) {
        let by_mode = [&self.controlled, &self.evictable, &self.with_evictable, &self.with_evicted];
        by_mode.iter().for_each(|family| family.reset());
        for ((size, mode), own) in &round.by_mode {
            let values = [own.controlled, own.evictable, own.with_evictable, own.with_evicted];
            for (family, value) in by_mode.iter().zip(values) {
                family.with_label_values(&[size.as_str(), mode]).set(value);
            }
        }
        let by_size = [&self.updatable, &self.with_updatable, &self.with_updated];
        by_size.iter().for_each(|family| family.reset());
        for (size, own) in &round.by_size {
            let values = [own.updatable, own.with_updatable, own.with_updated];
            for (family, value) in by_size.iter().zip(values) {
                family.with_label_values(&[size.as_str()]).set(value);
            }
        }
    }
}

impl UpdaterRound {
    fn add(&mut self, size: &str, vpa: VpaSize<'_>, evictions: Evictions, in_place: InPlaceUpdates) {
        let own = self.by_mode.entry((size.to_owned(), vpa.update_mode)).or_default();
        own.controlled += i64::try_from(vpa.pods).unwrap_or(i64::MAX);
        own.evictable += i64::from(evictions.evictable);
        own.with_evictable += i64::from(evictions.evictable > 0);
        own.with_evicted += i64::from(evictions.evicted > 0);
        let own = self.by_size.entry(size.to_owned()).or_default();
        own.updatable += i64::from(in_place.updatable);
        own.with_updatable += i64::from(in_place.updatable > 0);
        own.with_updated += i64::from(in_place.updated > 0);
    }
}

fn add(family: &IntCounterVec, labels: &[&str], count: u32) {
    // a series begins with what it counts
    if count > 0 {
        family.with_label_values(labels).inc_by(count.into());
    }
}
