//! The transcripts, each against a world of its own.

use crate::transcript::check;
use crate::world::{World, has_seed, installed, node_port};

#[test]
fn command_line() {
    check("command-line", None);
}

#[test]
fn page() {
    if has_seed() && installed(&["kubectl", "curl"]) {
        let _port = node_port();
        check("page", Some(&World::up(&[])));
    }
}

#[test]
fn vpa() {
    if has_seed() {
        in_a_world("vpa");
    }
}

#[test]
fn out_of_memory() {
    if installed(&["kubectl"]) {
        let eater = r#"example/eater=sh -c 'sleep 7; x=$(head -c 50000000 /dev/zero | tr "\0" x); echo full; exec sleep 1000'"#;
        check("out-of-memory", Some(&World::up(&["--image", eater])));
    }
}

#[test]
fn workloads() {
    in_a_world("workloads");
}

#[test]
fn rollouts() {
    in_a_world("rollouts");
}

#[test]
fn reading() {
    in_a_world("reading");
}

#[test]
fn why() {
    in_a_world("why");
}

#[test]
fn query() {
    if installed(&["jq", "gzip"]) {
        in_a_world("query");
    }
}

#[test]
fn promtool() {
    if installed(&["promtool"]) {
        check("promtool", Some(&World::up(&[])));
    }
}

#[test]
fn wrong_manifests() {
    in_a_world("wrong-manifests");
}

#[test]
fn jobs() {
    in_a_world("jobs");
}

#[test]
fn metrics_api() {
    in_a_world("metrics-api");
}

#[test]
fn check_files() {
    if has_seed() {
        check("check", None);
    }
}

#[test]
fn check_live() {
    in_a_world("check-live");
}

#[test]
fn failing_pods() {
    in_a_world("failing-pods");
}

fn in_a_world(transcript: &str) {
    if installed(&["kubectl", "curl"]) {
        check(transcript, Some(&World::up(&[])));
    }
}
