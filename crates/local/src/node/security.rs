//! Who a container's program runs as, and with which rights: its security context, and its pod's where it says nothing.
//!
//! Without a `runAsUser` a program runs as the node does: there is no image that would name a user. Rights are those of a
//! container in a cluster (`container::capabilities`).

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::container::capabilities;
use crate::container::message::Identity;

/// The identity of a container's program.
///
/// # Errors
/// The kubelet's words where the security context cannot be obeyed; shown as `CreateContainerConfigError`.
pub(super) fn identity(pod: &Pod, container: &Container, node_is_root: bool) -> Result<Identity, String> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref();
    let id = |own: Option<i64>, of_pod: Option<i64>, field: &str| {
        let id = own.or(of_pod).map(u32::try_from).transpose();
        id.map_err(|_| format!("{field} is no user or group"))
    };
    let user = id(own.and_then(|c| c.run_as_user), of_pod.and_then(|c| c.run_as_user), "runAsUser")?;
    let group = id(own.and_then(|c| c.run_as_group), of_pod.and_then(|c| c.run_as_group), "runAsGroup")?;
    let must_not_be_root = own.and_then(|c| c.run_as_non_root).or(of_pod.and_then(|c| c.run_as_non_root));
    let is_root = user.map_or(node_is_root, |user| user == 0);
    if must_not_be_root == Some(true) && is_root {
        let name = &container.name;
        return Err(match user {
            Some(_) => format!("container's runAsUser breaks non-root policy (container: {name})"),
            None => format!(
                "container has runAsNonRoot and image will run as root (container: {name}): set runAsUser, or start flyball as another user"
            ),
        });
    }
    let groups = of_pod.iter().flat_map(|c| c.supplemental_groups.iter().flatten().chain(&c.fs_group));
    let groups =
        groups.map(|group| u32::try_from(*group).map_err(|_| "supplementalGroups: no group".to_owned()));
    Ok(Identity {
        user,
        // whoever changes the user leaves the node's groups behind, as in an image without a group
        group: group.or(user.map(|_| 0)),
        groups: groups.collect::<Result<_, _>>()?,
        capabilities: capabilities::allowed(own)?,
        no_new_privileges: own.and_then(|c| c.allow_privilege_escalation) == Some(false),
    })
}

/// Whether any program of the pod runs as another user than the node.
pub(super) fn changes_user(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    spec.security_context.as_ref().is_some_and(|c| c.run_as_user.is_some())
        || containers.filter_map(|c| c.security_context.as_ref()).any(|c| c.run_as_user.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The user, the group and the supplementary groups.
    type Ids<'a> = (Option<u32>, Option<u32>, &'a [u32]);

    fn check(of_pod: Value, own: Value, expected: Result<Ids<'_>, &str>) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "securityContext": of_pod, "containers": [{"name": "c", "securityContext": own}]}}))
        .unwrap();
        let seen = identity(&pod, &pod.spec.as_ref().unwrap().containers[0], true);
        match (&seen, expected) {
            (Ok(seen), Ok((user, group, groups))) => {
                assert_eq!((seen.user, seen.group, seen.groups.as_slice()), (user, group, groups));
            }
            (Err(seen), Err(expected)) => assert!(seen.starts_with(expected), "{seen}"),
            _ => panic!("{of_pod} {own}: {seen:?}"),
        }
    }

    #[test]
    fn a_container_decides_for_itself_and_its_pod_for_the_rest() {
        check(json!({}), json!({}), Ok((None, None, &[])));
        check(json!({"runAsUser": 1000}), json!({}), Ok((Some(1000), Some(0), &[])));
        check(
            json!({"runAsUser": 1000}),
            json!({"runAsUser": 7, "runAsGroup": 8}),
            Ok((Some(7), Some(8), &[])),
        );
        let groups = json!({"fsGroup": 3, "supplementalGroups": [4]});
        check(groups, json!({}), Ok((None, None, &[4, 3])));
        let root = "container has runAsNonRoot and image will run as root (container: c)";
        check(json!({"runAsNonRoot": true}), json!({}), Err(root));
        check(json!({"runAsNonRoot": true}), json!({"runAsNonRoot": false}), Ok((None, None, &[])));
        check(json!({"runAsNonRoot": true, "runAsUser": 5}), json!({}), Ok((Some(5), Some(0), &[])));
        let breaks = "container's runAsUser breaks non-root policy (container: c)";
        check(json!({"runAsNonRoot": true, "runAsUser": 0}), json!({}), Err(breaks));
    }
}
