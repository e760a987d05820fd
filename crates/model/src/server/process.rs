//! The `process_*` metrics that every Prometheus client library exposes, from `/proc/self`.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The kernel's figures for this process; a value that cannot be read is `None`, not zero.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    /// Seconds since 1970.
    pub(super) start_time_seconds: Option<f64>,
    pub(super) open_files: Option<u64>,
    pub(super) open_files_max: Option<u64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let page_bytes = rustix::param::page_size() as u64;
        let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let mut pages =
            pages.split(' ').map(|count| count.parse::<u64>().ok().map(|count| count * page_bytes));
        Self {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            virtual_bytes: pages.next().flatten(),
            resident_bytes: pages.next().flatten(),
            start_time_seconds: start_time_seconds(),
            // One of them is the listing itself.
            open_files: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| files.count().saturating_sub(1) as u64),
            open_files_max: getrlimit(Resource::Nofile).current,
        }
    }
}

/// Reads field 22 of proc_pid_stat(5), in clock ticks since boot, as seconds since 1970. The second field, the name, may
/// hold spaces and parentheses, so fields are counted from the last closing parenthesis.
fn start_time_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: f64 = stat.rsplit_once(") ")?.1.split(' ').nth(22 - 3)?.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    Some(boot + ticks / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let process = Process::read();
        assert!(process.cpu_seconds > 0.0);
        assert!(process.resident_bytes > Some(1 << 20), "{process:?}");
        assert!(process.virtual_bytes > process.resident_bytes, "{process:?}");
        assert!(process.open_files > Some(2), "{process:?}");
        assert!(process.open_files_max >= process.open_files, "{process:?}");
        let now = super::super::arrival::Moment::now().0 as f64 / 1e9;
        let age = now - process.start_time_seconds.expect("Linux tells");
        assert!((-2.0..3600.0).contains(&age), "started {age} s ago; boot time is in whole seconds");
    }
}
