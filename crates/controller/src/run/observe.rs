//! The observations of a round: the scale, pods, waiting requests, size and demand of each target where they have changed, and
//! the readings of its triggers where it is due.
//!
//! Most targets are unchanged. So the last observation of each is kept, and compared by the identity of the watched
//! objects. Pods are compared only after one has changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use flyball_engine::vertical::Sizing;
use flyball_engine::{Observation, Reading, Scale, Selector, TargetId, Time};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::ObjectRef;

use super::{Rounds, now};
use crate::decide::claims::Claims;
use crate::decide::scalers::Scaler;
use crate::decide::vertical::headroom::NodeHeadroom;
use crate::decide::vertical::joint;
use crate::gather::demand::{self, DemandMeter};
use crate::gather::facts;
use crate::gather::pods::Pods;
use crate::gather::scrape::node;
use crate::gather::selector;
use crate::gather::workload::Workload;

/// The last observations of every target.
#[derive(Default)]
pub(super) struct ObservedTargets {
    targets: BTreeMap<TargetId, LastObserved>,
    pods: Pods,
    /// The revision of the pods that the index has.
    pods_revision: Option<u64>,
    /// The Services' counters as they were read last.
    demand: DemandMeter,
    /// Whether some target has no replicas, so that requests may be waiting for one.
    pub(super) any_at_zero: bool,
}

/// The last observations of one target.
#[derive(Default)]
struct LastObserved {
    scaler: Option<Arc<Scaler>>,
    workload: Option<Workload>,
    failed: Option<String>,
    scale: Option<Scale>,
    pods: Vec<Arc<Pod>>,
    waiting: u32,
    sizing: Option<Sizing>,
}

/// Services at which requests wait, by namespace and first label of the selector; each with its selector and the number of
/// waiting requests.
type Waited<'a> = HashMap<(&'a str, &'a str, &'a str), Vec<(&'a BTreeMap<String, String>, u32)>>;

impl ObservedTargets {
    pub(super) fn forget(&mut self, target: &TargetId) {
        self.demand.forget(target);
        self.targets.remove(target);
    }

    /// The workload of a target as it was last read, if it could be.
    pub(super) fn workload(&self, target: &TargetId) -> Option<&Workload> {
        self.targets.get(target)?.workload.as_ref()
    }

    fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.targets.values().filter_map(|told| told.workload.as_ref())
    }

    /// The pods of every target.
    pub(super) fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.targets.values().flat_map(|told| &told.pods)
    }
}

impl Rounds {
    /// Passes what has changed to the engine, and reads the triggers of the targets that are due.
    pub(super) fn observe(&mut self) {
        self.observe_workloads();
        self.observe_waiting();
        self.observe_sizing();
        self.observe_demand();
        self.read_triggers();
    }

    /// Reads every workload, and its pods if they may be others than before.
    fn observe_workloads(&mut self) {
        let revision = self.cluster.revisions.pods.now();
        let pods_changed = self.standing.pods_revision.replace(revision) != Some(revision);
        if pods_changed {
            self.standing.pods = Pods::new(self.cluster.pods.state());
        }
        let mut choice_changed = pods_changed;
        let ObservedTargets { targets, pods, .. } = &mut self.standing;
        for (target, scaler) in &self.scalers.by_target {
            let told = targets.entry(target.clone()).or_default();
            let Some(read) = self.workloads.read(&scaler.workload) else { continue };
            let workload = match read {
                Ok(workload) => workload,
                Err(error) => {
                    if told.failed.as_ref() != Some(&error) {
                        told.failed = Some(error.clone());
                        let target = target.clone();
                        self.engine.observe(now(), Observation::ScaleFailed { target, error });
                    }
                    told.workload = None;
                    continue;
                }
            };
            let same_scaler = told.scaler.as_ref().is_some_and(|known| Arc::ptr_eq(known, scaler));
            let same_object = told.workload.as_ref().is_some_and(|known| known.is_same_object(&workload));
            choice_changed |= !same_scaler || !same_object;
            if pods_changed || !same_object {
                let now_has = pods.of(&scaler.workload.namespace, &workload);
                let same = now_has.len() == told.pods.len()
                    && now_has.iter().zip(&told.pods).all(|(one, other)| Arc::ptr_eq(one, other));
                if !same {
                    let facts = now_has.iter().map(|pod| facts::pod(pod)).collect();
                    told.pods = now_has;
                    self.engine.observe(now(), Observation::Pods { target: target.clone(), pods: facts });
                }
            }
            told.scaler = Some(Arc::clone(scaler));
            told.workload = Some(workload);
        }
        let any_at_zero = self.standing.workloads().any(|workload| workload.desired == 0);
        self.standing.any_at_zero = any_at_zero;
        self.observe_scales(choice_changed);
    }

    /// Passes changed scales to the engine. Pods that two targets select are searched for only after a selection may have
    /// changed.
    fn observe_scales(&mut self, choice_changed: bool) {
        let targets = &mut self.standing.targets;
        let claims = choice_changed.then(|| {
            let known = targets.values().filter_map(|told| Some((told.scaler.as_ref()?, told)));
            Claims::of(known.map(|(scaler, told)| (&scaler.autoscaler, told.pods.as_slice())))
        });
        for (target, told) in targets {
            let Some(workload) = &told.workload else { continue };
            let selector = match (&claims, &told.scale) {
                (None, Some(known)) => known.selector.clone(),
                (Some(claims), _) => claims.judge(workload, &told.pods),
                (None, None) => workload.selector_state(),
            };
            let scale = scale(workload, selector);
            if told.failed.take().is_some() || told.scale.as_ref() != Some(&scale) {
                told.scale = Some(scale.clone());
                self.engine.observe(now(), Observation::Scale { target: target.clone(), scale });
            }
        }
    }

