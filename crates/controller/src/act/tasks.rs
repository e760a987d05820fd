//! Tasks by key: at most one for each key, and a bounded number at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{Id, JoinError, JoinSet};

/// Running tasks by key.
pub(super) struct Tasks<K, T> {
    running: JoinSet<T>,
    keys: HashMap<Id, K>,
    busy: BTreeSet<K>,
    permits: Arc<Semaphore>,
}

impl<K: Ord + Clone, T: Send + 'static> Tasks<K, T> {
    pub(super) fn new(at_once: usize) -> Tasks<K, T> {
        Tasks {
            running: JoinSet::new(),
            keys: HashMap::new(),
            busy: BTreeSet::new(),
            permits: Arc::new(Semaphore::new(at_once)),
        }
    }

    /// Whether a task for `key` is running.
    pub(super) fn has(&self, key: &K) -> bool {
        self.busy.contains(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.busy.is_empty()
    }

    pub(super) fn start(&mut self, key: K, task: impl Future<Output = T> + Send + 'static) {
        let permits = Arc::clone(&self.permits);
        let handle = self.running.spawn(async move {
            let _permit = permits.acquire_owned().await;
            task.await
        });
        self.keys.insert(handle.id(), key.clone());
        self.busy.insert(key);
    }

    /// The next one that ends, without a result if it panicked; waits for ever while there is none.
    pub(super) async fn next(&mut self) -> (K, Option<T>) {
        loop {
            let Some(ended) = self.running.join_next_with_id().await else {
                return std::future::pending().await;
            };
            if let Some(ended) = self.settle(ended) {
                return ended;
            }
        }
    }

    /// One that has ended, if there is any.
    pub(super) fn ended(&mut self) -> Option<(K, Option<T>)> {
        loop {
            let ended = self.running.try_join_next_with_id()?;
            if let Some(ended) = self.settle(ended) {
                return Some(ended);
            }
        }
    }

    fn settle(&mut self, ended: Result<(Id, T), JoinError>) -> Option<(K, Option<T>)> {
        let (id, result) = match ended {
            Ok((id, result)) => (id, Some(result)),
            Err(error) => (error.id(), None),
        };
        let key = self.keys.remove(&id)?;
        self.busy.remove(&key);
        Some((key, result))
    }
}
