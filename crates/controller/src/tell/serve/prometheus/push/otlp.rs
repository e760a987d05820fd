//! `/api/v1/otlp/v1/metrics`: metrics of OpenTelemetry, as protocol buffers or as JSON.
//!
//! A request of which a part was refused is answered as a partial success, as OTLP has it: the sender is told what was
//! refused, and does not send it again.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flyball_metrics::push::{PushError, Written, otlp};
use jiff::Timestamp;
use prost::Message;
use serde_json::json;

use super::{plain, read, refuse, refuse_push, take, text};
use crate::tell::serve::prometheus::Source;

/// How a request is written, and with it the answer.
#[derive(Clone, Copy)]
enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn of(content_type: &str) -> Option<Encoding> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/x-protobuf" => Some(Encoding::Protobuf),
            "application/json" => Some(Encoding::Json),
            _ => None,
        }
    }
}

/// Takes metrics of OpenTelemetry.
pub(in crate::tell::serve::prometheus) async fn metrics(
    State(source): State<Source>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let content_type = text(&headers, header::CONTENT_TYPE);
    let Some(encoding) = Encoding::of(content_type) else {
        let message = format!(
            "unsupported content type: {content_type}, supported: [application/json application/x-protobuf]"
        );
        return refuse(StatusCode::BAD_REQUEST, &message);
    };
    let compression = text(&headers, header::CONTENT_ENCODING).to_owned();
    if !matches!(compression.as_str(), "" | "gzip") {
        let message =
            format!("unsupported compression: {compression}. Only \"gzip\" or no compression supported");
        return refuse(StatusCode::BAD_REQUEST, &message);
    }
    let (_turn, body) = match read(&source, body).await {
        Ok(read) => read,
        Err(refused) => return refused,
    };
    let read = move || {
        let body = plain(&compression, body)?;
        match encoding {
            Encoding::Protobuf => Ok(body),
            Encoding::Json => otlp::to_protobuf(&body).map(Bytes::from),
        }
    };
    match store(source, read).await {
        Ok(success) => success.response(encoding),
        Err(error) => refuse_push(error),
    }
}

/// Stores the request that `read` reads.
///
/// # Errors
/// Nothing was stored, or not everything although it may be later.
pub(super) async fn store(
    source: Source,
    read: impl FnOnce() -> Result<Bytes, PushError> + Send + 'static,
) -> Result<Success, PushError> {
    let taken = take(move || match read() {
        Ok(body) => {
            let now_ms = Timestamp::now().as_millisecond();
            otlp::write(&mut source.store.lock(), &body, now_ms)
        }
        Err(error) => (Written::default(), Err(error)),
    });
    let (written, result) = taken.await;
    let stored_some = written.samples + written.histograms > 0;
    match result {
        Ok(()) => Ok(Success::default()),
        Err(PushError::BadRequest(message)) if stored_some && written.rejected > 0 => {
            Ok(Success { partial: Some(Partial { rejected: written.rejected as i64, message }) })
        }
        Err(error) => Err(error),
    }
}

/// ExportMetricsServiceResponse: empty if everything was taken.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Success {
    #[prost(message, optional, tag = "1")]
    partial: Option<Partial>,
}

/// ExportMetricsPartialSuccess.
#[derive(Clone, PartialEq, Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

impl Success {
    fn response(&self, encoding: Encoding) -> Response {
        match (encoding, &self.partial) {
            (Encoding::Protobuf, _) => {
                ([(header::CONTENT_TYPE, "application/x-protobuf")], self.encode_to_vec()).into_response()
            }
            (Encoding::Json, None) => axum::Json(json!({})).into_response(),
            (Encoding::Json, Some(Partial { rejected, message })) => {
                // proto3 writes numbers of 64 bits as strings.
                let partial = json!({ "rejectedDataPoints": rejected.to_string(), "errorMessage": message });
                axum::Json(json!({ "partialSuccess": partial })).into_response()
            }
        }
    }
}
