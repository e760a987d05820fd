//! The server as other crates see it, and what all requests share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::Request;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::admission::{AdmissionRequest, Operation, Rule, Rules, apply_patch, judge};
use crate::incoming::Workload;
use crate::kinds::{Kind, Registry, builtin, group_version};
use crate::socket::Identity;
use crate::status::{Failure, Result};
use crate::store::disk::{Disk, DiskError};
pub use crate::store::repair::Repaired;
use crate::store::{Change, Expected, Key, Store};
use crate::verbs::{Call, expire};
use crate::{crd, defaults, http, socket, uid};

/// Namespaces that exist from the start, as in every cluster.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where objects, certificates and the token are kept; `None` keeps everything in memory.
    pub state_dir: Option<PathBuf>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the state directory open.
    #[error(
        "the state directory `{0}` is in use by another process; stop that one, or use another directory"
    )]
    InUse(PathBuf),
    /// What is in the state directory cannot be read; [`ApiServer::repair`] saves what can.
    #[error("the data file `{path}` is damaged: {reason}; nothing was changed")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory or a file in it cannot be read or written.
    #[error("cannot use the state directory `{path}`: {reason}")]
    Unusable {
        /// The file or directory.
        path: PathBuf,
        /// What the system or the database said.
        reason: String,
    },
    /// Certificates cannot be made or read.
    #[error("cannot prepare TLS: {0}")]
    Tls(String),
}

/// A resource of an aggregated API, for discovery.
#[derive(Debug, Clone)]
pub struct ApiResource {
    /// The plural name in paths; `pods`.
    pub plural: String,
    /// The kind; `PodMetrics`.
    pub kind: String,
    /// Whether it lives in namespaces.
    pub namespaced: bool,
    /// What can be done; `get`, `list`.
    pub verbs: Vec<String>,
}

/// An API that another crate answers.
#[derive(Clone)]
pub(crate) struct Aggregated {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resources: Vec<ApiResource>,
    pub(crate) router: Router,
}

/// What all requests share.
pub(crate) struct Inner {
    pub(crate) store: Store,
    kinds: RwLock<Arc<Registry>>,
    admission: RwLock<Rules>,
    mutation: RwLock<Rules>,
    kubelets: RwLock<BTreeMap<String, Router>>,
    pub(crate) aggregated: RwLock<Vec<Aggregated>>,
    /// Held while a Service's addresses are chosen and stored.
    pub(crate) allocation: tokio::sync::Mutex<()>,
    /// Held while an eviction is judged and carried out.
    pub(crate) eviction: tokio::sync::Mutex<()>,
    pub(crate) watches: AtomicUsize,
    pub(crate) workload: Workload,
    pub(crate) identity: Identity,
    stop: watch::Sender<bool>,
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn registry(&self) -> Arc<Registry> {
        read(&self.kinds).clone()
    }

    /// Changes the table of kinds; one change at a time, so that none undoes another.
    pub(crate) fn change_registry(&self, change: impl FnOnce(&mut Registry)) {
        change(Arc::make_mut(&mut write(&self.kinds)));
    }

    pub(crate) fn kubelet(&self, node: &str) -> Option<Router> {
        read(&self.kubelets).get(node).cloned()
    }

    /// The router of an aggregated API.
    pub(crate) fn aggregated(&self, group: &str, version: &str) -> Option<Router> {
        let apis = read(&self.aggregated);
        apis.iter().find(|api| api.group == group && api.version == version).map(|api| api.router.clone())
    }

    /// Resolves when the server stops.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as `self`.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Ends all watches; their clients start new ones, elsewhere or later.
    pub(crate) fn end_watches(&self) {
        self.stop.send_replace(true);
    }

    /// Lets the mutating rules of the call's kind change a new object, and fills in defaults again after them.
    pub(crate) fn mutate(&self, call: &Call<'_>, operation: Operation, object: &mut Value) -> Result<()> {
        for rule in read(&self.mutation).of(&call.kind) {
            let before = object.clone();
            let response = rule(&self.request(call, operation, Some(&before), None));
            response.warnings.into_iter().for_each(|warning| call.warn(warning));
            if let Some(patch) = response.patch {
                apply_patch(&call.kind, object, patch)?;
                defaults::apply(&call.kind, object);
                canonical(&call.kind, object)?;
            }
        }
        Ok(())
    }

