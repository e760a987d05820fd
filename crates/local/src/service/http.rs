//! HTTP/1 requests, each to the endpoint that has the least to do.
//!
//! Bodies are streamed both ways and nothing is added to a message; only headers that belong to one connection (`Connection` and
//! what it names, `Keep-Alive`, `Proxy-Connection`) stay on theirs. Connections to pods are kept and used again, the
//! latest first, so that the surplus of a peak grows old and is closed.
//!
//! A request is sent a second time only if nothing of it has left: the connection was refused, or a kept connection turned out
//! to be closed before the request was written. Anything later is 502, for a request may not be done twice.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::backends::{Backend, Backends, Chosen, Unavailable};
use super::metrics::Gauge;

/// A kept connection is closed after this: shorter than servers' usual 5 s and more, so that ours closes first.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// How often a request is sent that has never left: kept connections may all turn out to be closed, and endpoints may close
/// new ones at once.
const TRIES_MAX: usize = 2 * IDLE_CONNECTIONS_MAX;
/// Connections kept for one endpoint; a pod that needs more at once opens them anew.
const IDLE_CONNECTIONS_MAX: usize = 256;

/// Kept connections to one endpoint.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<(Instant, SendRequest<Incoming>)>>);

impl Pool {
    fn take(&self) -> Option<SendRequest<Incoming>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(since, connection)| since.elapsed() < IDLE_MAX && connection.is_ready());
        kept.pop().map(|(_, connection)| connection)
    }

    fn keep(&self, connection: SendRequest<Incoming>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < IDLE_CONNECTIONS_MAX && connection.is_ready() {
            kept.push((Instant::now(), connection));
        }
    }
}

/// An answer's body, which holds its place in the counts until it has been sent.
type Answer = Response<Either<Tracked, Full<Bytes>>>;

/// Serves one client connection.
pub(super) async fn serve(client: TcpStream, backends: Arc<Backends>) {
    let service = service_fn(|request| {
        let backends = Arc::clone(&backends);
        async move { Ok::<_, Infallible>(answer(request, &backends).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None) // a kept connection may be idle for as long as its client likes
        .half_close(true)
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(client), service)
        .with_upgrades();
    if let Err(e) = connection.await {
        tracing::debug!("client connection: {e}");
    }
}

async fn answer(request: Request<Incoming>, backends: &Backends) -> Answer {
    let began = Instant::now();
    let in_flight = Gauge::new(&backends.counters, |c| &c.in_flight);
    let answer = match forward(request, backends, in_flight).await {
        Ok(answer) => answer,
        Err((status, problem)) => {
            let mut answer = Response::new(Either::Right(Full::from(format!("{problem}\n"))));
            *answer.status_mut() = status;
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            answer
        }
    };
    backends.counters.answered(answer.status().as_u16(), began.elapsed());
    answer
}

async fn forward(
    mut request: Request<Incoming>,
    backends: &Backends,
    in_flight: Gauge,
) -> Result<Answer, (StatusCode, String)> {
    let upgrade = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
    prepare(&mut request, upgrade.is_some());
    let (chosen, connection, response) = send(request, backends).await?;
    let (mut parts, body) = response.into_parts();
    if let (Some(client), StatusCode::SWITCHING_PROTOCOLS) = (upgrade, parts.status) {
        let mut switched = Response::from_parts(parts, body);
        tokio::spawn(carry_upgraded(client, hyper::upgrade::on(&mut switched), (chosen, in_flight)));
        let (parts, _) = switched.into_parts();
        return Ok(Response::from_parts(parts, Either::Right(Full::default())));
    }
    strip(&mut parts.headers, false);
    let tracked = Tracked { body, connection: Some(connection), chosen, _in_flight: in_flight };
    Ok(Response::from_parts(parts, Either::Left(tracked)))
}

/// Sends a request, over a kept connection or a new one, again as long as nothing of it has left.
async fn send(
    mut request: Request<Incoming>,
    backends: &Backends,
) -> Result<(Chosen, SendRequest<Incoming>, Response<Incoming>), (StatusCode, String)> {
    let bad_gateway = |problem: String| (StatusCode::BAD_GATEWAY, problem);
    let mut tries = 0;
    loop {
        tries += 1;
        let chosen = backends.choose_or_wait().await.map_err(unavailable)?;
        let kept = chosen.backend.pool.take();
        let is_new = kept.is_none();
        let (chosen, mut connection) = match kept {
            Some(connection) => (chosen, connection),
            None => {
                let (chosen, stream) = match chosen.backend.connect().await {
                    Ok(stream) => (chosen, stream),
                    Err(_) => {
                        drop(chosen);
                        backends.connect().await.map_err(unavailable)?
                    }
                };
                match open(stream).await {
                    Ok(connection) => (chosen, connection),
                    Err(e) if tries >= TRIES_MAX => return Err(bad_gateway(e.to_string())),
                    Err(_) => {
                        chosen.backend.pass_over();
                        continue;
                    }
                }
            }
        };
        match connection.try_send_request(request).await {
            Ok(response) => return Ok((chosen, connection, response)),
            Err(mut failed) => match failed.take_message() {
                Some(unsent) if tries < TRIES_MAX => {
                    request = unsent;
                    if is_new {
                        chosen.backend.pass_over();
                    }
                }
                _ => {
                    let error = failed.error();
                    let problem = format!("the endpoint closed the connection before it answered: {error}");
                    return Err(bad_gateway(problem));
                }
            },
        }
    }
}

fn unavailable(e: Unavailable) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, e.to_string())
}

async fn open(stream: TcpStream) -> hyper::Result<SendRequest<Incoming>> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    sender.ready().await?;
    Ok(sender)
}

fn prepare(request: &mut Request<Incoming>, upgrade: bool) {
    strip(request.headers_mut(), upgrade);
    if request.version() == Version::HTTP_10 && !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    }
    *request.version_mut() = Version::HTTP_11;
}

/// Takes out what belongs to one connection only (RFC 9110, 7.6.1).
fn strip(headers: &mut HeaderMap, upgrade: bool) {
    if upgrade {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in
        [CONNECTION, HeaderName::from_static("keep-alive"), HeaderName::from_static("proxy-connection")]
    {
        headers.remove(name);
    }
}

async fn carry_upgraded(
    client: hyper::upgrade::OnUpgrade,
    server: hyper::upgrade::OnUpgrade,
    _counted: (Chosen, Gauge),
) {
    if let Ok((client, server)) = tokio::try_join!(client, server) {
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}

/// A body on its way; when it has passed, its connection is kept for the next request.
pub(super) struct Tracked {
    body: Incoming,
    connection: Option<SendRequest<Incoming>>,
    chosen: Chosen,
    _in_flight: Gauge,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take().filter(|_| !self.chosen.backend.is_leaving())
        else {
            return;
        };
        let backend: Arc<Backend> = Arc::clone(&self.chosen.backend);
        if connection.is_ready() {
            backend.pool.keep(connection);
        } else {
            // the connection's task has yet to see the end of the body
            tokio::spawn(async move {
                if connection.ready().await.is_ok() {
                    backend.pool.keep(connection);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_one_connection_stay_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Private"),
            ("keep-alive", "timeout=5"),
            ("x-private", "1"),
            ("x-public", "2"),
            ("transfer-encoding", "chunked"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        strip(&mut headers, false);
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-public", "transfer-encoding"]);
    }
}
