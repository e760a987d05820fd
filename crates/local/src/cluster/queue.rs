//! A work queue of keys: each at most once, each when it is due, failures again later and later.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Key;

/// The first wait after a failure; doubled at each further one.
const RETRY_FIRST: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The queue; its size is bounded by the number of objects.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    due: Mutex<BTreeMap<Key, Instant>>,
    wake: Notify,
}

impl Queue {
    /// Puts a key in, due now.
    pub(crate) fn add(&self, key: Key) {
        self.add_after(key, Duration::ZERO);
    }

    /// Puts a key in, due later; if it is in already, the earlier time holds.
    pub(crate) fn add_after(&self, key: Key, delay: Duration) {
        let at = Instant::now() + delay;
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.entry(key).and_modify(|t| *t = at.min(*t)).or_insert(at);
        self.wake.notify_one();
    }

    /// Waits for the next due key and takes it out.
    pub(crate) async fn next(&self) -> Key {
        loop {
            let first = {
                let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
                let first = due.iter().min_by_key(|(_, at)| **at).map(|(key, at)| (key.clone(), *at));
                match first {
                    Some((key, at)) if at <= Instant::now() => {
                        due.remove(&key);
                        return key;
                    }
                    other => other.map(|(_, at)| at),
                }
            };
            match first {
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.wake.notified() => {}
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }
}

/// Reconciles keys one after the other, for ever. An answer of `Some(delay)` means "again then".
pub(crate) async fn work<F, Fut>(name: &'static str, queue: Arc<Queue>, reconcile: F)
where
    F: Fn(Key) -> Fut,
    Fut: Future<Output = Result<Option<Duration>, kube::Error>>,
{
    let mut failures: BTreeMap<Key, u32> = BTreeMap::new();
    loop {
        let key = queue.next().await;
        match reconcile(key.clone()).await {
            Ok(again) => {
                failures.remove(&key);
                if let Some(delay) = again {
                    queue.add_after(key, delay);
                }
            }
            Err(e) => {
                let count = failures.entry(key.clone()).or_default();
                let delay = RETRY_FIRST.saturating_mul(1 << (*count).min(16)).min(RETRY_MAX);
                *count += 1;
                if !conflict(&e) {
                    tracing::warn!(controller = name, %key, retry_seconds = delay.as_secs_f64(), "{e}");
                }
                queue.add_after(key, delay);
            }
        }
    }
}

/// Whether a write lost a race, which the next attempt settles.
fn conflict(e: &kube::Error) -> bool {
    matches!(e, kube::Error::Api(status) if status.code == 409 || status.code == 404)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { namespace: "ns".to_owned(), name: name.to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_come_once_and_in_the_order_they_are_due() {
        let queue = Queue::default();
        queue.add_after(key("later"), Duration::from_secs(5));
        queue.add(key("now"));
        queue.add(key("now"));
        queue.add_after(key("sooner"), Duration::from_secs(9));
        queue.add_after(key("sooner"), Duration::from_secs(1));
        for expected in ["now", "sooner", "later"] {
            assert_eq!(queue.next().await, key(expected));
        }
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err());
    }
}
