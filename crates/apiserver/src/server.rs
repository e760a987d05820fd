//! The server as other crates see it: how it is opened, reached and closed.

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
use crate::object::second;
use crate::open_error::OpenError;
use crate::socket::identity::Identity;
use crate::state::{Aggregated, ApiResource, ServerState};
use crate::store::disk::Disk;
pub use crate::store::repair::Repaired;
use crate::store::{Change, Expected, Key, Store};
use crate::verbs::{expire, follow};
use crate::{crd, http, socket, uid};

/// Namespaces that exist from the start, as in every cluster.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where objects, certificates and the token are kept; `None` keeps everything in memory.
    pub state_dir: Option<PathBuf>,
}

/// The creation of a namespace that no request asked for.
fn namespace(kind: &Kind, name: &str, now: jiff::Timestamp) -> Change {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "uid": uid::uid(), "creationTimestamp": second(now)},
    });
    kind.apply_defaults(&mut object);
    kind.prepare_for_create(&mut object, now);
    let key = Key::new(&kind.storage, "", name);
    Change { key, expected: Expected::Absent, object, delete: false, relaxed: false }
}

/// An embedded Kubernetes API server; clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<ServerState>,
    notices: Arc<[String]>,
}

/// The file in the state directory that has all objects.
const OBJECTS_FILE: &str = "objects.redb";

impl ApiServer {
    /// Opens the store, creates what every cluster has, and takes up what an earlier run left undone.
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
                (Identity::kept(directory)?, Some(disk))
            }
        };
        let mut notices = Vec::new();
        if disk.as_ref().is_some_and(|disk| disk.rolled_back) {
            notices.push("the last change before the stop was not written whole, and is left out".to_owned());
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

    /// Makes a new data file with all that can be read from a damaged one, which is kept beside it under another name.
    /// A state directory that is whole is left as it is.
    pub fn repair(state_dir: &Path) -> std::result::Result<Repaired, OpenError> {
        let file = state_dir.join(OBJECTS_FILE);
        crate::store::repair::repair(&file, jiff::Timestamp::now())
            .map_err(|error| OpenError::disk(state_dir, &file, error))
    }

    /// What the owner should know about the start, in sentences.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    async fn create_namespaces(&self) -> std::result::Result<(), String> {
        let Some(kind) = self.state.registry().find("", "v1", "namespaces") else { return Ok(()) };
        let now = jiff::Timestamp::now();
        // all at once, so that they share a sync of the disk
        let created = NAMESPACES.map(|name| self.state.store.write(namespace(&kind, name, now)));
        for created in futures::future::join_all(created).await {
            match created {
                Ok(_) | Err(crate::store::Refused::Exists) => {}
                Err(refused) => return Err(format!("{refused:?}")),
            }
        }
        Ok(())
    }

    /// Deletions of namespaces and CRDs that were under way.
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

    /// Adds a kind, as a line in the table does.
    #[cfg(test)]
    pub(crate) fn add_kind(&self, row: &'static crate::kinds::Row) {
        self.state.change_registry(|registry| registry.kinds.push(Arc::new(Kind::from(row))));
    }

    /// The API without authentication, for clients in this process.
    pub fn router(&self) -> Router {
        let state = self.state.clone();
        Router::new().fallback(move |request: Request| http::serve(state.clone(), request))
    }

    /// Serves the API over TLS to those who have the token, until `shutdown` resolves; then open requests are let
    /// finish. Watches are ended, in this process too: the end of serving is the end of the server.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> std::io::Result<()> {
        let acceptor = self.state.identity.acceptor().map_err(std::io::Error::other)?;
        let token: Arc<str> = self.state.identity.token.as_str().into();
        socket::serve(self.state.clone(), listener, acceptor, token, shutdown).await
    }

    /// A kubeconfig for the server at `address`, with its CA and token; a secret.
    pub fn kubeconfig(&self, address: std::net::SocketAddr) -> String {
        socket::kubeconfig::render(address, &self.state.identity.ca_pem, &self.state.identity.token)
    }

    /// The node's own HTTP server: `/containerLogs/{namespace}/{pod}/{container}`, `/metrics/resource` …; reached by
    /// `pods/log` and `nodes/{node}/proxy/…`.
    pub fn register_kubelet(&self, node: &str, router: Router) {
        self.state.add_kubelet(node, router);
    }

    /// An aggregated API: shown in discovery, its requests passed to `router` with their whole path.
    pub fn register_api(&self, group: &str, version: &str, resources: Vec<ApiResource>, router: Router) {
        let (group, version) = (group.to_owned(), version.to_owned());
        self.state.add_api(Aggregated { group, version, resources, router });
    }

    /// Adds a validating admission rule for a resource, given by group ("" for core) and plural name.
    pub fn register_admission(&self, group: &str, resource: &str, rule: Rule) {
        self.state.add_admission(group, resource, rule);
    }

    /// Adds a mutating rule for new objects of a resource; it answers with a JSON patch, as a mutating webhook does.
    pub fn register_mutation(&self, group: &str, resource: &str, rule: Rule) {
        self.state.add_mutation(group, resource, rule);
    }

    /// Ends watches, writes what is not on disk yet, and releases the state directory. Writes fail from here on.
    pub fn close(&self) {
        self.state.end_watches();
        self.state.store.close();
    }
}
