//! Limits and usage of containers through control groups, version 1 or 2, written directly.
//!
//! Every world makes one directory, `flyball-<pid>-<start time>-<n>`, below the group this process is in, and in it one
//! group for each container. The name tells whether its maker still lives, so a start can empty and remove what a dead
//! predecessor left behind without touching a world that runs beside it.
//!
//! On version 2 a group with processes in it may not have limited children (the "no internal processes" rule), so the
//! nearest ancestor that hands out the controllers is taken instead.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::limits::{Limits, files_v1, files_v2};

const CONTROLLERS_V1: [&str; 4] = ["cpu", "cpuacct", "memory", "pids"];
const CONTROLLERS_V2: [&str; 3] = ["cpu", "memory", "pids"];
/// Killed processes are gone by then, or stuck in the kernel.
const EMPTY_MAX: Duration = Duration::from_secs(1);
static WORLDS: AtomicU32 = AtomicU32::new(0);

/// The groups of one world: where containers' groups are made.
#[derive(Debug)]
pub(crate) struct Cgroups {
    version: Version,
    /// One directory for each hierarchy in use, all of the same name.
    roots: Vec<(&'static str, PathBuf)>,
    notices: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    V1,
    V2,
}

/// What a container has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// CPU time since the group was made.
    pub(crate) cpu_seconds: f64,
    /// Memory in use without what the kernel can drop at once (inactive file pages).
    pub(crate) working_set_bytes: u64,
}

