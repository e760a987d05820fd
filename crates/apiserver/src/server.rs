//! The server's public interface: opening, serving, extending and closing it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use serde_json::json;
use tokio::net::TcpListener;

use crate::admission::Rule;
use crate::kinds::Kind;
use crate::kinds::cluster::NAMESPACE;
use crate::kinds::extension::CUSTOM_RESOURCE_DEFINITION;
use crate::object::rfc3339;
use crate::open_error::OpenError;
use crate::socket::identity::Identity;
use crate::state::{Aggregated, ApiResource, ServerState};
use crate::store::disk::Disk;
pub use crate::store::repair::Repaired;
use crate::store::{Change, Key, Precondition, Store};
use crate::verbs::{expire, follow};
use crate::{crd, http, socket, uid};

/// Namespaces that every cluster has from the start.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Options of [`ApiServer::open`].
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Directory for objects, certificates and the token; `None` keeps everything in memory.
    pub state_dir: Option<PathBuf>,
}

/// Builds the change that creates a namespace without a request.
fn namespace(kind: &Kind, name: &str, now: jiff::Timestamp) -> Change {
    let mut object = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"name": name, "uid": uid::uid(), "creationTimestamp": rfc3339(now)},
    });
    kind.apply_defaults(&mut object);
    kind.prepare_for_create(&mut object, now);
    let key = Key::new(&kind.storage, "", name);
    Change { key, precondition: Precondition::Absent, object, delete: false, relaxed: false }
}

/// An embedded Kubernetes API server; clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<ServerState>,
    notices: Arc<[String]>,
}

/// Name of the data file in the state directory.
const OBJECTS_FILE: &str = "objects.redb";

impl ApiServer {
    /// Opens the store, creates the initial namespaces, and resumes deletions that an earlier run left unfinished.
    ///
    /// Must be called within a Tokio runtime.
    pub async fn open(options: Options) -> std::result::Result<Self, OpenError> {
        let (identity, disk) = match &options.state_dir {
            None => (Identity::ephemeral()?, None),
            Some(directory) => {
                socket::private_directory(directory)
                    .map_err(|error| OpenError::unusable(directory, &error))?;
                let file = directory.join(OBJECTS_FILE);
                let disk = Disk::open(&file).map_err(|error| OpenError::disk(directory, &file, error))?;
                socket::make_private(&file).map_err(|error| OpenError::unusable(&file, &error))?;
                (Identity::load_or_create(directory)?, Some(disk))
            }
        };
        let mut notices = Vec::new();
        if disk.as_ref().is_some_and(|disk| disk.rolled_back) {
            notices.push(
                "the last change before the shutdown was incomplete and has been rolled back".to_owned(),
            );
        }
        let directory = options.state_dir.clone().unwrap_or_default();
        let store = Store::open(disk)
            .map_err(|error| OpenError::disk(&directory, &directory.join(OBJECTS_FILE), error))?;
        let state = Arc::new(ServerState::new(store, identity));
        crd::load(&state);
        let server = Self { state, notices: notices.into() };
        server
            .create_namespaces()
            .await
            .map_err(|reason| OpenError::Unusable { path: options.state_dir.unwrap_or_default(), reason })?;
        server.resume();
        tokio::spawn(expire::events(Arc::downgrade(&server.state)));
        Ok(server)
    }

    /// Rebuilds a damaged data file from everything that is still readable; the damaged file is kept under another
    /// name. Leaves an intact state directory unchanged.
    pub fn repair(state_dir: &Path) -> std::result::Result<Repaired, OpenError> {
        let file = state_dir.join(OBJECTS_FILE);
        crate::store::repair::repair(&file, jiff::Timestamp::now())
            .map_err(|error| OpenError::disk(state_dir, &file, error))
    }

    /// Returns notices about the start for the operator, one sentence each.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    async fn create_namespaces(&self) -> std::result::Result<(), String> {
        let Some(kind) = self.state.registry().of_row(&NAMESPACE) else { return Ok(()) };
        let now = jiff::Timestamp::now();
        // Concurrently, so that they share one disk sync.
        let created = NAMESPACES.map(|name| self.state.store.write(namespace(&kind, name, now)));
        for created in futures::future::join_all(created).await {
            match created {
                Ok(_) | Err(crate::store::WriteError::Exists) => {}
                Err(refused) => return Err(format!("{refused:?}")),
            }
        }
        Ok(())
    }

    /// Resumes deletions of namespaces and CRDs that were under way.
    fn resume(&self) {
        for kind in self.state.registry().stored() {
            if kind.is(&NAMESPACE) || kind.is(&CUSTOM_RESOURCE_DEFINITION) {
                let (found, _) = self.state.store.list(&kind.storage, "", None);
                for stored in found {
                    let object = stored.value();
                    if crate::object::at(&object, "metadata.deletionTimestamp").is_some() {
                        follow::after_write(&self.state, &kind, &object);
                    }
                }
            }
        }
    }

    /// Adds a kind, as a line in `ROWS` does.
    #[cfg(test)]
    pub(crate) fn add_kind(&self, row: &'static crate::kinds::Row) {
        self.state.change_registry(|registry| registry.kinds.push(Arc::new(Kind::from(row))));
    }

    /// Returns the API without authentication, for clients in this process.
    pub fn router(&self) -> Router {
        let state = self.state.clone();
        Router::new().fallback(move |request: Request| http::serve(state.clone(), request))
    }

    /// Serves the API over TLS to clients with the token until `shutdown` resolves, then lets open requests finish.
    /// Also ends in-process watches: when serving stops, the server stops.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> std::io::Result<()> {
        let acceptor = self.state.identity.acceptor().map_err(std::io::Error::other)?;
        let token: Arc<str> = self.state.identity.token.as_str().into();
        socket::serve(self.state.clone(), listener, acceptor, token, shutdown).await
    }

    /// Renders a kubeconfig for the server at `address` with its CA and token. The result is a secret.
    pub fn kubeconfig(&self, address: std::net::SocketAddr) -> String {
        socket::kubeconfig::render(address, &self.state.identity.ca_pem, &self.state.identity.token)
    }

    /// Registers a node's kubelet endpoints (`/containerLogs/{namespace}/{pod}/{container}`, `/metrics/resource`
    /// …), which back `pods/log` and `nodes/{node}/proxy/…`.
    pub fn register_kubelet(&self, node: &str, router: Router) {
        self.state.add_kubelet(node, router);
    }

    /// Registers an aggregated API. Discovery lists it, and its requests reach `router` with their full path.
    pub fn register_api(&self, group: &str, version: &str, resources: Vec<ApiResource>, router: Router) {
        let (group, version) = (group.to_owned(), version.to_owned());
        self.state.add_api(Aggregated { group, version, resources, router });
    }

    /// Adds a validating admission rule for a resource, given by group ("" for core) and plural name.
    pub fn register_admission(&self, group: &str, resource: &str, rule: Rule) {
        self.state.add_admission(group, resource, rule);
    }

    /// Adds a mutating rule for new objects of a resource. The rule returns a JSON patch, as a mutating webhook
    /// does.
    pub fn register_mutation(&self, group: &str, resource: &str, rule: Rule) {
        self.state.add_mutation(group, resource, rule);
    }

    /// Ends watches, flushes pending writes, and releases the state directory. Later writes fail.
    pub fn close(&self) {
        self.state.end_watches();
        self.state.store.close();
    }
}
