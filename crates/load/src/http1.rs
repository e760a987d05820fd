//! One HTTP/1.1 connection: a request is written in one call, its response read into one buffer and skipped.
//!
//! A generator that costs as much as the server measures itself, so this does no more than a load needs: the bytes of
//! the request are built once for the run, and those of a response are neither kept nor copied.

use std::{
    future::poll_fn,
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    connect::Stream,
    framing::{Body, Head, parse_head},
    request::Outgoing,
};

/// Initial size of the read buffer: common responses fit, and ten thousand connections stay small.
const BUFFER_BYTES: usize = 4 << 10;
/// Largest read buffer, and so the largest head of a response; the buffer grows for servers that send much at a time.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// The error of a connection that ends before a response begins.
pub(crate) const NO_RESPONSE: &str = "the server closed the connection without a response";

/// A connection and its read buffer.
pub(crate) struct Http1 {
    stream: Stream,
    buffer: Vec<u8>,
    /// The unread bytes of the buffer.
    unread: Range<usize>,
    /// Whether the last read filled the buffer, so that a larger one would save calls.
    many: bool,
    /// Whether the connection has served a request.
    used: bool,
}

/// A response, read to its end.
pub(crate) struct HttpResponse {
    pub(crate) head: Head,
    /// Size of the body.
    pub(crate) bytes: u64,
    /// When the request was written, when the response's head was complete, and when its body was.
    pub(crate) written: Instant,
    pub(crate) answered: Instant,
    pub(crate) ended: Instant,
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A connection that had served a request was closed without a response, perhaps before the server saw the request.
    Stale,
    /// Any other failure, as a sentence.
    Failed(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Failure::Failed(why)
    }
}

impl Http1 {
    pub(crate) fn new(stream: Stream) -> Self {
        Http1 { stream, buffer: vec![0; BUFFER_BYTES], unread: 0..0, many: false, used: false }
    }

    /// Returns whether the server has neither closed the idle connection nor sent unsolicited bytes. Costs no system call
    /// unless it did.
    pub(crate) async fn is_open(&mut self) -> bool {
        poll_fn(|cx| {
            let mut space = ReadBuf::new(&mut self.buffer);
            Poll::Ready(Pin::new(&mut self.stream).poll_read(cx, &mut space).is_pending())
        })
        .await
    }

    /// Sends `request` and reads its response. After a failure, or if the head says so, the connection is unusable.
    pub(crate) async fn exchange(&mut self, request: &Outgoing) -> Result<HttpResponse, Failure> {
        let reused = std::mem::replace(&mut self.used, true);
        let sent = self.write(request).await;
        let written = Instant::now();
        let mut head = match (self.read_head(request.bodiless()).await, &sent) {
            (Ok(head), _) => head,
            (Err(_), _) if reused && self.unread.is_empty() => return Err(Failure::Stale),
            (Err(_), Err(error)) => return Err(format!("write: {error}").into()),
            (Err(error), Ok(_)) => return Err(error.into()),
        };
        let answered = Instant::now();
        let (bytes, ended) = self.skip_body(&mut head, answered).await?;
        head.keep_alive &= self.unread.is_empty() && matches!(sent, Ok(true));
        Ok(HttpResponse { head, bytes, written, answered, ended })
    }

    /// Writes the request; false if the server responded before it had read everything.
    async fn write(&mut self, request: &Outgoing) -> io::Result<bool> {
        for part in request.wire() {
            let mut rest = &part[..];
            while !rest.is_empty() {
                match self.write_some(rest).await? {
                    0 => return Ok(false),
                    count => rest = &rest[count..],
                }
            }
        }
        poll_fn(|cx| Pin::new(&mut self.stream).poll_flush(cx)).await?;
        Ok(true)
    }

    /// Writes as much as the socket takes; 0 if there is something to read instead.
    async fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Pending => self.poll_fill(cx).map_ok(|_| 0),
            ready => ready,
        })
        .await
    }

    /// Reads until the head of a final response is complete; interim responses (1xx) are skipped.
    async fn read_head(&mut self, bodiless: bool) -> Result<Head, String> {
        loop {
            if !self.unread.is_empty()
                && let Some(head) = parse_head(&self.buffer[self.unread.clone()], bodiless)?
            {
                self.consume(head.bytes);
                if !matches!(head.status, 100 | 102..200) {
                    return Ok(head);
                }
                continue;
            }
            if self.unread.len() == MAX_BUFFER_BYTES {
                return Err(format!("the head of the response is larger than {MAX_BUFFER_BYTES} bytes"));
            }
            match poll_fn(|cx| self.poll_fill(cx)).await {
                Ok(0) if self.unread.is_empty() => return Err(NO_RESPONSE.into()),
                Ok(0) => {
                    return Err("the server closed the connection within the head of the response".into());
                }
                Ok(_) => {}
                Err(error) => return Err(format!("read: {error}")),
            }
        }
    }

    /// Reads to the end of the body. Returns its size and when its last byte arrived.
    async fn skip_body(&mut self, head: &mut Head, answered: Instant) -> Result<(u64, Instant), String> {
        let (mut bytes, mut ended) = (0, answered);
        loop {
            let skipped = head.body.skip(&self.buffer[self.unread.clone()])?;
            bytes += skipped.content;
            self.consume(skipped.used);
            if head.body.done() {
                return Ok((bytes, ended));
            }
            match poll_fn(|cx| self.poll_fill(cx)).await {
                Ok(0) if head.body == Body::UntilClose => return Ok((bytes, ended)),
                Ok(0) => {
                    return Err(format!("the server closed the connection after {bytes} bytes of the body"));
                }
                Ok(_) => ended = Instant::now(),
                Err(error) => return Err(format!("read: {error}")),
            }
        }
    }

    fn consume(&mut self, count: usize) {
        self.unread.start += count;
        if self.unread.is_empty() {
            self.unread = 0..0;
        }
    }

    /// Reads once and returns the number of bytes: 0 at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_room();
        let mut space = ReadBuf::new(&mut self.buffer[self.unread.end..]);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut space);
        let count = space.filled().len();
        self.unread.end += count;
        self.many |= self.unread.end == self.buffer.len();
        read.map_ok(|()| count)
    }

    /// Moves an incomplete line to the front, and doubles the buffer if a read has filled it.
    fn make_room(&mut self) {
        if self.unread.start > 0 {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if std::mem::take(&mut self.many) && self.buffer.len() < MAX_BUFFER_BYTES {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }
}
