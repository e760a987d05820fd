//! A world started by the real binary, for tests that use it as a person would.
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The built program.
pub const FLYBALL: &str = env!("CARGO_BIN_EXE_flyball");
/// Nothing that is waited for takes longer, on a slow machine either.
const PATIENCE: Duration = Duration::from_secs(90);

/// `flyball up` in a folder of its own, on free ports; killed when dropped.
pub struct World {
    process: Child,
    folder: tempfile::TempDir,
    prometheus: String,
}

impl World {
    /// Starts a world with the given further arguments, and waits until it says that it is up.
    pub fn up(arguments: &[&str]) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        World::up_in(folder, arguments)
    }

    /// Starts a world on the state that `folder` holds.
    pub fn up_in(folder: tempfile::TempDir, arguments: &[&str]) -> World {
        let mut process = Command::new(FLYBALL)
            .args(["up", "--port", "0", "--prometheus-port", "0", "--state-dir"])
            .arg(folder.path().join("state"))
            .args(arguments)
            .env("XDG_STATE_HOME", folder.path().join("home"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("flyball starts");
        let mut said = String::new();
        let mut prometheus = String::new();
        let stdout = process.stdout.take().expect("piped");
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            said.push_str(&line);
            if let Some(url) = line.trim().strip_prefix("Prometheus API") {
                prometheus = url.trim().to_owned();
            }
            if line.starts_with("Ctrl-C") {
                return World { process, folder, prometheus };
            }
        }
        panic!("flyball up ended: {said}");
    }

    /// The base URL of the Prometheus API.
    pub fn prometheus(&self) -> &str {
        &self.prometheus
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("state/kubeconfig")
    }

    /// Kills the program as the kernel would, and gives the state back.
    pub fn kill(mut self) -> tempfile::TempDir {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it was started here");
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"))
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Runs `flyball` with this world's kubeconfig noted.
    pub fn flyball(&self, arguments: &[&str]) -> Output {
        Command::new(FLYBALL)
            .args(arguments)
            .env("XDG_STATE_HOME", self.folder.path().join("home"))
            .output()
            .expect("flyball runs")
    }

    /// Runs `kubectl` in this world, with a discovery cache of its own, and gives its standard output.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "kubectl {arguments:?}\n{stdout}{stderr}");
        stdout
    }

    /// Runs `kubectl`, whether it succeeds or not.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg("--cache-dir")
            .arg(self.folder.path().join("kubectl-cache"))
            .args(arguments)
            .output()
            .expect("kubectl runs")
    }

    /// Repeats `kubectl` until its output satisfies `wanted`.
    pub fn kubectl_until(&self, arguments: &[&str], wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = text(&self.try_kubectl(arguments).stdout);
            if wanted(&output) {
                return output;
            }
            assert!(Instant::now() < deadline, "kubectl {arguments:?} never gave what was wanted:\n{output}");
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A polite end first: the world removes its pods, cgroups and addresses itself.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether a program is installed; says so where it is not.
pub fn installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: {program} not found");
    }
    found
}

/// The course page's manifests; `FLYBALL_SEED` overrides where they are.
pub fn seed() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/seed");
    let folder = std::env::var_os("FLYBALL_SEED").map_or(default, PathBuf::from);
    if !folder.join("deployment.yaml").exists() {
        eprintln!("skipped: {} not found", folder.display());
        return None;
    }
    Some(folder)
}
