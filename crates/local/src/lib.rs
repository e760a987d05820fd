//! Pods, workload controllers and Services on this machine, through the Kubernetes API only.
//!
//! [`World::start`] joins a machine to an API server, embedded or not: it registers a node and runs the pods bound to it
//! as processes (`node`, `container`), does what a cluster's controllers and scheduler do (`controllers`), and
//! listens for Services (`service`). All of it watches the API through one set of caches (`cluster`) and knows nothing of
//! who else writes there.
//!
//! Containers are started by executing the binary again as `container-init`; that subcommand's body is
//! [`container_init`]. Where the kernel refuses control groups or namespaces, [`World::notices`] says so and the rest goes on.
#![allow(clippy::disallowed_methods, reason = "this crate is where the machine is touched")]

mod cluster;
mod container;
mod controllers;
mod hash;
mod image;
mod node;
mod quantity;
mod requests;
mod service;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinSet;

use cluster::Cluster;
use container::cgroup::Cgroups;
use container::process::Launcher;
use container::sandbox::Sandbox;
use node::{Node, Parts};

pub use container::init::container_init;
pub use image::{Image, ImageError, ImageMap};

/// What a world is made from.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node's name in the API, `flyball` by default.
    pub node_name: String,
    /// The programs that images name.
    pub images: ImageMap,
    /// The command that executes this binary as a container's init: program and arguments, to which a role and a pid
    /// are added, for example `[/proc/self/exe, container-init]`.
    pub init: Vec<String>,
    /// Where containers' logs are kept, at most 40 MiB for each container.
    pub log_dir: PathBuf,
    /// Where pods' volumes are made.
    pub pod_dir: PathBuf,
    /// Folders and files that no container may see, but for the volumes that it is given from there: logs and volumes of
    /// other pods, and what else belongs to this program.
    pub private: Vec<PathBuf>,
}

impl Options {
    /// Options with logs and volumes below `dir`, for a binary whose `container-init` subcommand is [`container_init`].
    #[must_use]
    pub fn below(dir: &Path) -> Self {
        Options {
            node_name: "flyball".to_owned(),
            images: ImageMap::default(),
            init: vec!["/proc/self/exe".to_owned(), "container-init".to_owned()],
            log_dir: dir.join("logs"),
            pod_dir: dir.join("pods"),
            private: vec![dir.join("logs"), dir.join("pods")],
        }
    }
}

/// Why a world could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory of [`Options`] cannot be made or used.
    #[error("directory `{}`: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// This binary cannot be executed as `container-init`.
    #[error("container init: {0}")]
    Init(io::Error),
}

/// A machine that runs what the API says. Dropping it kills every container at once; [`World::stop`] lets them end.
pub struct World {
    node: Node,
    kubelet: axum::Router,
    tasks: JoinSet<()>,
}

impl World {
    /// Registers the node and starts controllers, pods and Services; returns when all caches are filled.
    ///
    /// # Errors
    /// When a directory cannot be used or this binary cannot be executed again. What the kernel refuses beyond that
    /// is no error: see [`World::notices`].
    pub async fn start(client: kube::Client, options: Options) -> Result<Self, StartError> {
        for path in [&options.log_dir, &options.pod_dir] {
            make_private(path).map_err(|source| StartError::Directory { path: path.clone(), source })?;
        }
        // volumes of a world that was killed: their pods have ended with it, and begin with new ones
        remove_contents(&options.pod_dir);
        let launcher = Launcher::new(options.init).map_err(StartError::Init)?;
        let mut notices = Vec::new();
        let isolated = match Sandbox::allowed(&launcher).await.map_err(StartError::Init)? {
            Ok(()) => true,
            Err(why) => {
                notices.push(format!(
                    "namespaces are refused ({why}): pods share this machine's network and processes, get their ports by $PORT, see no volumes at their mount paths, and can read this program's files, the token of the API among them"
                ));
                false
            }
        };
        let cgroups = match Cgroups::open() {
            Ok(cgroups) => {
                notices.extend(
                    cgroups.notices().into_iter().map(|n| format!("{n}: these limits are not enforced")),
                );
                Some(cgroups)
            }
            Err(why) => {
                notices.push(format!("no control group can be made ({why}): limits are not enforced"));
                None
            }
        };
        let mut tasks = JoinSet::new();
        let cluster = Cluster::start(client, &mut tasks).await;
        let parts = Parts {
            name: options.node_name.clone(),
            cluster: cluster.acting_as("kubelet"),
            images: options.images,
            log_dir: options.log_dir,
            pod_dir: options.pod_dir,
            private: options.private,
            launcher,
            cgroups,
            isolated,
            notices,
        };
        let node = Node::start(parts, &mut tasks).await;
        let services = service::start(&cluster, &node.network, &mut tasks);
        controllers::start(&cluster, &options.node_name, &mut tasks);
        let kubelet = node.router().merge(services);
        Ok(World { node, kubelet, tasks })
    }

    /// What the API server and scrapers ask a node: `/containerLogs/{namespace}/{pod}/{container}`,
    /// `/metrics/resource`, `/metrics` (the Services' proxies), `/healthz`.
    pub fn kubelet(&self) -> axum::Router {
        self.kubelet.clone()
    }

    /// What this machine refuses and what follows from it, a sentence each; empty where all is well.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.node.notices
    }

    /// Stops Services and controllers, then every container, SIGTERM first and after at most ten seconds SIGKILL. The objects
    /// stay as they are, so that the next start brings everything back. What has not ended after [`STOP_MAX`] is left to
    /// the kernel, which ends it with this program. Whether all had ended.
    pub async fn stop(mut self) -> bool {
        let stopped = async {
            self.tasks.shutdown().await;
            self.node.stop().await;
        };
        tokio::time::timeout(STOP_MAX, stopped).await.is_ok()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.node.abandon();
    }
}

/// A stop takes no longer: the ten seconds that pods are given at most, and time to clean up.
pub const STOP_MAX: Duration = Duration::from_secs(20);

fn remove_contents(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

/// Makes a directory that only this user can read: logs and Secrets are in it.
fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}
