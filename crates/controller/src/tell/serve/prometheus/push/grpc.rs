//! OTLP over gRPC, on the same port as everything else: the one call `MetricsService/Export`.
//!
//! A call with one message each way is a POST over HTTP/2: each message stands behind five bytes (whether it is
//! compressed, and its length), and the status comes in the trailers. That is less than a gRPC server would bring along.
//! Statuses are those of the OTLP specification: what may be sent again later is UNAVAILABLE.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flyball_metrics::push::{PushError, REQUEST_BYTES_MAX};
use http_body_util::{BodyExt, Full};
use prost::Message;

use super::otlp::{Success, store};
use super::{ARRIVES_WITHIN, plain, text, turn};
use crate::tell::serve::prometheus::Source;

/// The path of the call.
pub(in crate::tell::serve::prometheus) const EXPORT: &str =
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// Bytes before each message.
const PREFIX_BYTES: usize = 5;

/// Why a call failed, by the number that gRPC has for it.
#[derive(Clone, Copy)]
enum Code {
    InvalidArgument = 3,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Unavailable = 14,
}

struct Failed(Code, String);

impl From<PushError> for Failed {
    fn from(error: PushError) -> Failed {
        match error {
            PushError::BadRequest(message) => Failed(Code::InvalidArgument, message),
            PushError::Full(message) => Failed(Code::Unavailable, message),
        }
    }
}

/// Takes metrics of OpenTelemetry.
pub(in crate::tell::serve::prometheus) async fn export(
    State(source): State<Source>,
    version: Version,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let content_type = text(&headers, header::CONTENT_TYPE);
    if version != Version::HTTP_2 || !content_type.starts_with("application/grpc") {
        let message = "gRPC needs HTTP/2 and the content type application/grpc";
        return super::refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    }
    match call(source, &headers, body).await {
        Ok(success) => answer(&success),
        Err(failed) => fail(failed),
    }
}

async fn call(source: Source, headers: &HeaderMap, body: Body) -> Result<Success, Failed> {
    let encoding = match text(headers, HeaderName::from_static("grpc-encoding")) {
        encoding @ ("" | "identity" | "gzip") => encoding,
        other => return Err(Failed(Code::Unimplemented, format!("compression {other:?} is not supported"))),
    };
    let limit = REQUEST_BYTES_MAX + PREFIX_BYTES;
    let _turn = turn(&source).await?;
    let body = tokio::time::timeout(ARRIVES_WITHIN, axum::body::to_bytes(body, limit)).await;
    let body =
        body.map_err(|_| Failed(Code::Unavailable, "the request did not arrive in time".to_owned()))?;
    let body = body.map_err(|error| Failed(Code::ResourceExhausted, error.to_string()))?;
    let (compressed, message) = message(&body)?;
    let encoding = if compressed { encoding.to_owned() } else { String::new() };
    Ok(store(source, move || plain(&encoding, message)).await?)
}

/// The one message of a request, and whether it is compressed.
fn message(body: &Bytes) -> Result<(bool, Bytes), Failed> {
    let wrong = |message: &str| Failed(Code::InvalidArgument, message.to_owned());
    let Some((&[compressed, a, b, c, d], message)) = body.split_first_chunk() else {
        return Err(wrong("a message is missing"));
    };
    if u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
        return Err(wrong("the length of the message is not the one it claims, or there is more than one"));
    }
    Ok((compressed == 1, body.slice(PREFIX_BYTES..)))
}

fn answer(success: &Success) -> Response {
    let message = success.encode_to_vec();
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(body)).with_trailers(std::future::ready(Some(Ok(trailers))));
    ([(header::CONTENT_TYPE, "application/grpc")], Body::new(body)).into_response()
}

/// A call that failed has no message, and its status is in the headers.
fn fail(Failed(code, message): Failed) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/grpc".to_owned()),
        (HeaderName::from_static("grpc-status"), (code as u8).to_string()),
        (HeaderName::from_static("grpc-message"), percent_encoded(&message)),
    ];
    (headers, Body::empty()).into_response()
}

/// Text as gRPC has it in a header: printable ASCII, but for the percent sign.
fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_stand_behind_their_length() {
        for (body, expected) in [
            (&[0, 0, 0, 0, 2, 7, 8][..], Some((false, &[7, 8][..]))),
            (&[1, 0, 0, 0, 0], Some((true, &[]))),
            (&[0, 0, 0, 0, 3, 7, 8], None),
            (&[0, 0, 0, 0, 1, 7, 8], None),
            (&[0, 0], None),
        ] {
            let read = message(&Bytes::copy_from_slice(body)).ok();
            let expected =
                expected.map(|(compressed, message)| (compressed, Bytes::copy_from_slice(message)));
            assert_eq!(read, expected, "{body:?}");
        }
    }

    #[test]
    fn messages_of_errors_fit_into_a_header() {
        assert_eq!(percent_encoded("a: 100 %\né"), "a: 100 %25%0A%C3%A9");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..20)) {
            let _ = message(&Bytes::from(body));
        }
    }
}
