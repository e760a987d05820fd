//! An embedded Kubernetes API server: it stores, validates and serves objects, and notifies watches.
//!
//! [`ApiServer::open`] starts one, in memory or on a state directory. [`ApiServer::router`] is an ordinary
//! `axum::Router`, so `kube::Client::new(server.router(), "default")` reaches it in process. [`ApiServer::serve`]
//! serves the same API over TLS with a bearer token, for kubectl and other clients.
//!
//! Each verb is implemented once, over JSON values and a table of kinds; a CustomResourceDefinition adds kinds. The
//! server runs no controllers: Deployments, garbage collection, scheduling and the node are ordinary clients. It
//! does what Kubernetes' API server does: defaulting, validation, patches and server-side apply, LimitRanges,
//! addresses of Services, evictions under PodDisruptionBudgets, and emptying of deleted namespaces and CRDs.
#![allow(clippy::disallowed_methods, reason = "a server reads the clock and its state directory")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod admission;
mod apply;
mod body;
mod bounds;
mod cells;
mod crd;
mod discovery;
mod duration;
mod forward;
mod http;
mod jsonpath;
mod kinds;
mod limits;
mod load_limits;
mod names;
mod object;
mod open_error;
mod openapi;
mod patch;
mod path;
mod present;
mod problems;
mod protobuf;
mod quantity;
mod request;
mod schema;
mod selector;
mod server;
mod services;
mod socket;
mod state;
mod status;
mod store;
mod table;
mod uid;
mod validate;
mod verbs;
mod watch;

pub use admission::{AdmissionRequest, AdmissionResponse, Denial, Lookup, Operation, Rule};
pub use discovery::VERSION as KUBERNETES_VERSION;
pub use open_error::OpenError;
pub use server::{ApiServer, Options, Repaired};
pub use socket::kubeconfig::write_private;
pub use state::ApiResource;
pub use status::{Failure, FieldError};
