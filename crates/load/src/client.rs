//! A client: at most one connection, one request at a time, with the time of each part.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use tokio_rustls::TlsConnector;

use crate::{
    connect::{Origin, connect, speaks_http2},
    deadline::Deadline,
    http1::{Failure, Http1, HttpResponse, NO_RESPONSE},
    http2::Http2,
    plan::Target,
    record::Sample,
    request::Outgoing,
};

/// Redirects followed for one request: the limit of Go's client, and so of hey.
const MAX_REDIRECTS: usize = 10;

/// The data that all clients of a run share.
pub(crate) struct Shared {
    pub(crate) target: Target,
    pub(crate) tls: TlsConnector,
    pub(crate) first: Outgoing,
    /// Start of the run; offsets count from it.
    pub(crate) epoch: Instant,
}

enum Wire {
    Http1(Http1),
    Http2(Http2),
}

struct Connection {
    origin: Origin,
    wire: Wire,
}

impl Connection {
    async fn is_open(&mut self) -> bool {
        match &mut self.wire {
            Wire::Http1(wire) => wire.is_open().await,
            Wire::Http2(wire) => wire.is_open().await,
        }
    }

    async fn exchange(&mut self, request: &Outgoing) -> Result<HttpResponse, Failure> {
        match &mut self.wire {
            Wire::Http1(wire) => wire.exchange(request).await,
            Wire::Http2(wire) => wire.exchange(request).await,
        }
    }
}

/// Sends requests one after the other over one connection.
pub(crate) struct Client {
    shared: Arc<Shared>,
    connection: Option<Connection>,
    deadline: Deadline,
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let deadline = Deadline::new(shared.target.timeout);
        Client { shared, connection: None, deadline }
    }

    /// Sends one request, whose latency counts from `planned` (or from now), and reads the whole response.
    pub(crate) async fn send(&mut self, planned: Option<Instant>) -> Result<Sample, String> {
        let Client { shared, connection, deadline } = self;
        let sent = Instant::now();
        let mut sample = Sample::default();
        let attempt = attempt(shared, connection, &mut sample);
        let result = match deadline.hold(sent.into(), attempt).await {
            Some(result) => result,
            None => {
                let limit = shared.target.timeout.unwrap_or_default();
                Err(shared.first.failed(&format!("no response within {limit:?}")))
            }
        };
        let ended = result.inspect_err(|_| *connection = None)?;
        let planned = planned.unwrap_or(sent);
        sample.latency = ended.saturating_duration_since(planned);
        sample.service = ended.saturating_duration_since(sent);
        sample.offset = planned.saturating_duration_since(shared.epoch);
        Ok(sample)
    }
}

/// Sends a request and follows its redirects. Adds the times to `sample`, and returns when the last byte arrived.
async fn attempt(
    shared: &Shared,
    connection: &mut Option<Connection>,
    sample: &mut Sample,
) -> Result<Instant, String> {
    let mut redirected: Option<Outgoing> = None;
    for _ in 0..=MAX_REDIRECTS {
        let request = redirected.as_ref().unwrap_or(&shared.first);
        let failed = |why: String| request.failed(&why);
        let (answer, begun) = exchange(shared, connection, request, sample).await.map_err(failed)?;
        sample.write += answer.written.saturating_duration_since(begun);
        sample.wait += answer.answered.saturating_duration_since(answer.written);
        sample.read += answer.ended.saturating_duration_since(answer.answered);
        (sample.status, sample.bytes) = (answer.head.status, answer.bytes);
        if !answer.head.keep_alive || !shared.target.keep_alive {
            *connection = None;
        }
        let location = answer.head.location.filter(|_| shared.target.redirects);
        let (Some(location), Ok(status)) = (location, StatusCode::from_u16(answer.head.status)) else {
            return Ok(answer.ended);
        };
        redirected = Some(request.follow(&shared.target, status, &location).map_err(failed)?);
    }
    Err(shared.first.failed(&format!("stopped after {MAX_REDIRECTS} redirects")))
}

/// Sends one request; returns the response and when writing began. A closed idle connection is no failure: the request is
/// retried on a new one, unless the server may have acted on it. Go's client does the same.
async fn exchange(
    shared: &Shared,
    connection: &mut Option<Connection>,
    request: &Outgoing,
    sample: &mut Sample,
) -> Result<(HttpResponse, Instant), String> {
    loop {
        let usable = match connection {
            Some(open) => open.origin == request.origin && open.is_open().await,
            None => false,
        };
        if !usable {
            *connection = Some(open(shared, &request.origin, sample).await?);
        }
        let Some(wire) = connection else { return Err("no connection".into()) };
        let begun = Instant::now();
        match wire.exchange(request).await {
            Ok(answer) => return Ok((answer, begun)),
            Err(Failure::Stale) if request.repeatable() => *connection = None,
            Err(Failure::Stale) => return Err(NO_RESPONSE.into()),
            Err(Failure::Failed(why)) => return Err(why),
        }
    }
}

async fn open(shared: &Shared, origin: &Origin, sample: &mut Sample) -> Result<Connection, String> {
    let started = Instant::now();
    let (stream, lookup): (_, Duration) = connect(&shared.target, origin, &shared.tls).await?;
    let wire = if speaks_http2(&shared.target, &stream) {
        Wire::Http2(Http2::handshake(stream).await?)
    } else {
        Wire::Http1(Http1::new(stream))
    };
    sample.lookup += lookup;
    sample.dial += started.elapsed();
    Ok(Connection { origin: origin.clone(), wire })
}
