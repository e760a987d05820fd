//! The node's own object: what the machine has, how it is, and a lease that shows that somebody looks after it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    Node as NodeObject, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::{HOST_IP, Node, PODS_MAX, machine};
use crate::cluster::{Severity, reference};

/// The kubelet renews as often.
const INTERVAL: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Creates the node's object, or brings the one of the last start up to date.
pub(crate) async fn register(node: &Node) {
    let api: Api<NodeObject> = Api::all(node.cluster.client.clone());
    let object = NodeObject { metadata: metadata(node), ..NodeObject::default() };
    if let Err(e) = api.create(&PostParams::default(), &object).await
        && !matches!(&e, kube::Error::Api(status) if status.code == 409)
    {
        tracing::warn!("node not registered: {e}");
    }
    report(node).await;
    if let Ok(object) = api.get(&node.name).await {
        let about = reference(&object);
        let record = |severity, reason: &str, message: String| {
            node.cluster.recorder.record(&about, "kubelet", severity, reason, message);
        };
        record(Severity::Normal, "Starting", "Starting kubelet.".to_owned());
        for notice in &node.notices {
            record(Severity::Warning, "LimitedIsolation", notice.clone());
        }
        node.cluster.nodes.absorb(object);
    }
}

/// Renews the lease for ever; the status too when the machine changed.
pub(crate) async fn beat(node: Node) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Err(e) = renew(&node).await {
            tracing::debug!("lease not renewed: {e}");
        }
    }
}

async fn renew(node: &Node) -> Result<(), kube::Error> {
    let api: Api<Lease> = Api::namespaced(node.cluster.client.clone(), LEASE_NAMESPACE);
    let now = MicroTime(Timestamp::now());
    let patch = json!({"spec": {"renewTime": now}});
    match api.patch(&node.name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => return other.map(drop),
    }
    let lease = Lease {
        metadata: ObjectMeta { name: Some(node.name.clone()), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    api.create(&PostParams::default(), &lease).await.map(drop)
}

fn metadata(node: &Node) -> ObjectMeta {
    let labels = [
        ("kubernetes.io/hostname", node.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("node-role.kubernetes.io/control-plane", ""),
    ];
    ObjectMeta {
        name: Some(node.name.clone()),
        labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
        ..ObjectMeta::default()
    }
}

async fn report(node: &Node) {
    let api: Api<NodeObject> = Api::all(node.cluster.client.clone());
    let shown = api.get_opt(&node.name).await.ok().flatten();
    let conditions = shown.and_then(|n| n.status?.conditions).unwrap_or_default();
    let patch = json!({"status": status(node, &conditions)});
    if let Err(e) = api.patch_status(&node.name, &PatchParams::default(), &Patch::Merge(patch)).await {
        tracing::warn!("node status not written: {e}");
    }
}

fn status(node: &Node, shown: &[NodeCondition]) -> NodeStatus {
    let capacity: BTreeMap<String, Quantity> = [
        ("cpu", machine::cpus().to_string()),
        ("memory", format!("{}Ki", machine::memory_bytes() / 1024)),
        ("pods", PODS_MAX.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), Quantity(value)))
    .collect();
    let address =
        |kind: &str, address: &str| NodeAddress { type_: kind.to_owned(), address: address.to_owned() };
    NodeStatus {
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        addresses: Some(vec![address("InternalIP", HOST_IP), address("Hostname", &node.name)]),
        conditions: Some(conditions(node, shown)),
        node_info: Some(node_info()),
        ..NodeStatus::default()
    }
}

fn conditions(node: &Node, shown: &[NodeCondition]) -> Vec<NodeCondition> {
    let now = Timestamp::now();
    let condition = |kind: &str, status: &str, reason: &str, message: String| {
        let before = shown.iter().find(|c| c.type_ == kind && c.status == status);
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
        }
    };
    let text = |text: &str| text.to_owned();
    let ready = if node.notices.is_empty() {
        text("kubelet is posting ready status")
    } else {
        format!("kubelet is posting ready status; {}", node.notices.join("; "))
    };
    vec![
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            text("kubelet has sufficient memory available"),
        ),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", text("kubelet has no disk pressure")),
        condition(
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            text("kubelet has sufficient PID available"),
        ),
        condition("Ready", "True", "KubeletReady", ready),
    ]
}

fn node_info() -> NodeSystemInfo {
    let uname = rustix::system::uname();
    let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let os = line("/etc/os-release");
    let os = os
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME="))
        .unwrap_or("Linux")
        .trim_matches('"')
        .to_owned();
    let version = concat!("v1.37.0+flyball-", env!("CARGO_PKG_VERSION")).to_owned();
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: concat!("flyball://", env!("CARGO_PKG_VERSION")).to_owned(),
        kernel_version: uname.release().to_string_lossy().into_owned(),
        kube_proxy_version: version.clone(),
        kubelet_version: version,
        machine_id: line("/etc/machine-id"),
        operating_system: "linux".to_owned(),
        os_image: os,
        ..NodeSystemInfo::default()
    }
}

/// Kubernetes (Go) names of architectures.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
