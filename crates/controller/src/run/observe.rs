//! What the engine is told each round of every target: its scale, pods, size and readings, and the requests that wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use flyball_engine::{Observation, Reading, Scale, Selector};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::ObjectRef;

use super::{Rounds, now};
use crate::claims::Claims;
use crate::facts;
use crate::lock;
use crate::pods::Pods;
use crate::scalers::Scaler;
use crate::scrape::node;
use crate::selector;
use crate::vertical::joint;
use crate::vertical::room::Room;
use crate::workload::Workload;

impl Rounds {
    /// Tells the engine how every target stands.
    pub(super) async fn observe(&mut self) {
        let down = self.down();
        let waiting = node::waiting(&lock(&self.shared.store));
        let scalers: Vec<Scaler> = self.scalers.by_target.values().cloned().collect();
        let all_pods = Pods::new(self.cluster.pods.state());
        let mut scaled = Vec::with_capacity(scalers.len());
        for scaler in &scalers {
            match self.workloads.read(&scaler.workload).await {
                Ok(workload) => {
                    let pods = all_pods.of(&scaler.workload.namespace, &workload);
                    scaled.push((scaler, workload, pods));
                }
                Err(error) => {
                    let target = scaler.plan.target.clone();
                    self.engine.observe(now(), Observation::ScaleFailed { target, error });
                }
            }
        }
        let claims = Claims::of(scaled.iter().map(|(scaler, _, pods)| (&scaler.autoscaler, pods.as_slice())));
        let room = Room::new(self.cluster.clone());
        for (scaler, workload, pods) in &scaled {
            let target = &scaler.plan.target;
            let selector = claims.judge(workload, pods);
            self.observe_workload(scaler, workload, selector, pods, &waiting);
            let sizing = self.shared.joint.sizing(&joint::key(&scaler.workload), pods, &room);
            let sizing = Observation::Sizing { target: target.clone(), sizing: sizing.map(Box::new) };
            self.engine.observe(now(), sizing);
            for query in &scaler.plan.queries {
                if self.polled.is_recent(target, query, now()) {
                    continue;
                }
                let reading =
                    self.sources.read(query, &scaler.workload.namespace, workload, pods, &down, now()).await;
                self.remember_value(scaler, query.metric.as_str(), &reading);
                let metric = query.metric.clone();
                self.engine.observe(now(), Observation::Metric { target: target.clone(), metric, reading });
            }
        }
    }

    fn observe_workload(
        &mut self,
        scaler: &Scaler,
        workload: &Workload,
        selector: Selector,
        pods: &[Arc<Pod>],
        waiting: &BTreeMap<(String, String), u32>,
    ) {
        let now = now();
        let (target, namespace) = (&scaler.plan.target, &scaler.workload.namespace);
        let scale = Scale {
            spec_replicas: u32::try_from(workload.desired).unwrap_or(0),
            status_replicas: u32::try_from(workload.current).unwrap_or(0),
            selector,
        };
        let requests = waiting
            .iter()
            .filter(|((service_namespace, service), _)| {
                let service = self.cluster.services.get(&ObjectRef::new(service).within(service_namespace));
                let selector =
                    service.and_then(|service| service.spec.as_ref()?.selector.clone()).unwrap_or_default();
                service_namespace == namespace
                    && selector::matches_pairs(&selector, &workload.template_labels)
            })
            .map(|(_, requests)| requests)
            .sum();
        let target = || target.clone();
        self.engine.observe(now, Observation::Scale { target: target(), scale });
        let pods = pods.iter().map(|pod| facts::pod(pod)).collect();
        self.engine.observe(now, Observation::Pods { target: target(), pods });
        self.engine.observe(now, Observation::Waiting { target: target(), requests });
    }

    /// Keeps a trigger's value for the external metrics API.
    fn remember_value(&self, scaler: &Scaler, metric: &str, reading: &Reading) {
        let (_, namespace, name) = scaler.owner.key();
        let key = (namespace, name, metric.to_ascii_lowercase());
        let mut values = lock(&self.shared.values);
        let value = match *reading {
            Reading::Value { value, at } => Some((value, at)),
            Reading::Idle { at } => Some((0.0, at)),
            Reading::PerPod { .. }
            | Reading::Missing { .. }
            | Reading::Stale { .. }
            | Reading::Failed { .. } => None,
        };
        match value {
            Some(value) => values.insert(key, value),
            None => values.remove(&key),
        };
    }
}
