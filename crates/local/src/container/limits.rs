//! What a container may use, and the control group files that say so.
//!
//! The formulas are the kubelet's (`pkg/kubelet/cm/helpers_linux.go`): a request becomes shares (what one gets when the
//! CPU is contended), a limit becomes a quota in each period (what one gets at most). The conversion of shares to a
//! version 2 weight is KEP-2254's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity::{milli, whole};

/// CFS period: the kubelet's default.
const PERIOD_MICROSECONDS: u64 = 100_000;
/// The kernel refuses a smaller quota.
const QUOTA_MIN_MICROSECONDS: u64 = 1_000;
/// The kernel refuses fewer shares.
const SHARES_MIN: u64 = 2;
/// Processes and threads in one container: enough for any server, too few to take the machine down.
pub(crate) const PIDS_MAX: u64 = 4096;

/// Limits of one container; `None` is "no limit".
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    pub(crate) cpu_request_milli: Option<u64>,
    pub(crate) cpu_limit_milli: Option<u64>,
    pub(crate) memory_limit_bytes: Option<u64>,
}

/// One file to write.
#[derive(Debug, PartialEq)]
pub(crate) struct File {
    pub(crate) controller: &'static str,
    pub(crate) name: &'static str,
    pub(crate) value: String,
}

impl Limits {
    /// Limits from `spec.containers[].resources`; a missing CPU request is the limit, as the API defaults it.
    pub(crate) fn of(resources: Option<&ResourceRequirements>) -> Self {
        let get =
            |list: Option<&BTreeMap<String, Quantity>>, name: &str| list.and_then(|l| l.get(name)).cloned();
        let limits = resources.and_then(|r| r.limits.as_ref());
        let requests = resources.and_then(|r| r.requests.as_ref());
        let cpu_limit_milli = get(limits, "cpu").and_then(|q| milli(&q));
        Limits {
            cpu_request_milli: get(requests, "cpu").and_then(|q| milli(&q)).or(cpu_limit_milli),
            cpu_limit_milli,
            memory_limit_bytes: get(limits, "memory").and_then(|q| whole(&q)),
        }
    }

    fn shares(&self) -> u64 {
        (self.cpu_request_milli.unwrap_or(0) * 1024 / 1000).clamp(SHARES_MIN, 262_144)
    }

    fn quota(&self) -> Option<u64> {
        let milli = self.cpu_limit_milli.filter(|m| *m > 0)?;
        Some((milli * PERIOD_MICROSECONDS / 1000).max(QUOTA_MIN_MICROSECONDS))
    }
}

pub(crate) fn files_v1(limits: &Limits) -> Vec<File> {
    let file = |controller, name, value| File { controller, name, value };
    let or_none = |value: Option<u64>| value.map_or("-1".to_owned(), |v| v.to_string());
    vec![
        file("cpu", "cpu.shares", limits.shares().to_string()),
        file("cpu", "cpu.cfs_period_us", PERIOD_MICROSECONDS.to_string()),
        file("cpu", "cpu.cfs_quota_us", or_none(limits.quota())),
        file("memory", "memory.limit_in_bytes", or_none(limits.memory_limit_bytes)),
        file("pids", "pids.max", PIDS_MAX.to_string()),
    ]
}

pub(crate) fn files_v2(limits: &Limits) -> Vec<File> {
    let file = |controller, name, value| File { controller, name, value };
    let or_max = |value: Option<u64>| value.map_or("max".to_owned(), |v| v.to_string());
    let weight = 1 + (limits.shares() - SHARES_MIN) * 9999 / 262_142;
    vec![
        file("cpu", "cpu.weight", weight.to_string()),
        file("cpu", "cpu.max", format!("{} {PERIOD_MICROSECONDS}", or_max(limits.quota()))),
        file("memory", "memory.max", or_max(limits.memory_limit_bytes)),
        // a container that ran out of memory ends whole, as the kubelet's do
        file("memory", "memory.oom.group", "1".to_owned()),
        file("pids", "pids.max", PIDS_MAX.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(resources: serde_json::Value, v1: [&str; 3], v2: [&str; 3]) {
        let resources: ResourceRequirements = serde_json::from_value(resources).unwrap();
        let limits = Limits::of(Some(&resources));
        let values = |files: Vec<File>, names: [&str; 3]| {
            names.map(|n| files.iter().find(|f| f.name == n).unwrap().value.clone())
        };
        assert_eq!(
            values(files_v1(&limits), ["cpu.shares", "cpu.cfs_quota_us", "memory.limit_in_bytes"]),
            v1,
            "v1 {resources:?}"
        );
        assert_eq!(
            values(files_v2(&limits), ["cpu.weight", "cpu.max", "memory.max"]),
            v2,
            "v2 {resources:?}"
        );
    }

    #[test]
    fn resources_become_files() {
        check(json!({}), ["2", "-1", "-1"], ["1", "max 100000", "max"]);
        check(
            json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "128Mi"}}),
            ["51", "10000", "134217728"],
            ["2", "10000 100000", "134217728"],
        );
        check(json!({"limits": {"cpu": "2"}}), ["2048", "200000", "-1"], ["79", "200000 100000", "max"]);
        check(json!({"limits": {"cpu": "1m"}}), ["2", "1000", "-1"], ["1", "1000 100000", "max"]);
    }
}
