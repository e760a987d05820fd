//! What goes wrong around the world: killed, started twice, ports taken, memory gone.

use std::net::{TcpListener, TcpStream};
use std::process::Command;

use crate::needs::{needs, refused};
use crate::world::{self, FLYBALL, World, eventually, runs, text};

const WEB: &str = include_str!("manifests/web.yaml");
/// Files that a crowded world may open: some three times what it needs for a few pods.
const FILES: u32 = 300;
/// Objects written just before the kill.
const OBJECTS: usize = 20;

pub(crate) fn a_killed_world_leaves_no_process_and_loses_nothing() {
    needs(&["kubectl"]);
    let world = World::up(&[]);
    world.apply(WEB);
    world.kubectl(&["rollout", "status", "deploy/web", "--timeout=60s"]);
    let names: Vec<String> = (0..OBJECTS).map(|number| format!("acknowledged-{number}")).collect();
    for name in &names {
        world.kubectl(&["create", "configmap", name]);
    }
    let processes = world.pod_processes();
    assert!(processes.len() >= 2, "two pods run as processes below the world's: {processes:?}");

    let folder = world.kill();
    eventually("all pods ended with the world", || !processes.iter().any(|process| runs(*process)));
    let world = World::up_in(folder, &[]);
    let found = world.kubectl(&["get", "configmaps", "-o", "name"]);
    for name in &names {
        assert!(found.lines().any(|line| line == format!("configmap/{name}")), "{name} is lost: {found}");
    }
    // The objects of before say "Running"; the pods must do so in truth.
    let address = world.service("web");
    eventually("the Service answers again", || {
        crate::http::request(&address, "GET", "/health", "").is_ok_and(|(status, _)| status == 200)
    });
    world.kubectl_until(&["get", "deploy", "web", "--no-headers"], |row| row.contains(" 2/2 "));
}

pub(crate) fn a_stopped_world_leaves_no_process_and_comes_back() {
    needs(&["kubectl"]);
    let world = World::up(&[]);
    world.apply(WEB);
    world.kubectl(&["rollout", "status", "deploy/web", "--timeout=60s"]);
    let processes = world.pod_processes();
    let folder = world.stop();
    assert!(!processes.iter().any(|process| runs(*process)), "a pod outlived the world");
    let world = World::up_in(folder, &[]);
    world.kubectl_until(&["get", "deploy", "web", "--no-headers"], |row| row.contains(" 2/2 "));
    world.kubectl_until(&["get", "pods", "--no-headers"], |rows| {
        rows.lines().count() == 2 && rows.lines().all(|row| row.contains(" 1/1 "))
    });
}

pub(crate) fn a_state_folder_has_one_world() {
    let world = World::up(&[]);
    let second = world.up_beside();
    let said = text(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("is in use by another process"), "{said}");
    needs(&["kubectl"]);
    world.kubectl(&["get", "nodes"]);
}

pub(crate) fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    for (flag, other) in [("--port", "--prometheus-port"), ("--prometheus-port", "--port")] {
        let output = Command::new(FLYBALL).args(["up", "--ephemeral", flag, &port, other, "0"]).output();
        let output = output.expect("flyball runs");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&format!("cannot listen on 127.0.0.1:{port}")) && said.contains(flag),
            "{said}"
        );
    }
}

pub(crate) fn a_taken_node_port_is_named_and_the_rest_goes_on() {
    needs(&["kubectl"]);
    let world = World::up(&[]);
    world.apply(WEB);
    let taken =
        (30_200..32_000).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).expect("a port");
    let port = taken.local_addr().expect("it is bound").port();
    let patch = format!(
        r#"{{"spec":{{"type":"NodePort","ports":[{{"port":8000,"name":"web","nodePort":{port}}}]}}}}"#
    );
    world.kubectl(&["patch", "service", "web", "-p", &patch]);
    world.kubectl_until(&["get", "events", "--field-selector", "involvedObject.kind=Service"], |events| {
        events.contains("Warning") && events.contains(&port.to_string())
    });
    let address = world.service("web");
    eventually("the Service answers on its own address", || {
        crate::http::request(&address, "GET", "/health", "").is_ok_and(|(status, _)| status == 200)
    });
    drop(taken);
    eventually("the node port answers once it is free", || {
        crate::http::request(&format!("127.0.0.1:{port}"), "GET", "/health", "")
            .is_ok_and(|(status, _)| status == 200)
    });
}

pub(crate) fn clients_cannot_take_all_files() {
    needs(&["kubectl"]);
    let world = World::up_with_files(FILES);
    world.apply(WEB);
    world.kubectl(&["rollout", "status", "deploy/web", "--timeout=60s"]);
    let address = world.service("web");
    // those that are not carried fit into the backlog
    let clients: Vec<_> = (0..FILES * 2 / 3).map(|_| TcpStream::connect(&address)).collect();
    // each pod that starts needs files for its control group, network and log
    world.kubectl(&["scale", "deploy/web", "--replicas=4"]);
    world.kubectl(&["rollout", "status", "deploy/web", "--timeout=60s"]);
    let restarts = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    assert_eq!(world.kubectl(&["get", "pods", "-o", restarts]), "0 0 0 0");
    drop(clients);
    eventually("the Service answers once they are gone", || {
        crate::http::request(&address, "GET", "/health", "").is_ok_and(|(status, _)| status == 200)
    });
}

pub(crate) fn a_pod_that_wants_too_much_memory_is_killed_and_says_so() {
    needs(&["kubectl"]);
    let world = World::up(&[]);
    if world.said().contains("cgroup") {
        refused("no control group is writable");
    }
    world.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: webmakaka/house-price-model
    command: [sh, -c, "a=x; while :; do a=$a$a; done"]
    resources: {limits: {memory: 32Mi}}
"#,
    );
    let reason = "jsonpath={.status.containerStatuses[0].lastState.terminated.reason}";
    world.kubectl_until(&["get", "pod", "greedy", "-o", reason], |reason| reason == "OOMKilled");
}

pub(crate) fn an_ephemeral_world_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut up = Command::new(FLYBALL);
    up.args(["up", "--ephemeral", "--port", "0", "--prometheus-port", "0"]).env("TMPDIR", folder.path());
    world::start_and_stop(up.env("XDG_STATE_HOME", folder.path().join("home")));
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("it is ours").flatten().collect();
    let left: Vec<_> = left.iter().map(std::fs::DirEntry::file_name).filter(|name| name != "home").collect();
    assert!(left.is_empty(), "{left:?}");
}

pub(crate) fn a_damaged_data_file_is_told_and_repaired() {
    needs(&["kubectl"]);
    let world = World::up(&[]);
    world.kubectl(&["create", "configmap", "kept", "--from-literal=a=b"]);
    let folder = world.stop();
    let file = folder.path().join("state/api/objects.redb");
    std::fs::write(&file, b"").expect("the folder is ours");
    let refused = text(&world::up_once(&folder, &[]).stderr);
    for said in ["is damaged: it is empty (0 bytes)", "`flyball up --repair`"] {
        assert!(refused.contains(said), "{refused}");
    }
    assert_eq!(std::fs::metadata(&file).expect("it is there").len(), 0, "nothing was changed");
    let world = World::up_in(folder, &["--repair"]);
    let said = world.said();
    assert!(said.contains("the damaged file is kept as") && said.contains("objects.redb.damaged-"), "{said}");
    world.kubectl(&["get", "namespace", "default"]);
}
