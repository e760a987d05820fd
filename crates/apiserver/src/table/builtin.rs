//! Columns and cells of the built-in kinds.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Layout, age, autoscaler, column, duration, number, pod, since, wide};
use crate::object::{at, integer, list, map, name, text};
use crate::selector::Labels;

const NAME: Column = column("Name");
const AGE: Column = column("Age");

/// The layout of a kind by its storage name.
pub(super) fn layout(storage: &str) -> Layout {
    let (columns, cells): (&'static [Column], fn(&Value, Timestamp) -> Vec<Value>) = match storage {
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

fn small(storage: &str) -> (&'static [Column], fn(&Value, Timestamp) -> Vec<Value>) {
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
        "apiextensions.k8s.io/customresourcedefinitions"
        | "rbac.authorization.k8s.io/roles"
        | "rbac.authorization.k8s.io/clusterroles" => (const { &[NAME, column("Created At")] }, plain_cells),
        _ => (const { &[NAME, column("Created At")] }, plain_cells),
    }
}

fn plain_cells(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![name(object).into(), text(object, "metadata.creationTimestamp").into()]
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn count(object: &Value, path: &str) -> usize {
    map(object, path).map_or(0, serde_json::Map::len)
}

fn or_none(text: String) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// Names and images of the containers of a template.
fn containers(object: &Value) -> [Value; 2] {
    let of = |key| {
        let texts: Vec<&str> = list(object, "spec.template.spec.containers")
            .iter()
            .map(|container| text(container, key))
            .collect();
        Value::from(texts.join(","))
    };
    [of("name"), of("image")]
}

fn selector(object: &Value) -> Value {
    or_none(
        at(object, "spec.selector")
            .map(|selector| Labels::from_object(selector).to_string())
            .unwrap_or_default(),
    )
}

fn status_count(object: &Value, key: &str) -> i64 {
    integer(object, &format!("status.{key}")).unwrap_or(0)
}

fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = format!(
        "{}/{}",
        status_count(object, "readyReplicas"),
        integer(object, "spec.replicas").unwrap_or(0)
    );
    let [names, images] = containers(object);
    vec![
        name(object).into(),
        ready.into(),
        status_count(object, "updatedReplicas").into(),
        status_count(object, "availableReplicas").into(),
        age(object, now),
        names,
        images,
        selector(object),
    ]
}

fn replica_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object);
    vec![
        name(object).into(),
        integer(object, "spec.replicas").unwrap_or(0).into(),
        status_count(object, "replicas").into(),
        status_count(object, "readyReplicas").into(),
        age(object, now),
        names,
        images,
        selector(object),
    ]
}

fn stateful_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = format!(
        "{}/{}",
        status_count(object, "readyReplicas"),
        integer(object, "spec.replicas").unwrap_or(0)
    );
    let [names, images] = containers(object);
    vec![name(object).into(), ready.into(), age(object, now), names, images]
}

fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object);
    let node_selector = at(object, "spec.template.spec.nodeSelector").cloned().unwrap_or_default();
    let node_selector = Labels::from_object(&serde_json::json!({"matchLabels": node_selector})).to_string();
    let counts = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ];
    let mut cells = vec![name(object).into()];
    cells.extend(counts.map(|key| Value::from(status_count(object, key))));
    cells.extend([or_none(node_selector), age(object, now), names, images, selector(object)]);
    cells
}

fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object);
    let succeeded = status_count(object, "succeeded");
    let completions =
        match (integer(object, "spec.completions"), integer(object, "spec.parallelism").unwrap_or(0)) {
            (Some(wanted), _) => format!("{succeeded}/{wanted}"),
            (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
            (None, _) => format!("{succeeded}/1"),
        };
    let is = |kind: &str| {
        list(object, "status.conditions")
            .iter()
            .any(|one| text(one, "type") == kind && text(one, "status") == "True")
    };
    let status = match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if at(object, "metadata.deletionTimestamp").is_some() => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () if is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    };
    let start = text(object, "status.startTime").parse::<Timestamp>().ok();
    let end = text(object, "status.completionTime").parse::<Timestamp>().unwrap_or(now);
    let took = start.map_or_else(String::new, |start| duration::human(end.duration_since(start)));
    vec![
        name(object).into(),
        status.into(),
        completions.into(),
        took.into(),
        age(object, now),
        names,
        images,
        selector(object),
    ]
}

fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let last = text(object, "status.lastScheduleTime");
    let last = if last.is_empty() { "<none>".to_owned() } else { since(last, now) };
    let suspend = if object["spec"]["suspend"] == true { "True" } else { "False" };
    vec![
        name(object).into(),
        text(object, "spec.schedule").into(),
        or_none(text(object, "spec.timeZone").into()),
        suspend.into(),
        list(object, "status.active").len().into(),
        last.into(),
        age(object, now),
    ]
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

fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(object, "spec.ports")
        .iter()
        .map(|port| {
            let (number, protocol) = (integer(port, "port").unwrap_or(0), text(port, "protocol"));
            match integer(port, "nodePort").filter(|number| *number != 0) {
                Some(node_port) => format!("{number}:{node_port}/{protocol}"),
                None => format!("{number}/{protocol}"),
            }
        })
        .collect();
    let external: Vec<&str> = list(object, "spec.externalIPs").iter().filter_map(Value::as_str).collect();
    let balanced: Vec<&str> = list(object, "status.loadBalancer.ingress")
        .iter()
        .map(|one| if text(one, "ip").is_empty() { text(one, "hostname") } else { text(one, "ip") })
        .collect();
    let external = match text(object, "spec.type") {
        "ExternalName" => text(object, "spec.externalName").to_owned(),
        "LoadBalancer" if external.is_empty() && balanced.is_empty() => "<pending>".to_owned(),
        "LoadBalancer" => [balanced, external].concat().join(","),
        _ => external.join(","),
    };
    let labels = at(object, "spec.selector").map(|labels| serde_json::json!({"matchLabels": labels}));
    let selector = labels.map(|labels| Labels::from_object(&labels).to_string()).unwrap_or_default();
    vec![
        name(object).into(),
        text(object, "spec.type").into(),
        or_none(text(object, "spec.clusterIP").into()),
        or_none(external),
        or_none(ports.join(",")),
        age(object, now),
        or_none(selector),
    ]
}

fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let first_of = |paths: &[&str]| {
        paths
            .iter()
            .map(|path| text(object, path))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    // The older and the newer form of each, by the version that is printed.
    let first = first_of(&["firstTimestamp", "deprecatedFirstTimestamp", "eventTime"]);
    let last =
        first_of(&["series.lastObservedTime", "lastTimestamp", "deprecatedLastTimestamp", "eventTime"]);
    let about =
        if at(object, "regarding").is_some() { &object["regarding"] } else { &object["involvedObject"] };
    let source = first_of(&[
        "source.component",
        "deprecatedSource.component",
        "reportingComponent",
        "reportingController",
    ]);
    let host = first_of(&["source.host", "deprecatedSource.host"]);
    let source = if host.is_empty() { source } else { format!("{source}, {host}") };
    let times = integer(object, "series.count")
        .or_else(|| integer(object, "count"))
        .or_else(|| integer(object, "deprecatedCount"))
        .unwrap_or(1);
    let message = first_of(&["message", "note"]);
    vec![
        since(&last, now).into(),
        text(object, "type").into(),
        text(object, "reason").into(),
        format!("{}/{}", text(about, "kind").to_lowercase(), text(about, "name")).into(),
        text(about, "fieldPath").into(),
        source.into(),
        message.trim().into(),
        since(&first, now).into(),
        times.into(),
        name(object).into(),
    ]
}

fn autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
    // autoscaling/v1 is printed from its stored form.
    let converted;
    let object = if text(object, "apiVersion") == "autoscaling/v1" {
        converted = crate::convert::autoscaler_from_v1(object.clone());
        &converted
    } else {
        object
    };
    let reference =
        format!("{}/{}", text(object, "spec.scaleTargetRef.kind"), text(object, "spec.scaleTargetRef.name"));
    let minimum =
        integer(object, "spec.minReplicas").map_or_else(|| "<unset>".to_owned(), |number| number.to_string());
    vec![
        name(object).into(),
        reference.into(),
        autoscaler::targets(object).into(),
        minimum.into(),
        integer(object, "spec.maxReplicas").unwrap_or(0).to_string().into(),
        status_count(object, "currentReplicas").into(),
        age(object, now),
    ]
}

/// Addresses shown before `+ n more...`.
const ENDPOINTS_SHOWN: usize = 3;

fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in list(object, "subsets") {
        let ports = list(subset, "ports");
        for address in list(subset, "addresses") {
            let ip = text(address, "ip");
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            all.extend(ports.iter().map(|port| format!("{ip}:{}", integer(port, "port").unwrap_or(0))));
        }
    }
    vec![name(object).into(), or_none(shortened(&all)), age(object, now)]
}

fn shortened(all: &[String]) -> String {
    let shown = all[..all.len().min(ENDPOINTS_SHOWN)].join(",");
    if all.len() > ENDPOINTS_SHOWN {
        format!("{shown} + {} more...", all.len() - ENDPOINTS_SHOWN)
    } else {
        shown
    }
}

fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(object, "ports")
        .iter()
        .map(|port| integer(port, "port").map_or_else(|| "*".into(), |port| port.to_string()))
        .collect();
    let addresses: Vec<String> = list(object, "endpoints")
        .iter()
        .flat_map(|endpoint| list(endpoint, "addresses"))
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    let unset = |text: String| if text.is_empty() { Value::from("<unset>") } else { text.into() };
    vec![
        name(object).into(),
        text(object, "addressType").into(),
        unset(shortened(&ports)),
        unset(shortened(&addresses)),
        age(object, now),
    ]
}
