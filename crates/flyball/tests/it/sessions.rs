//! The transcripts, each against a world of its own.

use crate::needs::{needs, needs_seed, wants};
use crate::transcript::check;
use crate::world::{World, node_port};

pub(crate) fn command_line() {
    check("command-line", None);
}

pub(crate) fn page() {
    needs_seed();
    needs(&["kubectl", "curl"]);
    let _port = node_port();
    check("page", Some(&World::up(&[])));
}

pub(crate) fn vpa() {
    needs_seed();
    in_a_world("vpa");
}

pub(crate) fn out_of_memory() {
    needs(&["kubectl"]);
    let eater = r#"example/eater=sh -c 'sleep 7; x=$(head -c 50000000 /dev/zero | tr "\0" x); echo full; exec sleep 1000'"#;
    check("out-of-memory", Some(&World::up(&["--image", eater])));
}

pub(crate) fn workloads() {
    in_a_world("workloads");
}

pub(crate) fn rollouts() {
    in_a_world("rollouts");
}

pub(crate) fn reading() {
    in_a_world("reading");
}

pub(crate) fn why() {
    in_a_world("why");
}

pub(crate) fn query() {
    needs(&["jq", "gzip"]);
    in_a_world("query");
}

pub(crate) fn promtool() {
    wants(&["promtool"]);
    check("promtool", Some(&World::up(&[])));
}

pub(crate) fn wrong_manifests() {
    in_a_world("wrong-manifests");
}

pub(crate) fn jobs() {
    in_a_world("jobs");
}

pub(crate) fn objective() {
    in_a_world("objective");
}

pub(crate) fn metrics_api() {
    in_a_world("metrics-api");
}

pub(crate) fn check_files() {
    needs_seed();
    check("check", None);
}

pub(crate) fn check_live() {
    in_a_world("check-live");
}

pub(crate) fn failing_pods() {
    in_a_world("failing-pods");
}

fn in_a_world(transcript: &str) {
    needs(&["kubectl", "curl"]);
    check(transcript, Some(&World::up(&[])));
}
