//! Columns of the built-in kinds, and which function makes their cells.

use serde_json::Value;

use super::cells::{
    autoscaler, count, cron_job, daemon_set, deployment, endpoint_slice, endpoints, event, job, node, plain,
    plain_cells, replica_set, service, stateful_set,
};
use super::{Cells, Column, Layout, age, column, number, pod, wide};
use crate::object::{at, integer, list, name, text};

const NAME: Column = column("Name");
const AGE: Column = column("Age");

/// The layout of a kind by its storage name.
pub(super) fn layout(storage: &str) -> Layout {
    let (columns, cells): (&'static [Column], Cells) = match storage {
        "core/pods" => (
            const {
                &[
                    NAME,
                    column("Ready"),
                    column("Status"),
                    column("Restarts"),
                    AGE,
                    wide("IP"),
                    wide("Node"),
                    wide("Nominated Node"),
                    wide("Readiness Gates"),
                ]
            },
            pod::cells,
        ),
        "apps/deployments" => (
            const {
                &[
                    NAME,
                    column("Ready"),
                    number("Up-to-date"),
                    number("Available"),
                    AGE,
                    wide("Containers"),
                    wide("Images"),
                    wide("Selector"),
                ]
            },
            deployment,
        ),
        "apps/replicasets" => (
            const {
                &[
                    NAME,
                    number("Desired"),
                    number("Current"),
                    number("Ready"),
                    AGE,
                    wide("Containers"),
                    wide("Images"),
                    wide("Selector"),
                ]
            },
            replica_set,
        ),
        "apps/statefulsets" => {
            (const { &[NAME, column("Ready"), AGE, wide("Containers"), wide("Images")] }, stateful_set)
        }
        "apps/daemonsets" => (
            const {
                &[
                    NAME,
                    number("Desired"),
                    number("Current"),
                    number("Ready"),
                    number("Up-to-date"),
                    number("Available"),
                    column("Node Selector"),
                    AGE,
                    wide("Containers"),
                    wide("Images"),
                    wide("Selector"),
                ]
            },
            daemon_set,
        ),
        "batch/jobs" => (
            const {
                &[
                    NAME,
                    column("Status"),
                    column("Completions"),
                    column("Duration"),
                    AGE,
                    wide("Containers"),
                    wide("Images"),
                    wide("Selector"),
                ]
            },
            job,
        ),
        "core/nodes" => (
            const {
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
            node,
        ),
        "core/services" => (
            const {
                &[
                    NAME,
                    column("Type"),
                    column("Cluster-IP"),
                    column("External-IP"),
                    column("Port(s)"),
                    AGE,
                    wide("Selector"),
                ]
            },
            service,
        ),
        "core/events" => (
            const {
                &[
                    column("Last Seen"),
                    column("Type"),
                    column("Reason"),
                    column("Object"),
                    wide("Subobject"),
                    wide("Source"),
                    column("Message"),
                    wide("First Seen"),
                    wide("Count"),
                    wide("Name"),
                ]
            },
            event,
        ),
        "autoscaling/horizontalpodautoscalers" => (
            const {
                &[
                    NAME,
                    column("Reference"),
                    column("Targets"),
                    column("MinPods"),
                    column("MaxPods"),
                    column("Replicas"),
                    AGE,
                ]
            },
            autoscaler,
        ),
        _ => small(storage),
    };
    Layout { columns, cells }
}

fn small(storage: &str) -> (&'static [Column], Cells) {
    match storage {
        "core/namespaces" => (const { &[NAME, column("Status"), AGE] }, |object, now| {
            vec![name(object).into(), text(object, "status.phase").into(), age(object, now)]
        }),
        "core/configmaps" => (const { &[NAME, column("Data"), AGE] }, |object, now| {
            vec![
                name(object).into(),
                (count(object, "data") + count(object, "binaryData")).into(),
                age(object, now),
            ]
        }),
        "core/secrets" => (const { &[NAME, column("Type"), column("Data"), AGE] }, |object, now| {
            vec![
                name(object).into(),
                text(object, "type").into(),
                count(object, "data").into(),
                age(object, now),
            ]
        }),
        "core/serviceaccounts" => {
            (const { &[NAME, AGE] }, |object, now| vec![name(object).into(), age(object, now)])
        }
        "core/endpoints" => (const { &[NAME, column("Endpoints"), AGE] }, endpoints),
        "discovery.k8s.io/endpointslices" => (
            const { &[NAME, column("AddressType"), column("Ports"), column("Endpoints"), AGE] },
            endpoint_slice,
        ),
        "coordination.k8s.io/leases" => (const { &[NAME, column("Holder"), AGE] }, |object, now| {
            vec![name(object).into(), text(object, "spec.holderIdentity").into(), age(object, now)]
        }),
        "policy/poddisruptionbudgets" => (
            const {
                &[
                    NAME,
                    column("Min Available"),
                    column("Max Unavailable"),
                    number("Allowed Disruptions"),
                    AGE,
                ]
            },
            |object, now| {
                let shown = |path: &str| at(object, path).map_or_else(|| "N/A".to_owned(), plain).into();
                let allowed = integer(object, "status.disruptionsAllowed").unwrap_or(0).into();
                vec![
                    name(object).into(),
                    shown("spec.minAvailable"),
                    shown("spec.maxUnavailable"),
                    allowed,
                    age(object, now),
                ]
            },
        ),
        "batch/cronjobs" => (
            const {
                &[
                    NAME,
                    column("Schedule"),
                    column("Timezone"),
                    column("Suspend"),
                    number("Active"),
                    column("Last Schedule"),
                    AGE,
                ]
            },
            cron_job,
        ),
        "core/persistentvolumeclaims" => (
            const {
                &[
                    NAME,
                    column("Status"),
                    column("Volume"),
                    column("Capacity"),
                    column("Access Modes"),
                    column("StorageClass"),
                    AGE,
                ]
            },
            |object, now| {
                let modes: Vec<&str> =
                    list(object, "spec.accessModes").iter().filter_map(Value::as_str).collect();
                vec![
                    name(object).into(),
                    text(object, "status.phase").into(),
                    text(object, "spec.volumeName").into(),
                    text(object, "status.capacity.storage").into(),
                    modes.join(",").into(),
                    text(object, "spec.storageClassName").into(),
                    age(object, now),
                ]
            },
        ),
        "rbac.authorization.k8s.io/rolebindings" | "rbac.authorization.k8s.io/clusterrolebindings" => {
            (const { &[NAME, column("Role"), AGE] }, |object, now| {
                let role = format!("{}/{}", text(object, "roleRef.kind"), text(object, "roleRef.name"));
                vec![name(object).into(), role.into(), age(object, now)]
            })
        }
        "apiextensions.k8s.io/customresourcedefinitions" => (
            const { &[NAME, column("Group"), column("Scope"), column("Versions"), column("Created At")] },
            |object, _| {
                let served = list(object, "spec.versions").iter().filter(|version| version["served"] == true);
                let versions: Vec<&str> = served.map(|version| text(version, "name")).collect();
                vec![
                    name(object).into(),
                    text(object, "spec.group").into(),
                    text(object, "spec.scope").into(),
                    versions.join(",").into(),
                    text(object, "metadata.creationTimestamp").into(),
                ]
            },
        ),
        _ => (const { &[NAME, column("Created At")] }, plain_cells),
    }
}
