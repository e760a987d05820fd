//! The network side: TLS, the bearer token, graceful stop, and the files that hold secrets.

pub(crate) mod certificates;
mod connections;
mod hosts;
pub(crate) mod identity;
pub(crate) mod kubeconfig;
mod stalled;

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::header::AUTHORIZATION;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use connections::{Admission, Connections, Seat};
use stalled::Stalled;

use crate::http::{User, refusal, serve as answer};
use crate::state::ServerState;
use crate::status::Failure;

/// A client that has not finished its TLS handshake by then is not going to.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// So is one that has not sent its headers, or no request with the token at all.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a client of HTTP/2 is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of headers, and of an answer that is being sent.
const BUFFER_BYTES: usize = 64 << 10;
/// Bytes of bodies that a connection of HTTP/2 may send before they are read.
const WINDOW_BYTES: u32 = 256 << 10;
/// Requests at once on a connection of HTTP/2; client-go puts all its watches on one.
const STREAMS_MAX: u32 = 1000;
/// Before the next connection is accepted when one could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// How long open requests may take after the stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Creates the directory, for the owner alone.
pub(crate) fn private_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
}

/// Takes a file away from group and others.
pub(crate) fn make_private(file: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))
}

/// Accepts connections until `shutdown`, then lets open requests finish.
pub(crate) async fn serve(
    server: Arc<ServerState>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    token: Arc<str>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let connections = Connections::new();
    let access = Arc::new(Access { server: server.clone(), acceptor, token });
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
            () = server.stopped() => break,
        };
        let Ok((stream, _)) = accepted else {
            // No more files, most likely: others have to go.
            connections.make_room();
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (access, watcher) = (access.clone(), graceful.watcher());
        match connections.admit() {
            Admission::Served(seat) => {
                tokio::spawn(async move { connection(access, stream, Some(seat), watcher).await });
            }
            Admission::Refused(refusal) => {
                tokio::spawn(async move {
                    let told = connection(access, stream, None, watcher);
                    let _ = tokio::time::timeout(HANDSHAKE_TIMEOUT, told).await;
                    drop(refusal);
                });
            }
            Admission::Dropped => {}
        }
    }
    drop(listener);
    server.end_watches();
    // What still runs after this is cut off with the runtime.
    let _ = tokio::time::timeout(STOP_TIMEOUT, graceful.shutdown()).await;
    Ok(())
}

/// What every connection needs.
struct Access {
    server: Arc<ServerState>,
    acceptor: TlsAcceptor,
    token: Arc<str>,
}

/// Serves a connection until it ends, or has to go; one without a seat only hears that there are too many.
async fn connection(access: Arc<Access>, stream: TcpStream, seat: Option<Seat>, watcher: Watcher) {
    // Small answers and watch events must not wait for more.
    let _ = stream.set_nodelay(true);
    let Ok(own) = stream.local_addr().map(|address| address.ip()) else { return };
    let served = async {
        let handshake = access.acceptor.accept(Stalled::new(stream));
        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await else { return };
        let (access, seat) = (access.clone(), seat.clone());
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let (access, seat) = (access.clone(), seat.clone());
            async move {
                Ok::<Response, std::convert::Infallible>(authenticated(&access, own, seat, request).await)
            }
        });
        let connection = builder().serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "a connection ended");
        }
    };
    let Some(seat) = &seat else { return served.await };
    tokio::select! {
        () = served => {}
        () = seat.evicted() => tracing::debug!("a connection made room for another"),
        () = silence(seat) => tracing::debug!("a connection without a request was closed"),
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(BUFFER_BYTES)
        .initial_stream_window_size(WINDOW_BYTES / 2)
        .initial_connection_window_size(WINDOW_BYTES);
    builder
}

/// Resolves when a connection has said nothing for too long; never once it has.
async fn silence(seat: &Seat) {
    tokio::time::sleep(HEADER_TIMEOUT).await;
    if seat.is_known() {
        std::future::pending().await
    }
}

async fn authenticated(
    access: &Access,
    own: IpAddr,
    seat: Option<Seat>,
    request: hyper::Request<Incoming>,
) -> Response {
    if let Err(failure) = hosts::check(request.uri(), request.headers(), own) {
        return refusal(&failure);
    }
    let public = ["/healthz", "/livez", "/readyz", "/version"].contains(&request.uri().path());
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    let known = given.is_some_and(|given| same(given.as_bytes(), access.token.as_bytes()));
    if !public && !known {
        return refusal(&Failure::unauthorized());
    }
    let Some(seat) = seat else {
        let mut response =
            refusal(&Failure::too_many_requests("too many connections are open, try again later", 1));
        response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
        return response;
    };
    let active = known.then(|| seat.request());
    let mut request = request.map(axum::body::Body::new);
    request.extensions_mut().insert(User("flyball-admin".into()));
    let response = answer(access.server.clone(), request).await;
    match active {
        Some(active) => response.map(|body| connections::lasting(body, active)),
        None => response,
    }
}

/// Compares without telling by its time where the first difference is.
fn same(given: &[u8], token: &[u8]) -> bool {
    given.len() == token.len()
        && given.iter().zip(token).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}
