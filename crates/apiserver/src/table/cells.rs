//! The cells of the built-in kinds, one function for each layout of [`super::builtin`].

use jiff::Timestamp;
use serde_json::Value;

use super::{age, autoscaler, duration, since};
use crate::object::{at, integer, list, map, name, text};
use crate::selector::Labels;

pub(super) fn plain_cells(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![name(object).into(), text(object, "metadata.creationTimestamp").into()]
}

pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) fn count(object: &Value, path: &str) -> usize {
    map(object, path).map_or(0, serde_json::Map::len)
}

pub(super) fn or_none(text: String) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// Names and images of the containers of a template.
pub(super) fn containers(object: &Value) -> [Value; 2] {
    let of = |key| {
        let texts: Vec<&str> = list(object, "spec.template.spec.containers")
            .iter()
            .map(|container| text(container, key))
            .collect();
        Value::from(texts.join(","))
    };
    [of("name"), of("image")]
}

pub(super) fn selector(object: &Value) -> Value {
    or_none(
        at(object, "spec.selector")
            .map(|selector| Labels::from_object(selector).to_string())
            .unwrap_or_default(),
    )
}

pub(super) fn status_count(object: &Value, key: &str) -> i64 {
    integer(object, &format!("status.{key}")).unwrap_or(0)
}

pub(super) fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
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

pub(super) fn replica_set(object: &Value, now: Timestamp) -> Vec<Value> {
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

pub(super) fn stateful_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = format!(
        "{}/{}",
        status_count(object, "readyReplicas"),
        integer(object, "spec.replicas").unwrap_or(0)
    );
    let [names, images] = containers(object);
    vec![name(object).into(), ready.into(), age(object, now), names, images]
}

pub(super) fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
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

pub(super) fn job(object: &Value, now: Timestamp) -> Vec<Value> {
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

pub(super) fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
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

pub(super) fn node(object: &Value, now: Timestamp) -> Vec<Value> {
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

pub(super) fn service(object: &Value, now: Timestamp) -> Vec<Value> {
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

pub(super) fn event(object: &Value, now: Timestamp) -> Vec<Value> {
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

pub(super) fn autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
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

pub(super) fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
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

pub(super) fn shortened(all: &[String]) -> String {
    let shown = all[..all.len().min(ENDPOINTS_SHOWN)].join(",");
    if all.len() > ENDPOINTS_SHOWN {
        format!("{shown} + {} more...", all.len() - ENDPOINTS_SHOWN)
    } else {
        shown
    }
}

pub(super) fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Value> {
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
