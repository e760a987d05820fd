//! Containers: processes with limits, namespaces, a file system view and logs, without a container engine.

pub(crate) mod capabilities;
pub(crate) mod cgroup;
pub(crate) mod expand;
pub(crate) mod init;
mod isolate;
mod keep;
pub(crate) mod limits;
pub(crate) mod logs;
pub(crate) mod message;
mod mounts;
pub(crate) mod process;
pub(crate) mod sandbox;
