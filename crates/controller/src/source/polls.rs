//! Answers of servers outside, asked for in the background: a slow server delays no decision.
//!
//! Each server is asked at most once in [`INTERVAL`]; it is not ours to load. What it answered last is read at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

/// A server is asked at most this often.
const INTERVAL: Duration = Duration::from_secs(2);
/// The first answer is waited for this long: a server that is near answers within the first round.
const FIRST_ANSWER_WAIT: Duration = Duration::from_millis(250);

/// The last answers, by what was asked.
pub(crate) struct Polls<K, T> {
    entries: BTreeMap<K, Entry<T>>,
}

struct Entry<T> {
    answer: Arc<Mutex<Option<T>>>,
    asked: Instant,
    task: tokio::task::JoinHandle<()>,
}

impl<K, T> Default for Polls<K, T> {
    fn default() -> Polls<K, T> {
        Polls { entries: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, T: Clone + Send + 'static> Polls<K, T> {
    /// The last answer to `key`, which `ask` asks for; nothing before the first.
    pub(crate) async fn read<F>(&mut self, key: &K, ask: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let known = self.entries.get(key);
        let is_new = known.is_none();
        if known.is_none_or(|entry| entry.asked.elapsed() >= INTERVAL && entry.task.is_finished()) {
            let answer = known.map_or_else(Arc::default, |entry| Arc::clone(&entry.answer));
            let (asked, kept) = (ask(), Arc::clone(&answer));
            let task = tokio::spawn(async move { *crate::lock(&kept) = Some(asked.await) });
            self.entries.insert(key.clone(), Entry { answer, asked: Instant::now(), task });
        }
        let entry = self.entries.get_mut(key)?;
        if is_new {
            let _ = tokio::time::timeout(FIRST_ANSWER_WAIT, &mut entry.task).await;
        }
        crate::lock(&entry.answer).clone()
    }

    /// Forgets what is not asked any more.
    pub(crate) fn keep_only(&mut self, keep: impl Fn(&K) -> bool) {
        self.entries.retain(|key, entry| {
            let kept = keep(key);
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
        let (mut polls, asked) = (Polls::default(), Arc::new(AtomicUsize::new(0)));
        let ask = |delay: Duration| {
            let asked = Arc::clone(&asked);
            move || async move {
                tokio::time::sleep(delay).await;
                asked.fetch_add(1, Ordering::Relaxed) + 1
            }
        };
        let quick = Duration::from_millis(10);
        assert_eq!(polls.read(&"a", ask(quick)).await, Some(1));
        assert_eq!(polls.read(&"a", ask(quick)).await, Some(1), "asked a moment ago");
        tokio::time::advance(INTERVAL).await;
        assert_eq!(polls.read(&"a", ask(quick)).await, Some(1), "the last answer, while it is asked again");
        tokio::time::sleep(quick * 2).await;
        assert_eq!(polls.read(&"a", ask(quick)).await, Some(2));
        assert_eq!(polls.read(&"slow", ask(Duration::from_secs(60))).await, None);
        polls.keep_only(|_| false);
        assert_eq!(polls.read(&"a", ask(quick)).await, Some(3), "forgotten");
    }
}
