//! The gRPC health check (`grpc.health.v1.Health/Check`), for `grpc:` probes: one message each way, read by hand.

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// A health answer has a handful of bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// Asks a server whether a service is healthy; an empty name asks for the server as a whole.
pub(super) async fn check(stream: TcpStream, service: &str) -> Result<(), String> {
    let text = |e: hyper::Error| format!("error: health rpc failed: {e}");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(text)?;
    let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::post("http://localhost/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(question(service)))
        .map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(text)?;
    let early = status_of(response.headers());
    let answer =
        Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|e| e.to_string())?;
    let late = answer.trailers().and_then(status_of);
    match early.or(late).as_deref() {
        Some("0") | None => {}
        Some("12") => {
            return Err(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
                    .to_owned(),
            );
        }
        Some(code) => return Err(format!("error: health rpc failed with status code {code}")),
    }
    match serving(&answer.to_bytes()) {
        Some(1) => Ok(()),
        other => {
            let name = match other {
                Some(2) => "NOT_SERVING",
                Some(3) => "SERVICE_UNKNOWN",
                _ => "UNKNOWN",
            };
            Err(format!("service unhealthy (responded with \"{name}\")"))
        }
    }
}

fn status_of(headers: &http::HeaderMap) -> Option<String> {
    Some(headers.get("grpc-status")?.to_str().ok()?.to_owned())
}

/// `HealthCheckRequest { service: 1 }` in a gRPC frame.
fn question(service: &str) -> Bytes {
    let name = &service.as_bytes()[..service.len().min(127)]; // one byte of length; names are far shorter
    let mut message = BytesMut::new();
    if !name.is_empty() {
        message.put_u8(0x0a);
        message.put_u8(name.len() as u8);
        message.put_slice(name);
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0); // not compressed
    frame.put_u32(message.len() as u32);
    frame.put(message);
    frame.freeze()
}

/// The status in a frame with a `HealthCheckResponse { status: 1 }`; an empty message is 0, as protobuf has it.
fn serving(frame: &[u8]) -> Option<u8> {
    let message = frame.get(5..)?;
    match message {
        [] => Some(0),
        [0x08, status, ..] => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_written_and_read() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        for (frame, expected) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0], None),
            (&[0, 0, 0, 0, 1, 9], None),
        ] {
            assert_eq!(serving(frame), expected, "{frame:?}");
        }
    }
}
