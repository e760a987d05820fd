//! Answers of servers outside, asked for in the background: a slow server delays no decision.
//!
//! Each server is asked seldom, most of them at most once in [`INTERVAL`]; it is not ours to load. What it answered last is read at once. Who
//! decides seldom wants more than the last answer, which may be as old as the last decision: it comes back for a new one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The shortest time between two requests to a server.
const INTERVAL: Duration = Duration::from_secs(2);
/// An answer to a question that was asked at most so long ago is a new one.
const NEW: Duration = Duration::from_secs(10);

/// Which answer will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The last one, for callers that read every second.
    LastAnswer,
    /// A new one, for callers that read seldom and retry in a second while there is none.
    NewAnswer,
}

/// The last answers, by what was asked.
pub(crate) struct BackgroundPolls<K, T> {
    interval: Duration,
    entries: BTreeMap<K, Entry<T>>,
}

struct Entry<T> {
    answer: Arc<Mutex<Option<T>>>,
    asked: Instant,
    task: tokio::task::JoinHandle<()>,
}

impl<K, T> Default for BackgroundPolls<K, T> {
    fn default() -> BackgroundPolls<K, T> {
        BackgroundPolls::every(INTERVAL)
    }
}

impl<K, T> BackgroundPolls<K, T> {
    /// Asks at most this often.
    pub(crate) fn every(interval: Duration) -> BackgroundPolls<K, T> {
        BackgroundPolls { interval, entries: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, T: Clone + Send + 'static> BackgroundPolls<K, T> {
    /// The last answer to `key`, which `ask` asks for; nothing before the first.
    pub(crate) fn read<F>(&mut self, key: &K, patience: Freshness, ask: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let known = self.entries.get(key);
        let every = match patience {
            Freshness::LastAnswer => self.interval,
            Freshness::NewAnswer => NEW,
        };
        if known.is_none_or(|entry| entry.asked.elapsed() >= every && entry.task.is_finished()) {
            let answer = known.map_or_else(Arc::default, |entry| Arc::clone(&entry.answer));
            let (asked, kept) = (ask(), Arc::clone(&answer));
            let task = tokio::spawn(async move { *kept.lock() = Some(asked.await) });
            self.entries.insert(key.clone(), Entry { answer, asked: Instant::now(), task });
        }
        let entry = self.entries.get(key)?;
        if patience == Freshness::NewAnswer && !entry.task.is_finished() {
            return None;
        }
        entry.answer.lock().clone()
    }

    /// Forgets what is not asked any more.
    pub(crate) fn keep_only(&mut self, keep: impl Fn(&K) -> bool) {
        self.retain(|key, _| keep(key));
    }

    /// Forgets what has not been asked for so long.
    pub(crate) fn forget_older_than(&mut self, age: Duration) {
        self.retain(|_, entry| entry.asked.elapsed() < age);
    }

    fn retain(&mut self, keep: impl Fn(&K, &Entry<T>) -> bool) {
        self.entries.retain(|key, entry| {
            let kept = keep(key, entry);
            if !kept {
                entry.task.abort();
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_is_asked_once_in_an_interval_and_never_waited_for() {
        let (mut polls, asked) = (BackgroundPolls::default(), Arc::new(AtomicUsize::new(0)));
        let ask = |delay: Duration| {
            let asked = Arc::clone(&asked);
            move || async move {
                tokio::time::sleep(delay).await;
                asked.fetch_add(1, Ordering::Relaxed) + 1
            }
        };
        let (quick, last) = (Duration::from_millis(10), Freshness::LastAnswer);
        assert_eq!(polls.read(&"a", last, ask(quick)), None, "asked this moment");
        tokio::time::sleep(quick * 2).await;
        assert_eq!(polls.read(&"a", last, ask(quick)), Some(1));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(polls.read(&"a", last, ask(quick)), Some(1), "the last answer, while it is asked again");
        tokio::time::sleep(quick * 2).await;
        assert_eq!(polls.read(&"a", last, ask(quick)), Some(2));
        polls.keep_only(|_| false);
        assert_eq!(polls.read(&"a", last, ask(quick)), None, "forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_seldom_gets_no_old_answer() {
        let (mut polls, asked) = (BackgroundPolls::default(), Arc::new(AtomicUsize::new(0)));
        let ask = || {
            let asked = Arc::clone(&asked);
            async move {
                tokio::time::sleep(Duration::from_millis(2500)).await;
                asked.fetch_add(1, Ordering::Relaxed) + 1
            }
        };
        let mut seen = Vec::new();
        for _ in 0..40 {
            seen.push(polls.read(&"a", Freshness::NewAnswer, ask));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(seen[..6], [None, None, None, Some(1), Some(1), Some(1)]);
        assert_eq!(seen[10..15], [None, None, None, Some(2), Some(2)]);
    }
}
