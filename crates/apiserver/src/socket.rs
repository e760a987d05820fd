//! The network side: TLS, bearer token authentication, graceful shutdown, and permissions of secret files.

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

use connections::{Admission, Connections, Slot};
use stalled::WriteTimeoutStream;

use crate::http::{User, refusal, serve as answer};
use crate::state::ServerState;
use crate::status::Failure;

/// Time limit of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for request headers, and for the first request with the token.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval of HTTP/2 keep-alive pings, and how long a reply may take.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum bytes of headers, and of response data buffered per stream.
const BUFFER_BYTES: usize = 64 << 10;
/// HTTP/2 connection window: bytes of request bodies that may be sent before they are read.
const WINDOW_BYTES: u32 = 256 << 10;
/// Concurrent requests per HTTP/2 connection; client-go puts all its watches on one.
const STREAMS_MAX: u32 = 1000;
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// How long open requests may take after shutdown.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Creates the directory with mode 0700.
pub(crate) fn private_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
}

/// Sets a file's mode to 0600.
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
            // Most likely out of file descriptors: evict a connection.
            connections.make_room();
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (access, watcher) = (access.clone(), graceful.watcher());
        match connections.admit() {
            Admission::Served(slot) => {
                tokio::spawn(async move { connection(access, stream, Some(slot), watcher).await });
            }
            Admission::Refused(refusal) => {
                tokio::spawn(async move {
                    let refused = connection(access, stream, None, watcher);
                    let _ = tokio::time::timeout(HANDSHAKE_TIMEOUT, refused).await;
                    drop(refusal);
                });
            }
            Admission::Dropped => {}
        }
    }
    drop(listener);
    server.end_watches();
    // Requests that outlast the timeout are cut off with the runtime.
    let _ = tokio::time::timeout(STOP_TIMEOUT, graceful.shutdown()).await;
    Ok(())
}

/// State shared by all connections.
struct Access {
    server: Arc<ServerState>,
    acceptor: TlsAcceptor,
    token: Arc<str>,
}

/// Serves a connection until it ends or is evicted. Without a slot, the client only learns that there are too many
/// connections.
async fn connection(access: Arc<Access>, stream: TcpStream, slot: Option<Slot>, watcher: Watcher) {
    // Small responses and watch events must not be delayed by Nagle's algorithm.
    let _ = stream.set_nodelay(true);
    let Ok(own) = stream.local_addr().map(|address| address.ip()) else { return };
    let served = async {
        let handshake = access.acceptor.accept(WriteTimeoutStream::new(stream));
        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await else { return };
        let (access, slot) = (access.clone(), slot.clone());
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let (access, slot) = (access.clone(), slot.clone());
            async move { Ok::<Response, std::convert::Infallible>(respond(&access, own, slot, request).await) }
        });
        let connection = builder().serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "a connection ended");
        }
    };
    let Some(slot) = &slot else { return served.await };
    tokio::select! {
        () = served => {}
        () = slot.evicted() => tracing::debug!("a connection made room for another"),
        () = authentication_timeout(slot) => tracing::debug!("a connection without a request was closed"),
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

/// Resolves when a connection has not authenticated in time; never once it has.
async fn authentication_timeout(slot: &Slot) {
    tokio::time::sleep(HEADER_TIMEOUT).await;
    if slot.is_authenticated() {
        std::future::pending().await
    }
}

async fn respond(
    access: &Access,
    own: IpAddr,
    slot: Option<Slot>,
    request: hyper::Request<Incoming>,
) -> Response {
    if let Err(failure) = hosts::check(request.uri(), request.headers(), own) {
        return refusal(&failure);
    }
    let public = ["/healthz", "/livez", "/readyz", "/version"].contains(&request.uri().path());
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    let authenticated =
        given.is_some_and(|given| constant_time_eq(given.as_bytes(), access.token.as_bytes()));
    if !public && !authenticated {
        return refusal(&Failure::unauthorized());
    }
    let Some(slot) = slot else {
        let mut response =
            refusal(&Failure::too_many_requests("too many connections are open, try again later", 1));
        response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
        return response;
    };
    let active = authenticated.then(|| slot.request());
    let mut request = request.map(axum::body::Body::new);
    request.extensions_mut().insert(User("flyball-admin".into()));
    let response = answer(access.server.clone(), request).await;
    match active {
        Some(active) => response.map(|body| connections::track_until_sent(body, active)),
        None => response,
    }
}

/// Compares in constant time, so that timing does not reveal the first difference.
fn constant_time_eq(given: &[u8], token: &[u8]) -> bool {
    given.len() == token.len()
        && given.iter().zip(token).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}
