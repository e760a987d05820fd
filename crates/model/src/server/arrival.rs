//! A TCP stream that knows when its bytes reached the machine.
//!
//! A busy server reads late: the request waits in the socket's buffer, or the whole connection in the accept queue, and
//! the process cannot know for how long. The kernel can: it stamps every packet it receives, and passes the stamp with
//! the bytes on request (`SO_TIMESTAMPNS`, socket(7)). The option is set on the listener and inherited by accepted
//! sockets, so bytes that arrived before `accept` are stamped too.
//!
//! Where the kernel gives no stamp (the first packets after the first such socket of a machine; systems other than
//! Linux), the time of reading is used. Stamps are wall-clock times: if the clock is set while a request waits, the
//! duration of that request is wrong.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use hyper::rt::{Read, ReadBufCursor, Write};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream};

/// Bytes per read: many times a request with its head, and little to clear on the stack.
const READ_BYTES: usize = 8 << 10;

/// A moment on the wall clock, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) u64);

impl Moment {
    pub(super) fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(since_1970.as_nanos() as u64)
    }

    /// Returns the time from `self` to `later`; zero if the clock was set back meanwhile.
    pub(super) fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }
}

/// The arrival time of the bytes last read from a stream; shared by the stream and the request handler.
#[derive(Clone, Default)]
pub(super) struct Arrival(Arc<AtomicU64>);

impl Arrival {
    pub(super) fn moment(&self) -> Moment {
        Moment(self.0.load(Ordering::Relaxed))
    }
}

/// Asks the kernel to stamp what the connections of `listener` receive.
pub(super) fn stamp_arrivals(listener: &TcpListener) -> io::Result<()> {
    Ok(setsockopt(listener, sockopt::ReceiveTimestampns, &true)?)
}

/// A [`TcpStream`] for hyper that keeps an [`Arrival`] up to date.
pub(super) struct ArrivalStream {
    stream: TcpStream,
    arrival: Arrival,
    control: Vec<u8>,
}

impl ArrivalStream {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, arrival: Arrival::default(), control: nix::cmsg_space!(TimeSpec) }
    }

    pub(super) fn arrival(&self) -> Arrival {
        self.arrival.clone()
    }

    /// Reads the available bytes. `Ok(None)` means that there are none, and that the runtime wakes us when some arrive.
    ///
    /// A short read means that the socket is empty; reporting that within `try_io` saves the next read.
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Self { stream, arrival, control } = self;
        let mut count = None;
        let result = stream.try_io(Interest::READABLE, || {
            let (read, stamp) = receive(stream.as_raw_fd(), buffer, control)?;
            arrival.0.store(stamp.unwrap_or_else(Moment::now).0, Ordering::Relaxed);
            count = Some(read);
            let emptied = read > 0 && read < buffer.len();
            if emptied { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match result {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }
}

fn receive(socket: i32, buffer: &mut [u8], control: &mut [u8]) -> io::Result<(usize, Option<Moment>)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg::<()>(socket, &mut parts, Some(control), MsgFlags::empty())?;
    let stamp = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(at) => {
            Some(Moment(at.tv_sec() as u64 * 1_000_000_000 + at.tv_nsec() as u64))
        }
        _ => None,
    });
    Ok((received.bytes, stamp))
}

impl Read for ArrivalStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffer = [0; READ_BYTES];
        let wanted = READ_BYTES.min(cursor.remaining());
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            if let Some(read) = self.try_read(&mut buffer[..wanted])? {
                cursor.put_slice(&buffer[..read]);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Write for ArrivalStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// The stamp is the time of arrival, not of reading: it is earlier than a moment between the two.
    #[tokio::test]
    async fn bytes_are_stamped_when_they_arrive() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        stamp_arrivals(&listener).expect("Linux stamps");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("listening");
        client.write_all(b"before accept").await.expect("connected");
        let mut stream = ArrivalStream::new(listener.accept().await.expect("connected").0);
        // The kernel switches stamping on a moment after the first socket asks for it.
        for _ in 0..1000 {
            stream.stream.readable().await.expect("open");
            let readable_at = Moment::now();
            let read = stream.try_read(&mut [0; 64]).expect("open");
            if read.is_some() && stream.arrival().moment() <= readable_at {
                return;
            }
            if read.is_some() {
                client.write_all(b"more").await.expect("connected");
            }
        }
        panic!("no arrival was ever stamped by the kernel");
    }
}
