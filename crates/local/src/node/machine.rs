//! What this machine has and how much of it is in use, from `/proc`.

use std::fs;

/// CPUs this process may run on.
pub(crate) fn cpus() -> u64 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u64)
}

/// All memory.
pub(crate) fn memory_bytes() -> u64 {
    meminfo("MemTotal").unwrap_or(0)
}

/// Memory in use that the kernel could not take back at once.
pub(crate) fn memory_used_bytes() -> u64 {
    memory_bytes().saturating_sub(meminfo("MemAvailable").unwrap_or(0))
}

/// CPU time of all processes since boot.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; the guest columns after them are in `user` already
    let busy: u64 =
        ticks.iter().take(8).enumerate().filter(|(at, _)| *at != 3 && *at != 4).map(|(_, n)| n).sum();
    busy as f64 / ticks_per_second()
}

/// CPU time and resident memory of a process and all its descendants: usage where no control group accounts for it.
pub(crate) fn process_tree(pid: u32) -> Option<(f64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let mut seconds = (number(11) + number(12)) as f64 / ticks_per_second();
    let mut bytes = number(21) * rustix::param::page_size() as u64;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        if let Some((s, b)) = process_tree(child) {
            seconds += s;
            bytes += b;
        }
    }
    Some((seconds, bytes))
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

fn meminfo(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}
