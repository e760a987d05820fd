//! What a container sees as its file system: the machine's, or a folder with one of its own, with the pod's volumes in
//! their places and a fresh `/proc`.
//!
//! A place that does not exist is never made on the machine. Its nearest existing parent is covered by a mirror instead:
//! an empty file system in memory in which every entry of the parent is bound again, and the missing place is made.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change, mount_remount,
};

use rustix::process::fchdir;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::message::{Mount, RunSpec};

/// Mounts everything in this process' own mount namespace.
pub(crate) fn mount_all(spec: &RunSpec) -> io::Result<()> {
    // changes on the machine still arrive here, ours never arrive there
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let mut mirrors = Mirrors { scratch: spec.scratch.clone(), made: 0 };
    match &spec.root {
        Some(root) => enter_root(root, &spec.mounts)?,
        None => {
            for volume in &spec.mounts {
                mirrors.provide(&volume.target, volume.source.is_dir()).map_err(|e| at(e, volume))?;
                bind(volume, &volume.target)?;
            }
        }
    }
    // refused in some nested containers; programs then see the machine's processes, which does no harm
    let _ = mount("proc", "/proc", "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None);
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
    rustix::process::chroot(root)?;
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
            rustix::process::chroot(&mirror)?;
            return std::env::set_current_dir("/");
        }
        Ok(mount_bind_recursive(&mirror, parent)?)
    }
}

/// A file that only mirrors have, so that no mirror is made of a mirror.
const MIRROR_MARK: &str = ".flyball-mirror";

fn tmpfs_made_here(parent: &Path, scratch: Option<&Path>) -> bool {
    scratch.is_some() && parent.join(MIRROR_MARK).exists()
}
