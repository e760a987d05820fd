//! Compresses long answers for clients that take gzip, as Grafana does: a range query's JSON shrinks to a tenth.

use std::io::Write;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt;

use crate::tell::serve::questions;

/// Shorter bodies fit into a packet anyway.
const COMPRESSED_BYTES_MIN: usize = 1_400;

/// Longer bodies take milliseconds, and are compressed on a thread of low priority.
const BESIDE_BYTES_MIN: usize = 256 << 10;

/// Runs the request, and compresses its answer.
pub(super) async fn compress(request: Request, next: Next) -> Response {
    let accepted = accepts_gzip(request.headers());
    let response = next.run(request).await;
    if !accepted {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return error.to_string().into_response(),
    };
    head.headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let compressed = compressed(body.clone()).await;
    let Some(compressed) = compressed else { return Response::from_parts(head, Body::from(body)) };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Response::from_parts(head, Body::from(compressed))
}

/// The body, compressed; `None`: it goes as it is.
async fn compressed(body: Bytes) -> Option<Vec<u8>> {
    match body.len() {
        ..COMPRESSED_BYTES_MIN => None,
        COMPRESSED_BYTES_MIN..BESIDE_BYTES_MIN => gzip(&body).ok(),
        _ => questions::beside(move || gzip(&body)).await?.ok(),
    }
}

/// Whether `gzip` is among the encodings, and not with the weight 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|encoding| {
        let (name, weight) = encoding.split_once(';').unwrap_or((encoding, ""));
        let refused = matches!(weight.trim().strip_prefix("q=").map(str::parse::<f32>), Some(Ok(0.0)));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
