//! A pod's network: a small process holds the namespace and hands out sockets made in it.
//!
//! A socket belongs to the namespace it was created in, whoever uses it later. So the node never enters a pod's
//! network: it asks the sandbox for a socket, gets it over a Unix socket (`SCM_RIGHTS`), and connects it itself. That
//! works for root and in an unprivileged user namespace alike, because only the sandbox has to be inside. It costs one
//! process a pod, like the `pause` container of other runtimes.
//!
//! The conversation: the sandbox says `net`, `user` (it needed a user namespace) or why it was refused, one line; then
//! each byte from the node is answered by one byte with a socket.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::PoisonError;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socket_with,
};
use rustix::thread::UnshareFlags;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;

use super::init::own_namespaces;
use super::isolate::{loopback_up, unshare};
use super::process::{Launcher, Outputs, Running};

/// The role `sandbox` of the container init; ends with the node, which holds the other end of its stdin.
pub(super) fn serve() -> io::Result<i32> {
    let mut node = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    if !answer(&mut node, enter())? {
        return Ok(1);
    }
    let mut byte = [0];
    while node.read(&mut byte)? == 1 {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        send_descriptor(&node, socket)?;
    }
    Ok(0)
}

/// The role `probe`: whether the kernel allows a pod's namespaces and its containers'.
pub(super) fn probe() -> io::Result<i32> {
    let mut node = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let entered = enter().and_then(|how| unshare(own_namespaces()).map(|()| how));
    answer(&mut node, entered).map(|allowed| i32::from(!allowed))
}

/// Enters a new network, in a user namespace where that is needed; says which.
fn enter() -> io::Result<&'static str> {
    let network = UnshareFlags::NEWNET;
    let how = match unshare(network) {
        Ok(()) => "net",
        Err(_) => unshare(network | UnshareFlags::NEWUSER).map(|()| "user")?,
    };
    loopback_up().map(|()| how)
}

fn answer(node: &mut UnixStream, entered: io::Result<&'static str>) -> io::Result<bool> {
    match entered {
        Ok(how) => writeln!(node, "{how}").map(|()| true),
        Err(e) => writeln!(node, "{e}").map(|()| false),
    }
}

fn send_descriptor(to: &UnixStream, descriptor: OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(to, &[IoSlice::new(b"s")], &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive_descriptor(from: &impl AsFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the pod's sandbox is gone"));
    }
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.ok_or_else(|| io::Error::other("the pod's sandbox sent no socket"))
}

/// The node's side: a pod's network namespace, gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pid: u32,
    /// Whether the namespace belongs to a user namespace of its own.
    user: bool,
    socket: Mutex<tokio::net::UnixStream>,
    running: std::sync::Mutex<Option<Running>>,
}

impl Sandbox {
    /// Starts a sandbox; the inner error says why the kernel refuses network namespaces.
    pub(crate) async fn start(launcher: &Launcher) -> io::Result<Result<Self, String>> {
        let (running, mut socket) = launcher.launch(&["sandbox"], Outputs::default()).await?;
        let pid = running.id();
        let line = first_line(&mut socket).await?;
        match line.as_str() {
            "net" | "user" => {
                let user = line == "user";
                Ok(Ok(Sandbox {
                    pid,
                    user,
                    socket: Mutex::new(socket),
                    running: std::sync::Mutex::new(Some(running)),
                }))
            }
            refused => Ok(Err(refused.to_owned())),
        }
    }

    /// Whether the kernel allows all the namespaces that pods are given; the inner error says why not.
    pub(crate) async fn allowed(launcher: &Launcher) -> io::Result<Result<(), String>> {
        let (_running, mut socket) = launcher.launch(&["probe"], Outputs::default()).await?;
        Ok(match first_line(&mut socket).await?.as_str() {
            "net" | "user" => Ok(()),
            refused => Err(refused.to_owned()),
        })
    }

    /// Connects to an address inside the pod's network.
    pub(crate) async fn connect(&self, to: SocketAddrV4) -> io::Result<TcpStream> {
        let descriptor = {
            let socket = self.socket.lock().await;
            while socket.try_write(b"n").map(|n| n == 0).or_else(would_block)? {
                socket.writable().await?;
            }
            socket.async_io(Interest::READABLE, || receive_descriptor(&*socket)).await?
        };
        let stream = TcpSocket::from_std_stream(std::net::TcpStream::from(descriptor));
        stream.connect(SocketAddr::V4(to)).await
    }

    /// Ends the sandbox. Its network lasts as long as a process or a socket in it.
    pub(crate) fn close(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        running.into_iter().for_each(Running::kill);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn has_user_namespace(&self) -> bool {
        self.user
    }
}

/// Reads byte by byte: what follows the line are messages with descriptors.
async fn first_line(socket: &mut tokio::net::UnixStream) -> io::Result<String> {
    let mut line = String::new();
    loop {
        let mut byte = [0];
        if socket.read(&mut byte).await? == 0 {
            return Ok("the sandbox ended before it was ready".to_owned());
        }
        if byte[0] == b'\n' {
            return Ok(line);
        }
        line.push(char::from(byte[0]));
    }
}

fn would_block(e: io::Error) -> io::Result<bool> {
    if e.kind() == io::ErrorKind::WouldBlock { Ok(true) } else { Err(e) }
}