impl Cgroups {
    /// Finds the hierarchies, removes what dead worlds left, and makes this world's groups.
    ///
    /// # Errors
    /// What was tried and why the kernel refused it: no group can be made at all.
    pub(crate) fn open() -> Result<Self, String> {
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").map_err(|e| format!("/proc/self/mountinfo: {e}"))?;
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|e| format!("/proc/self/cgroup: {e}"))?;
        let name = world_name()?;
        let found = hierarchies(&mounts, &own);
        let v1: Vec<_> = found.iter().filter(|(controller, _)| !controller.is_empty()).cloned().collect();
        if !v1.is_empty() {
            return Self::open_v1(v1, &name);
        }
        match found.into_iter().next() {
            Some((_, own)) => Self::open_v2(&own, &name),
            None => Err("no cgroup hierarchy is mounted".to_owned()),
        }
    }

    fn open_v1(found: Vec<(&'static str, PathBuf)>, name: &str) -> Result<Self, String> {
        let mut world = Cgroups { version: Version::V1, roots: Vec::new(), notices: Vec::new() };
        for (controller, base) in found {
            remove_stale(&base);
            match fs::create_dir(base.join(name)) {
                Ok(()) => world.roots.push((controller, base.join(name))),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {} // `cpu,cpuacct` is one hierarchy
                Err(e) => world.notices.push(format!("cgroup {controller}: {}: {e}", base.display())),
            }
        }
        if world.roots.is_empty() { Err(world.notices.join("; ")) } else { Ok(world) }
    }

    fn open_v2(own: &Path, name: &str) -> Result<Self, String> {
        let mut refused = Vec::new();
        for base in own.ancestors().take_while(|p| p.join("cgroup.procs").exists()) {
            match open_v2_below(base, name) {
                Ok(root) => {
                    return Ok(Cgroups { version: Version::V2, roots: vec![("", root)], notices: refused });
                }
                Err(e) => refused.push(format!("{}: {e}", base.display())),
            }
        }
        if refused.is_empty() {
            refused.push(format!("{} is no control group", own.display()));
        }
        Err(refused.join("; "))
    }

    /// What is missing, in words for the user; empty when all limits hold.
    pub(crate) fn notices(&self) -> Vec<String> {
        match self.version {
            Version::V1 => self.notices.clone(),
            Version::V2 => Vec::new(),
        }
    }

    /// Makes the group of one container with its limits.
    pub(crate) fn create(&self, name: &str, limits: &Limits) -> io::Result<Group> {
        let group = Group {
            version: self.version,
            dirs: self.roots.iter().map(|(controller, root)| (*controller, root.join(name))).collect(),
        };
        for (_, dir) in &group.dirs {
            match fs::create_dir(dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        group.limit(limits)?;
        Ok(group)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for (_, root) in &self.roots {
            remove_tree(root);
        }
    }
}

/// The group of one container. When the last hold on it is dropped, what is left in it is killed, and it is removed.
#[derive(Debug)]
pub(crate) struct Group {
    version: Version,
    dirs: Vec<(&'static str, PathBuf)>,
}

impl Group {
    /// The files into which a process writes `0` to enter the group.
    pub(crate) fn entrances(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|(_, dir)| dir.join("cgroup.procs")).collect()
    }

    /// Writes the limits; those of a running container change at once.
    pub(crate) fn limit(&self, limits: &Limits) -> io::Result<()> {
        let files = match self.version {
            Version::V1 => files_v1(limits),
            Version::V2 => files_v2(limits),
        };
        for file in files {
            let Some(dir) = self.dir(file.controller) else { continue };
            let path = dir.join(file.name);
            // swap accounting and the like may be compiled out: what isn't there can't be limited
            if path.exists() {
                fs::write(&path, &file.value)
                    .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
            }
        }
        Ok(())
    }

    /// CPU time and working set so far; `None` where the hierarchy does not account for them.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let cpu_seconds = match self.version {
            Version::V1 => number(&self.dir("cpuacct")?.join("cpuacct.usage"))? as f64 / 1e9,
            Version::V2 => field(&self.dir("cpu")?.join("cpu.stat"), "usage_usec")? as f64 / 1e6,
        };
        let inactive = match self.version {
            Version::V1 => "total_inactive_file",
            Version::V2 => "inactive_file",
        };
        let inactive = field(&self.dir("memory")?.join("memory.stat"), inactive).unwrap_or(0);
        Some(Usage { cpu_seconds, working_set_bytes: self.memory_bytes()?.saturating_sub(inactive) })
    }

    /// Memory that counts against the limit, pages of files included.
    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        let used = match self.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        number(&self.dir("memory")?.join(used))
    }

    /// How often the kernel killed a process of this group for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        self.dir("memory").and_then(|dir| field(&dir.join(file), "oom_kill")).unwrap_or(0)
    }

    fn dir(&self, controller: &str) -> Option<&Path> {
        let wanted = match self.version {
            Version::V1 => self.dirs.iter().find(|(name, _)| *name == controller),
            Version::V2 => self.dirs.first(),
        };
        // `cpu` and `cpuacct` mounted together are listed once, under the first name
        let twin = || self.dirs.iter().find(|(name, _)| controller == "cpuacct" && *name == "cpu");
        wanted.or_else(twin).map(|(_, dir)| dir.as_path())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for (_, dir) in &self.dirs {
            remove_tree(dir);
        }
    }
}

fn open_v2_below(base: &Path, name: &str) -> io::Result<PathBuf> {
    remove_stale(base);
    let enable = |dir: &Path| {
        let wanted: Vec<String> = CONTROLLERS_V2.iter().map(|c| format!("+{c}")).collect();
        fs::write(dir.join("cgroup.subtree_control"), wanted.join(" "))
    };
    enable(base)?;
    let root = base.join(name);
    fs::create_dir(&root)?;
    enable(&root).inspect_err(|_| drop(fs::remove_dir(&root)))?;
    Ok(root)
}

