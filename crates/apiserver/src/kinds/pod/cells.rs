//! Table cells of a pod: readiness, STATUS, restarts (`printPod`).

use jiff::Timestamp;
use serde_json::Value;

use crate::cells::{age, since};
use crate::object::{at, integer, list, name, text};

/// Renders Name, Ready, Status, Restarts, Age | IP, Node, Nominated Node, Readiness Gates.
pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let statuses = list(pod, "status.containerStatuses");
    let sidecars = sidecar_names(pod);
    let ready_sidecars = list(pod, "status.initContainerStatuses")
        .iter()
        .filter(|status| sidecars.contains(&text(status, "name")) && status["ready"] == true)
        .count();
    let ready = statuses.iter().filter(|status| status["ready"] == true).count() + ready_sidecars;
    let total = list(pod, "spec.containers").len() + sidecars.len();
    let or_none =
        |path: &str| Value::from(Some(text(pod, path)).filter(|text| !text.is_empty()).unwrap_or("<none>"));
    vec![
        name(pod).into(),
        format!("{ready}/{total}").into(),
        status(pod).into(),
        restarts(pod, now).into(),
        age(pod, now),
        or_none("status.podIP"),
        or_none("spec.nodeName"),
        or_none("status.nominatedNodeName"),
        readiness_gates(pod).into(),
    ]
}

fn sidecar_names(pod: &Value) -> Vec<&str> {
    let inits = list(pod, "spec.initContainers").iter();
    inits.filter(|one| text(one, "restartPolicy") == "Always").map(|one| text(one, "name")).collect()
}

/// Renders STATUS: `CrashLoopBackOff`, `ContainerCreating`, `Init:0/1`, `Terminating` …
fn status(pod: &Value) -> String {
    let mut reason = Some(text(pod, "status.reason"))
        .filter(|reason| !reason.is_empty())
        .unwrap_or(text(pod, "status.phase"))
        .to_owned();
    if list(pod, "status.conditions")
        .iter()
        .any(|one| text(one, "type") == "PodScheduled" && text(one, "reason") == "SchedulingGated")
    {
        reason = "SchedulingGated".into();
    }
    let initializing = initializing(pod);
    if let Some(init) = &initializing {
        reason = init.clone();
    } else {
        let mut running = false;
        for status in list(pod, "status.containerStatuses").iter().rev() {
            match container_reason(status) {
                Some(found) => reason = found,
                None => running |= status["ready"] == true && at(status, "state.running").is_some(),
            }
        }
        if reason == "Completed" && running {
            let ready = list(pod, "status.conditions")
                .iter()
                .any(|one| text(one, "type") == "Ready" && text(one, "status") == "True");
            reason = if ready { "Running" } else { "NotReady" }.into();
        }
    }
    if at(pod, "metadata.deletionTimestamp").is_some() {
        let ended = ["Succeeded", "Failed"].contains(&text(pod, "status.phase"));
        if text(pod, "status.reason") == "NodeLost" {
            reason = "Unknown".into();
        } else if !ended {
            reason = "Terminating".into();
        }
    }
    reason
}

/// Returns why a container is waiting or terminated; `None` while it runs.
fn container_reason(status: &Value) -> Option<String> {
    let waiting = text(status, "state.waiting.reason");
    if !waiting.is_empty() {
        return Some(waiting.to_owned());
    }
    let terminated = at(status, "state.terminated")?;
    let (signal, code) =
        (integer(terminated, "signal").unwrap_or(0), integer(terminated, "exitCode").unwrap_or(0));
    Some(match text(terminated, "reason") {
        "" if signal != 0 => format!("Signal:{signal}"),
        "" => format!("ExitCode:{code}"),
        reason => reason.to_owned(),
    })
}

fn initializing(pod: &Value) -> Option<String> {
    let sidecars = sidecar_names(pod);
    let total = list(pod, "spec.initContainers").len();
    for (index, status) in list(pod, "status.initContainerStatuses").iter().enumerate() {
        let ended_well = at(status, "state.terminated").is_some_and(|ended| ended["exitCode"] == 0);
        let sidecar_runs = sidecars.contains(&text(status, "name")) && status["started"] == true;
        if ended_well || sidecar_runs {
            continue;
        }
        return Some(match container_reason(status) {
            Some(reason) if reason != "PodInitializing" => format!("Init:{reason}"),
            _ => format!("Init:{index}/{total}"),
        });
    }
    None
}

/// Renders RESTARTS: `3 (10s ago)`.
fn restarts(pod: &Value, now: Timestamp) -> String {
    let sidecars = sidecar_names(pod);
    let inits =
        list(pod, "status.initContainerStatuses").iter().filter(|one| sidecars.contains(&text(one, "name")));
    let statuses: Vec<&Value> = list(pod, "status.containerStatuses").iter().chain(inits).collect();
    let count: i64 = statuses.iter().filter_map(|status| integer(status, "restartCount")).sum();
    let ended = statuses.iter().map(|status| text(status, "lastState.terminated.finishedAt"));
    match ended.filter(|time| !time.is_empty()).max() {
        Some(last) if count > 0 => format!("{count} ({} ago)", since(last, now)),
        _ => count.to_string(),
    }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, "spec.readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let met = |gate: &&Value| {
        let wanted = text(gate, "conditionType");
        list(pod, "status.conditions")
            .iter()
            .any(|one| text(one, "type") == wanted && text(one, "status") == "True")
    };
    format!("{}/{}", gates.iter().filter(met).count(), gates.len())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    #[test]
    fn the_status_people_look_for() {
        let with =
            |container: Value| json!({"status": {"phase": "Running", "containerStatuses": [container]}});
        for (pod, expected) in [
            (json!({"status": {"phase": "Pending"}}), "Pending"),
            (with(json!({"state": {"waiting": {"reason": "ContainerCreating"}}})), "ContainerCreating"),
            (with(json!({"state": {"waiting": {"reason": "ErrImageNeverPull"}}})), "ErrImageNeverPull"),
            (with(json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}})), "CrashLoopBackOff"),
            (with(json!({"ready": true, "state": {"running": {}}})), "Running"),
            (with(json!({"state": {"terminated": {"reason": "Completed", "exitCode": 0}}})), "Completed"),
            (with(json!({"state": {"terminated": {"exitCode": 3}}})), "ExitCode:3"),
            (with(json!({"state": {"terminated": {"exitCode": 137, "signal": 9}}})), "Signal:9"),
            (json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}}), "Terminating"),
            (json!({"status": {"phase": "Failed", "reason": "Evicted"}}), "Evicted"),
            (
                json!({"spec": {"initContainers": [{"name": "i"}]}, "status": {"phase": "Pending",
                    "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}}),
                "Init:0/1",
            ),
        ] {
            assert_eq!(super::status(&pod), expected, "{pod}");
        }
    }
}
