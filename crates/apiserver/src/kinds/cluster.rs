//! Cluster-level kinds: Namespaces, Nodes, Leases, PriorityClasses, certificate requests.

use jiff::Timestamp;
use k8s_openapi::api::{certificates, coordination, core::v1, scheduling};
use serde_json::{Value, json};

use super::row::{Generation, Row, Sub, cluster_scoped, namespaced};
use crate::cells::{AGE, NAME, age, column, or_none, wide};
use crate::names;
use crate::object::{self, copy, default, ensure, integer, list, map, name, set, text};

const CORE: [&str; 2] = ["", "v1"];

pub(crate) const NAMESPACE: Row = Row {
    short_names: &["ns"],
    subresources: &[Sub::Finalize, Sub::Status],
    columns: const { &[NAME, column("Status"), AGE] },
    cells: |object, now| vec![name(object).into(), text(object, "status.phase").into(), age(object, now)],
    field_selectors: &["status.phase"],
    name_rule: names::dns_label,
    defaults: namespace,
    on_create: |object, _| {
        set(object, "spec.finalizers", json!(["kubernetes"]));
        object["status"] = json!({"phase": "Active"});
    },
    on_update: |current, object, sub| {
        if sub.is_none() {
            copy(current, object, "spec.finalizers");
        }
    },
    generation: Generation::Never,
    ..cluster_scoped::<v1::Namespace>(CORE, "Namespace", "namespaces")
};

pub(crate) const NODE: Row = Row {
    short_names: &["no"],
    subresources: &[Sub::Proxy, Sub::Status],
    columns: const {
        &[
            NAME,
            column("Status"),
            column("Roles"),
            AGE,
            column("Version"),
            wide("Internal-IP"),
            wide("External-IP"),
            wide("OS-Image"),
            wide("Kernel-Version"),
            wide("Container-Runtime"),
        ]
    },
    cells: node,
    field_selectors: &["spec.unschedulable"],
    generation: Generation::Never,
    keeps_new_status: true,
    status_has_metadata: true,
    ..cluster_scoped::<v1::Node>(CORE, "Node", "nodes")
};

pub(crate) const LEASE: Row = Row {
    columns: const { &[NAME, column("Holder"), AGE] },
    cells: |object, now| {
        vec![name(object).into(), text(object, "spec.holderIdentity").into(), age(object, now)]
    },
    validate: |object, problems| {
        let seconds = integer(object, "spec.leaseDurationSeconds").filter(|seconds| *seconds <= 0);
        if let Some(seconds) = seconds {
            problems.invalid("spec.leaseDurationSeconds", &seconds.into(), "must be greater than 0");
        }
    },
    generation: Generation::Never,
    relaxed: true,
    ..namespaced::<coordination::v1::Lease>(["coordination.k8s.io", "v1"], "Lease", "leases")
};

pub(crate) const PRIORITY_CLASS: Row = Row {
    short_names: &["pc"],
    ..cluster_scoped::<scheduling::v1::PriorityClass>(
        ["scheduling.k8s.io", "v1"],
        "PriorityClass",
        "priorityclasses",
    )
};

pub(crate) const CERTIFICATE_SIGNING_REQUEST: Row = Row {
    short_names: &["csr"],
    subresources: &[Sub::Status],
    on_create: |object, _| object["status"] = json!({}),
    ..cluster_scoped::<certificates::v1::CertificateSigningRequest>(
        ["certificates.k8s.io", "v1"],
        "CertificateSigningRequest",
        "certificatesigningrequests",
    )
};

fn namespace(object: &mut Value) {
    let name = object::name(object).to_owned();
    let metadata = ensure(object, "metadata");
    default(ensure(metadata, "labels"), "kubernetes.io/metadata.name", name);
}

fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = list(object, "status.conditions").iter().find(|one| text(one, "type") == "Ready");
    let mut status = match ready.map(|one| text(one, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let labels = map(object, "metadata.labels").into_iter().flatten();
    let roles: Vec<&str> =
        labels.filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/")).collect();
    let address = |kind: &str| {
        let found = list(object, "status.addresses").iter().find(|one| text(one, "type") == kind);
        or_none(found.map_or("", |one| text(one, "address")).to_owned())
    };
    let info = |key: &str| match text(&object["status"], &format!("nodeInfo.{key}")) {
        "" => Value::from("<unknown>"),
        found => found.into(),
    };
    vec![
        name(object).into(),
        status.into(),
        or_none(roles.join(",")),
        age(object, now),
        text(object, "status.nodeInfo.kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}
