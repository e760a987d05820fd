//! What others send: remote write at `/api/v1/write`, and OTLP over HTTP and gRPC.
//!
//! Statuses, headers and texts are those of Prometheus' receivers. Bodies are bounded before and after decompression.

pub(super) mod grpc;
pub(super) mod otlp;

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use flyball_metrics::push::remote_write::{self, Version};
use flyball_metrics::push::{PushError, REQUEST_BYTES_MAX, Written};
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;

use crate::tell::serve::prometheus::Source;

/// Requests that are read and written at the same time: each may take its [`REQUEST_BYTES_MAX`] twice.
pub(super) const PUSHES_AT_ONCE_MAX: usize = 16;
/// How long a request waits for its turn, and how long it may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);
/// How long a sender waits before it tries again when the store is full.
const RETRY_AFTER_SECONDS: &str = "30";

/// Takes a request of remote write 1.0 or 2.0.
pub(super) async fn write(State(source): State<Source>, headers: HeaderMap, body: Body) -> Response {
    let version = match Version::from_content_type(text(&headers, header::CONTENT_TYPE)) {
        Ok(version) => version,
        Err(message) => return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, &message),
    };
    let encoding = text(&headers, header::CONTENT_ENCODING);
    if !matches!(encoding, "" | "snappy") {
        let message = format!(
            "{encoding} encoding (compression) is not accepted by this server; only snappy is acceptable"
        );
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, &message);
    }
    let (_turn, body) = match read(&source, body).await {
        Ok(read) => read,
        Err(refused) => return refused,
    };
    let taken = take(move || match remote_write::decompress(&body) {
        Ok(body) => {
            let now_ms = Timestamp::now().as_millisecond();
            remote_write::write(&mut source.store.lock(), version, &body, now_ms)
        }
        Err(error) => (Written::default(), Err(error)),
    });
    let (written, result) = taken.await;
    let mut response = result.map_or_else(refuse_push, |()| StatusCode::NO_CONTENT.into_response());
    if version == Version::V2 {
        let counts = [
            ("x-prometheus-remote-write-samples-written", written.samples),
            ("x-prometheus-remote-write-histograms-written", written.histograms),
            ("x-prometheus-remote-write-exemplars-written", written.exemplars),
        ];
        for (name, count) in counts {
            response.headers_mut().insert(name, count.into());
        }
    }
    response
}

/// Processes a body on a thread that may wait for the store.
async fn take(
    work: impl FnOnce() -> (Written, Result<(), PushError>) + Send + 'static,
) -> (Written, Result<(), PushError>) {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| (Written::default(), Err(PushError::Full(error.to_string()))))
}

/// A turn among those who send, and the body.
async fn read(source: &Source, body: Body) -> Result<(OwnedSemaphorePermit, Bytes), Response> {
    let turn = turn(source).await.map_err(refuse_push)?;
    let body = tokio::time::timeout(ARRIVES_WITHIN, axum::body::to_bytes(body, REQUEST_BYTES_MAX));
    let body =
        body.await.map_err(|_| refuse(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time"))?;
    let body = body.map_err(|error| {
        let too_large = std::error::Error::source(&error)
            .is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
        let status = if too_large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
        refuse(status, &error.to_string())
    })?;
    Ok((turn, body))
}

/// Waits until there is room for one more request.
async fn turn(source: &Source) -> Result<OwnedSemaphorePermit, PushError> {
    let turn = tokio::time::timeout(ARRIVES_WITHIN, Arc::clone(&source.pushing).acquire_owned()).await;
    let message = format!("{PUSHES_AT_ONCE_MAX} requests are being written; send again later");
    turn.ok().and_then(Result::ok).ok_or(PushError::Full(message))
}

/// The body without gzip.
fn plain(encoding: &str, body: Bytes) -> Result<Bytes, PushError> {
    if encoding.is_empty() {
        return Ok(body);
    }
    let mut decompressed = Vec::new();
    let read =
        MultiGzDecoder::new(&body[..]).take(REQUEST_BYTES_MAX as u64 + 1).read_to_end(&mut decompressed);
    match read {
        Err(error) => Err(PushError::BadRequest(format!("gzip: {error}"))),
        Ok(bytes) if bytes > REQUEST_BYTES_MAX => Err(PushError::BadRequest(format!(
            "request has more than {REQUEST_BYTES_MAX} bytes; send fewer metrics at once"
        ))),
        Ok(_) => Ok(decompressed.into()),
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn refuse_push(error: PushError) -> Response {
    match &error {
        PushError::BadRequest(message) => refuse(StatusCode::BAD_REQUEST, message),
        PushError::Full(message) => {
            let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, message);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, header::HeaderValue::from_static(RETRY_AFTER_SECONDS));
            response
        }
    }
}

/// The message as Go's `http.Error` writes it.
fn refuse(status: StatusCode, message: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{message}\n")).into_response()
}

#[cfg(test)]
mod tests;
