//! `podFailurePolicy`: what a failed pod means for its Job, by its exit codes and conditions.
//!
//! The rules are looked at in order and the first that matches decides (`pkg/controller/job/pod_failure_policy.go`). A
//! rule for exit codes sees containers that failed; zero is no failure, so it never matches.

use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

/// What follows from a failed pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// It counts towards `backoffLimit`.
    Count,
    Ignore,
    FailIndex,
    /// The Job fails: why.
    FailJob(String),
}

/// What follows from this failed pod.
pub(super) fn action(spec: &JobSpec, pod: &Pod) -> Action {
    let rules = spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules).enumerate();
    for (at, rule) in rules {
        let Some(what) = matching(rule, pod) else { continue };
        return match rule.action.as_str() {
            "FailJob" => Action::FailJob(format!("{what} matching FailJob rule at index {at}")),
            "FailIndex" => Action::FailIndex,
            "Ignore" => Action::Ignore,
            _ => Action::Count,
        };
    }
    Action::Count
}

/// What of a pod a rule matches, as a sentence's beginning.
fn matching(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let place = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let status = pod.status.as_ref()?;
    if let Some(codes) = &rule.on_exit_codes {
        let all =
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
        let named = |c: &&ContainerStatus| codes.container_name.as_ref().is_none_or(|name| *name == c.name);
        let failed = all.filter(named).find_map(|c| {
            let code = c.state.as_ref()?.terminated.as_ref()?.exit_code;
            let listed = codes.values.contains(&code);
            let matches = if codes.operator == "NotIn" { !listed } else { listed };
            (code != 0 && matches).then_some((&c.name, code))
        });
        let (name, code) = failed?;
        return Some(format!("Container {name} for pod {place} failed with exit code {code}"));
    }
    let wanted = rule.on_pod_conditions.iter().flatten();
    let mut found = wanted.filter(|wanted| {
        let status = wanted.status.as_deref().unwrap_or("True");
        let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        conditions.into_iter().any(|c| c.type_ == wanted.type_ && c.status == status)
    });
    found.next().map(|condition| format!("Pod {place} has condition {}", condition.type_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(rules: Value, code: i32, expected: Action) {
        let spec: JobSpec =
            serde_json::from_value(json!({"template": {}, "podFailurePolicy": {"rules": rules}})).unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns"},
            "status": {"conditions": [{"type": "DisruptionTarget", "status": "True"}], "containerStatuses": [
                {"name": "m", "ready": false, "image": "", "imageID": "", "restartCount": 0,
                 "state": {"terminated": {"exitCode": code}}}]}}))
        .unwrap();
        assert_eq!(action(&spec, &pod), expected, "{rules} {code}");
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let codes = |action: &str, operator: &str, values: &[i32]| json!({"action": action, "onExitCodes": {"containerName": "m", "operator": operator, "values": values}});
        let fail = "Container m for pod ns/p failed with exit code 42 matching FailJob rule at index 1";
        let rules = json!([codes("Ignore", "In", &[7]), codes("FailJob", "In", &[42])]);
        check(rules.clone(), 42, Action::FailJob(fail.to_owned()));
        check(rules.clone(), 7, Action::Ignore);
        check(rules, 1, Action::Count);
        check(json!([codes("FailIndex", "NotIn", &[1])]), 2, Action::FailIndex);
        check(json!([codes("FailIndex", "NotIn", &[1])]), 1, Action::Count);
        check(json!([codes("Ignore", "NotIn", &[1])]), 0, Action::Count);
        let other = json!([{"action": "Ignore", "onExitCodes": {"containerName": "x", "operator": "In", "values": [3]}}]);
        check(other, 3, Action::Count);
        let condition = |status: &str| json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": status}]}]);
        check(condition("True"), 1, Action::Ignore);
        check(condition("False"), 1, Action::Count);
    }
}
