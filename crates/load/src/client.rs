//! One client: at most one connection, one request at a time, each part of it timed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_rustls::TlsConnector;

use crate::{
    connect::{Timed, authority, connect, is_https},
    plan::{Target, parse_url},
    record::Sample,
};

/// Redirects followed for one request: Go's, and so hey's, limit.
const MAX_REDIRECTS: usize = 10;

/// What all clients of a run share.
pub(crate) struct Shared {
    pub(crate) target: Target,
    pub(crate) tls: TlsConnector,
    /// Start of the run: times are counted from it.
    pub(crate) epoch: Instant,
}

enum Sender {
    Http1(conn::http1::SendRequest<Full<Bytes>>),
    Http2(conn::http2::SendRequest<Full<Bytes>>),
}

struct Connection {
    sender: Sender,
    origin: (bool, String, u16),
    last_write: Arc<AtomicU64>,
}

/// Sends requests one after the other, and keeps its connection between them.
pub(crate) struct Client {
    shared: Arc<Shared>,
    connection: Option<Connection>,
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Client { shared, connection: None }
    }

    /// Sends one request, whose latency counts from `planned` (or from now), and reads the answer to its end.
    pub(crate) async fn send(&mut self, planned: Option<Instant>) -> Result<Sample, String> {
        let sent = Instant::now();
        let result = match self.shared.target.timeout {
            Some(limit) => match tokio::time::timeout(limit, self.attempt(sent)).await {
                Ok(result) => result,
                Err(_) => Err(format!(
                    "{} {}: no answer within {limit:?}",
                    self.shared.target.method, self.shared.target.uri
                )),
            },
            None => self.attempt(sent).await,
        };
        if result.is_err() || !self.shared.target.keep_alive {
            self.connection = None;
        }
        let planned = planned.unwrap_or(sent);
        let mut sample = result?;
        sample.latency = planned.elapsed();
        sample.service = sent.elapsed();
        sample.offset = planned.saturating_duration_since(self.shared.epoch);
        Ok(sample)
    }

    async fn attempt(&mut self, sent: Instant) -> Result<Sample, String> {
        let mut sample = Sample::default();
        let shared = self.shared.clone();
        let mut uri = shared.target.uri.clone();
        let mut method = self.shared.target.method.clone();
        let mut body = self.shared.target.body.clone();
        for _ in 0..=MAX_REDIRECTS {
            let failed = |why: String| format!("{} {uri}: {why}", shared.target.method);
            self.ensure(&uri, &mut sample).await.map_err(failed)?;
            let begun = sent.elapsed();
            let response = self.exchange(&uri, &method, &body).await.map_err(failed)?;
            self.time(sent, begun, &mut sample);
            let (status, next) = (response.status(), redirect(&uri, &response));
            sample.bytes = discard(response.into_body()).await.map_err(failed)?;
            sample.status = status.as_u16();
            sample.read = sent.elapsed().saturating_sub(begun + sample.write + sample.wait);
            let Some(next) = next.filter(|_| self.shared.target.redirects) else {
                return Ok(sample);
            };
            uri = next.map_err(failed)?;
            if !matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
                && method != Method::HEAD
            {
                (method, body) = (Method::GET, Bytes::new());
            }
        }
        Err(format!(
            "{} {}: stopped after {MAX_REDIRECTS} redirects",
            self.shared.target.method, self.shared.target.uri
        ))
    }

    /// Splits the time since `begun` at the last write; a server that answers early leaves no wait.
    fn time(&self, sent: Instant, begun: Duration, sample: &mut Sample) {
        let now = sent.elapsed();
        let written = self.connection.as_ref().map_or(0, |c| c.last_write.load(Ordering::Relaxed));
        let written = (self.shared.epoch + Duration::from_nanos(written)).saturating_duration_since(sent);
        sample.write = written.clamp(begun, now.max(begun)) - begun;
        sample.wait = now.saturating_sub(begun + sample.write);
    }

    /// Makes sure that a usable connection to `uri`'s server is there.
    async fn ensure(&mut self, uri: &Uri, sample: &mut Sample) -> Result<(), String> {
        let (host, port) = authority(uri);
        let origin = (is_https(uri), host, port);
        if let Some(connection) = &mut self.connection
            && connection.origin == origin
        {
            let ready = match &mut connection.sender {
                Sender::Http1(sender) => sender.ready().await,
                Sender::Http2(sender) => sender.ready().await,
            };
            if ready.is_ok() {
                return Ok(());
            }
        }
        let started = Instant::now();
        let (stream, lookup) = connect(&self.shared.target, uri, &self.shared.tls).await?;
        let last_write = Arc::new(AtomicU64::new(0));
        let io = TokioIo::new(Timed::new(stream, self.shared.epoch, last_write.clone()));
        let sender = handshake(io, self.shared.target.http2).await.map_err(|e| sentence(&e))?;
        sample.lookup += lookup;
        sample.dial += started.elapsed();
        self.connection = Some(Connection { sender, origin, last_write });
        Ok(())
    }

    async fn exchange(
        &mut self,
        uri: &Uri,
        method: &Method,
        body: &Bytes,
    ) -> Result<Response<Incoming>, String> {
        let request = self.request(uri, method, body)?;
        let connection = self.connection.as_mut().ok_or("no connection")?;
        match &mut connection.sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender) => sender.send_request(request).await,
        }
        .map_err(|e| sentence(&e))
    }

    fn request(&self, uri: &Uri, method: &Method, body: &Bytes) -> Result<Request<Full<Bytes>>, String> {
        let target = &self.shared.target;
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = method.clone();
        *request.headers_mut() = target.headers.clone();
        let whole = target.http2 || target.proxy.is_some() && !is_https(uri);
        *request.uri_mut() = if whole {
            uri.clone()
        } else {
            uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from)
        };
        if authority(uri) != authority(&target.uri) {
            // What was meant for one server is not told to another.
            request.headers_mut().remove(header::AUTHORIZATION);
            request.headers_mut().remove(header::COOKIE);
            request.headers_mut().remove(header::HOST);
        }
        if !target.http2 && !request.headers().contains_key(header::HOST) {
            let host = uri.authority().map_or("", |a| a.as_str().rsplit('@').next().unwrap_or_default());
            request
                .headers_mut()
                .insert(header::HOST, HeaderValue::from_str(host).map_err(|e| e.to_string())?);
        }
        if !target.keep_alive && !target.http2 {
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(request)
    }
}

async fn handshake(io: TokioIo<Timed>, http2: bool) -> hyper::Result<Sender> {
    // A connection's own error is told to the request that waits on it, so the task's result says nothing new.
    if http2 {
        let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        return Ok(Sender::Http2(sender));
    }
    let (sender, connection) = conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    Ok(Sender::Http1(sender))
}

/// Where an answer sends us, if it does.
fn redirect(from: &Uri, response: &Response<Incoming>) -> Option<Result<Uri, String>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?;
    Some(match location.to_str() {
        Ok(to) if to.starts_with('/') && !to.starts_with("//") => parse_url(&format!(
            "{}://{}{to}",
            from.scheme_str().unwrap_or("http"),
            from.authority().map_or("", |a| a.as_str())
        )),
        Ok(to) => parse_url(to),
        Err(_) => Err("Location is not text".into()),
    })
}

/// Reads a body to its end, keeps nothing of it, and returns its size in bytes.
async fn discard(mut body: Incoming) -> Result<u64, String> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.map_err(|e| sentence(&e))?.data_ref().map_or(0, |d| d.len() as u64);
    }
    Ok(bytes)
}

/// An error with its causes, as one sentence.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
