//! The process that holds a container's life: it starts the program, and lets nothing of it outlive the node.
//!
//! It waits for two things: the end of the program, which it reports, and the end of the node, which it learns from the
//! socket between them: only the node holds the other end, so that it hangs up when the node is gone, however that
//! came about. A parent-death signal could not do this: the kernel clears it when a program changes its user, and a
//! process that is started in a new PID namespace cannot tell whether its parent is still alive.
//!
//! How far the keeper's own end reaches depends on where it is ([`Reach`]).

use std::fs;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, set_child_subreaper, wait,
};

use super::init::{again, close_outputs, report};
use super::message::{Report, RunSpec};

/// Between looks for orphans that have ended, where the keeper inherits them.
const REAP_INTERVAL: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// What ends with the keeper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reach {
    /// Everything: the keeper is the first process of the PID namespace, and the kernel sees to it.
    Namespace,
    /// Every descendant, also those that became daemons: the keeper inherits orphans, and kills until none is left.
    Descendants,
    /// The command alone: it runs in a container, whose own keeper holds the rest.
    Child,
}

/// Starts the program, reports to the node, and waits for its end; gives the exit code.
pub(super) fn keep(spec: &RunSpec, node: UnixStream, reach: Reach) -> io::Result<i32> {
    let mut keeper = Keeper { node, reach };
    match keeper.start(spec).and_then(|child| keeper.until_end(child)) {
        Ok(status) => {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            report(&mut keeper.node, &Report::Exited { code, signal: status.signal() })?;
            Ok(code)
        }
        Err(e) => {
            keeper.end_all();
            report(&mut keeper.node, &Report::Failed(e.to_string()))?;
            Ok(128)
        }
    }
}

struct Keeper {
    node: UnixStream,
    reach: Reach,
}

impl Keeper {
    /// Starts `exec`, and waits until it has become the program.
    fn start(&mut self, spec: &RunSpec) -> io::Result<Child> {
        if self.reach == Reach::Descendants {
            set_child_subreaper(Pid::from_raw(1))?; // any number says yes
        }
        let (mut ours, theirs) = UnixStream::pair()?;
        let mut child = again("exec").stdin(Stdio::from(OwnedFd::from(theirs))).spawn()?;
        close_outputs();
        serde_json::to_writer(&ours, spec)?;
        ours.shutdown(Shutdown::Write)?;
        let mut problem = String::new();
        // the other end closes by itself when the program replaces the init
        self.until_readable(&ours, &child)?;
        ours.read_to_string(&mut problem)?;
        if !problem.is_empty() {
            child.wait()?;
            return Err(io::Error::other(problem));
        }
        report(&mut self.node, &Report::Started)?;
        Ok(child)
    }

    fn until_end(&mut self, mut child: Child) -> io::Result<ExitStatus> {
        let pid = Pid::from_child(&child);
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        self.until_readable(&process, &child)?;
        let status = child.wait()?;
        if self.reach == Reach::Descendants {
            end_descendants();
        }
        Ok(status)
    }

    /// Waits for a descriptor. Where the node goes first, everything ends here.
    fn until_readable(&self, descriptor: &impl AsFd, child: &Child) -> io::Result<()> {
        let timeout = (self.reach == Reach::Descendants).then_some(&REAP_INTERVAL);
        loop {
            let mut watched = [
                PollFd::new(descriptor, PollFlags::IN),
                PollFd::new(&self.node, PollFlags::empty()), // a hang-up is always told
            ];
            match poll(&mut watched, timeout) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            if watched[1].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
                self.end_all();
                std::process::exit(137);
            }
            if !watched[0].revents().is_empty() {
                return Ok(());
            }
            reap_orphans(Pid::from_child(child));
        }
    }

    /// Ends what does not end with this process by itself.
    fn end_all(&self) {
        if self.reach != Reach::Namespace {
            end_descendants();
        }
    }
}

/// Takes the exit statuses of inherited orphans, but not the program's.
fn reap_orphans(program: Pid) {
    for orphan in children().into_iter().filter(|child| *child != program) {
        let _ = rustix::process::waitpid(Some(orphan), WaitOptions::NOHANG);
    }
}

/// Kills and reaps children until there are none: those of the killed become ours meanwhile.
fn end_descendants() {
    loop {
        for child in children() {
            let _ = kill_process(child, Signal::KILL);
        }
        if wait(WaitOptions::empty()).is_err() {
            return;
        }
    }
}

fn children() -> Vec<Pid> {
    let pid = std::process::id();
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw).collect()
}
