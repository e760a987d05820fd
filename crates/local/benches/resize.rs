//! From the request for a resize to the control group that has it, and to the pod that says so: fifty resizes of one
//! running container over the embedded API server in process.

#![allow(missing_docs, reason = "a program")]
#![allow(dead_code, reason = "the harness is the tests'")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "the harness is the tests'")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

#[path = "../tests/world/harness.rs"]
mod harness;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use harness::{TestWorld, condition, container, limit_file, pod};

const RESIZES: usize = 50;

fn resources(milli: usize) -> Value {
    let amounts = json!({ "cpu": format!("{milli}m"), "memory": "64Mi" });
    json!({ "resources": { "requests": amounts, "limits": amounts } })
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let [min, median, max] =
        [0, times.len() / 2, times.len() - 1].map(|index| times[index].as_secs_f64() * 1e3);
    println!("{what:<34} min {min:.2} ms, median {median:.2} ms, max {max:.2} ms");
}

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let mut world = TestWorld::start().await;
    if world.lacks("limits") {
        return;
    }
    let mut whole = json!({ "args": ["-c", "exec sleep 1000"] });
    json_patch::merge(&mut whole, &resources(100));
    world.create::<Pod>(pod("resized", whole)).await;
    let running = &world.until_ready("resized", 1).await[0];
    let (mut answered, mut written, mut shown) = (Vec::new(), Vec::new(), Vec::new());
    for index in 1..=RESIZES {
        let milli = 100 + index;
        let mut main = json!({ "name": "main" });
        json_patch::merge(&mut main, &resources(milli));
        let patch = Patch::Strategic(json!({ "spec": { "containers": [main] } }));
        let quota = (milli * 100).to_string();
        let asked = Instant::now();
        let pods = world.api::<Pod>();
        pods.patch_resize("resized", &PatchParams::default(), &patch).await.unwrap();
        answered.push(asked.elapsed());
        while !limit_file(running, 0, "cpu.cfs_quota_us", "cpu.max").unwrap().starts_with(&quota) {
            tokio::task::yield_now().await;
        }
        written.push(asked.elapsed());
        let wanted = format!("{milli}m");
        let is_shown = |pod: &Pod| {
            let limits = container(pod).resources.and_then(|resources| resources.limits);
            limits.is_some_and(|limits| limits["cpu"].0 == wanted)
                && condition(pod, "PodResizeInProgress").is_none()
        };
        world.until_some("resized", "resized", is_shown).await;
        shown.push(asked.elapsed());
    }
    print("the API server has answered", answered);
    print("the control group has it", written);
    print("the pod's status says so", shown);
    world.end().await;
}