/// The directory of this process' group in each hierarchy; the name is empty for version 2.
fn hierarchies(mountinfo: &str, own: &str) -> Vec<(&'static str, PathBuf)> {
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (Some(&root), Some(&point)) = (left.get(3), left.get(4)) else { continue };
        let options = right.get(2).copied().unwrap_or_default();
        let controllers: Vec<&'static str> = match right.first() {
            Some(&"cgroup") => {
                CONTROLLERS_V1.into_iter().filter(|c| options.split(',').any(|o| o == *c)).collect()
            }
            Some(&"cgroup2") => vec![""],
            _ => continue,
        };
        for controller in controllers {
            if let Some(path) = own_path(own, controller) {
                let inside = path.strip_prefix(root).unwrap_or("").trim_start_matches('/');
                found.push((controller, Path::new(point).join(inside)));
            }
        }
    }
    found.sort_by_key(|(controller, _)| CONTROLLERS_V1.iter().position(|c| c == controller));
    found
}

/// The path in a line of `/proc/self/cgroup`: `4:memory:/some/group`, or `0::/some/group` for version 2.
fn own_path<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let names = parts.next()?;
        let path = parts.next()?;
        names.split(',').any(|name| name == controller).then_some(path)
    })
}

fn world_name() -> Result<String, String> {
    let pid = std::process::id();
    let started = start_time(pid).ok_or("/proc/self/stat cannot be read")?;
    Ok(format!("flyball-{pid}-{started}-{}", WORLDS.fetch_add(1, Ordering::Relaxed)))
}

/// Clock ticks from boot to the start of a process: with the pid, a name no other process ever gets.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

fn remove_stale(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.split('-');
        if parts.next() != Some("flyball") {
            continue;
        }
        let pid = parts.next().and_then(|p| p.parse().ok());
        let started = parts.next().and_then(|s| s.parse().ok());
        if let (Some(pid), Some(started)) = (pid, started)
            && start_time(pid) != Some(started)
        {
            remove_tree(&entry.path());
        }
    }
}

/// Kills what is in a group and in those below it, and removes them.
fn remove_tree(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // killed processes leave the group a moment later
    let until = Instant::now() + EMPTY_MAX;
    loop {
        kill_all(dir);
        match fs::remove_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
                return tracing::warn!("control group {} stays: {e}", dir.display());
            }
            _ => return,
        }
    }
}