    /// Passes the number of requests that wait at the Services in front of each target.
    fn observe_waiting(&mut self) {
        let waiting = node::waiting(&self.shared.store.lock());
        let mut by_label = Waited::new();
        let selectors: Vec<(String, BTreeMap<String, String>, u32)> = waiting
            .into_iter()
            .filter_map(|((namespace, service), requests)| {
                let found = self.cluster.services.get(&ObjectRef::new(&service).within(&namespace))?;
                Some((namespace, found.spec.as_ref()?.selector.clone()?, requests))
            })
            .collect();
        for (namespace, selector, requests) in &selectors {
            if let Some((name, value)) = selector.first_key_value() {
                by_label.entry((namespace, name, value)).or_default().push((selector, *requests));
            }
        }
        for (target, told) in &mut self.standing.targets {
            let requests = requests_for(target, told, &by_label);
            if std::mem::replace(&mut told.waiting, requests) != requests {
                self.engine.observe(now(), Observation::Waiting { target: target.clone(), requests });
            }
        }
    }

    /// Passes the measured requests of each target that has an objective.
    fn observe_demand(&mut self) {
        let ObservedTargets { targets, demand, .. } = &mut self.standing;
        let with_objective =
            self.scalers.by_target.iter().filter(|(_, scaler)| scaler.plan.policy.slo.is_some());
        for (target, _) in with_objective {
            let labels = targets.get(target).and_then(|told| told.workload.as_ref()?.template_labels());
            let services = demand::services(&self.cluster, target.namespace.as_str(), labels);
            let measured = demand.measure(&self.shared.store.lock(), target, &services);
            if let Some(demand) = measured {
                self.engine.observe(now(), Observation::Demand { target: target.clone(), demand });
            }
        }
    }

    /// Passes the recommended size of each target that has a recommender.
    fn observe_sizing(&mut self) {
        let room = NodeHeadroom::new(self.cluster.clone());
        let nobody_is_sized = self.shared.joint.is_empty();
        for (target, told) in &mut self.standing.targets {
            if nobody_is_sized && told.sizing.is_none() {
                continue;
            }
            let Some(scaler) = &told.scaler else { continue };
            let sizing = self.shared.joint.sizing(&joint::key(&scaler.workload), &told.pods, &room);
            if told.sizing != sizing {
                told.sizing.clone_from(&sizing);
                let sizing = sizing.map(Box::new);
                self.engine.observe(now(), Observation::Sizing { target: target.clone(), sizing });
            }
        }
    }

    /// Reads what the policies of the due targets ask for.
    fn read_triggers(&mut self) {
        let due: Vec<TargetId> = self.engine.due(now()).cloned().collect();
        for target in due {
            let Some(scaler) = self.scalers.by_target.get(&target).cloned() else { continue };
            let Some(told) = self.standing.targets.get(&target) else { continue };
            let Some(workload) = told.workload.clone() else { continue };
            let pods = told.pods.clone();
            for query in &scaler.plan.queries {
                if self.polled.is_recent(&target, query, now()) {
                    continue;
                }
                let namespace = &scaler.workload.namespace;
                let reading = self.sources.read(query, namespace, &workload, &pods, now());
                self.remember_value(&scaler, query.metric.as_str(), &reading);
                let (target, metric) = (target.clone(), query.metric.clone());
                self.engine.observe(now(), Observation::Metric { target, metric, reading });
            }
        }
    }

    /// Keeps a trigger's value for the external metrics API.
    fn remember_value(&self, scaler: &Scaler, metric: &str, reading: &Reading) {
        let (_, namespace, name) = scaler.owner.key();
        let key = (namespace, name, metric.to_ascii_lowercase());
        let mut values = self.shared.values.lock();
        match value_of(reading) {
            Some(value) => values.insert(key, value),
            None => values.remove(&key),
        };
    }
}

fn value_of(reading: &Reading) -> Option<(f64, Time)> {
    match *reading {
        Reading::Value { value, at } => Some((value, at)),
        Reading::Idle { at } => Some((0.0, at)),
        Reading::PerPod { .. }
        | Reading::Partial { .. }
        | Reading::Missing { .. }
        | Reading::Stale { .. }
        | Reading::Failed { .. } => None,
    }
}

fn scale(workload: &Workload, selector: Selector) -> Scale {
    Scale {
        spec_replicas: u32::try_from(workload.desired).unwrap_or(0),
        status_replicas: u32::try_from(workload.current).unwrap_or(0),
        selector,
    }
}

/// The requests that wait at Services which select the pods of a target. Services are found by the first label of their
/// selectors.
fn requests_for(target: &TargetId, told: &LastObserved, by_label: &Waited<'_>) -> u32 {
    if by_label.is_empty() {
        return 0;
    }
    let Some(labels) = told.workload.as_ref().and_then(Workload::template_labels) else { return 0 };
    let namespace = target.namespace.as_str();
    let services =
        labels.iter().filter_map(|(name, value)| by_label.get(&(namespace, name.as_str(), value.as_str())));
    let selecting = services.flatten().filter(|(selector, _)| selector::matches_pairs(selector, labels));
    selecting.map(|(_, requests)| requests).sum()
}
