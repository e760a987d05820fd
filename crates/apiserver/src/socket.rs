//! The network side: TLS, the bearer token, graceful stop, and the files that hold secrets.

pub(crate) mod certificates;
pub(crate) mod kubeconfig;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::header::AUTHORIZATION;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::http::{User, refusal, serve as answer};
use crate::server::{Inner, OpenError};
use crate::status::Failure;
use crate::uid;

/// Connections at once; kubectl and controllers keep a few each.
const CONNECTIONS_MAX: usize = 512;
/// A client that has not finished its TLS handshake by then is not going to.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// So is one that has not sent its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open requests may take after the stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What proves who the server is, and who its owner is.
pub(crate) struct Identity {
    pub(crate) ca_pem: String,
    pub(crate) token: String,
    certificates: certificates::Server,
}

impl Identity {
    /// A new one, kept nowhere.
    pub(crate) fn ephemeral() -> Result<Self, OpenError> {
        let authority = certificates::Authority::create()?;
        Ok(Self { ca_pem: authority.pem.clone(), token: uid::token(), certificates: authority.issue()? })
    }

    /// The one in the state directory, made on first use; its files are only the owner's.
    pub(crate) fn kept(directory: &Path) -> Result<Self, OpenError> {
        let authority = certificates::Authority::kept(directory)?;
        let file = directory.join("token");
        let token = match std::fs::read_to_string(&file) {
            Ok(token) if !token.trim().is_empty() => token.trim().to_owned(),
            _ => {
                let token = uid::token();
                kubeconfig::write_private(&file, &token).map_err(|error| unusable(&file, &error))?;
                token
            }
        };
        Ok(Self { ca_pem: authority.pem.clone(), token, certificates: authority.issue()? })
    }

    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, OpenError> {
        self.certificates.acceptor()
    }
}

fn unusable(path: &Path, error: &io::Error) -> OpenError {
    OpenError::Unusable { path: path.to_owned(), reason: error.to_string() }
}

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
    server: Arc<Inner>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    token: Arc<str>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
            () = server.stopped() => break,
        };
        let (Ok((stream, _)), Ok(place)) = (accepted, places.clone().try_acquire_owned()) else {
            // Too many connections or open files: drop this one, and let others finish.
            tokio::task::yield_now().await;
            continue;
        };
        let (server, acceptor, token) = (server.clone(), acceptor.clone(), token.clone());
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            connection(server, stream, acceptor, token, watcher).await;
            drop(place);
        });
    }
    drop(listener);
    server.end_watches();
    // What still runs after this is cut off with the runtime.
    let _ = tokio::time::timeout(STOP_TIMEOUT, graceful.shutdown()).await;
    Ok(())
}

async fn connection(
    server: Arc<Inner>,
    stream: TcpStream,
    acceptor: TlsAcceptor,
    token: Arc<str>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    // Small answers and watch events must not wait for more.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else {
        return;
    };
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let (server, token) = (server.clone(), token.clone());
        async move { Ok::<Response, std::convert::Infallible>(authenticated(server, &token, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn authenticated(server: Arc<Inner>, token: &str, request: hyper::Request<Incoming>) -> Response {
    let public = ["/healthz", "/livez", "/readyz", "/version"].contains(&request.uri().path());
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    if !public && !given.is_some_and(|given| same(given.as_bytes(), token.as_bytes())) {
        return refusal(&Failure::unauthorized());
    }
    let mut request = request.map(axum::body::Body::new);
    request.extensions_mut().insert(User("flyball-admin".into()));
    answer(server, request).await
}

/// Compares without telling by its time where the first difference is.
fn same(given: &[u8], token: &[u8]) -> bool {
    given.len() == token.len()
        && given.iter().zip(token).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}
