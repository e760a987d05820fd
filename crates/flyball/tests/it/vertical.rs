//! Both axes under load: CPU goes up in place, neither axis turns round, and nobody who asks notices.

use std::process::Stdio;

use crate::http::HOUSE;
use crate::load::assert_nothing_lost;
use crate::needs::needs;
use crate::world::{FLYBALL, World, text};

/// The page's model, its VPA and its CPU trigger, with a Service of its own.
const BOTH: &str = include_str!("manifests/both-axes.yaml");

pub(crate) fn a_load_goes_up_in_place_and_no_request_is_lost() {
    needs(&["kubectl"]);
    let world = World::up(&[]);
    world.apply(BOTH);
    world.kubectl(&["rollout", "status", "deploy/model", "--timeout=60s"]);
    let pods = ["get", "pods", "-l", "app=model", "-o"];
    let first = world.kubectl(&[&pods[..], &["jsonpath={.items[0].metadata.name}"]].concat());
    let of_first = |path: &str| world.kubectl(&["get", "pod", &first, "-o", &format!("jsonpath={path}")]);
    world.kubectl_until(&["get", "vpa", "model", "--no-headers"], |row| row.contains("True"));

    let url = format!("http://{}/predict", world.service("model"));
    let header = "Content-Type: application/json";
    let arguments =
        ["load", "-z", "20s", "-c", "16", "-m", "POST", "-H", header, "-d", HOUSE, "-o", "json", &url];
    let load = world.command(FLYBALL, &arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let load = load.expect("flyball runs");
    let cpu = "jsonpath={.status.containerStatuses[0].resources.requests.cpu}";
    world.kubectl_until(&["get", "pod", &first, "-o", cpu], |cpu| !["", "50m"].contains(&cpu));
    let output = load.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", text(&output.stdout));
    assert_nothing_lost(&serde_json::from_slice(&output.stdout).expect("a report as JSON"));

    assert_eq!(of_first("{.status.containerStatuses[0].restartCount}"), "0");
    // new pods are as large from the start
    let sizes = [&pods[..], &["jsonpath={.items[*].spec.containers[0].resources.requests.cpu}"]].concat();
    world.kubectl_until(&sizes, |sizes| {
        let mut sizes: Vec<&str> = sizes.split(' ').collect();
        sizes.dedup();
        sizes.len() == 1 && sizes != ["50m"]
    });
    let why = world.command(FLYBALL, &["why", "deploy/model"]).output().expect("flyball runs");
    let why = text(&why.stdout);
    assert!(why.contains("size") && why.contains("model cpu"), "{why}");
    let record = world.command(FLYBALL, &["why", "deploy/model", "--last", "1000", "-o", "json"]);
    assert_one_direction(record);
}

/// A process that eats more than it may a second after each start: its second run finds enough.
pub(crate) fn memory_is_raised_before_the_restarted_container_can_die_again() {
    needs(&["kubectl"]);
    let eater = "example/eater=sh -c 'sleep 1; dd if=/dev/zero of=/dev/null bs=80M count=1 && echo full; \
                 test $? = 0 && exec sleep 1000; exit 137'";
    let world = World::up(&["--image", eater]);
    world.apply(include_str!("manifests/eater-flyball.yaml"));
    world.kubectl_until(&["logs", "-l", "app=eater"], |log| log.contains("full"));
    let of_container = |path: &str| {
        let path = format!("jsonpath={{.items[0].status.containerStatuses[0].{path}}}");
        world.kubectl(&["get", "pods", "-l", "app=eater", "-o", &path])
    };
    assert_eq!(of_container("restartCount"), "1", "{}", world.said());
    assert_eq!(of_container("lastState.terminated.reason"), "OOMKilled");
    assert_eq!(of_container("lastState.terminated.exitCode"), "137");
    // twice what was there, but 100 MiB more at least, and a margin of 15 %
    assert_eq!(of_container("resources.limits.memory"), ((164_i64 << 20) * 115 / 100).to_string());
}

/// While a load lasts neither axis turns round.
fn assert_one_direction(mut why: std::process::Command) {
    let output = why.output().expect("flyball runs");
    let records: serde_json::Value = serde_json::from_slice(&output.stdout).expect("records as JSON");
    let records = records.as_array().or_else(|| records["items"].as_array()).expect("a list");
    let course = |value: &dyn Fn(&serde_json::Value) -> Option<i64>| -> Vec<i64> {
        records.iter().filter_map(|record| value(&record["decision"])).collect()
    };
    let replicas = course(&|decision| decision["desired"].as_i64());
    let cpu = course(&|decision| decision["sizes"][0]["desired"]["target"]["cpu_millis"].as_i64());
    assert!(replicas.len() > 1 && cpu.len() > 1, "{records:?}");
    for course in [replicas, cpu] {
        assert!(course.is_sorted(), "it turned round: {course:?}");
    }
}
