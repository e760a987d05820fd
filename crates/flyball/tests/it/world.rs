//! A world started by the real binary, for tests that use it as a person would.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The built program.
pub(crate) const FLYBALL: &str = env!("CARGO_BIN_EXE_flyball");
/// Nothing that is waited for takes longer, on a slow machine either.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// `flyball up` in a folder of its own, on free ports; stopped when dropped.
pub(crate) struct World {
    process: Child,
    folder: TempDir,
    prometheus: String,
}

impl World {
    /// Starts an empty world with the given further arguments, and waits until it says that it is up.
    pub(crate) fn up(arguments: &[&str]) -> World {
        World::up_in(tempfile::tempdir().expect("a folder"), arguments)
    }

    /// Starts a world on the state that `folder` holds.
    pub(crate) fn up_in(folder: TempDir, arguments: &[&str]) -> World {
        let command = up_command(&folder, arguments);
        World::up_by(folder, command)
    }

    /// Starts a world on the state that `folder` holds, to which the kernel refuses the namespaces of pods.
    pub(crate) fn up_without_namespaces_in(folder: TempDir) -> World {
        let up = up_command(&folder, &[]);
        let mut command = Command::new("unshare");
        let refuse = "echo 0 > /proc/sys/user/max_net_namespaces; exec \"$@\"";
        command.args(["--user", "--map-root-user", "sh", "-c", refuse, "sh"]).arg(up.get_program());
        command.args(up.get_args()).env("XDG_STATE_HOME", folder.path().join("home"));
        World::up_by(folder, command)
    }

    /// Starts an empty world that may open no more than so many files.
    pub(crate) fn up_with_files(files: u32) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let up = up_command(&folder, &[]);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files}; exec \"$@\""), "sh"]).arg(up.get_program());
        command.args(up.get_args()).env("XDG_STATE_HOME", folder.path().join("home"));
        World::up_by(folder, command)
    }

    fn up_by(folder: TempDir, mut command: Command) -> World {
        let stderr = File::create(folder.path().join("stderr")).expect("a file");
        let (process, greeting) = start(command.stderr(stderr));
        let url = greeting.lines().find_map(|line| line.trim().strip_prefix("Prometheus API"));
        let prometheus = url.expect("up says where the Prometheus API is").trim().to_owned();
        World { process, folder, prometheus }
    }

    /// Tries to start a second world on this one's state; it must end by itself.
    pub(crate) fn up_beside(&self) -> Output {
        up_command(&self.folder, &[]).output().expect("it runs")
    }

    /// What the program wrote to its standard error, and the autoscaler's last lines.
    pub(crate) fn said(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let log = read("state/log/flyball.log");
        let last: Vec<&str> = log.lines().rev().take(20).collect();
        format!("{}{}", read("stderr"), last.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// Lets a command find this world, with a discovery cache of its own.
    pub(crate) fn environment(&self, command: &mut Command) {
        let folder = self.folder.path();
        command
            .env("KUBECONFIG", folder.join("state/kubeconfig"))
            .env("KUBECACHEDIR", folder.join("kubectl-cache"))
            .env("XDG_STATE_HOME", folder.join("home"))
            .env("PROMETHEUS", &self.prometheus)
            .env("STATE", folder.join("state"))
            .env("TEMPORARY", folder);
    }

    /// Where this world is reached, and how.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("state/kubeconfig")
    }

    /// `kubectl` in this world.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments);
        self.environment(&mut command);
        command
    }

    /// Runs `kubectl`, which must succeed, and gives its standard output.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.command("kubectl", arguments).output().expect("kubectl runs");
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "kubectl {arguments:?}\n{stdout}{stderr}\n{}", self.said());
        stdout
    }

    /// Repeats `kubectl` until its output satisfies `wanted`.
    pub(crate) fn kubectl_until(&self, arguments: &[&str], wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = text(&self.command("kubectl", arguments).output().expect("kubectl runs").stdout);
            if wanted(&output) {
                return output;
            }
            assert!(
                Instant::now() < deadline,
                "kubectl {arguments:?} never gave what was wanted:\n{output}\n{}",
                self.said()
            );
            std::thread::sleep(LOOK);
        }
    }

    /// Applies a manifest.
    pub(crate) fn apply(&self, manifest: &str) {
        let file = self.folder.path().join("manifest.yaml");
        std::fs::write(&file, manifest).expect("the folder is ours");
        self.kubectl(&["apply", "-f", &file.to_string_lossy()]);
    }

    /// The address of a Service and its first port.
    pub(crate) fn service(&self, name: &str) -> String {
        self.kubectl(&["get", "service", name, "-o", "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}"])
    }

    /// Kills the program as the kernel would.
    pub(crate) fn kill_process(&self) {
        let killed = Command::new("kill").args(["-KILL", &self.process.id().to_string()]).status();
        assert!(killed.is_ok_and(|status| status.success()), "it runs");
    }

    /// Kills the program as the kernel would, and gives the state back.
    pub(crate) fn kill(mut self) -> TempDir {
        let _ = self.process.kill(); // it may have been killed before
        self.process.wait().expect("it was started here");
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"))
    }

    /// Stops the program politely, and gives the state back.
    pub(crate) fn stop(mut self) -> TempDir {
        stop(&mut self.process);
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"))
    }

    /// Processes of the machine that were started for this world's pods.
    pub(crate) fn pod_processes(&self) -> Vec<u32> {
        descendants(self.process.id())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        stop(&mut self.process);
        let said = self.said();
        if said.contains("did not stop in time") && !std::thread::panicking() {
            panic!("{said}");
        }
    }
}

