//! Commands of kubectl that go on: a watch shows each change, a followed log each line.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use crate::http::{HOUSE, request};
use crate::needs::needs;
use crate::world::World;

/// A running kubectl, and its output line by line; killed when dropped.
struct Stream {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Stream {
    fn of(world: &World, arguments: &[&str]) -> Stream {
        let mut process =
            world.command("kubectl", arguments).stdout(Stdio::piped()).spawn().expect("kubectl runs");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        Stream { process, lines }
    }

    /// Reads on to a line that satisfies `wanted`. kubectl's own time limit ends a wait that is in vain.
    fn until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        let found = self.lines.by_ref().map_while(Result::ok).any(|line| wanted(&line));
        assert!(found, "the stream ended before {what}");
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn a_watch_shows_each_change() {
    needs(&["kubectl"]);
    let world = World::up(&[]);
    world.kubectl(&["create", "deployment", "web", "--image=webmakaka/house-price-model"]);
    let mut deployments =
        Stream::of(&world, &["get", "deploy", "--watch", "--no-headers", "--request-timeout=60s"]);
    let mut pods = Stream::of(&world, &["get", "pods", "--watch", "--no-headers", "--request-timeout=60s"]);
    deployments.until("one ready replica", |line| line.contains(" 1/1 "));
    world.kubectl(&["scale", "deploy", "web", "--replicas=2"]);
    deployments.until("two wanted", |line| line.contains(" 1/2 "));
    deployments.until("two ready", |line| line.contains(" 2/2 "));
    world.kubectl(&["scale", "deploy", "web", "--replicas=0"]);
    pods.until("a pod that ends", |line| line.contains("Terminating"));
    deployments.until("none left", |line| line.contains(" 0/0 "));
}

pub(crate) fn a_followed_log_shows_each_line() {
    needs(&["kubectl"]);
    let world = World::up(&[]);
    world.kubectl(&["create", "deployment", "web", "--image=webmakaka/house-price-model", "--port=8000"]);
    world.kubectl(&["expose", "deploy", "web", "--port=8000"]);
    world.kubectl(&["rollout", "status", "deploy/web", "--timeout=60s"]);
    let mut log = Stream::of(&world, &["logs", "--follow", "deploy/web", "--request-timeout=60s"]);
    log.until("the start", |line| line.contains("is ready"));
    let (status, _) = request(&world.service("web"), "POST", "/predict", HOUSE).expect("an answer");
    assert_eq!(status, 200);
    // The end of the pod is a line too, and ends the stream.
    world.kubectl(&["delete", "deploy", "web", "--wait=false"]);
    log.until("the end", |line| line.contains("drain") || line.contains("stop"));
}
