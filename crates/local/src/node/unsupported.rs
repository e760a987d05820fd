//! What a pod asks for and does not get on this machine, told by an event when it starts: what is accepted is obeyed, or
//! it is said.

use k8s_openapi::api::core::v1::Pod;

/// A sentence for each field that has no effect here.
pub(super) fn of(pod: &Pod, is_isolated: bool) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let containers: Vec<_> = spec.init_containers.iter().flatten().chain(&spec.containers).collect();
    let contexts = || containers.iter().filter_map(|c| c.security_context.as_ref());
    let volumes = || spec.volumes.iter().flatten();
    let in_memory =
        volumes().any(|v| v.empty_dir.as_ref().is_some_and(|e| e.medium.as_deref() == Some("Memory")));
    let lifecycles = containers.iter().filter_map(|c| c.lifecycle.as_ref());
    let has_tcp_hook =
        lifecycles.flat_map(|l| l.post_start.iter().chain(&l.pre_stop)).any(|hook| hook.tcp_socket.is_some());
    let rules = containers.iter().flat_map(|c| c.restart_policy_rules.iter().flatten());
    let all = [
        (
            spec.share_process_namespace == Some(true),
            "shareProcessNamespace: each container has processes of its own",
        ),
        (
            spec.host_pid == Some(true) || spec.host_ipc == Some(true),
            "hostPID and hostIPC: each container has its own",
        ),
        (spec.host_network == Some(true), "hostNetwork: each pod has a network of its own"),
        (
            spec.resources.as_ref().is_some_and(|r| r.limits.as_ref().is_some_and(|l| !l.is_empty())),
            "resources of the pod are counted by the scheduler, but its limits are not enforced: set those of its containers",
        ),
        (
            contexts().any(|c| c.read_only_root_filesystem == Some(true)),
            "readOnlyRootFilesystem: the root file system is this machine's, and stays writable",
        ),
        (
            spec.security_context.as_ref().is_some_and(|c| c.sysctls.as_ref().is_some_and(|s| !s.is_empty())),
            "sysctls are not set",
        ),
        (in_memory, "emptyDir with medium Memory is kept on disk; its sizeLimit is enforced by eviction"),
        (has_tcp_hook, "tcpSocket in a lifecycle hook, as in Kubernetes"),
        (
            rules.into_iter().any(|rule| rule.action != "Restart"),
            "restartPolicyRules: only the action Restart is known",
        ),
        (
            !is_isolated
                && containers.iter().any(|c| c.volume_mounts.as_ref().is_some_and(|m| !m.is_empty())),
            "volumeMounts: this machine refuses mount namespaces, so that no volume is at its mount path",
        ),
        (
            spec.affinity.as_ref().is_some_and(|a| {
                a.node_affinity
                    .as_ref()
                    .is_some_and(|n| n.required_during_scheduling_ignored_during_execution.is_some())
            }),
            "required node affinity is not looked at: there is one node; use nodeSelector",
        ),
    ];
    all.into_iter()
        .filter(|(asked, _)| *asked)
        .map(|(_, text)| format!("not supported on this machine: {text}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_has_no_effect_is_told() {
        let check = |spec: Value, expected: &str| {
            let mut whole = json!({"containers": [{"name": "c"}]});
            json_patch::merge(&mut whole, &spec);
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": whole})).unwrap();
            let seen = of(&pod, true);
            assert!(
                if expected.is_empty() {
                    seen.is_empty()
                } else {
                    seen.len() == 1 && seen[0].contains(expected)
                },
                "{spec}: {seen:?}"
            );
        };
        check(json!({}), "");
        check(json!({"shareProcessNamespace": true}), "shareProcessNamespace");
        check(json!({"shareProcessNamespace": false}), "");
        check(json!({"resources": {"requests": {"cpu": "1"}}}), "");
        check(json!({"resources": {"limits": {"cpu": "1"}}}), "limits are not enforced");
        check(json!({"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]}), "medium Memory");
        check(json!({"volumes": [{"name": "v", "emptyDir": {}}]}), "");
        let context = json!({"readOnlyRootFilesystem": true});
        check(json!({"containers": [{"name": "c", "securityContext": context}]}), "readOnlyRootFilesystem");
    }
}
