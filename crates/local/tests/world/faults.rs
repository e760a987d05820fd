//! What goes wrong, and what is said about it.

use std::process::Stdio;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::DeleteParams;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::json;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::harness::{PATIENCE, TestWorld, condition, container, deployment, pod};

fn waiting(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let waiting = status.state.as_ref()?.waiting.clone()?;
    Some((waiting.reason?, waiting.message.unwrap_or_default()))
}

fn last_end(pod: &Pod) -> Option<(String, i32)> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let end = status.last_state.as_ref()?.terminated.clone()?;
    Some((end.reason?, end.exit_code))
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_images_and_commands_are_explained() {
    let mut world = TestWorld::start().await;
    world.create::<Pod>(pod("no-image", json!({"image": "nobody/knows:v1"}))).await;
    world.create::<Pod>(pod("no-command", json!({"command": ["/no/such/program"]}))).await;
    let is_waiting = |reason: &'static str| move |pod: &Pod| waiting(pod).is_some_and(|(r, _)| r == reason);
    let no_image = world.until_some("no-image", "waiting", is_waiting("ErrImageNeverPull")).await;
    let (_, message) = waiting(&no_image).unwrap();
    assert!(message.contains("test/server") && message.contains("--image nobody/knows=COMMAND"), "{message}");
    world.until_event("no-image", "ErrImageNeverPull").await;

    let no_command = world.until_some("no-command", "in a crash loop", is_waiting("CrashLoopBackOff")).await;
    assert_eq!(last_end(&no_command), Some(("StartError".to_owned(), 128)));
    let end = container(&no_command).last_state.unwrap().terminated.unwrap();
    assert_eq!(end.started_at.unwrap().0.as_second(), 0, "it never started");
    let (status, refusal) = world.kubelet("/containerLogs/default/no-image/main?previous=true").await;
    let none = "previous terminated container \"main\" in pod \"no-image\" not found";
    assert_eq!((status.as_u16(), refusal.as_str()), (400, none));
    let failed = world.until_event("no-command", "Failed").await;
    assert!(failed.contains("/no/such/program"), "{failed}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_backs_off_and_its_previous_log_is_kept() {
    let mut world = TestWorld::start().await;
    world.create::<Pod>(pod("crashing", json!({"args": ["-c", "echo last words; exit 3"]}))).await;
    let backing_off = world
        .until_some("crashing", "backing off", |pod: &Pod| {
            waiting(pod).is_some_and(|(_, message)| {
                message.starts_with("back-off 10s restarting failed container=main pod=crashing_default(")
            })
        })
        .await;
    assert_eq!(last_end(&backing_off), Some(("Error".to_owned(), 3)));
    assert_eq!(container(&backing_off).restart_count, 2);
    let (status, log) = world.kubelet("/containerLogs/default/crashing/main?previous=true").await;
    assert_eq!((status.as_u16(), log.as_str()), (200, "last words\n"));
    world.until_event("crashing", "BackOff").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_eats_too_much_is_killed_for_it() {
    let mut world = TestWorld::start().await;
    if world.lacks("limits") {
        return;
    }
    world
        .create::<Pod>(pod(
            "hungry",
            json!({"image": "test/hungry", "resources": {"limits": {"memory": "32Mi"}}}),
        ))
        .await;
    let killed = world.until_some("hungry", "killed", |pod: &Pod| last_end(pod).is_some()).await;
    assert_eq!(last_end(&killed), Some(("OOMKilled".to_owned(), 137)));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_does_not_fit_waits_for_room() {
    let mut world = TestWorld::start().await;
    let cpus = std::thread::available_parallelism().unwrap().get();
    let asks =
        json!({"args": ["-c", "exec sleep 1000"], "resources": {"requests": {"cpu": cpus.to_string()}}});
    world.create::<Pod>(pod("first", asks.clone())).await;
    world.until_ready("first", 1).await;
    world.create::<Pod>(pod("second", asks)).await;
    let refused =
        |pod: &Pod| condition(pod, "PodScheduled") == Some(("False".into(), "Unschedulable".into()));
    world.until_some("second", "refused", refused).await;
    let message = world.until_event("second", "FailedScheduling").await;
    assert_eq!(message, "0/1 nodes are available: 1 Insufficient cpu.");
    world.api::<Pod>().delete("first", &DeleteParams::default()).await.unwrap();
    world.until_ready("second", 1).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_an_event_and_is_tried_again() {
    let mut world = TestWorld::start().await;
    let (taken, port) = (30000..32768u16)
        .rev()
        .find_map(|port| Some((std::net::TcpListener::bind(("127.0.0.1", port)).ok()?, port)))
        .expect("some port is free");
    world
        .create::<Service>(json!({"metadata": {"name": "blocked"}, "spec": {"type": "NodePort",
            "selector": {"app": "x"}, "ports": [{"port": 80, "nodePort": port}]}}))
        .await;
    let message = world.until_event("blocked", "FailedToListen").await;
    assert!(message.contains(&format!("127.0.0.1:{port}")) && message.contains("in use"), "{message}");
    drop(taken);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_that_stops_brings_everything_back() {
    let mut world = TestWorld::start().await;
    world.create::<k8s_openapi::api::apps::v1::Deployment>(deployment("lasting", 2)).await;
    let before = world.until_ready("lasting", 2).await;
    world.end().await;
    world.begin().await;
    let names = |pods: &[Pod]| pods.iter().map(|p| p.metadata.name.clone()).collect::<Vec<_>>();
    let restarted = |pod: &Pod| container(pod).restart_count == 1 && crate::harness::is_ready(pod);
    for pod in &before {
        world.until_some(pod.metadata.name.as_ref().unwrap(), "restarted", restarted).await;
    }
    assert_eq!(names(&world.until_ready("lasting", 2).await), names(&before));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_the_grace_period_of_a_deleted_pod() {
    let mut world = TestWorld::start().await;
    let mut deaf = pod("deaf", json!({"args": ["-c", "trap '' TERM; while :; do sleep 1000; done"]}));
    deaf["spec"]["terminationGracePeriodSeconds"] = json!(3600);
    world.create::<Pod>(deaf).await;
    world.until_ready("deaf", 1).await;
    world.api::<Pod>().delete("deaf", &DeleteParams::default()).await.unwrap();
    world.until_event("deaf", "Killing").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_world_ends_its_pods() {
    let mut world = TestWorld::start().await;
    let mark = format!("1000.{}", std::process::id());
    world
        .create::<Pod>(pod("dropped", json!({"args": ["-c", format!("sleep {mark} & exec sleep {mark}")]})))
        .await;
    world.until_ready("dropped", 1).await;
    let running = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let line = |process: std::fs::DirEntry| std::fs::read(process.path().join("cmdline")).ok();
        let lines = processes.filter_map(line).map(|line| String::from_utf8_lossy(&line).into_owned());
        lines.filter(|line| line.contains("sleep") && line.contains(&mark)).count()
    };
    assert!(running() > 0);
    drop(world.world.take());
    let began = std::time::Instant::now();
    while running() > 0 {
        assert!(began.elapsed() < PATIENCE, "it dies with its world");
        tokio::task::yield_now().await;
    }
}

/// Not a test: the world that the next test kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by another test"]
async fn world_to_be_killed() {
    let world = TestWorld::start().await;
    if world.lacks("namespaces") {
        return;
    }
    world.create::<Pod>(pod("orphan", json!({"args": ["-c", "sleep 1000 & exec sleep 1000"]}))).await;
    world.until_ready("orphan", 1).await;
    println!("world is up");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_survives_a_killed_world() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .env("TMPDIR", dir.path()) // what it can't clean up itself goes with this test
        .args(["--exact", "faults::world_to_be_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let up = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("world is up") || line.contains("skipped") {
                return line.contains("world is up");
            }
        }
        panic!("the world did not come up");
    };
    if !tokio::time::timeout(PATIENCE, up).await.unwrap() {
        println!("skipped: namespaces are refused");
        return;
    }
    let parent = child.id().unwrap();
    let descendants = descendants(parent);
    assert!(descendants.len() >= 3, "sandbox, init and container: {descendants:?}");
    let handles: Vec<_> = descendants
        .iter()
        .map(|pid| pidfd_open(Pid::from_raw(*pid).unwrap(), PidfdFlags::NONBLOCK).unwrap())
        .collect();
    kill_process(Pid::from_raw(parent as i32).unwrap(), Signal::KILL).unwrap();
    for handle in handles {
        #[expect(deprecated, reason = "an `OwnedFd` stays open as long as it is registered")]
        let handle = AsyncFd::new(handle).unwrap();
        let _ =
            tokio::time::timeout(PATIENCE, handle.readable()).await.expect("it dies with its world").unwrap();
    }
    child.wait().await.unwrap();
}

/// All processes below one.
fn descendants(pid: u32) -> Vec<i32> {
    let mut found = Vec::new();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|c| c.parse::<i32>().ok()) {
            found.push(child);
            found.extend(descendants(child as u32));
        }
    }
    found
}
