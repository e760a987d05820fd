//! Bounds the memory of answers that clients do not read: a client that asks for much and reads slowly must not fill the
//! machine, and neither must many of them.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use flyball_metrics::response::ErrorKind;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refused;

/// All answers together that are not read yet: some of the largest, or thousands of ordinary ones.
const UNREAD_BYTES_MAX: usize = 512 << 20;
/// Answers are counted in pieces of this size.
const PIECE_BYTES: usize = 1 << 10;

/// The room that answers have until they are read.
#[derive(Clone)]
pub(super) struct UnreadAnswers(Arc<Semaphore>);

impl Default for UnreadAnswers {
    fn default() -> UnreadAnswers {
        UnreadAnswers::of(UNREAD_BYTES_MAX)
    }
}

/// An answer that takes room until the last of its bytes is written or given up.
struct Held {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl UnreadAnswers {
    fn of(bytes_max: usize) -> UnreadAnswers {
        UnreadAnswers(Arc::new(Semaphore::new(bytes_max / PIECE_BYTES)))
    }

    fn hold(&self, bytes: Bytes) -> Result<Bytes, Refused> {
        let pieces = u32::try_from(bytes.len() / PIECE_BYTES + 1).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.0).try_acquire_many_owned(pieces).map_err(|_| Refused {
            // What Prometheus answers with 503.
            kind: ErrorKind::Timeout,
            message: format!(
                "the answer has {} MB, and answers that were not read yet leave no room for it; ask for less, or again later",
                bytes.len() / 1_000_000
            ),
        })?;
        Ok(Bytes::from_owner(Held { bytes, _room: room }))
    }
}

/// Runs the request, and counts its answer until it is read.
pub(super) async fn bound(State(unread): State<UnreadAnswers>, request: Request, next: Next) -> Response {
    let (head, body) = next.run(request).await.into_parts();
    // Every answer of this API is in memory as a whole.
    let held = match body.collect().await {
        Ok(body) => unread.hold(body.to_bytes()),
        Err(error) => return error.to_string().into_response(),
    };
    match held {
        Ok(bytes) => Response::from_parts(head, Body::from(bytes)),
        Err(refused) => refused.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_take_room_until_they_are_dropped() {
        let unread = UnreadAnswers::of(10 * PIECE_BYTES);
        let answer = || Bytes::from(vec![b'x'; 4 * PIECE_BYTES - 1]);
        let first = unread.hold(answer()).ok();
        let second = unread.hold(answer()).ok();
        assert_eq!(first.as_deref(), Some(&*answer()));
        let refused = unread.hold(answer()).err().map(|refused| refused.status().as_u16());
        assert_eq!(refused, Some(503));
        // A part of an answer keeps the room of all of it, as the connection does that writes it.
        let part = first.map(|bytes| bytes.slice(1..2));
        assert!(unread.hold(answer()).is_err());
        drop((part, second));
        assert!(unread.hold(answer()).is_ok());
        assert!(
            unread.hold(Bytes::from(vec![0; 11 * PIECE_BYTES])).is_err(),
            "larger than all the room there is"
        );
    }
}