    fn request<'a>(
        &'a self,
        call: &'a Call<'_>,
        operation: Operation,
        object: Option<&'a Value>,
        old: Option<&'a Value>,
    ) -> AdmissionRequest<'a> {
        AdmissionRequest {
            operation,
            group: &call.kind.group,
            resource: &call.kind.plural,
            subresource: call.sub.map_or("", crate::kinds::Sub::name),
            namespace: &call.namespace,
            name: &call.name,
            object,
            old_object: old,
            dry_run: call.parameters.dry_run,
            lookup: self,
        }
    }

    /// Asks the admission rules of the call's kind.
    pub(crate) fn admit(
        &self,
        call: &Call<'_>,
        operation: Operation,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<()> {
        let rules: Vec<Rule> = read(&self.admission).of(&call.kind);
        if rules.is_empty() {
            return Ok(());
        }
        let request = self.request(call, operation, object, old);
        for warning in judge(&rules, &call.kind, &request)? {
            call.warn(warning);
        }
        Ok(())
    }

    /// What the server itself has to do after an object was stored.
    pub(crate) fn written(self: &Arc<Self>, kind: &Arc<Kind>, object: &Value) {
        if kind.is(crd::STORAGE) {
            crd::written(self, kind, object);
        } else if kind.is("core/namespaces")
            && crate::object::at(object, "metadata.deletionTimestamp").is_some()
        {
            crate::verbs::empty::namespace(self, kind, crate::object::name(object));
        }
    }
}

/// What a mutating rule wrote is decoded as what a client sends is: amounts become canonical, wrong types are refused.
fn canonical(kind: &Kind, object: &mut Value) -> Result<()> {
    let Some(schema) = kind.schema().filter(|_| kind.custom.is_none()) else { return Ok(()) };
    let report = crate::schema::decode::typed(&schema, object);
    match report.wrong.as_slice() {
        [] => Ok(()),
        wrong => Err(Failure::internal(format!("an admission rule made nonsense: {}", wrong.join(", ")))),
    }
}

/// The creation of a namespace that no request asked for.
fn namespace(kind: &Kind, name: &str, now: jiff::Timestamp) -> Change {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "uid": uid::uid(), "creationTimestamp": crate::verbs::second(now)},
    });
    defaults::apply(kind, &mut object);
    defaults::prepare_for_create(kind, &mut object, now);
    let key = Key::new(&kind.storage, "", name);
    Change { key, expected: Expected::Absent, object, delete: false, relaxed: false }
}

/// An embedded Kubernetes API server; clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
    notices: Arc<[String]>,
}

/// The file in the state directory that has all objects.
const OBJECTS_FILE: &str = "objects.redb";

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> OpenError {
    OpenError::Unusable { path: path.to_owned(), reason: reason.to_string() }
}

fn cannot_open(directory: &Path, file: &Path, error: DiskError) -> OpenError {
    match error {
        DiskError::InUse => OpenError::InUse(directory.to_owned()),
        DiskError::Damaged(reason) => OpenError::Damaged { path: file.to_owned(), reason },
        other => unusable(file, &other),
    }
}

impl ApiServer {
    /// Opens the store, creates what every cluster has, and takes up what an earlier run left undone.
    ///
    /// Must be called within a Tokio runtime.
    pub async fn open(options: Options) -> std::result::Result<Self, OpenError> {
        let (identity, disk) = match &options.state_dir {
            None => (Identity::ephemeral()?, None),
            Some(directory) => {
                socket::private_directory(directory).map_err(|error| unusable(directory, &error))?;
                let file = directory.join(OBJECTS_FILE);
                let disk = Disk::open(&file).map_err(|error| cannot_open(directory, &file, error))?;
                socket::make_private(&file).map_err(|error| unusable(&file, &error))?;
                (Identity::kept(directory)?, Some(disk))
            }
        };
        let mut notices = Vec::new();
        if disk.as_ref().is_some_and(|disk| disk.rolled_back) {
            notices.push("the last change before the stop was not written whole, and is left out".to_owned());
        }
        let directory = options.state_dir.clone().unwrap_or_default();
        let store = Store::open(disk)
            .map_err(|error| cannot_open(&directory, &directory.join(OBJECTS_FILE), error))?;
        let inner = Arc::new(Inner {
            store,
            kinds: RwLock::new(Arc::new(builtin::registry())),
            admission: RwLock::default(),
            mutation: RwLock::default(),
            kubelets: RwLock::default(),
            aggregated: RwLock::default(),
            allocation: tokio::sync::Mutex::default(),
            eviction: tokio::sync::Mutex::default(),
            watches: AtomicUsize::new(0),
            workload: Workload::default(),
            identity,
            stop: watch::Sender::new(false),
        });
        crd::load(&inner);
        let server = Self { inner, notices: notices.into() };
        server
            .create_namespaces()
            .await
            .map_err(|reason| OpenError::Unusable { path: options.state_dir.unwrap_or_default(), reason })?;
        server.resume();
        tokio::spawn(expire::events(Arc::downgrade(&server.inner)));
        Ok(server)
    }

