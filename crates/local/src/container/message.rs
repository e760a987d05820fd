//! What the node tells a container's init, and what it hears back: JSON over the socket that is the init's stdin.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything an init needs to become a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunSpec {
    pub(crate) namespaces: Namespaces,
    /// Files into which the container's process writes `0` to enter its control group.
    pub(crate) cgroup_entrances: Vec<PathBuf>,
    /// A folder that becomes `/`; `None` keeps the machine's.
    pub(crate) root: Option<PathBuf>,
    pub(crate) mounts: Vec<Mount>,
    /// An empty directory for mount points that do not exist on this machine.
    pub(crate) scratch: Option<PathBuf>,
    pub(crate) hostname: Option<String>,
    pub(crate) working_dir: Option<PathBuf>,
    /// Folders and files of the node that the container must not see.
    pub(crate) hidden: Vec<PathBuf>,
    pub(crate) identity: Identity,
    /// Program and arguments; never empty.
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
}

/// Who a program runs as, and with which rights; by default as the node itself does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// The capabilities that are left, as the kernel's bits; `None`: all.
    pub(crate) capabilities: Option<u64>,
    pub(crate) no_new_privileges: bool,
}

/// Where a process runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Namespaces {
    /// In the machine's own.
    #[default]
    Host,
    /// In its pod's network, with PIDs and mounts of its own.
    Pod {
        /// The process that holds the pod's network namespace.
        sandbox: u32,
        /// Whether that process also holds a user namespace.
        user: bool,
    },
    /// In all those of a running container (for exec probes and hooks).
    Container {
        /// The container's first process.
        pid: u32,
        /// Whether it is in a user namespace.
        user: bool,
    },
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
}

/// What an init reports, one line of JSON each, in this order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The program runs.
    Started,
    /// The program could not be started: why.
    Failed(String),
    /// It ended.
    Exited {
        /// Exit code; 128 + signal when a signal ended it.
        code: i32,
        /// The signal, if one ended it.
        signal: Option<i32>,
    },
}
