//! A timeout with one timer for all requests of a client: setting a timer for each request costs more than sending it.
//!
//! The timer is not touched until it fires. If the current request is not late then, the timer is set to its deadline.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// The same limit for each future, enforced by one timer.
pub(crate) struct Deadline {
    limit: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Creates a deadline; `None` means no limit.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Deadline { limit, timer: None }
    }

    /// Runs `future`, whose time counts from `began`; `None` if the time is up first.
    pub(crate) async fn hold<F: Future>(&mut self, began: Instant, future: F) -> Option<F::Output> {
        let Some(limit) = self.limit else { return Some(future.await) };
        let (mut future, end) = (pin!(future), began + limit);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            while timer.as_mut().poll(cx).is_ready() {
                if Instant::now() >= end {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(end);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_future_has_the_whole_limit() {
        let mut deadline = Deadline::new(Some(Duration::from_secs(5)));
        for takes in [3, 4, 4, 1] {
            let took = sleep(Duration::from_secs(takes));
            assert!(deadline.hold(Instant::now(), took).await.is_some(), "{takes} s");
        }
        for _ in 0..2 {
            let began = Instant::now();
            assert!(deadline.hold(began, pending::<()>()).await.is_none());
            assert_eq!(began.elapsed().as_secs(), 5);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_is_none() {
        let long = sleep(Duration::from_secs(86_400));
        assert!(Deadline::new(None).hold(Instant::now(), long).await.is_some());
    }
}
