//! The API server as seen by clients: through kube's own client in process, and through kubectl on a socket.
#![allow(clippy::disallowed_methods, reason = "tests use files and the environment")]

mod apply;
mod autoscalers;
mod crd;
mod crud;
mod damage;
mod errors;
mod kubectl;
mod lifecycle;
mod printing;
mod resize;
mod sockets;
mod support;
mod watch;
