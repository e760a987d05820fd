//! Load while the world changes: nothing that was sent is lost.

use std::process::Stdio;

use crate::http::HOUSE;
use crate::needs::needs;
use crate::world::{FLYBALL, World, text};

const WEB: &str = include_str!("manifests/web.yaml");

/// A summary of `flyball load` in which all was answered.
pub(crate) fn assert_nothing_lost(report: &serde_json::Value) {
    assert_eq!(report["errors"].as_object().map_or(0, serde_json::Map::len), 0, "{report}");
    let statuses = report["statuses"].as_object().expect("answers by status");
    assert_eq!(statuses.keys().collect::<Vec<_>>(), ["200"], "{report}");
}

pub(crate) fn no_request_is_lost_while_pods_come_and_go() {
    needs(&["kubectl"]);
    let world = World::up(&[]);
    world.apply(&WEB.replace("replicas: 2", "replicas: 4"));
    world.kubectl(&["rollout", "status", "deploy/web", "--timeout=60s"]);
    let url = format!("http://{}/predict", world.service("web"));
    let header = "Content-Type: application/json";
    let arguments = [
        "load", "-z", "6s", "-c", "8", "-q", "25", "-m", "POST", "-H", header, "-d", HOUSE, "-o", "json",
        &url,
    ];
    let load = world.command(FLYBALL, &arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let load = load.expect("flyball runs");
    world.kubectl(&["scale", "deploy", "web", "--replicas=1"]);
    world.kubectl_until(&["get", "deploy", "web", "--no-headers"], |row| row.contains(" 1/1 "));
    world.kubectl(&["rollout", "restart", "deploy", "web"]);
    world.kubectl(&["rollout", "status", "deploy/web", "--timeout=60s"]);
    let output = load.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", text(&output.stdout));
    assert_nothing_lost(&serde_json::from_slice(&output.stdout).expect("a report as JSON"));
}
