//! The body of the hidden `container-init` subcommand: this binary, executed again around and inside a container.
//!
//! Executing the binary again means that nothing but an `exec` happens after a `fork` of the many-threaded node; all that
//! is delicate happens here, in processes with one thread. Four roles, named by the first argument:
//!
//! - `run`: enters the namespaces that its second argument names, starts `keep` in them, and waits for it. A PID
//!   namespace begins with a child, hence a process on either side.
//! - `keep`: the first process of the container's PID namespace, and always ours. It starts `exec`, reports how that
//!   goes, and ends when the node does (`keep`): the kernel then ends everything else in the namespace.
//! - `exec`: enters the control group, mounts, gives up rights, and becomes the program. It is PID 1 of a further
//!   namespace inside the keeper's, so that programs see what they see in a cluster.
//! - `sandbox`: holds a pod's network namespace and hands out sockets made in it (`sandbox`).
//!
//! What they have in common is their stdin: a socket whose other end only the node holds. When the node is gone, for
//! whatever reason, the kernel closes that end, and each of them ends by itself.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    ThreadNameSpaceType, UnshareFlags, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::capabilities;
use super::isolate::{enter, unshare};
use super::keep::{Reach, keep};
use super::message::{Identity, Namespaces, Report, RunSpec};
use super::{mounts, sandbox};

/// Runs one role; `args` are the arguments after `container-init`.
///
/// Must be called before the process starts a second thread. When the container has ended, exits with its exit code.
///
/// # Errors
/// When called by hand, or when the kernel refuses something before the container's node can be told.
pub fn container_init(args: impl IntoIterator<Item = String>) -> io::Error {
    let mut args = args.into_iter();
    let role = args.next().unwrap_or_default();
    let _ = rustix::process::setsid(); // Ctrl-C in a terminal is for the node alone
    let done = match role.as_str() {
        "run" => run(&args.next().unwrap_or_default()),
        "keep" => keep_container(),
        "exec" => exec(),
        "sandbox" => sandbox::serve(),
        "probe" => sandbox::probe(),
        _ => {
            let problem = "container-init is started by the node, not by hand";
            Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
        }
    };
    match done {
        Ok(code) => std::process::exit(code),
        Err(e) => e,
    }
}

/// The namespaces that every container has for itself.
pub(super) fn own_namespaces() -> UnshareFlags {
    UnshareFlags::NEWPID | UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS
}

fn run(namespaces: &str) -> io::Result<i32> {
    let namespaces: Namespaces = serde_json::from_str(namespaces)?;
    if let Err(e) = isolate(&namespaces) {
        report(&mut stdin_socket()?, &Report::Failed(e.to_string()))?;
        return Ok(128);
    }
    match namespaces {
        Namespaces::Pod { .. } => {
            // the keeper takes the socket over
            let mut keeper = again("keep").spawn()?;
            close_outputs();
            Ok(keeper.wait()?.code().unwrap_or(137))
        }
        Namespaces::Container { .. } => keep_with(Reach::Child),
        Namespaces::Host => keep_with(Reach::Descendants),
    }
}

fn isolate(namespaces: &Namespaces) -> io::Result<()> {
    let with_user = |user: bool, others| if user { others | ThreadNameSpaceType::USER } else { others };
    match *namespaces {
        Namespaces::Host => Ok(()),
        Namespaces::Pod { sandbox, user } => {
            enter(sandbox, with_user(user, ThreadNameSpaceType::NETWORK))?;
            unshare(own_namespaces())
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

fn keep_container() -> io::Result<i32> {
    let unshared = unshare(UnshareFlags::NEWPID);
    if let Err(e) = unshared {
        report(&mut stdin_socket()?, &Report::Failed(e.to_string()))?;
        return Ok(128);
    }
    keep_with(Reach::Namespace)
}

fn keep_with(reach: Reach) -> io::Result<i32> {
    let mut node = stdin_socket()?;
    let spec = read_spec(&mut node)?;
    keep(&spec, node, reach)
}

/// This binary again, in another role. Inside a container's mounts its path may mean nothing: the link still does.
pub(super) fn again(role: &str) -> Command {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let own = arguments.iter().position(|argument| matches!(argument.as_str(), "run" | "keep"));
    arguments.truncate(own.unwrap_or(arguments.len()));
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments).arg(role);
    command
}

/// Lets go of the log pipes: they must end with the container, not with what is around it.
pub(super) fn close_outputs() {
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

fn exec() -> io::Result<i32> {
    let mut socket = stdin_socket()?;
    let spec = read_spec(&mut socket)?;
    let problem = match prepare(&spec) {
        Ok(()) => become_program(&spec),
        Err(e) => e,
    };
    write!(socket, "{problem}")?;
    Ok(128)
}

fn prepare(spec: &RunSpec) -> io::Result<()> {
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
    take_on(&spec.identity)
}

/// Leaves the program the rights that its security context gives it. The user comes last: who has changed it may not
/// change the rest any more.
fn take_on(identity: &Identity) -> io::Result<()> {
    if let Some(allowed) = identity.capabilities {
        capabilities::keep_only(allowed).map_err(|e| with(e, "capabilities"))?;
    }
    if identity.no_new_privileges {
        set_no_new_privs(true)?;
    }
    if identity.user.is_some() || identity.group.is_some() || !identity.groups.is_empty() {
        let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups).map_err(|e| with(e.into(), "supplementalGroups"))?;
    }
    if let Some(group) = identity.group.map(Gid::from_raw) {
        set_thread_res_gid(group, group, group).map_err(|e| with(e.into(), "runAsGroup"))?;
    }
    if let Some(user) = identity.user.map(Uid::from_raw) {
        set_thread_res_uid(user, user, user).map_err(|e| with(e.into(), "runAsUser"))?;
    }
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

pub(super) fn report(node: &mut UnixStream, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    node.write_all(&line)
}

fn with(e: io::Error, what: &str) -> io::Error {
    io::Error::new(e.kind(), format!("{what}: {e}"))
}
