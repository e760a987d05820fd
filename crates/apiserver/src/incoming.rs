//! Bodies as they come in: bounded each, and all together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::bounds::BODY_BYTES_MAX;
use crate::status::{Failure, Result};

/// What is larger than this is worked on apart, a few at a time; see [`Workload`].
pub(crate) const HEAVY_BYTES: usize = 64 << 10;
/// Heavy bodies that are read at the same time: they may be of three megabytes each.
const BODIES_MAX: usize = 16;
/// Heavy requests that are worked on at the same time. Each may take some hundred megabytes and a second; they run on
/// threads that serve nobody else.
const HEAVY_MAX: usize = 2;
/// How long a body may take, its wait included.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// What is read, and thrown away, of a body that is too large: a client that still sends does not hear why not.
const DRAIN_BYTES_MAX: usize = 64 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What heavy requests wait for.
pub(crate) struct Workload {
    bodies: Arc<Semaphore>,
    heavy: Arc<Semaphore>,
    body_timeout: Duration,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            bodies: Arc::new(Semaphore::new(BODIES_MAX)),
            heavy: Arc::new(Semaphore::new(HEAVY_MAX)),
            body_timeout: BODY_TIMEOUT,
        }
    }
}

/// A body that was read, and its share of the memory for bodies.
pub(crate) struct Incoming {
    pub(crate) bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

impl Incoming {
    pub(crate) fn none() -> Self {
        Self { bytes: Bytes::new(), _place: None }
    }
}

impl Workload {
    /// Reads a body.
    pub(crate) async fn read(&self, mut body: Body) -> Result<Incoming> {
        let deadline = Instant::now() + self.body_timeout;
        let late = |_| Failure::new(408, "Timeout", "the body of the request did not come in time");
        let (mut read, mut place) = (BytesMut::new(), None);
        while let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(late)? {
            let frame =
                frame.map_err(|error| Failure::bad_request(format!("the body cannot be read: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if read.len() + data.len() > BODY_BYTES_MAX {
                drop((read, place));
                drain(body).await;
                return Err(Failure::too_large(BODY_BYTES_MAX));
            }
            if place.is_none() && read.len() + data.len() > HEAVY_BYTES {
                let free = timeout_at(deadline, self.bodies.clone().acquire_owned()).await;
                let busy = || Failure::too_many_requests("too many large requests, try again later", 1);
                place = Some(free.ok().and_then(|free| free.ok()).ok_or_else(busy)?);
            }
            read.extend_from_slice(&data);
        }
        Ok(Incoming { bytes: read.freeze(), _place: place })
    }

    /// Runs what is heavy where it is in nobody's way; it is finished even when its client goes.
    pub(crate) async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let place = self.heavy.clone().acquire_owned().await.map_err(Failure::internal)?;
        let runtime = tokio::runtime::Handle::current();
        let result = tokio::task::spawn_blocking(move || {
            let result = runtime.block_on(work);
            drop(place);
            result
        });
        result.await.unwrap_or_else(|error| Err(Failure::internal(error)))
    }
}

/// Reads on, within bounds, without keeping anything.
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
        let workload = Workload::default();
        assert_eq!(workload.read(body(3)).await.map(|read| read.bytes.len()).ok(), Some(BODY_BYTES_MAX));
        let refused = workload.read(body(40)).await.map(|read| read.bytes.len());
        assert_eq!(
            refused.map_err(|failure| (failure.code, failure.message)),
            Err((413, "Request entity too large: limit is 3145728".into()))
        );
        assert_eq!(workload.bodies.available_permits(), BODIES_MAX);
    }

    #[tokio::test]
    async fn what_does_not_come_is_not_waited_for() {
        let workload = Workload { body_timeout: Duration::from_millis(100), ..Workload::default() };
        let endless = Body::from_stream(stream::pending::<std::result::Result<Bytes, std::io::Error>>());
        assert_eq!(workload.read(endless).await.map(|_| ()).map_err(|failure| failure.code), Err(408));
        let mut held = Vec::new();
        for _ in 0..BODIES_MAX {
            held.push(workload.read(body(1)).await.ok());
        }
        assert_eq!(workload.read(body(1)).await.map(|_| ()).map_err(|failure| failure.code), Err(429));
        drop(held);
        assert!(workload.read(body(1)).await.is_ok());
    }
}
