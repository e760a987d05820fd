//! The few things a container's init asks of the kernel: new namespaces, entering those of another process, a loopback
//! device.
//!
//! The only `unsafe` of this crate is here, and no file descriptor table is ever unshared, which is what would make it so.

use std::fs;
use std::io;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, netlink, sendto, socket_with};
use rustix::process::{Pid, PidfdFlags, getgid, getuid, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};

/// Moves this process into new namespaces; with `NEWUSER`, as root of a user namespace that holds only its own user.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    #[expect(unsafe_code, reason = "only `FILES` is unsafe, which nobody passes")]
    // SAFETY: `unshare_unsafe` is unsafe for `UnshareFlags::FILES` alone
    unsafe {
        rustix::thread::unshare_unsafe(flags)?;
    }
    if flags.contains(UnshareFlags::NEWUSER) {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    Ok(())
}

/// Enters namespaces of another process.
pub(crate) fn enter(pid: u32, namespaces: ThreadNameSpaceType) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    Ok(move_into_thread_name_spaces(rustix::fd::AsFd::as_fd(&process), namespaces)?)
}

/// Takes the loopback device of a new network namespace up; the kernel then gives it 127.0.0.1/8.
pub(crate) fn loopback_up() -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST: u16 = 1;
    const LOOPBACK_INDEX: i32 = 1; // the first device of every network namespace
    const IFF_UP: u32 = 1;
    let mut message = Vec::with_capacity(32);
    // struct nlmsghdr: length, type, flags, sequence, port
    message.extend(32u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    // struct ifinfomsg: family, padding, device type, index, flags, which flags to change
    message.extend([0; 4]);
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    // the kernel handles the message before this returns; without NLM_F_ACK it answers only errors
    sendto(&socket, &message, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))?;
    Ok(())
}
