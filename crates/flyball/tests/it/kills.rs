//! The world is killed, again and again, at any moment of a pod's life: no process of a pod outlives it, and no write that
//! was acknowledged is lost.
//!
//! `FLYBALL_KILLS` says how often (a few by default). Each round starts the world on the state of the last, finds what was
//! acknowledged then, starts pods that try to get away, writes objects from several clients, and kills the program when
//! a random time is over. Processes of pods are found by a variable in their environment, wherever they have gone.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::needs::needs;
use crate::world::{World, eventually};

/// How often the world is killed where nothing else is said: as often as a quick test suite allows.
const KILLS_DEFAULT: usize = 3;
/// The longest time from the first pod to the kill. The shortest is none: pods are killed while they start, too.
const LIFE_MAX: Duration = Duration::from_millis(1500);
/// Clients that write at the same time.
const WRITERS: usize = 3;

/// Programs that try to outlive the world, by name: what each does.
const PROGRAMS: [(&str, &str); 8] = [
    ("plain", "exec sleep 1000"),
    ("deaf", "trap '' TERM INT HUP; while :; do sleep 1000; done"),
    ("other-user", "exec setpriv --reuid=65534 --regid=65534 --clear-groups sleep 1000"),
    (
        "other-user-in-python",
        "exec python3 -c 'import os, time; os.setgid(65534); os.setuid(65534); time.sleep(1000)'",
    ),
    ("daemon", "setsid sleep 1000 & exec sleep 1000"),
    (
        "double-fork",
        "exec python3 -c 'import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    os.setuid(65534)\n    time.sleep(1000)\n  os._exit(0)\nos.wait()\ntime.sleep(1000)'",
    ),
    ("new-group", "setsid sh -c 'setsid sleep 1000 & wait' & (trap '' TERM; sleep 1000) & wait"),
    ("crashing", "sleep 0.05; exit 1"),
];

pub(crate) fn no_pod_outlives_a_killed_world_and_no_acknowledged_write_is_lost() {
    needs(&["kubectl", "python3", "setpriv", "setsid"]);
    check("FLYBALL_KILL_TEST", |folder| World::up_in(folder, &[]));
}

pub(crate) fn no_pod_outlives_a_killed_world_that_has_no_namespaces() {
    needs(&["kubectl", "python3", "setpriv", "setsid", "unshare"]);
    check("FLYBALL_KILL_TEST_WITHOUT_NAMESPACES", World::up_without_namespaces_in);
}

fn check(variable: &str, up: impl Fn(TempDir) -> World) {
    let kills = std::env::var("FLYBALL_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS_DEFAULT);
    let mark = format!("{variable}={}", std::process::id());
    let mut random = Random(std::process::id().into());
    let mut folder = tempfile::tempdir().expect("a folder");
    // the world has it in its environment, and so have its inits
    let marks = [mark.clone(), format!("XDG_STATE_HOME={}", folder.path().join("home").display())];
    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    let began = Instant::now();
    let mut seen_most = 0;
    for kill in 0..kills {
        let world = up(folder);
        assert_kept(&world, &acknowledged, kill);
        world.apply(&pods(kill, &mark));
        let life = LIFE_MAX.mul_f64(random.next());
        let written = write_until(&world, kill, life, || {
            seen_most = seen_most.max(marked(&marks[..1]).len());
            world.kill_process();
        });
        folder = world.kill();
        eventually("every process of the world has ended with it", || marked(&marks).is_empty());
        acknowledged = written;
        if (kill + 1) % 50 == 0 {
            println!("{} kills after {:?}", kill + 1, began.elapsed());
        }
    }
    assert_kept(&up(folder), &acknowledged, kills);
    println!("{kills} kills, at most {seen_most} processes at a kill, no survivor, in {:?}", began.elapsed());
    assert!(seen_most >= 2, "the pods' processes are found");
}

/// Writes ConfigMaps until the time is over, then has the world killed while the writers go on; what was acknowledged.
fn write_until(world: &World, kill: usize, life: Duration, end: impl FnOnce()) -> BTreeMap<String, String> {
    let (killed, number) = (AtomicBool::new(false), AtomicUsize::new(0));
    let written = std::sync::Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                while !killed.load(Ordering::SeqCst) {
                    let name = format!("kill-{kill}-{}", number.fetch_add(1, Ordering::SeqCst));
                    let value = format!("--from-literal=value={name}");
                    let mut create = world.command("kubectl", &["create", "configmap", &name, &value]);
                    let status = create.stdout(Stdio::null()).stderr(Stdio::null()).status();
                    if status.is_ok_and(|status| status.success()) {
                        written.lock().expect("no writer panics").insert(name.clone(), name);
                    }
                }
            });
        }
        std::thread::sleep(life);
        end();
        killed.store(true, Ordering::SeqCst);
    });
    written.into_inner().expect("no writer panics")
}

/// The world has what was acknowledged to writers of the last round; older objects are removed, to keep rounds alike.
fn assert_kept(world: &World, acknowledged: &BTreeMap<String, String>, kill: usize) {
    let columns = "jsonpath={range .items[*]}{.metadata.name}={.data.value}{\"\\n\"}{end}";
    let found = world.kubectl(&["get", "configmaps", "-o", columns]);
    for (name, value) in acknowledged {
        let line = format!("{name}={value}");
        assert!(found.lines().any(|l| l == line), "{name} is lost after kill {kill}:\n{found}");
    }
    world.kubectl(&["delete", "pods,configmaps", "--all", "--grace-period=0", "--force", "--wait=false"]);
}

fn pods(kill: usize, mark: &str) -> String {
    let (name, value) = mark.split_once('=').expect("it is a variable");
    let one = |(program, script): &(&str, &str)| {
        let script = serde_json::to_string(script).expect("it is a string");
        format!(
            r#"---
apiVersion: v1
kind: Pod
metadata: {{name: {program}-{kill}}}
spec:
  containers:
  - name: main
    image: webmakaka/house-price-model
    command: [sh, -c, {script}]
    env: [{{name: {name}, value: "{value}"}}]
"#
        )
    };
    PROGRAMS.iter().map(one).collect()
}

/// Processes of this machine with one of the marks in their environment.
fn marked(marks: &[String]) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("there is a /proc").flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_mark = |process: &u32| {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| marks.iter().any(|mark| mark.as_bytes() == variable))
    };
    processes.filter(has_mark).collect()
}

/// A small generator: the times of the kills are different in every run, and evenly spread.
struct Random(u64);

impl Random {
    /// Between 0 and 1 (`splitmix64`).
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as f64 / u64::MAX as f64
    }
}
