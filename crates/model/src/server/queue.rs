//! Decides which requests run, wait or are refused.
//!
//! A fixed number of slots, one for each worker, is given out in order of arrival. A request waits for a slot until its
//! deadline, and at most [`QUEUE_MAX`] wait at once. The rest are refused immediately, which costs next to nothing and
//! bounds the wait of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::arrival::Moment;
use super::options::{QUEUE_MAX, REQUEST_TIME_LIMIT};

/// Why a request got no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    QueueFull,
    TimeLimit,
}

impl Refusal {
    pub(super) const ALL: [Self; 2] = [Self::QueueFull, Self::TimeLimit];

    /// Returns the value of the label `reason` in metrics.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TimeLimit => "time_limit",
        }
    }
}

pub(super) struct Queue {
    slots: Arc<Semaphore>,
    slot_count: usize,
    waiting: AtomicUsize,
}

impl Queue {
    pub(super) fn new(slot_count: usize) -> Self {
        let slot_count = slot_count.clamp(1, Semaphore::MAX_PERMITS);
        Self { slots: Arc::new(Semaphore::new(slot_count)), slot_count, waiting: AtomicUsize::new(0) }
    }

    /// Waits for a slot; dropping the permit frees it.
    pub(super) async fn enter(&self, arrived: Moment) -> Result<OwnedSemaphorePermit, Refusal> {
        let waited = arrived.until(Moment::now());
        let left = REQUEST_TIME_LIMIT.checked_sub(waited).ok_or(Refusal::TimeLimit)?;
        match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => Ok(slot),
            Err(_) => self.wait(left).await,
        }
    }

    async fn wait(&self, left: Duration) -> Result<OwnedSemaphorePermit, Refusal> {
        let _entry = QueueEntry::take(&self.waiting)?;
        let slot = tokio::time::timeout(left, Arc::clone(&self.slots).acquire_owned()).await;
        Ok(slot.map_err(|_| Refusal::TimeLimit)?.expect("the semaphore is never closed"))
    }

    /// Returns the number of requests that wait for a slot.
    pub(super) fn depth(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Returns the number of predictions that run.
    pub(super) fn in_flight(&self) -> usize {
        self.slot_count - self.slots.available_permits().min(self.slot_count)
    }

    /// Returns the number of predictions that can run at once.
    pub(super) fn slot_count(&self) -> usize {
        self.slot_count
    }
}

/// An entry in the queue; dropping it leaves the queue, also when the client hangs up while waiting.
struct QueueEntry<'a>(&'a AtomicUsize);

impl<'a> QueueEntry<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Refusal> {
        let more = |depth| (depth < QUEUE_MAX).then_some(depth + 1);
        waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map(|_| Self(waiting))
            .map_err(|_| Refusal::QueueFull)
    }
}

impl Drop for QueueEntry<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn slots_go_in_order_and_the_queue_is_bounded() {
        let queue = Arc::new(Queue::new(1));
        let first = queue.enter(Moment::now()).await.expect("free");
        let enter = || {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { queue.enter(Moment::now()).await.map(drop) })
        };
        let waiting: Vec<_> = (0..QUEUE_MAX).map(|_| enter()).collect();
        while queue.depth() < QUEUE_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!((queue.depth(), queue.in_flight()), (QUEUE_MAX, 1));
        assert_eq!(queue.enter(Moment::now()).await.map(drop), Err(Refusal::QueueFull));

        drop(first);
        for waiter in waiting {
            assert_eq!(waiter.await.expect("no panic"), Ok(()));
        }
        assert_eq!((queue.depth(), queue.in_flight()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waited_too_long_is_refused() {
        let queue = Queue::new(1);
        let too_old = Moment(Moment::now().0 - REQUEST_TIME_LIMIT.as_nanos() as u64 - 1);
        assert_eq!(queue.enter(too_old).await.map(drop), Err(Refusal::TimeLimit), "even with a free slot");
        let _slot = queue.enter(Moment::now()).await.expect("free");
        assert_eq!(queue.enter(Moment::now()).await.map(drop), Err(Refusal::TimeLimit));
        assert_eq!(queue.depth(), 0);
    }
}