fn kill_all(dir: &Path) {
    // version 2 kills all at once, those too that are being forked just now
    let kill = fs::OpenOptions::new().write(true).open(dir.join("cgroup.kill"));
    if kill.and_then(|mut file| file.write_all(b"1")).is_ok() {
        return;
    }
    let pids = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The value of one line of a `key value` file.
fn field(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_group_of_this_process_in_every_hierarchy() {
        let v1 = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                  31 25 0:27 /docker/a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "9:cpu,cpuacct:/x\n4:memory:/docker/a/b\n0::/\n";
        let found = |mounts, own| -> Vec<String> {
            hierarchies(mounts, own).into_iter().map(|(c, p)| format!("{c}={}", p.display())).collect()
        };
        assert_eq!(
            found(v1, own),
            [
                "=/sys/fs/cgroup/unified/",
                "cpu=/sys/fs/cgroup/cpu/x",
                "cpuacct=/sys/fs/cgroup/cpu/x",
                "memory=/sys/fs/cgroup/memory/b"
            ]
        );
        let v2 = "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(found(v2, "0::/user.slice/a.scope\n"), ["=/sys/fs/cgroup/user.slice/a.scope"]);
    }

    /// A hierarchy of version 2 as files: what the kernel would make in each new group is put there first.
    fn version_2(dir: &Path) -> Group {
        for (name, text) in [
            ("cgroup.procs", ""),
            ("cpu.weight", "100"),
            ("cpu.max", "max 100000"),
            ("cpu.stat", "usage_usec 2500000\nuser_usec 2000000\n"),
            ("memory.max", "max"),
            ("memory.oom.group", "0"),
            ("memory.current", "5000"),
            ("memory.stat", "anon 3000\ninactive_file 1500\n"),
            ("memory.events", "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 1\n"),
            ("pids.max", "max"),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
        Group { version: Version::V2, dirs: vec![("", dir.to_owned())] }
    }

    #[test]
    fn version_2_is_limited_and_read_by_its_own_files() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, group) = (folder.path(), version_2(folder.path()));
        let check = |limits: Limits, expected: [&str; 5]| {
            group.limit(&limits).unwrap();
            let names = ["cpu.weight", "cpu.max", "memory.max", "memory.oom.group", "pids.max"];
            assert_eq!(names.map(|name| fs::read_to_string(dir.join(name)).unwrap()), expected, "{limits:?}");
        };
        let limits = |request, limit, memory| Limits {
            cpu_request_milli: request,
            cpu_limit_milli: limit,
            memory_limit_bytes: memory,
        };
        check(limits(Some(50), Some(100), Some(128 << 20)), ["2", "10000 100000", "134217728", "1", "4096"]);
        // as a resize would, up and then without
        check(
            limits(Some(1000), Some(2000), Some(1 << 30)),
            ["39", "200000 100000", "1073741824", "1", "4096"],
        );
        check(limits(None, None, None), ["1", "max 100000", "max", "1", "4096"]);
        assert!(!dir.join("memory.high").exists(), "what the kernel lacks is not made");

        assert_eq!(group.usage(), Some(Usage { cpu_seconds: 2.5, working_set_bytes: 3500 }));
        assert_eq!((group.memory_bytes(), group.oom_kills()), (Some(5000), 1));
        assert_eq!(group.entrances(), [dir.join("cgroup.procs")]);
        fs::remove_file(dir.join("memory.events")).unwrap();
        fs::remove_file(dir.join("cpu.stat")).unwrap();
        assert_eq!((group.oom_kills(), group.usage()), (0, None));
    }

    /// The nearest ancestor that hands the controllers out has the world's group.
    #[test]
    fn version_2_goes_up_to_where_controllers_are_handed_out() {
        let folder = tempfile::tempdir().unwrap();
        let (top, own) = (folder.path().join("top"), folder.path().join("top/own"));
        fs::create_dir_all(&own).unwrap();
        for dir in [&top, &own] {
            fs::write(dir.join("cgroup.procs"), "").unwrap();
        }
        // a folder cannot be written to, as a group with processes in it cannot hand out controllers
        fs::create_dir(own.join("cgroup.subtree_control")).unwrap();
        let world = Cgroups::open_v2(&own, "flyball-test").unwrap();
        assert_eq!(world.roots, [("", top.join("flyball-test"))]);
        for dir in [&top, &top.join("flyball-test")] {
            assert_eq!(fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap(), "+cpu +memory +pids");
        }
        let group = world.create("one", &Limits::default()).unwrap();
        assert_eq!(group.dirs, [("", top.join("flyball-test/one"))]);
        let nowhere = folder.path().join("nowhere");
        let refused = Cgroups::open_v2(&nowhere, "flyball-test").unwrap_err();
        assert_eq!(refused, format!("{} is no control group", nowhere.display()));
    }

    #[test]
    fn a_group_that_cannot_be_limited_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let world = Cgroups { version: Version::V2, roots: vec![("", root.clone())], notices: Vec::new() };
        fs::create_dir_all(root.join("one/memory.max")).unwrap(); // no file: it cannot be written
        world.create("one", &Limits::default()).unwrap_err();
        assert!(!root.join("one").exists());
        let two = std::sync::Arc::new(world.create("two", &Limits::default()).unwrap());
        let hold = std::sync::Arc::clone(&two);
        drop(two);
        assert!(root.join("two").exists());
        drop(hold);
        assert!(!root.join("two").exists());
    }

    #[test]
    fn start_time_of_a_living_process_is_known_and_of_a_dead_one_is_not() {
        assert!(start_time(std::process::id()).is_some());
        assert_eq!(start_time(u32::MAX), None);
    }
}
