//! The body of the hidden `container-init` subcommand: this binary, executed again as the first process of a container.
//!
//! Executing the binary again means that nothing but an `exec` happens after a `fork` of the many-threaded node; all that
//! is delicate happens here, in a process with one thread. Three roles, named by the first argument:
//!
//! - `run`: reads a [`RunSpec`] from its stdin (a socket), enters the namespaces, starts `exec` as a child, reports the
//!   child's pid, start and end on the socket. A PID namespace begins with a child, hence two processes.
//! - `exec`: enters the control group, mounts, and becomes the program. It is PID 1 of the container, so the kernel kills
//!   the whole container with it.
//! - `sandbox`: holds a pod's network namespace and hands out sockets made in it (`sandbox`).
//!
//! Each dies with its parent (`PR_SET_PDEATHSIG`), so a node killed with SIGKILL takes every container with it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

use super::isolate::{die_with, enter, unshare};
use super::message::{Namespaces, Report, RunSpec};
use super::{mounts, sandbox};

/// Runs one role; `args` are the arguments after `container-init`: a role and the parent's pid.
///
/// Must be called before the process starts a second thread. When the container has ended, exits with its exit code.
///
/// # Errors
/// When called by hand, or when the kernel refuses something before the container's node can be told.
pub fn container_init(args: impl IntoIterator<Item = String>) -> io::Error {
    let mut args = args.into_iter();
    let role = args.next().unwrap_or_default();
    let Some(parent) = args.next().and_then(|pid| pid.parse().ok()) else {
        return io::Error::new(
            io::ErrorKind::InvalidInput,
            "container-init is started by the node, not by hand",
        );
    };
    let _ = rustix::process::setsid(); // Ctrl-C in a terminal is for the node alone
    let done = match role.as_str() {
        "run" => run(parent),
        "exec" => exec(parent),
        "sandbox" => sandbox::serve(parent),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("unknown role `{role}`"))),
    };
    match done {
        Ok(code) => std::process::exit(code),
        Err(e) => e,
    }
}

fn run(parent: u32) -> io::Result<i32> {
    let mut node = stdin_socket()?;
    let spec = read_spec(&mut node)?;
    let ended = isolate(&spec.namespaces).and_then(|()| {
        die_with(parent)?;
        start_and_wait(&spec, &mut node)
    });
    match ended {
        Ok(status) => {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            report(&mut node, &Report::Exited { code, signal: status.signal() })?;
            Ok(code)
        }
        Err(e) => {
            report(&mut node, &Report::Failed(e.to_string()))?;
            Ok(128)
        }
    }
}

fn isolate(namespaces: &Namespaces) -> io::Result<()> {
    let with_user = |user: bool, others| if user { others | ThreadNameSpaceType::USER } else { others };
    match *namespaces {
        Namespaces::Host => Ok(()),
        Namespaces::Pod { sandbox, user } => {
            enter(sandbox, with_user(user, ThreadNameSpaceType::NETWORK))?;
            let own =
                UnshareFlags::NEWPID | UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
            unshare(own)
        }
        Namespaces::Container { pid, user } => {
            let all = ThreadNameSpaceType::NETWORK
                | ThreadNameSpaceType::PROCESS_ID
                | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
                | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
            enter(pid, with_user(user, all))
        }
    }
}

fn start_and_wait(spec: &RunSpec, node: &mut UnixStream) -> io::Result<ExitStatus> {
    let (mut ours, theirs) = UnixStream::pair()?;
    // inside a container's mounts the path of this binary may mean nothing: the link still does
    let mut child = Command::new("/proc/self/exe")
        .args(init_arguments())
        .args(["exec", &std::process::id().to_string()])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    report(node, &Report::Created { pid: child.id() })?;
    close_outputs();
    serde_json::to_writer(&ours, spec)?;
    ours.shutdown(Shutdown::Write)?;
    let mut problem = String::new();
    // the other end closes by itself when the program replaces the init
    ours.read_to_string(&mut problem)?;
    if !problem.is_empty() {
        child.wait()?;
        return Err(io::Error::other(problem));
    }
    report(node, &Report::Started)?;
    child.wait()
}

/// The arguments that lead to this subcommand: all but the last two, which are the role and the parent's pid.
fn init_arguments() -> Vec<String> {
    let mut all: Vec<String> = std::env::args().skip(1).collect();
    all.truncate(all.len().saturating_sub(2));
    all
}

/// Lets go of the log pipes: they must end with the container, not with its init.
fn close_outputs() {
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

fn exec(parent: u32) -> io::Result<i32> {
    let mut socket = stdin_socket()?;
    let spec = read_spec(&mut socket)?;
    let problem = match prepare(&spec, parent) {
        Ok(()) => become_program(&spec),
        Err(e) => e,
    };
    write!(socket, "{problem}")?;
    Ok(128)
}

fn prepare(spec: &RunSpec, parent: u32) -> io::Result<()> {
    die_with(parent)?;
    for entrance in &spec.cgroup_entrances {
        fs::write(entrance, "0").map_err(|e| with(e, &format!("cgroup {}", entrance.display())))?;
    }
    match spec.namespaces {
        Namespaces::Host => {}
        Namespaces::Pod { .. } => {
            if let Some(hostname) = &spec.hostname {
                rustix::system::sethostname(hostname.as_bytes())?;
            }
            mounts::mount_all(spec)?;
        }
        Namespaces::Container { pid, .. } => mounts::enter_those_of(pid)?,
    }
    if let Some(dir) = &spec.working_dir {
        std::env::set_current_dir(dir)
            .map_err(|e| with(e, &format!("working directory `{}`", dir.display())))?;
    }
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(())
}

fn become_program(spec: &RunSpec) -> io::Error {
    let Some((program, args)) = spec.argv.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no command");
    };
    let error = Command::new(program).args(args).env_clear().envs(spec.env.iter().cloned()).exec();
    if error.kind() == io::ErrorKind::NotFound && !program.contains('/') {
        return io::Error::new(
            error.kind(),
            format!("exec: \"{program}\": executable file not found in $PATH"),
        );
    }
    with(error, &format!("exec: \"{program}\""))
}

/// The socket that came as stdin, under a number that `exec` closes.
fn stdin_socket() -> io::Result<UnixStream> {
    Ok(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
}

fn read_spec(socket: &mut UnixStream) -> io::Result<RunSpec> {
    let mut text = Vec::new();
    socket.read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn report(node: &mut UnixStream, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    node.write_all(&line)
}

fn with(e: io::Error, what: &str) -> io::Error {
    io::Error::new(e.kind(), format!("{what}: {e}"))
}
