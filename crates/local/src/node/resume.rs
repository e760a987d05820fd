//! What a node that comes back makes of the containers it finds in the API.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState as ApiState, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::run::ended;
use super::state::{Ended, PodState, Run};

/// A node that comes back finds containers that ran before: they count as ended, as after a reboot. Those that will not
/// run again stay as they ended.
pub(crate) fn carry_over(pod: &Pod, state: &mut PodState) {
    let Some(shown) = &pod.status else { return };
    state.started_at = shown.start_time.as_ref().map(|time| time.0);
    // what was not granted then is judged again; until then the pod has what it had
    let conditions = shown.conditions.iter().flatten();
    let is_pending = conditions.into_iter().any(|c| c.type_ == "PodResizePending" && c.status == "True");
    let init = shown.init_container_statuses.iter().flatten().map(|status| (status, true));
    let main = shown.container_statuses.iter().flatten().map(|status| (status, false));
    for (status, is_init) in init.chain(main) {
        let containers = &mut state.init.iter_mut().chain(&mut state.containers);
        let Some(container) = containers.find(|c| c.name == status.name) else { continue };
        container.restarts = status.restart_count;
        if is_pending && let Some(requests) = &status.allocated_resources {
            let limits = status.resources.as_ref().and_then(|resources| resources.limits.clone());
            container.allocated =
                ResourceRequirements { requests: Some(requests.clone()), limits, claims: None };
        }
        let Some(end) = status.state.as_ref().and_then(ended_before) else { continue };
        if !is_init && !container.restart.follows(end.code) {
            container.run = Run::Ended(end);
        } else {
            container.restarts += 1;
            container.last = Some(end);
        }
    }
}

/// How a container ended that the API shows as ended, or as running although nobody ran it.
fn ended_before(state: &ApiState) -> Option<Ended> {
    let time = |time: &Option<Time>| time.as_ref().map(|time| time.0);
    if let Some(end) = &state.terminated {
        return Some(Ended {
            code: end.exit_code,
            reason: end.reason.clone().unwrap_or_default(),
            message: end.message.clone(),
            started_at: time(&end.started_at),
            finished_at: time(&end.finished_at).unwrap_or_else(Timestamp::now),
        });
    }
    let running = state.running.as_ref()?;
    Some(ended(255, "Unknown", Some("the node stopped".to_owned()), time(&running.started_at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_ran_when_the_node_stopped_counts_as_restarted_or_over() {
        let check = |policy: &str, expected: [(i32, &str); 3]| {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"},
                "spec": {"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]},
                "status": {"containerStatuses": [
                    {"name": "a", "restartCount": 2, "ready": true, "image": "", "imageID": "",
                     "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
                    {"name": "b", "restartCount": 1, "ready": false, "image": "", "imageID": "",
                     "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
                    {"name": "c", "restartCount": 0, "ready": false, "image": "", "imageID": "",
                     "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}}))
            .unwrap();
            let mut state = PodState::new(&pod);
            carry_over(&pod, &mut state);
            let seen: Vec<_> = state
                .containers
                .iter()
                .map(|c| match (&c.run, &c.last) {
                    (Run::Ended(end), _) => (c.restarts, format!("over: {}", end.reason)),
                    (_, Some(last)) => (c.restarts, format!("again: {}", last.reason)),
                    _ => (c.restarts, "again".to_owned()),
                })
                .collect();
            assert_eq!(seen, expected.map(|(restarts, text)| (restarts, text.to_owned())), "{policy}");
        };
        check("Always", [(3, "again: Unknown"), (1, "again"), (1, "again: Completed")]);
        check("OnFailure", [(3, "again: Unknown"), (1, "again"), (0, "over: Completed")]);
        check("Never", [(2, "over: Unknown"), (1, "again"), (0, "over: Completed")]);
    }
}
