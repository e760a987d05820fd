//! Observes the running world through its API: replicas, CPU usage, decisions and failures.

use std::time::Instant;

use anyhow::{Context, Result};
use flyball_engine::Decision;
use flyball_load::Stats;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use kube::api::ListParams;
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::Value;

use crate::cmd::demo::picture::Moment;

/// The name of the example's Deployment and Service.
const DEPLOYMENT: &str = "model";
const DECISIONS: &str = "/apis/flyball.dev/v1alpha1/namespaces/default/decisions?kind=Deployment&name=model";
const POD_METRICS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=app%3Dmodel";
/// `maxReplicaCount` of the example.
const REPLICAS_MAX: i32 = 5;

pub(super) struct Observer {
    client: Client,
    begun: Instant,
    pub(super) memory_bytes_max: u64,
    /// When each number of ready replicas was first seen.
    pub(super) ready_since: Vec<(i32, jiff::Timestamp)>,
}

/// The current replicas.
pub(super) struct Replicas {
    pub(super) desired: i32,
    pub(super) ready: i32,
}

#[derive(Deserialize)]
struct Record {
    decision: Decision,
}

#[derive(Deserialize)]
struct RecordList {
    items: Vec<Record>,
}

impl Observer {
    pub(super) fn new(client: Client) -> Observer {
        Observer { client, begun: Instant::now(), memory_bytes_max: 0, ready_since: Vec::new() }
    }

    pub(super) async fn replicas(&mut self) -> Result<Replicas> {
        let deployment =
            Api::<Deployment>::namespaced(self.client.clone(), "default").get(DEPLOYMENT).await?;
        let ready = deployment.status.and_then(|status| status.ready_replicas).unwrap_or(0);
        let desired = deployment.spec.replicas.unwrap_or(1);
        if !self.ready_since.iter().any(|(seen, _)| *seen == ready) {
            self.ready_since.push((ready, jiff::Timestamp::now()));
        }
        Ok(Replicas { desired, ready })
    }

    /// Returns the URL of predictions, at the Service's cluster IP, since another program may hold its node port.
    pub(super) async fn predictions_url(&self) -> Result<String> {
        let service = Api::<Service>::namespaced(self.client.clone(), "default").get(DEPLOYMENT).await?;
        let spec = service.spec.unwrap_or_default();
        let port = spec.ports.iter().flatten().find(|port| port.name.as_deref() == Some("web"));
        let address = spec.cluster_ip.as_deref().filter(|address| !address.is_empty()).zip(port);
        let (address, port) = address.context("the example's Service has no cluster IP or no port `web`")?;
        Ok(format!("http://{address}:{}/predict", port.port))
    }

    /// Reads everything that the picture shows.
    pub(super) async fn observe(&mut self, phase: &str, stats: Option<&Stats>) -> Result<Moment> {
        self.memory_bytes_max = self.memory_bytes_max.max(own_memory_bytes());
        let replicas = self.replicas().await?;
        let rescaled = self.rescales().await?;
        Ok(Moment {
            phase: phase.to_owned(),
            seconds_since_start: self.begun.elapsed().as_secs_f64(),
            replicas_desired: replicas.desired,
            replicas_ready: replicas.ready,
            replicas_max: REPLICAS_MAX,
            requests_per_second: stats.map_or(0.0, |stats| stats.rate),
            p95_seconds: stats.map(|stats| stats.p95).filter(|p95| *p95 > 0.0),
            cpu_cores: self.cpu_cores().await,
            failed: stats.map_or(0, |stats| stats.errors + stats.failed_statuses),
            decision: rescaled.last().map(sentence),
        })
    }

    /// Returns the decisions that changed the replicas, oldest first.
    pub(super) async fn rescales(&self) -> Result<Vec<Decision>> {
        let list: RecordList = self.client.request(http::Request::get(DECISIONS).body(Vec::new())?).await?;
        let decisions = list.items.into_iter().map(|record| record.decision);
        Ok(decisions.filter(Decision::rescales).collect())
    }

    /// Returns the CPU usage of all replicas together.
    async fn cpu_cores(&self) -> Option<f64> {
        let request = http::Request::get(POD_METRICS).body(Vec::new()).ok()?;
        let list: Value = self.client.request(request).await.ok()?;
        let pods = list["items"].as_array()?;
        let containers = pods.iter().flat_map(|pod| pod["containers"].as_array().into_iter().flatten());
        let nanocores = containers.filter_map(|container| {
            container["usage"]["cpu"].as_str()?.strip_suffix('n')?.parse::<f64>().ok()
        });
        Some(nanocores.sum::<f64>() / 1e9)
    }

    /// Returns why no pod is ready, from the pods' states and the newest warning.
    pub(super) async fn failure_reason(&self) -> String {
        let pods = Api::<Pod>::namespaced(self.client.clone(), "default").list(&ListParams::default()).await;
        let waiting = pods.into_iter().flatten().find_map(|pod| {
            let statuses = pod.status?.container_statuses?;
            let waiting = statuses.into_iter().find_map(|status| status.state?.waiting)?;
            Some(format!("{}: {}", waiting.reason?, waiting.message.unwrap_or_default()))
        });
        let events =
            Api::<Event>::namespaced(self.client.clone(), "default").list(&ListParams::default()).await;
        let warning = events.into_iter().flatten().rfind(|event| event.type_.as_deref() == Some("Warning"));
        let warning = warning.and_then(|event| event.message);
        waiting.or(warning).unwrap_or_else(|| "see `kubectl describe pods`".to_owned())
    }
}

/// Summarizes a decision: the replicas and the first reason.
pub(super) fn sentence(decision: &Decision) -> String {
    let reason = decision.steps.first().map(|step| step.reason.to_string()).unwrap_or_default();
    format!("{} → {}: {reason}", decision.current, decision.desired)
}

/// Returns the resident memory of this process: the world without its pods.
pub(super) fn own_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Converts bytes to MiB.
pub(super) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
