//! The kernel's capabilities that a container is left with: those of a container in a cluster, not all of root's.
//!
//! The default set is the container runtimes' (containerd, CRI-O, Docker). What it leaves out is what would let a program
//! undo its isolation: mounting, tracing other processes, making devices, entering namespaces.

use std::io;

use k8s_openapi::api::core::v1::SecurityContext;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// Names as manifests have them, without `CAP_`, in the order of the kernel's numbers.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What runtimes leave a container, but for `MKNOD`: no device cgroup says here which devices may be made.
const DEFAULT: [&str; 13] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The capabilities that a security context leaves; `None`: all of them.
///
/// # Errors
/// A capability whose name the kernel does not have.
pub(crate) fn allowed(context: Option<&SecurityContext>) -> Result<Option<u64>, String> {
    if context.is_some_and(|context| context.privileged == Some(true)) {
        return Ok(None);
    }
    let wishes = context.and_then(|context| context.capabilities.as_ref());
    let add = wishes.and_then(|wishes| wishes.add.as_deref()).unwrap_or_default();
    let drop = wishes.and_then(|wishes| wishes.drop.as_deref()).unwrap_or_default();
    let has_all = |names: &[String]| names.iter().any(|name| bits(name) == Ok(u64::MAX));
    // `ALL` is where the others start from, whatever its place in the lists
    let mut set = match (has_all(add), has_all(drop)) {
        (_, true) => 0,
        (true, false) => u64::MAX,
        (false, false) => DEFAULT.iter().fold(0, |set, name| set | bits(name).unwrap_or(0)),
    };
    for one in add.iter().map(|name| bits(name)) {
        set |= one.map(single)?;
    }
    for one in drop.iter().map(|name| bits(name)) {
        set &= !one.map(single)?;
    }
    Ok(Some(set))
}

/// Nothing for `ALL`.
fn single(bits: u64) -> u64 {
    if bits == u64::MAX { 0 } else { bits }
}

fn bits(name: &str) -> Result<u64, String> {
    let plain = name.to_ascii_uppercase();
    let plain = plain.strip_prefix("CAP_").unwrap_or(&plain);
    if plain == "ALL" {
        return Ok(u64::MAX);
    }
    let number = NAMES.iter().position(|known| *known == plain);
    number.map(|number| 1 << number).ok_or_else(|| format!("unknown capability \"{name}\""))
}

/// Takes all other capabilities from the programs that this process executes from now on.
pub(super) fn keep_only(allowed: u64) -> io::Result<()> {
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        let is_kept = allowed & (1 << number) != 0;
        // the kernel may know more of them than this list
        if !is_kept && capability_is_in_bounding_set(one).unwrap_or(false) {
            remove_capability_from_bounding_set(one)?;
        }
    }
    let own = capabilities(None)?;
    Ok(set_capabilities(None, CapabilitySets { inheritable: CapabilitySet::empty(), ..own })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(context: Value, expected: Option<&[&str]>) {
        let context: SecurityContext = serde_json::from_value(context).unwrap();
        let expected = expected.map(|names| names.iter().fold(0, |set, name| set | bits(name).unwrap()));
        assert_eq!(allowed(Some(&context)), Ok(expected), "{context:?}");
    }

    #[test]
    fn a_security_context_adds_to_the_default_and_drops_from_it() {
        check(json!({}), Some(&DEFAULT));
        check(json!({"capabilities": {"drop": ["ALL"]}}), Some(&[]));
        check(json!({"capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]}}), Some(&["NET_RAW"]));
        check(json!({"capabilities": {"drop": ["ALL"], "add": ["CAP_sys_time"]}}), Some(&["SYS_TIME"]));
        let all_but = !bits("SYS_ADMIN").unwrap();
        let add_all = json!({"capabilities": {"add": ["ALL"], "drop": ["SYS_ADMIN"]}});
        let add_all: SecurityContext = serde_json::from_value(add_all).unwrap();
        assert_eq!(allowed(Some(&add_all)), Ok(Some(all_but)));
        check(json!({"privileged": true}), None);
        let wrong: SecurityContext =
            serde_json::from_value(json!({"capabilities": {"add": ["FLY"]}})).unwrap();
        assert_eq!(allowed(Some(&wrong)), Err("unknown capability \"FLY\"".to_owned()));
    }
}
