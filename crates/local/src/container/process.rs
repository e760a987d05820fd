//! Starting containers' processes and hearing how they end: the node's side of `init` and `keep`.
//!
//! The socket to a container's keeper is the container's life: when this side is closed, by being dropped here or by the
//! kernel because this process is no more, the keeper ends, and the container with it.
//!
//! One thread starts every init, so that no other has to wait for the kernel while it copies this process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

use super::message::{Namespaces, Report, RunSpec};

/// Starts inits, all from one thread.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    requests: mpsc::Sender<Request>,
    init: Arc<Vec<String>>,
}

/// Where a process writes; nowhere by default.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

#[derive(Debug)]
struct Request {
    command: Command,
    reply: oneshot::Sender<io::Result<Running>>,
}

/// An init that was started. It ends by itself when its socket is closed, with what it holds; killed, it could not see to
/// that. When this is dropped, somebody waits for it, so that no zombie stays.
#[derive(Debug)]
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// Ends an init that holds nothing: a sandbox.
    pub(super) fn kill(mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Takes the exit status of an init that has ended or is about to.
    async fn reap(mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = tokio::task::spawn_blocking(move || child.wait()).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = std::thread::Builder::new().name("container-reaper".into()).spawn(move || child.wait());
        }
    }
}

impl Launcher {
    /// Starts the thread. `init` is the command that executes this binary as `container-init`.
    pub(crate) fn new(init: Vec<String>) -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel::<Request>();
        std::thread::Builder::new().name("container-launcher".into()).spawn(move || {
            for mut request in inbox {
                // where nobody waits for it any more it is dropped, and reaped
                let _ = request.reply.send(request.command.spawn().map(|child| Running(Some(child))));
            }
        })?;
        Ok(Launcher { requests, init: Arc::new(init) })
    }

    /// Starts an init in one of its roles; the socket is its stdin.
    pub(crate) async fn launch(&self, role: &[&str], outputs: Outputs) -> io::Result<(Running, UnixStream)> {
        let (program, args) = self.init.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let output = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, Stdio::from);
        let mut command = Command::new(program);
        command.args(args).args(role);
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        command.stdout(output(outputs.stdout)).stderr(output(outputs.stderr));
        let (reply, started) = oneshot::channel();
        let gone = || io::Error::other("the launcher thread has ended");
        self.requests.send(Request { command, reply }).map_err(|_| gone())?;
        let running = started.await.map_err(|_| gone())?.map_err(|e| {
            io::Error::new(e.kind(), format!("container init `{program}` cannot be started: {e}"))
        })?;
        Ok((running, UnixStream::from_std(ours)?))
    }

    /// Starts a program as `spec` says and waits until it runs.
    ///
    /// # Errors
    /// What the kernel refused, with the step: a cgroup, a mount, the working directory, the program itself.
    pub(crate) async fn run(&self, spec: &RunSpec, outputs: Outputs) -> io::Result<Process> {
        let namespaces = serde_json::to_string(&spec.namespaces)?;
        let (running, mut socket) = self.launch(&["run", &namespaces], outputs).await?;
        socket.write_all(&serde_json::to_vec(spec)?).await?;
        socket.shutdown().await?;
        let mut reports = BufReader::new(socket).lines();
        let Some(line) = reports.next_line().await? else {
            let problem = "container init ended before the program started";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
        };
        match serde_json::from_str(&line)? {
            Report::Started => Ok(Process::follow(&spec.namespaces, running, reports)),
            Report::Failed(problem) => {
                running.reap().await;
                Err(io::Error::other(problem))
            }
            Report::Exited { code, .. } => {
                Err(io::Error::other(format!("container init ended with exit code {code}")))
            }
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exit {
    /// 128 + signal when a signal ended it.
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
}

/// A started program. Dropping it ends all that runs in the container.
#[derive(Debug)]
pub(crate) struct Process {
    /// Number and handle; `None`: it had ended before it could be taken hold of.
    program: Option<(u32, OwnedFd)>,
    exit: watch::Receiver<Option<Exit>>,
    _kill: oneshot::Sender<()>,
}

impl Process {
    fn follow(
        namespaces: &Namespaces,
        running: Running,
        mut reports: tokio::io::Lines<BufReader<UnixStream>>,
    ) -> Self {
        let program = take_hold(running.id(), namespaces);
        let (ended, exit) = watch::channel(None);
        let (kill, killed) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let line = tokio::select! {
                line = reports.next_line() => line.ok().flatten(),
                _ = killed => None,
            };
            let exit = match line.map(|line| serde_json::from_str(&line)) {
                Some(Ok(Report::Exited { code, signal })) => Exit { code, signal },
                _ => Exit { code: 137, signal: Some(9) },
            };
            drop(reports); // what is left of the container ends now
            running.reap().await;
            let _ = ended.send(Some(exit));
        });
        Process { program, exit, _kill: kill }
    }

    /// The number of the container's first process on this machine, as long as it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.program.as_ref().map(|(pid, _)| *pid)
    }

    /// Signals the container's first process; one that has ended is left alone.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some((_, handle)) = &self.program {
            let _ = pidfd_send_signal(handle.as_fd(), signal);
        }
    }

    /// Waits for the end; any number of callers, any time.
    pub(crate) async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        ended.unwrap_or(Exit { code: 137, signal: Some(9) })
    }
}

/// Finds a container's program below its init: its only child, or, in namespaces of its own, its keeper's only child.
fn take_hold(init: u32, namespaces: &Namespaces) -> Option<(u32, OwnedFd)> {
    let parent = match namespaces {
        Namespaces::Pod { .. } => only_child(init)?,
        Namespaces::Host | Namespaces::Container { .. } => init,
    };
    let program = only_child(parent)?;
    let handle = pidfd_open(Pid::from_raw(i32::try_from(program).ok()?)?, PidfdFlags::empty()).ok()?;
    // the number may have been given to another process meanwhile
    (only_child(parent) == Some(program)).then_some((program, handle))
}

fn only_child(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