/// Starts a world, and reads its greeting to the end.
fn start(command: &mut Command) -> (Child, String) {
    let mut process = command.stdout(Stdio::piped()).spawn().expect("flyball starts");
    let stdout = BufReader::new(process.stdout.take().expect("it is piped"));
    let mut greeting = String::new();
    for line in stdout.lines().map_while(Result::ok) {
        greeting.push_str(&line);
        greeting.push('\n');
        if line.starts_with("Ctrl-C") {
            return (process, greeting);
        }
    }
    let status = process.wait();
    panic!("flyball up ended with {status:?}: {greeting}");
}

/// Asks the world to end, so that it removes its pods, cgroups and addresses itself, and waits for that. One that hangs
/// fails its test; where that has failed already, the first failure is the one to be told.
fn stop(process: &mut Child) {
    let _ = Command::new("kill").arg(process.id().to_string()).stderr(Stdio::null()).status();
    let deadline = Instant::now() + PATIENCE;
    while matches!(process.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            let _ = process.kill();
            let _ = process.wait();
            assert!(std::thread::panicking(), "flyball up did not end within {PATIENCE:?} of SIGTERM");
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// Starts a world of its own making, and stops it once it is up.
pub(crate) fn start_and_stop(command: &mut Command) {
    let (mut process, _) = start(command);
    stop(&mut process);
}

/// Starts a world that cannot start, on the state that `folder` holds.
pub(crate) fn up_once(folder: &TempDir, arguments: &[&str]) -> Output {
    up_command(folder, arguments).output().expect("it runs")
}

fn up_command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(FLYBALL);
    command
        .args(["up", "--port", "0", "--prometheus-port", "0", "--state-dir"])
        .arg(folder.path().join("state"));
    command.args(arguments).env("XDG_STATE_HOME", folder.path().join("home"));
    command
}

/// All processes below `parent`, by /proc.
fn descendants(parent: u32) -> Vec<u32> {
    let children: String = std::fs::read_dir(format!("/proc/{parent}/task"))
        .map(|tasks| {
            tasks
                .flatten()
                .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
                .collect()
        })
        .unwrap_or_default();
    let children: Vec<u32> = children.split_whitespace().filter_map(|id| id.parse().ok()).collect();
    children.iter().flat_map(|child| std::iter::once(*child).chain(descendants(*child))).collect()
}

/// Whether a process still runs; one that only waits to be collected does not.
pub(crate) fn runs(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(LOOK);
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for the page's node port 30100, which only one world of a machine can have.
pub(crate) fn node_port() -> File {
    let file = File::create(std::env::temp_dir().join("nodeport-30100.lock")).expect("a lock file");
    file.lock().expect("a lock");
    file
}
