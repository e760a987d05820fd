//! Limits on request bodies and heavy requests, each and in total.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::bounds::BODY_BYTES_MAX;
use crate::status::{Failure, Result};

/// Requests with larger data count as heavy: few run at a time, see [`LoadLimits::run_heavy`].
pub(crate) const HEAVY_BYTES: usize = 64 << 10;
/// Heavy bodies read concurrently, at up to three megabytes each.
const BODIES_MAX: usize = 16;
/// Heavy requests processed concurrently. Each may take several hundred megabytes and a second; they run on
/// blocking threads, away from other requests.
const HEAVY_MAX: usize = 2;
/// Time limit for receiving a body, including the wait for a permit.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an oversized body read and discarded: a client that is still sending does not read the error.
const DRAIN_BYTES_MAX: usize = 64 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Semaphores that heavy requests wait for.
pub(crate) struct LoadLimits {
    bodies: Arc<Semaphore>,
    heavy: Arc<Semaphore>,
    body_timeout: Duration,
}

impl Default for LoadLimits {
    fn default() -> Self {
        Self {
            bodies: Arc::new(Semaphore::new(BODIES_MAX)),
            heavy: Arc::new(Semaphore::new(HEAVY_MAX)),
            body_timeout: BODY_TIMEOUT,
        }
    }
}

/// A received body and, if it is heavy, its permit.
pub(crate) struct ReadBody {
    pub(crate) bytes: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl ReadBody {
    pub(crate) fn none() -> Self {
        Self { bytes: Bytes::new(), _permit: None }
    }
}

impl LoadLimits {
    /// Receives a body of at most `BODY_BYTES_MAX` bytes. Errors: 408 when it is late, 413 when it is too large,
    /// 429 when too many heavy bodies are in progress.
    pub(crate) async fn read(&self, mut body: Body) -> Result<ReadBody> {
        let deadline = Instant::now() + self.body_timeout;
        let late = |_| Failure::new(408, "Timeout", "the request body did not arrive in time");
        let (mut read, mut permit) = (BytesMut::new(), None);
        while let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(late)? {
            let frame =
                frame.map_err(|error| Failure::bad_request(format!("the body cannot be read: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if read.len() + data.len() > BODY_BYTES_MAX {
                drop((read, permit));
                drain(body).await;
                return Err(Failure::too_large(BODY_BYTES_MAX));
            }
            if permit.is_none() && read.len() + data.len() > HEAVY_BYTES {
                let acquired = timeout_at(deadline, self.bodies.clone().acquire_owned()).await;
                let busy = || Failure::too_many_requests("too many large requests, try again later", 1);
                permit = Some(acquired.ok().and_then(|acquired| acquired.ok()).ok_or_else(busy)?);
            }
            read.extend_from_slice(&data);
        }
        Ok(ReadBody { bytes: read.freeze(), _permit: permit })
    }

    /// Runs heavy work on a blocking thread. It completes even if the client disconnects.
    pub(crate) async fn run_heavy<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let permit = self.heavy.clone().acquire_owned().await.map_err(Failure::internal)?;
        let runtime = tokio::runtime::Handle::current();
        let result = tokio::task::spawn_blocking(move || {
            let result = runtime.block_on(work);
            drop(permit);
            result
        });
        result.await.unwrap_or_else(|error| Err(Failure::internal(error)))
    }
}

/// Reads and discards the rest of a body, within bounds.
async fn drain(mut body: Body) {
    let drained = async {
        let mut left = DRAIN_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(less) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = less;
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream::{self, StreamExt};

    fn body(chunks: usize) -> Body {
        let chunk = Bytes::from(vec![b' '; 1 << 20]);
        Body::from_stream(stream::iter(vec![chunk; chunks]).map(Ok::<_, std::convert::Infallible>))
    }

    #[tokio::test]
    async fn bodies_are_bounded_and_read_to_their_end() {
        let limits = LoadLimits::default();
        assert_eq!(limits.read(body(3)).await.map(|read| read.bytes.len()).ok(), Some(BODY_BYTES_MAX));
        let refused = limits.read(body(40)).await.map(|read| read.bytes.len());
        assert_eq!(
            refused.map_err(|failure| (failure.code, failure.message)),
            Err((413, "Request entity too large: limit is 3145728".into()))
        );
        assert_eq!(limits.bodies.available_permits(), BODIES_MAX);
    }

    #[tokio::test]
    async fn what_does_not_come_is_not_waited_for() {
        let limits = LoadLimits { body_timeout: Duration::from_millis(100), ..LoadLimits::default() };
        let endless = Body::from_stream(stream::pending::<std::result::Result<Bytes, std::io::Error>>());
        assert_eq!(limits.read(endless).await.map(|_| ()).map_err(|failure| failure.code), Err(408));
        let mut held = Vec::new();
        for _ in 0..BODIES_MAX {
            held.push(limits.read(body(1)).await.ok());
        }
        assert_eq!(limits.read(body(1)).await.map(|_| ()).map_err(|failure| failure.code), Err(429));
        drop(held);
        assert!(limits.read(body(1)).await.is_ok());
    }
}
