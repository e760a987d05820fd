//! What a container sees as its file system: the machine's, or a folder with one of its own, with the pod's volumes in
//! their places and a fresh `/proc`.
//!
//! A place that does not exist is never made on the machine. Its nearest existing parent is covered by a mirror instead:
//! an empty file system in memory in which every entry of the parent is bound again, and the missing place is made.
//!
//! What belongs to the node alone (its store, its keys, other pods' volumes) is covered by an empty file system that
//! cannot be written. A program without `CAP_SYS_ADMIN`, which it has only if it is privileged, cannot take it away.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use rustix::process::fchdir;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::message::{Mount, RunSpec};

/// Mounts everything in this process' own mount namespace.
pub(crate) fn mount_all(spec: &RunSpec) -> io::Result<()> {
    // changes on the machine still arrive here, ours never arrive there
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let mut mirrors = Mirrors { scratch: spec.scratch.clone(), made: 0 };
    let is_hidden = |volume: &&Mount| spec.hidden.iter().any(|hidden| volume.target.starts_with(hidden));
    match &spec.root {
        Some(root) => enter_root(root, &spec.mounts)?,
        None => {
            for volume in spec.mounts.iter().filter(|volume| !is_hidden(volume)) {
                mirrors.provide(&volume.target, volume.source.is_dir()).map_err(|e| at(e, volume))?;
                bind(volume, &volume.target)?;
            }
            hide(&spec.hidden, spec.mounts.iter().filter(is_hidden))?;
            mount_proc(Path::new("/proc"));
        }
    }
    Ok(())
}

/// Refused in some nested containers; programs then see the machine's processes, but cannot trace them.
fn mount_proc(place: &Path) {
    let _ = mount("proc", place, "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None);
}

/// Covers what a container must not see, but for the volumes that it is given right there.
fn hide<'a>(hidden: &[PathBuf], volumes: impl Iterator<Item = &'a Mount>) -> io::Result<()> {
    // a source may be about to be covered: what is opened now can still be bound then
    let open = |volume: &'a Mount| -> io::Result<(OwnedFd, bool, &Mount)> {
        let source = rustix::fs::open(&volume.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        Ok((source.map_err(|e| at(e.into(), volume))?, volume.source.is_dir(), volume))
    };
    let volumes: Vec<(OwnedFd, bool, &Mount)> = volumes.map(open).collect::<io::Result<_>>()?;
    let named = |e: rustix::io::Errno, path: &Path| {
        let e = io::Error::from(e);
        io::Error::new(e.kind(), format!("hiding of {}: {e}", path.display()))
    };
    let mut covered = Vec::new();
    for path in hidden {
        if path.is_dir() {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("tmpfs", path, "tmpfs", flags, Some(c"mode=555")).map_err(|e| named(e, path))?;
            covered.push((path, flags));
        } else if path.exists() {
            mount_bind("/dev/null", path).map_err(|e| named(e, path))?;
        }
    }
    for (source, is_dir, volume) in volumes {
        make_mount_point(&volume.target, is_dir).map_err(|e| at(e, volume))?;
        let source = PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
        bind(&Mount { source, ..volume.clone() }, &volume.target)?;
    }
    for (path, flags) in covered {
        mount_remount(path, flags | MountFlags::RDONLY, "").map_err(|e| named(e, path))?;
    }
    Ok(())
}

/// Sees the file system as a process of a running container does.
///
/// The machine's `/proc` is still in view here, so the container's first process is found by its number on the machine.
pub(crate) fn enter_those_of(pid: u32) -> io::Result<()> {
    let namespace = fs::File::open(format!("/proc/{pid}/ns/mnt"))?;
    let root = fs::File::open(format!("/proc/{pid}/root"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
    fchdir(&root)?;
    rustix::process::chroot(".")?;
    std::env::set_current_dir("/")
}

fn enter_root(root: &Path, volumes: &[Mount]) -> io::Result<()> {
    let named =
        |e: io::Error| io::Error::new(e.kind(), format!("root file system `{}`: {e}", root.display()));
    mount_bind_recursive(root, root).map_err(|e| named(e.into()))?;
    for dir in ["proc", "dev"] {
        fs::create_dir_all(root.join(dir)).map_err(named)?;
    }
    mount_bind_recursive("/dev", root.join("dev"))?;
    for volume in volumes {
        let target = root.join(volume.target.strip_prefix("/").unwrap_or(&volume.target));
        make_mount_point(&target, volume.source.is_dir()).map_err(|e| at(e, volume))?;
        bind(volume, &target)?;
    }
    mount_proc(&root.join("proc"));
    change_root(root)
}

/// Makes a mount point the root, and lets go of the old one, so that no way leads back.
fn change_root(root: &Path) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    match rustix::process::pivot_root(".", ".") {
        // the old root now lies over the new one
        Ok(()) => unmount(".", UnmountFlags::DETACH)?,
        // on an initial RAM disk
        Err(_) => rustix::process::chroot(".")?,
    }
    std::env::set_current_dir("/")
}

fn bind(volume: &Mount, target: &Path) -> io::Result<()> {
    let bound = || -> io::Result<()> {
        mount_bind(&volume.source, target)?;
        if volume.read_only {
            mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, "")?;
        }
        Ok(())
    };
    bound().map_err(|e| at(e, volume))
}

fn at(e: io::Error, volume: &Mount) -> io::Error {
    let (source, target) = (volume.source.display(), volume.target.display());
    io::Error::new(e.kind(), format!("mount of {source} at {target}: {e}"))
}

fn make_mount_point(path: &Path, directory: bool) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if directory {
        return fs::create_dir_all(path);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, "")
}

struct Mirrors {
    scratch: Option<PathBuf>,
    made: usize,
}

impl Mirrors {
    fn provide(&mut self, target: &Path, directory: bool) -> io::Result<()> {
        if target.exists() {
            return Ok(());
        }
        let parent = target.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/")).to_owned();
        let already = tmpfs_made_here(&parent, self.scratch.as_deref());
        if !already {
            self.mirror(&parent)?;
        }
        make_mount_point(target, directory)
    }

    fn mirror(&mut self, parent: &Path) -> io::Result<()> {
        let scratch = self.scratch.as_ref().ok_or_else(|| io::Error::other("no room for mount points"))?;
        let mirror = scratch.join(self.made.to_string());
        self.made += 1;
        fs::create_dir_all(&mirror)?;
        mount("tmpfs", &mirror, "tmpfs", MountFlags::empty(), Some(c"mode=755"))?;
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            let (from, to) = (entry.path(), mirror.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                symlink(fs::read_link(&from)?, &to)?;
                continue;
            }
            make_mount_point(&to, kind.is_dir())?;
            mount_bind_recursive(&from, &to)?;
        }
        fs::write(mirror.join(MIRROR_MARK), "")?;
        if parent == Path::new("/") {
            return change_root(&mirror);
        }
        Ok(mount_bind_recursive(&mirror, parent)?)
    }
}

/// A file that only mirrors have, so that no mirror is made of a mirror.
const MIRROR_MARK: &str = ".flyball-mirror";

fn tmpfs_made_here(parent: &Path, scratch: Option<&Path>) -> bool {
    scratch.is_some() && parent.join(MIRROR_MARK).exists()
}
