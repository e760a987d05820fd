//! Whether a container that has ended is started again: the pod's restart policy, the container's own, and its rules.
//!
//! The order is the kubelet's (`kubecontainer.ShouldContainerBeRestarted`, KEP-5307): the first rule whose exit codes match
//! decides; then the container's policy; then the pod's, where `Always` means "until it succeeds" for an init container.

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod};

/// How a container is restarted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Restart {
    policy: Policy,
    rules: Vec<ContainerRestartRule>,
    /// An init container that goes on running beside the others.
    pub(crate) is_sidecar: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Policy {
    #[default]
    Always,
    OnFailure,
    Never,
}

impl Restart {
    pub(crate) fn of(pod: &Pod, container: &Container, is_init: bool) -> Self {
        let read = |text: Option<&str>| match text? {
            "Never" => Some(Policy::Never),
            "OnFailure" => Some(Policy::OnFailure),
            _ => Some(Policy::Always),
        };
        let own = read(container.restart_policy.as_deref());
        let of_pod =
            read(pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref())).unwrap_or_default();
        let of_pod = if is_init && of_pod == Policy::Always { Policy::OnFailure } else { of_pod };
        Restart {
            policy: own.unwrap_or(of_pod),
            rules: container.restart_policy_rules.clone().unwrap_or_default(),
            is_sidecar: is_init && is_sidecar(container),
        }
    }

    /// Whether a run that ended with this code is followed by another.
    pub(crate) fn follows(&self, code: i32) -> bool {
        let matching = self.rules.iter().find(|rule| {
            let Some(codes) = &rule.exit_codes else { return false };
            let listed = codes.values.iter().flatten().any(|value| *value == code);
            if codes.operator == "NotIn" { !listed } else { listed }
        });
        match matching {
            Some(rule) => rule.action == "Restart",
            None => match self.policy {
                Policy::Always => true,
                Policy::OnFailure => code != 0,
                Policy::Never => false,
            },
        }
    }
}

/// Whether an init container is a sidecar: it is restarted always, and the pod starts beside it.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(of_pod: &str, is_init: bool, own: Value, expected: [bool; 3]) {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": of_pod, "containers": []}}),
        )
        .unwrap();
        let mut container = json!({"name": "c"});
        json_patch::merge(&mut container, &own);
        let container: Container = serde_json::from_value(container).unwrap();
        let restart = Restart::of(&pod, &container, is_init);
        assert_eq!([0, 1, 42].map(|code| restart.follows(code)), expected, "{of_pod} {is_init} {own}");
    }

    #[test]
    fn rules_come_before_the_container_and_the_container_before_the_pod() {
        check("Always", false, json!({}), [true, true, true]);
        check("OnFailure", false, json!({}), [false, true, true]);
        check("Never", false, json!({}), [false, false, false]);
        check("Always", true, json!({}), [false, true, true]);
        check("Never", true, json!({"restartPolicy": "Always"}), [true, true, true]);
        check("Never", false, json!({"restartPolicy": "Always"}), [true, true, true]);
        check("Always", false, json!({"restartPolicy": "Never"}), [false, false, false]);
        let rules = |operator: &str| {
            json!({"restartPolicy": "Never", "restartPolicyRules": [
                {"action": "Restart", "exitCodes": {"operator": operator, "values": [42]}}]})
        };
        check("Always", false, rules("In"), [false, false, true]);
        check("Always", false, rules("NotIn"), [true, true, false]);
    }
}
