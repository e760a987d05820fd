//! One HTTP/2 connection, by hyper, which does streams, flow control and header compression.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::header;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    connect::Stream,
    framing::{Body, Head},
    http1::{Failure, HttpResponse},
    request::Outgoing,
};

/// A connection that carries one request at a time.
pub(crate) struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
    epoch: Instant,
    /// When the connection's task last wrote, in nanoseconds after `epoch`.
    last_write: Arc<AtomicU64>,
}

impl Http2 {
    pub(crate) async fn handshake(stream: Stream) -> Result<Http2, String> {
        let (epoch, last_write) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let io = TokioIo::new(Timed { stream, epoch, last_write: last_write.clone() });
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), io).await.map_err(|e| sentence(&e))?;
        // The pending request gets the connection's error, so the task's result adds nothing.
        tokio::spawn(connection);
        Ok(Http2 { sender, epoch, last_write })
    }

    /// Returns whether the connection takes another request.
    pub(crate) async fn is_open(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends `request` and reads the whole response.
    pub(crate) async fn exchange(&mut self, request: &Outgoing) -> Result<HttpResponse, Failure> {
        let begun = Instant::now();
        let response = self.sender.send_request(request.http2()).await.map_err(|e| sentence(&e))?;
        let answered = Instant::now();
        let last_write = self.epoch + Duration::from_nanos(self.last_write.load(Ordering::Relaxed));
        let head = Head {
            bytes: 0,
            status: response.status().as_u16(),
            body: Body::Length(0),
            keep_alive: true,
            location: response.headers().get(header::LOCATION).map(|to| to.as_bytes().to_vec()),
        };
        let bytes = discard(response.into_body()).await?;
        // A window update may have been written since.
        let written = last_write.clamp(begun, answered);
        Ok(HttpResponse { head, bytes, written, answered, ended: Instant::now() })
    }
}

/// Reads a body to its end, discards it, and returns its size in bytes.
async fn discard(mut body: Incoming) -> Result<u64, String> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.map_err(|e| sentence(&e))?.data_ref().map_or(0, |d| d.len() as u64);
    }
    Ok(bytes)
}

/// Formats an error with its causes as one sentence.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A stream that records when it was last written to, which hyper does not expose.
struct Timed {
    stream: Stream,
    epoch: Instant,
    last_write: Arc<AtomicU64>,
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        if matches!(result, Poll::Ready(Ok(_))) {
            self.last_write.store(self.epoch.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
