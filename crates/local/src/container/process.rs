//! Starting containers' processes and hearing how they end: the node's side of `init`.
//!
//! The kernel ties "die with your parent" to the parent *thread*. So one thread starts every init and lives as long as
//! its world: dropping the [`Launcher`] and everything that holds a clone of it ends the thread, and with it every container.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

use super::message::{Report, RunSpec};

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
    reply: oneshot::Sender<io::Result<Child>>,
}

/// An init that was started; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// Takes the exit status of an init that has ended or is about to, so that no zombie stays.
    async fn reap(mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = tokio::task::spawn_blocking(move || child.wait()).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Launcher {
    /// Starts the thread. `init` is the command that executes this binary as `container-init`.
    pub(crate) fn new(init: Vec<String>) -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel::<Request>();
        std::thread::Builder::new().name("container-launcher".into()).spawn(move || {
            for mut request in inbox {
                let _ = request.reply.send(request.command.spawn());
            }
        })?;
        Ok(Launcher { requests, init: Arc::new(init) })
    }

    /// Starts an init in one of its roles; the socket is its stdin.
    pub(crate) async fn launch(&self, role: &str, outputs: Outputs) -> io::Result<(Running, UnixStream)> {
        let (program, args) = self.init.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let output = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, Stdio::from);
        let mut command = Command::new(program);
        command.args(args).args([role, &std::process::id().to_string()]);
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        command.stdout(output(outputs.stdout)).stderr(output(outputs.stderr));
        let (reply, started) = oneshot::channel();
        let gone = || io::Error::other("the launcher thread has ended");
        self.requests.send(Request { command, reply }).map_err(|_| gone())?;
        let child = started.await.map_err(|_| gone())?.map_err(|e| {
            io::Error::new(e.kind(), format!("container init `{program}` cannot be started: {e}"))
        })?;
        Ok((Running(Some(child)), UnixStream::from_std(ours)?))
    }

    /// Starts a program as `spec` says and waits until it runs.
    ///
    /// # Errors
    /// What the kernel refused, with the step: a cgroup, a mount, the working directory, the program itself.
    pub(crate) async fn run(&self, spec: &RunSpec, outputs: Outputs) -> io::Result<Process> {
        let (running, mut socket) = self.launch("run", outputs).await?;
        socket.write_all(&serde_json::to_vec(spec)?).await?;
        socket.shutdown().await?;
        let mut reports = BufReader::new(socket).lines();
        let mut created = None;
        while let Some(line) = reports.next_line().await? {
            match serde_json::from_str(&line)? {
                Report::Created { pid } => created = Some(pid),
                Report::Started => {
                    let pid = created.ok_or_else(|| io::Error::other("container init reported no pid"))?;
                    return Process::follow(pid, running, reports);
                }
                Report::Failed(problem) => {
                    running.reap().await;
                    return Err(io::Error::other(problem));
                }
                Report::Exited { code, .. } => {
                    return Err(io::Error::other(format!("container init ended with exit code {code}")));
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "container init ended before the program started"))
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exit {
    /// 128 + signal when a signal ended it.
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
}

/// A started program. Dropping it kills its init and thereby all that runs in the container.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    /// `None`: it had ended before it could be taken hold of.
    handle: Option<OwnedFd>,
    exit: watch::Receiver<Option<Exit>>,
    _kill: oneshot::Sender<()>,
}

impl Process {
    fn follow(
        pid: u32,
        running: Running,
        mut reports: tokio::io::Lines<BufReader<UnixStream>>,
    ) -> io::Result<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        let handle = pidfd_open(raw, PidfdFlags::empty()).ok();
        let (ended, exit) = watch::channel(None);
        let (kill, killed) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let line = tokio::select! {
                line = reports.next_line() => line,
                _ = killed => return, // dropping `running` kills
            };
            let exit = match line.ok().flatten().map(|line| serde_json::from_str(&line)) {
                Some(Ok(Report::Exited { code, signal })) => Exit { code, signal },
                _ => Exit { code: 137, signal: Some(9) }, // the init itself was killed, and the container with it
            };
            running.reap().await;
            let _ = ended.send(Some(exit));
        });
        Ok(Process { pid, handle, exit, _kill: kill })
    }

    /// The number of the container's first process on this machine.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Signals the container's first process; one that has ended is left alone.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(handle) = &self.handle {
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