    /// Makes a new data file with all that can be read from a damaged one, which is kept beside it under another name.
    /// A state directory that is whole is left as it is.
    pub fn repair(state_dir: &Path) -> std::result::Result<Repaired, OpenError> {
        let file = state_dir.join(OBJECTS_FILE);
        crate::store::repair::repair(&file, jiff::Timestamp::now())
            .map_err(|error| cannot_open(state_dir, &file, error))
    }

    /// What the owner should know about the start, in sentences.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    async fn create_namespaces(&self) -> std::result::Result<(), String> {
        let Some(kind) = self.inner.registry().find("", "v1", "namespaces") else { return Ok(()) };
        let now = jiff::Timestamp::now();
        // all at once, so that they share a sync of the disk
        let created = NAMESPACES.map(|name| self.inner.store.write(namespace(&kind, name, now)));
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
        for kind in self.inner.registry().stored() {
            if kind.is("core/namespaces") || kind.is(crd::STORAGE) {
                let (found, _) = self.inner.store.list(&kind.storage, "", None);
                for stored in found {
                    let object = stored.value();
                    if crate::object::at(&object, "metadata.deletionTimestamp").is_some() {
                        self.inner.written(&kind, &object);
                    }
                }
            }
        }
    }

    /// The API without authentication, for clients in this process.
    pub fn router(&self) -> Router {
        let inner = self.inner.clone();
        Router::new().fallback(move |request: Request| http::serve(inner.clone(), request))
    }

    /// Serves the API over TLS to those who have the token, until `shutdown` resolves; then open requests are let
    /// finish. Watches are ended, in this process too: the end of serving is the end of the server.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> std::io::Result<()> {
        let acceptor = self.inner.identity.acceptor().map_err(std::io::Error::other)?;
        let token: Arc<str> = self.inner.identity.token.as_str().into();
        socket::serve(self.inner.clone(), listener, acceptor, token, shutdown).await
    }

    /// A kubeconfig for the server at `address`, with its CA and token; a secret.
    pub fn kubeconfig(&self, address: std::net::SocketAddr) -> String {
        socket::kubeconfig::render(address, &self.inner.identity.ca_pem, &self.inner.identity.token)
    }

    /// The node's own HTTP server: `/containerLogs/{namespace}/{pod}/{container}`, `/metrics/resource` …; reached by
    /// `pods/log` and `nodes/{node}/proxy/…`.
    pub fn register_kubelet(&self, node: &str, router: Router) {
        write(&self.inner.kubelets).insert(node.to_owned(), router);
    }

    /// An aggregated API: shown in discovery, its requests passed to `router` with their whole path.
    pub fn register_api(&self, group: &str, version: &str, resources: Vec<ApiResource>, router: Router) {
        let api = Aggregated { group: group.to_owned(), version: version.to_owned(), resources, router };
        let mut apis = write(&self.inner.aggregated);
        apis.retain(|other| group_version(&other.group, &other.version) != group_version(group, version));
        apis.push(api);
    }

    /// Adds a validating admission rule for a resource, given by group ("" for core) and plural name.
    pub fn register_admission(&self, group: &str, resource: &str, rule: Rule) {
        write(&self.inner.admission).add(group, resource, rule);
    }

    /// Adds a mutating rule for new objects of a resource; it answers with a JSON patch, as a mutating webhook does.
    pub fn register_mutation(&self, group: &str, resource: &str, rule: Rule) {
        write(&self.inner.mutation).add(group, resource, rule);
    }

    /// Ends watches, writes what is not on disk yet, and releases the state directory. Writes fail from here on.
    pub fn close(&self) {
        self.inner.end_watches();
        self.inner.store.close();
    }
}

impl Inner {
    /// The aggregated APIs, for discovery.
    pub(crate) fn aggregated_apis(&self) -> Vec<Aggregated> {
        read(&self.aggregated).clone()
    }
}
