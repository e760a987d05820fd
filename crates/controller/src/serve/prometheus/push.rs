//! What others send: remote write at `/api/v1/write`, and OTLP over HTTP and gRPC.
//!
//! Statuses, headers and texts are those of Prometheus' receivers. Bodies are bounded before and after decompression.

pub(super) mod grpc;
pub(super) mod otlp;

use std::io::Read as _;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use flyball_metrics::push::remote_write::{self, Version};
use flyball_metrics::push::{PushError, REQUEST_BYTES_MAX, Written};
use jiff::Timestamp;

use crate::lock;
use crate::serve::prometheus::Source;

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
    let body = match read(body).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let taken = take(move || match remote_write::decompress(&body) {
        Ok(body) => {
            let now_ms = Timestamp::now().as_millisecond();
            remote_write::write(&mut lock(&source.store), version, &body, now_ms)
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

/// Works on a body where waiting for the store holds up nobody else.
async fn take(
    work: impl FnOnce() -> (Written, Result<(), PushError>) + Send + 'static,
) -> (Written, Result<(), PushError>) {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| (Written::default(), Err(PushError::Full(error.to_string()))))
}

async fn read(body: Body) -> Result<Bytes, Response> {
    axum::body::to_bytes(body, REQUEST_BYTES_MAX).await.map_err(|error| {
        let too_large = std::error::Error::source(&error)
            .is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
        let status = if too_large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
        refuse(status, &error.to_string())
    })
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
